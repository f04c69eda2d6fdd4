"""Structured answers where no grammar is enforced: complete, requested again, or an error."""

import json
import logging
from typing import Any

import httpx
import ollama
import pytest
from griptape.artifacts import ErrorArtifact, ModelArtifact
from griptape.common import PromptStack
from griptape.drivers.prompt import BasePromptDriver
from griptape.events import EventListener, TextChunkEvent
from griptape.rules import Rule
from griptape.structures import Agent
from griptape.tasks import PromptTask
from pydantic import BaseModel, Field
from schema import Literal, Optional, Schema

from griptape_ollama import OllamaContentError, OllamaModels, OllamaPromptDriver, OllamaStreamError
from griptape_ollama.drivers.structured_output import MAX_REPAIRS
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
_each_strategy = pytest.mark.parametrize("strategy", ["native", "rule"])


class Author(BaseModel):
    name: str | None = None


class Document(BaseModel):
    title: str | None = Field(default=None, description="Without the subtitle")
    author: Author | None = None
    pages: int | None = None


class Node(BaseModel):
    name: str
    kids: list["Node"] = []


_WHOLE = '{"title": "Pumps", "author": {"name": "Ida"}, "pages": 12}'
_VALUE = Document(title="Pumps", author=Author(name="Ida"), pages=12)
_FORMAT = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="simulator"),
        SimulatedModel(name="words", capabilities=("completion",)),
        SimulatedModel(name="grumpy", system="You are grumpy."),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


@pytest.fixture
def ask(make_driver):
    """Runs a task with an output schema, and returns its output."""

    def run(schema: Any = Document, *, tools=(), **settings):
        task = PromptTask("Pumps?", output_schema=schema, prompt_driver=make_driver(**settings), tools=list(tools))
        return Agent(tasks=[task]).run().output

    return run


@pytest.fixture
def shown():
    """The text that listeners saw."""
    texts = []
    with EventListener(lambda event: texts.append(event.token), event_types=[TextChunkEvent]):
        yield texts


def _formats(simulator):
    return ["format" in request.body for request in simulator.chats]


# A part is never taken for the whole


@_both_ways
@_each_strategy
@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (Document, _WHOLE[:-1]),
        (Document, f"```json\n{_WHOLE[:-1]}"),
        (Document, f"Sure. {_WHOLE[:30]}"),
        (Node, '{"name": "root", "kids": [{"name": "a", "kids": []}, {"na'),
        (Document, f"{_WHOLE} And ano"),
    ],
)
def test_a_cut_answer_is_an_error_whatever_fits_inside_of_it(simulator, make_driver, *, schema, text, strategy, stream):
    simulator.reply(text, done_reason="length")
    stack = PromptStack(output_schema=schema)
    stack.add_user_message("Pumps?")
    with pytest.raises(OllamaStreamError, match="was cut") as caught:
        make_driver(structured_output_strategy=strategy, stream=stream).run(stack)
    assert caught.value.partial_text == text
    assert len(simulator.chats) == 1


@_both_ways
@_each_strategy
@pytest.mark.parametrize("text", [_WHOLE, f"Sure:\n```json\n{_WHOLE}\n```"])
def test_a_whole_document_counts_although_the_reply_was_cut(simulator, ask, *, text, strategy, stream):
    simulator.reply(text, done_reason="length")
    assert ask(structured_output_strategy=strategy, stream=stream).value == _VALUE


@_both_ways
@_each_strategy
@pytest.mark.parametrize("text", [f"{_WHOLE[:-1]},}}", _WHOLE.replace('"', "'", 4), _WHOLE[:-1], f"{_WHOLE[1:]}"])
def test_a_broken_document_is_asked_for_again(simulator, ask, shown, *, text, strategy, stream):
    simulator.reply(text)
    simulator.reply(_WHOLE)
    assert ask(structured_output_strategy=strategy, stream=stream).value == _VALUE
    assert len(simulator.chats) == 2
    assert simulator.last_chat.messages[-2] == {"role": "assistant", "content": text}


@_both_ways
@_each_strategy
@pytest.mark.parametrize("prose", ["As JSON ({} would be empty)", "See [1]", "For {name}", 'It opens with {"'])
def test_brackets_in_prose_are_no_answer(simulator, ask, *, prose, strategy, stream):
    simulator.reply(f"{prose}: {_WHOLE}")
    assert ask(structured_output_strategy=strategy, stream=stream).value == _VALUE
    assert len(simulator.chats) == 1
    simulator.reply(f"{prose}.")
    simulator.reply(_WHOLE)
    assert ask(structured_output_strategy=strategy, stream=stream).value == _VALUE


@_both_ways
@_each_strategy
@pytest.mark.parametrize("schema", [Document, Schema({Optional("title"): str}, ignore_extra_keys=True)])
@pytest.mark.parametrize("text", ['{"Document": {"title": "Pumps"}}', '{"type": "object", "properties": {}}'])
def test_a_document_of_which_a_lenient_schema_reads_nothing_is_asked_for_again(
    simulator, ask, shown, *, schema, text, strategy, stream
):
    simulator.reply(text)
    simulator.reply('{"title": "Pumps"}')
    value = ask(schema, structured_output_strategy=strategy, stream=stream).value
    assert value in (Document(title="Pumps"), {"title": "Pumps"})
    assert len(simulator.chats) == 2
    assert "none of its keys" in simulator.last_chat.messages[-1]["content"]


@_both_ways
@_each_strategy
def test_an_empty_document_is_an_answer_where_nothing_is_required(simulator, ask, *, strategy, stream):
    simulator.reply("{}")
    assert ask(structured_output_strategy=strategy, stream=stream).value == Document()


@_both_ways
def test_a_key_with_two_values_is_asked_for_again(simulator, ask, stream):
    simulator.reply('{"title": "Pumps", "title": "Gears"}')
    simulator.reply(_WHOLE)
    assert ask(structured_output_strategy="rule", stream=stream).value == _VALUE
    assert "'title' stands there twice" in simulator.last_chat.messages[-1]["content"]


@_both_ways
@_each_strategy
@pytest.mark.parametrize("mark", ["</think>", "\n</think>\n\n", "[/THINK]"])
def test_a_draft_in_thoughts_is_not_taken_for_the_answer(simulator, ask, shown, *, mark, strategy, stream):
    draft = '{"title": "Draft"}'
    simulator.reply(text=[f"First {draft}, or ", f"```json\n{draft}\n```", *mark, _WHOLE])
    assert ask(structured_output_strategy=strategy, stream=stream).value == _VALUE
    simulator.reply(text=[f"First {draft}", *mark, "I do not know."])
    simulator.reply(_WHOLE)
    assert ask(structured_output_strategy=strategy, stream=stream).value == _VALUE
    assert "".join(shown) == (_WHOLE * 2 if stream else "")


# Formats that are ignored


@_both_ways
@pytest.mark.parametrize(
    "text",
    [
        "They are pumps.",
        "# Pumps\n- Ida",
        f"{_WHOLE[:-1]},}}",
        '{"name": "Pumps"}',
        '["Pumps"]',
        "```\n{title: 1}\n```",
    ],
)
def test_what_ignores_a_format_is_told_the_schema_in_words_and_remembered(simulator, ask, caplog, *, text, stream):
    schema = Schema({"title": str})
    simulator.reply(text)
    simulator.reply('{"title": "Pumps"}')
    with caplog.at_level(logging.INFO, logger="griptape_ollama"):
        assert ask(schema, stream=stream, tell_schema=False).value == {"title": "Pumps"}
        first, second = simulator.chats
        assert "title" not in json.dumps(first.messages)
        assert '"title"' in second.messages[-1]["content"]
        assert _formats(simulator) == [True, False]
        for _ in range(2):
            simulator.reply('{"title": "Pumps"}')
            ask(schema, stream=stream, tell_schema=False)
    assert _formats(simulator) == [True, False, False, False]
    assert '"title"' in simulator.last_chat.messages[0]["content"]
    assert sum("formats are ignored" in record.message for record in caplog.records) == 1


@_both_ways
def test_prose_under_a_format_is_not_shown(simulator, ask, shown, stream):
    simulator.reply(text=["\n", "They are", " pumps."])
    simulator.reply(text=[_WHOLE[:9], _WHOLE[9:]])
    simulator.reply(text=["```json\n", _WHOLE, "\n```"])
    for _ in range(2):
        assert ask(stream=stream).value == _VALUE
    assert "".join(shown) == (_WHOLE * 2 if stream else "")


def test_json_under_a_format_is_shown_as_it_comes(simulator, make_driver, shown):
    simulator.reply(text=["\n", "{", *_WHOLE[1:]])
    stack = PromptStack(output_schema=Document)
    stack.add_user_message("Pumps?")
    make_driver(stream=True).run(stack)
    assert shown[0] == "\n{"
    assert "".join(shown) == f"\n{_WHOLE}"
    assert len(shown) == len(_WHOLE)


@_both_ways
def test_asking_what_ignores_formats_has_an_end(simulator, make_driver, stream):
    stack = PromptStack(output_schema=Document)
    stack.add_user_message("Pumps?")
    simulator.reply("No.", times=None)
    message = make_driver(stream=stream).run(stack)
    assert message.to_text() == "No."
    assert len(simulator.chats) == 2 + MAX_REPAIRS


@_both_ways
@pytest.mark.parametrize("text", ["No.", "[1]", '"Pumps"', '{"pages"', "{}"])
def test_asking_what_ignores_formats_has_an_end_with_tools_too(simulator, make_driver, weather_tool, stream, text):
    stack = PromptStack(output_schema=Document, tools=[weather_tool])
    stack.add_user_message("Pumps?")
    simulator.reply(text, times=None)
    make_driver(stream=stream).run(stack)
    assert len(simulator.chats) <= 3 + MAX_REPAIRS


@pytest.mark.parametrize("stop", ["a", "{", '"', ":"])
def test_a_stop_text_that_spoils_each_answer_has_an_end_with_tools(simulator, make_driver, weather_tool, stop):
    stack = PromptStack(output_schema=Document, tools=[weather_tool])
    stack.add_user_message("Pumps?")
    simulator.reply("They are pumps.", times=None)
    make_driver(options={"stop": [stop]}).run(stack)
    assert len(simulator.chats) <= 3 + MAX_REPAIRS


def test_a_wrong_value_in_the_right_shape_is_no_sign_of_an_ignored_format(simulator, ask):
    simulator.reply('{"pages": "many"}')
    simulator.reply(_WHOLE)
    assert ask().value == _VALUE
    assert _formats(simulator) == [True, True]


def test_what_ignores_a_format_is_tried_anew_when_the_model_has_changed(make_driver):
    models = [SimulatedModel(name="simulator")]
    with OllamaSimulator(models=models) as simulator:
        driver = make_driver(host=simulator.url)
        task = PromptTask("Pumps?", output_schema=Document, prompt_driver=driver)
        simulator.reply("They are pumps.")
        simulator.reply(_WHOLE, times=None)
        task.run()
        task.run()
        assert _formats(simulator) == [True, False, False]
        OllamaModels(host=simulator.url).create("simulator", from_model="simulator", system="Be brief.")
        task.run()
    assert _formats(simulator)[-1]


@_both_ways
def test_with_tools_an_ignored_format_is_told_in_words_too(simulator, ask, weather_tool, shown, stream):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("They are pumps.")
    simulator.reply("Pumps, as I said.")
    simulator.reply(_WHOLE)
    assert ask(tools=[weather_tool], stream=stream).value == _VALUE
    assert _formats(simulator) == [False, False, True, False]
    assert [bool(request.tools) for request in simulator.chats] == [True, True, False, False]
    assert "".join(shown) == (_WHOLE if stream else "")


# What the model is told


@_both_ways
@_each_strategy
def test_descriptions_reach_the_model_once_and_in_few_tokens(simulator, ask, *, strategy, stream):
    simulator.reply(_WHOLE)
    ask(structured_output_strategy=strategy, stream=stream)
    [request] = simulator.chats
    [system] = [message["content"] for message in request.messages if message["role"] == "system"]
    schema = json.loads(system[system.index("\n{") :])
    assert schema["properties"]["title"]["description"] == "Without the subtitle"
    assert (json.dumps(request.body).count("Without the subtitle"), '"title": "Title"' in system) == (
        1 + ("format" in request.body),
        False,
    )
    assert ": " not in system[system.index("\n{") :].replace("Without the subtitle", "")


def test_descriptions_of_a_schema_of_the_other_kind_reach_the_model(simulator, ask):
    simulator.reply('{"p": 1013.0}')
    ask(Schema({Literal("p", description="In millibar"): float}))
    assert "In millibar" in simulator.last_chat.messages[0]["content"]


def test_a_recursive_schema_is_told_in_few_words(simulator, ask):
    simulator.reply('{"name": "root"}')
    ask(Node)
    assert simulator.last_chat.messages[0]["content"].count('"kids"') == 1


@_both_ways
def test_the_schema_is_told_together_with_tools_and_the_beginning_stays_the_same(
    simulator, ask, weather_tool, *, stream
):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("They are pumps.")
    simulator.reply(_WHOLE)
    ask(tools=[weather_tool], stream=stream)
    first, second, third = (request.messages for request in simulator.chats)
    assert first[0]["role"] == "system"
    assert "Without the subtitle" in first[0]["content"]
    assert second[: len(first)] == first
    assert third[: len(second)] == second


@_each_strategy
def test_the_schema_is_told_once_however_often_a_stack_is_run(simulator, make_driver, strategy):
    stack = PromptStack(output_schema=Document)
    stack.add_system_message("Be brief.")
    stack.add_user_message("Pumps?")
    for _ in range(2):
        simulator.reply(_WHOLE)
        make_driver(structured_output_strategy=strategy).run(stack)
    first, second = (request.messages for request in simulator.chats)
    assert first == second
    assert first[0]["content"].startswith("Be brief.\n\n")


def test_the_models_own_system_prompt_stays(simulator, ask):
    simulator.reply(_WHOLE)
    ask(model="grumpy")
    assert simulator.last_chat.messages[0]["content"].startswith("You are grumpy.\n\nYour final answer is")


def test_rules_come_before_the_schema(simulator, make_driver):
    simulator.reply(_WHOLE)
    Agent(prompt_driver=make_driver(), output_schema=Document, rules=[Rule("Be brief")]).run("Pumps?")
    system = simulator.last_chat.messages[0]["content"]
    assert system.index("Be brief") < system.index("Your final answer is")


@_both_ways
def test_telling_the_schema_can_be_switched_off(simulator, ask, stream):
    simulator.reply(_WHOLE)
    ask(tell_schema=False, stream=stream)
    assert simulator.last_chat.messages == [{"role": "user", "content": "Pumps?"}]
    assert "format" in simulator.last_chat.body


def test_a_preview_shows_what_is_told_and_changes_nothing(simulator, make_driver):
    stack = PromptStack(output_schema=Document)
    stack.add_user_message("Pumps?")
    preview = make_driver().preview(stack)
    simulator.reply(_WHOLE)
    assert len(stack.messages) == 1
    make_driver().run(stack)
    assert preview.messages == simulator.last_chat.messages
    stack = PromptStack(output_schema=Document)
    stack.add_user_message("Pumps?")
    assert make_driver(tell_schema=False).preview(stack).estimate.tokens < preview.estimate.tokens


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_whether_a_schema_is_told_is_yes_or_no(value):
    with pytest.raises(OllamaContentError, match="tell_schema="):
        OllamaPromptDriver(model="m", tell_schema=value)


@pytest.mark.parametrize("marks", [True, False, ["<think>", "[THINK]"], [["◁think▷", "◁/think▷"], "harmony"]])
@pytest.mark.parametrize("tell_schema", [True, False])
def test_the_settings_are_stored(marks, tell_schema):
    driver = OllamaPromptDriver(model="m", separate_think_tags=marks, tell_schema=tell_schema)
    back = BasePromptDriver.from_dict(json.loads(json.dumps(driver.to_dict())))
    assert isinstance(back, OllamaPromptDriver)
    assert (back.separate_think_tags, back.tell_schema) == (marks, tell_schema)


def test_marks_that_are_none_are_refused_before_anything_is_sent():
    with pytest.raises(OllamaContentError, match="separate_think_tags="):
        OllamaPromptDriver(model="m", separate_think_tags="<think>")


# A format of the user's own


@_both_ways
@pytest.mark.parametrize("where", ["field", "extra_params"])
@pytest.mark.parametrize("wanted", ["json", _FORMAT], ids=["json", "schema"])
def test_a_format_waits_until_tools_were_called(simulator, make_driver, weather_tool, shown, *, where, wanted, stream):
    settings = {"format": wanted} if where == "field" else {"extra_params": {"format": wanted}}
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("In Oslo.")
    simulator.reply('{"city": "Oslo"}')
    output = Agent(prompt_driver=make_driver(stream=stream, **settings), tools=[weather_tool]).run("Where?").output
    assert output.value == '{"city": "Oslo"}'
    assert _formats(simulator) == [False, False, True]
    assert simulator.last_chat.body["format"] == wanted
    assert [bool(request.tools) for request in simulator.chats] == [True, True, False]
    assert "".join(shown) == ('{"city": "Oslo"}' if stream else "")


@pytest.mark.parametrize("wanted", ["json", _FORMAT], ids=["json", "schema"])
def test_an_answer_that_fits_the_format_at_once_is_not_asked_for_again(simulator, make_driver, weather_tool, *, wanted):
    simulator.reply('```\n{"city": "Oslo"}\n```')
    output = Agent(prompt_driver=make_driver(format=wanted), tools=[weather_tool]).run("Where?").output
    assert (output.value, len(simulator.chats)) == ('{"city": "Oslo"}', 1)


def test_a_format_waits_for_tools_that_are_described_in_words_too(simulator, make_driver, weather_tool):
    action = {"tag": "a", "name": "WeatherTool", "path": "look_up", "input": {"city": "Oslo"}}
    simulator.reply(f"Thought: I look.\nActions: {json.dumps([action])}")
    simulator.reply("Answer: in Oslo.")
    simulator.reply('{"city": "Oslo"}')
    driver = make_driver(model="words", format="json")
    assert Agent(prompt_driver=driver, tools=[weather_tool]).run("Where?").output.value == '{"city": "Oslo"}'
    assert _formats(simulator) == [False, False, True]


@_both_ways
def test_an_ignored_format_of_the_users_own_is_told_in_words(simulator, make_driver, shown, stream):
    driver = make_driver(format=_FORMAT, stream=stream)
    simulator.reply("In Oslo.")
    simulator.reply('{"city": "Oslo"}')
    assert Agent(prompt_driver=driver).run("Where?").output.value == '{"city": "Oslo"}'
    simulator.reply('{"city": "Rome"}')
    assert Agent(prompt_driver=driver).run("Where?").output.value == '{"city": "Rome"}'
    assert _formats(simulator) == [True, False, False]
    assert '"city"' in simulator.last_chat.messages[0]["content"]
    assert "".join(shown) == ('{"city": "Oslo"}{"city": "Rome"}' if stream else "")


def test_a_cut_answer_under_a_format_of_the_users_own_is_left_as_it_is(simulator, make_driver, stack):
    simulator.reply('{"city": "Os', done_reason="length")
    assert make_driver(format="json").run(stack).to_text() == '{"city": "Os'
    assert len(simulator.chats) == 1


def test_an_answer_without_tools_under_a_format_is_left_as_it_is(simulator, make_driver, stack):
    simulator.reply('{"town": "Oslo", "city": 1}')
    assert make_driver(format=_FORMAT).run(stack).to_text() == '{"town": "Oslo", "city": 1}'
    assert len(simulator.chats) == 1


# The cloud


@_both_ways
def test_every_model_of_ollama_com_is_told_the_schema_in_words_and_has_its_own_window(stream):
    bodies = []

    def answer(request):
        if request.url.path != "/api/chat":
            info = {"general.architecture": "gptoss", "gptoss.context_length": 131_072}
            return httpx.Response(200, json={"model_info": info, "details": {"format": "gguf"}})
        bodies.append(json.loads(request.content))
        told = "subtitle" in json.dumps(bodies[-1]["messages"])
        line = {"message": {"role": "assistant", "content": _WHOLE if told else "Pumps."}, "done": True}
        return httpx.Response(200, headers={"Content-Type": "application/x-ndjson"}, text=f"{json.dumps(line)}\n")

    client = ollama.Client(host="https://ollama.com", transport=httpx.MockTransport(answer))
    driver = OllamaPromptDriver(model="gpt-oss:120b", client=client, stream=stream, tell_schema=False)
    task = PromptTask("Pumps?" + " word" * 6000, output_schema=Document, prompt_driver=driver)
    assert Agent(tasks=[task]).run().output.value == _VALUE
    [body] = bodies
    assert "format" not in body
    assert "num_ctx" not in body["options"]


@_both_ways
def test_a_local_model_with_cloud_in_its_name_is_none_of_the_cloud(make_driver, stream):
    with OllamaSimulator(models=[SimulatedModel(name="weather-cloud")]) as simulator:
        simulator.reply(_WHOLE)
        driver = make_driver(model="weather-cloud", host=simulator.url, stream=stream)
        assert isinstance(PromptTask("Pumps?", output_schema=Document, prompt_driver=driver).run(), ModelArtifact)
        assert _formats(simulator) == [True]


def test_a_task_never_ends_with_a_part(simulator, make_driver):
    simulator.reply(_WHOLE[:-1], times=None)
    task = PromptTask("Pumps?", output_schema=Document, prompt_driver=make_driver(), max_subtasks=2)
    assert isinstance(Agent(tasks=[task]).run().output, ErrorArtifact)


@_both_ways
def test_a_draft_in_thoughts_that_were_cut_is_no_answer_of_a_model_known_to_think_in_its_text(
    simulator, make_driver, stream
):
    stack = PromptStack(output_schema=Document)
    stack.add_user_message("Pumps?")
    driver = make_driver(stream=stream)
    simulator.reply(f"Hm.</think>{_WHOLE}")
    driver.run(stack)
    simulator.reply(f"Maybe\n```json\n{_WHOLE}\n```\nor ", done_reason="length")
    with pytest.raises(OllamaStreamError, match="used up by thinking"):
        driver.run(stack)


@_both_ways
def test_words_with_tools_that_were_cut_are_followed_by_the_document_and_a_cut_document_is_an_error(
    simulator, ask, weather_tool, stream
):
    simulator.reply("They are pumps, and they are", done_reason="length")
    simulator.reply(_WHOLE)
    assert ask(tools=[weather_tool], stream=stream).value == _VALUE
    assert _formats(simulator) == [False, True]
    simulator.reply(_WHOLE[:-1], done_reason="length")
    output = ask(tools=[weather_tool], stream=stream)
    assert isinstance(output, ErrorArtifact)
    assert "was cut" in output.value
