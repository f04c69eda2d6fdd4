"""Structured output: the answer fits the schema with each strategy, task and kind of model."""

import json
import logging
from enum import Enum
from typing import Literal, Optional

import pytest
from griptape.artifacts import ErrorArtifact, JsonArtifact, ModelArtifact
from griptape.common import PromptStack
from griptape.events import EventListener, TextChunkEvent
from griptape.structures import Agent
from griptape.tasks import PromptTask
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from pydantic import BaseModel, RootModel
from schema import Optional as Maybe
from schema import Or, Schema

from griptape_ollama import OllamaStreamError
from griptape_ollama.drivers.structured_output import MAX_REPAIRS
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


class Weather(BaseModel):
    city: str
    degrees: int


class Mood(Enum):
    HAPPY = "happy"
    SAD = "sad"


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []
    parent: Optional["Tree"] = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


class Household(BaseModel):
    pets: list[Cat | Dog]
    mood: Mood
    forecast: Weather | None = None
    tree: Tree


class Cities(RootModel[list[Weather]]):
    pass


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="simulator"),
        SimulatedModel(name="thinker", capabilities=("completion", "tools", "thinking")),
        SimulatedModel(name="words", capabilities=("completion",)),
        SimulatedModel(name="big:cloud"),
        SimulatedModel(name="big:120b-cloud"),
        SimulatedModel(name="alias"),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


@pytest.fixture
def ask(make_driver):
    """Runs a task with an output schema."""

    def run(schema=Weather, *, tools=(), **settings):
        task = PromptTask("Oslo?", output_schema=schema, prompt_driver=make_driver(**settings), tools=list(tools))
        return Agent(tasks=[task]).run().output

    return run


@pytest.fixture
def shown():
    """The text that listeners saw."""
    texts = []
    with EventListener(lambda event: texts.append(event.token), event_types=[TextChunkEvent]):
        yield texts


def _answer(degrees=12):
    return json.dumps({"city": "Oslo", "degrees": degrees})


# The grammar


@_both_ways
def test_by_default_the_server_makes_the_answer_fit(simulator, ask, stream):
    simulator.reply(_answer())
    output = ask(stream=stream)
    assert isinstance(output, ModelArtifact)
    assert output.value == Weather(city="Oslo", degrees=12)
    [request] = simulator.chats
    assert request.body["format"] == {
        "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
        "required": ["city", "degrees"],
        "type": "object",
    }
    told, asked = request.messages
    assert (told["role"], asked) == ("system", {"role": "user", "content": "Oslo?"})


@_both_ways
@pytest.mark.parametrize(
    "schema",
    [
        Weather,
        Tree,
        Cat,
        Household,
        Cities,
        Schema({"city": str, Maybe("degrees"): Or(int, None), "mood": Or("happy", "sad"), "list": [{"a": int}]}),
        Schema([int]),
        Schema([{"city": str}]),
        Schema({"either": Or({"a": int}, {"b": str})}),
    ],
    ids=lambda schema: getattr(schema, "__name__", str(schema)),
)
def test_schemas_of_any_kind_are_answered(simulator, ask, *, schema, stream):
    # The simulator fills a format by itself, as the server's grammar does, and refuses one that it cannot take.
    output = ask(schema, stream=stream)
    assert isinstance(output, (JsonArtifact, ModelArtifact)), output.value
    assert len(simulator.chats) == 1
    assert "$ref" not in json.dumps(simulator.last_chat.body["format"])


@_both_ways
def test_json_of_a_server_that_ignores_the_format_is_unwrapped(simulator, ask, stream):
    simulator.reply(f"Sure:\n```json\n{_answer()}\n```")
    assert ask(stream=stream).value == Weather(city="Oslo", degrees=12)
    assert len(simulator.chats) == 1


@_both_ways
def test_a_wrong_answer_is_sent_back_with_what_is_wrong(simulator, ask, stream):
    simulator.reply(_answer("cold"))
    simulator.reply(_answer())
    assert ask(stream=stream).value == Weather(city="Oslo", degrees=12)
    assert "degrees" in simulator.last_chat.messages[-2]["content"]  # where Griptape puts it


@_both_ways
def test_an_answer_that_was_cut_is_a_clear_error(simulator, make_driver, stream):
    simulator.reply('{"city": "Os', done_reason="length")
    stack = PromptStack(output_schema=Weather)
    stack.add_user_message("Oslo?")
    with pytest.raises(
        OllamaStreamError, match=r"JSON answer of model 'simulator'.* was cut.* raise max_tokens"
    ) as caught:
        make_driver(stream=stream).run(stack)
    assert caught.value.partial_text == '{"city": "Os'


@_both_ways
def test_an_answer_that_was_cut_while_thinking_is_one_too(simulator, make_driver, stream):
    simulator.reply(thinking="Oslo is", done_reason="length")
    stack = PromptStack(output_schema=Weather)
    stack.add_user_message("Oslo?")
    with pytest.raises(OllamaStreamError, match="used up by thinking: raise max_tokens"):
        make_driver(model="thinker", stream=stream).run(stack)


def test_a_format_of_the_users_own_gives_way_to_the_schema_of_the_task(simulator, ask):
    simulator.reply(_answer())
    ask(format="json")
    assert simulator.last_chat.body["format"] != "json"


# Together with tools


@_both_ways
def test_tools_are_called_and_the_answer_fits_the_schema(simulator, ask, weather_tool, shown, stream):
    simulator.reply(text="Let me look. ", tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("It is 12 degrees in Oslo.", final={"prompt_eval_count": 10, "eval_count": 5})
    simulator.reply(_answer(), final={"prompt_eval_count": 20, "eval_count": 6})
    output = ask(tools=[weather_tool], stream=stream)
    assert output.value == Weather(city="Oslo", degrees=12)
    first, second, third = simulator.chats
    for request in (first, second):
        assert [tool["function"]["name"] for tool in request.tools] == ["WeatherTool_look_up"]
        assert "format" not in request.body
    assert third.tools == []
    assert third.body["format"]["required"] == ["city", "degrees"]
    assert [message["role"] for message in third.messages][-4:] == ["assistant", "tool", "assistant", "user"]
    assert third.messages[-2]["content"] == "It is 12 degrees in Oslo."
    # What the answer replaces is not shown, and what stands is.
    assert "".join(shown) == (f"Let me look. {_answer()}" if stream else "")


@_both_ways
def test_both_phases_are_one_message_and_their_tokens_are_added_up(simulator, make_driver, weather_tool, *, stream):
    stack = PromptStack(output_schema=Weather, tools=[weather_tool])
    stack.add_user_message("Oslo?")
    simulator.reply("12 degrees", final={"prompt_eval_count": 10, "eval_count": 5, "total_duration": 1_000_000_000})
    simulator.reply(_answer(), final={"prompt_eval_count": 20, "eval_count": 6, "total_duration": 2_000_000_000})
    message = make_driver(stream=stream).run(stack)
    assert message.to_text() == _answer()
    assert (message.usage.input_tokens, message.usage.output_tokens) == (30, 11)
    meta = message.content[0].artifact.meta["ollama"]
    assert (meta["requests"], meta["total_seconds"]) == (2, 3.0)


@_both_ways
def test_an_answer_that_fits_at_once_is_not_asked_for_again(simulator, ask, weather_tool, shown, stream):
    simulator.reply(f"Here you are:\n```json\n{_answer()}\n```")
    assert ask(tools=[weather_tool], stream=stream).value == Weather(city="Oslo", degrees=12)
    assert len(simulator.chats) == 1
    assert "".join(shown) == (_answer() if stream else "")


@_both_ways
def test_the_text_beside_a_corrected_call_does_not_get_into_the_answer(simulator, ask, weather_tool, shown, stream):
    simulator.reply(text="Wait. ", tool_calls=[("nope", {})])
    simulator.reply(_answer())
    assert ask(tools=[weather_tool], stream=stream).value == Weather(city="Oslo", degrees=12)
    assert simulator.chats[1].messages[-2]["content"] == "Wait. "
    assert "".join(shown) == (_answer() if stream else "")


def test_a_recursive_schema_goes_together_with_tools(simulator, ask, weather_tool):
    simulator.reply("A birch.")
    simulator.reply('{"name": "birch", "children": [{"name": "leaf"}]}')
    assert ask(Tree, tools=[weather_tool]).value.children[0].name == "leaf"


@_both_ways
def test_a_model_without_tools_gets_no_format_before_the_final_answer(simulator, ask, weather_tool, stream):
    action = {"tag": "a", "name": "WeatherTool", "path": "look_up", "input": {"city": "Oslo"}}
    simulator.reply(f"Thought: I look.\nActions: {json.dumps([action])}")
    simulator.reply("Answer: 12 degrees.")
    simulator.reply(_answer())
    assert ask(model="words", tools=[weather_tool], stream=stream).value == Weather(city="Oslo", degrees=12)
    assert ["format" in request.body for request in simulator.chats] == [False, False, True]
    assert all(request.tools == [] for request in simulator.chats)


def test_a_format_of_the_users_own_does_not_keep_a_task_with_a_schema_from_its_tools(simulator, ask, weather_tool):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply(_answer())
    ask(tools=[weather_tool], format="json")
    assert "format" not in simulator.chats[0].body


# Words in place of the grammar


@_both_ways
@pytest.mark.parametrize("model", ["big:cloud", "big:120b-cloud", "alias"])
def test_a_cloud_model_is_told_the_schema_in_words(simulator, ask, *, model, stream):
    if model == "alias":
        simulator.reply(path="/api/show", body={"remote_host": "https://ollama.com:443"}, times=None)
    simulator.reply(f"Here:\n```json\n{_answer()}\n```")
    assert ask(model=model, stream=stream).value == Weather(city="Oslo", degrees=12)
    [request] = simulator.chats
    assert "format" not in request.body
    assert request.messages[0]["role"] == "system"
    assert '"degrees"' in request.messages[0]["content"]


@_both_ways
@pytest.mark.parametrize("schema", [Tree, Household])
def test_a_recursive_schema_can_be_told_in_words(simulator, ask, *, schema, stream):
    household = {"pets": [], "mood": "sad", "tree": {"name": "oak"}}
    simulator.reply(json.dumps({"name": "oak"} if schema is Tree else household))
    assert isinstance(ask(schema, structured_output_strategy="rule", stream=stream), ModelArtifact)
    assert "recursion" not in simulator.last_chat.messages[0]["content"]


@_both_ways
@pytest.mark.parametrize(
    "said",
    [
        "```json\n{}\n```",
        "```\n{}\n```",
        "{}",
        "Sure! {} I hope that helps.",
        "\n\n{}\n",
        "First a thought about {{braces}}: {}",
        "```json\n{}\n``` and ```json\n[1]\n```",
    ],
)
def test_fenced_and_chatty_json_is_unwrapped(simulator, ask, shown, *, said, stream):
    simulator.reply(said.replace("{}", _answer()))
    assert ask(structured_output_strategy="rule", stream=stream).value == Weather(city="Oslo", degrees=12)
    assert len(simulator.chats) == 1
    assert "".join(shown).strip() == (_answer() if stream else "")


@_both_ways
@pytest.mark.parametrize("schema", [Weather, Schema({"city": str, "degrees": int})], ids=["pydantic", "schema"])
def test_invalid_json_goes_back_to_the_model_with_the_reason(simulator, ask, shown, *, schema, stream):
    simulator.reply("I do not know.")
    simulator.reply(_answer("cold"))
    simulator.reply(_answer())
    output = ask(schema, structured_output_strategy="rule", stream=stream)
    assert not isinstance(output, ErrorArtifact)
    first, second, third = simulator.chats
    assert second.messages[:-2] == first.messages
    assert second.messages[-2] == {"role": "assistant", "content": "I do not know."}
    assert second.messages[-1]["content"].startswith("That is not valid: ")
    assert "JSON" in second.messages[-1]["content"]
    assert "degrees" in third.messages[-1]["content"]
    assert "".join(shown) == (_answer() if stream else "")


@_both_ways
def test_asking_for_better_json_has_an_end(simulator, make_driver, stream):
    stack = PromptStack(output_schema=Weather)
    stack.add_user_message("Oslo?")
    simulator.reply("No.", times=None)
    message = make_driver(structured_output_strategy="rule", stream=stream).run(stack)
    assert message.to_text() == "No."
    assert len(simulator.chats) == 1 + MAX_REPAIRS


@_both_ways
def test_a_task_that_never_gets_valid_json_ends_with_an_error(simulator, make_driver, stream):
    simulator.reply("No.", times=None)
    driver = make_driver(structured_output_strategy="rule", stream=stream)
    task = PromptTask("Oslo?", output_schema=Weather, prompt_driver=driver, max_subtasks=2)
    assert isinstance(Agent(tasks=[task]).run().output, ErrorArtifact)


def test_answers_by_tool_are_as_griptape_makes_them(simulator, ask):
    simulator.reply(tool_calls=[("StructuredOutputTool_provide_output", {"city": "Oslo", "degrees": 12})])
    output = ask(structured_output_strategy="tool")
    assert output.value in ({"city": "Oslo", "degrees": 12}, Weather(city="Oslo", degrees=12))


# What is said about it


class _Odd(BaseTool):
    @activity(config={"description": "Odd", "schema": Schema({"n": lambda n: n > 1, Maybe("d", default=3): int})})
    def odd(self, params: dict):
        return None


def test_what_a_schema_loses_is_logged_once_at_debug(simulator, make_driver, stack, caplog):
    stack.tools = [_Odd(name="LosesSomething")]
    with caplog.at_level(logging.DEBUG, logger="griptape_ollama"):
        for _ in range(3):
            make_driver().run(stack)
    said = [record for record in caplog.records if "cannot hold all of" in record.message]
    assert [(record.levelname, record.message) for record in said] == [
        ("DEBUG", "The server cannot hold all of a tool's parameters; left out: /d: default.")
    ]


@_both_ways
def test_an_agent_with_memory_goes_on_after_a_structured_answer(simulator, make_driver, stream):
    simulator.reply('{"city": "Oslo", "degrees": 12}', times=2)
    agent = Agent(prompt_driver=make_driver(stream=stream), output_schema=Weather)
    for _ in range(2):
        output = agent.run("Oslo?").output
        assert isinstance(output, ModelArtifact), output
    assert '"Oslo"' in simulator.last_chat.messages[-2]["content"]


@_both_ways
def test_the_word_actions_in_an_answer_is_no_call(simulator, make_driver, stream):
    chunks = []
    simulator.reply('Corrective Actions: none [1]. {"city": "Oslo", "degrees": 12}')
    stack = PromptStack(output_schema=Weather)
    stack.add_user_message("Oslo?")
    driver = make_driver(stream=stream, structured_output_strategy="rule")
    with EventListener(lambda event: chunks.append(event.token), event_types=[TextChunkEvent]):
        message = driver.run(stack)
    assert json.loads(message.to_text()) == {"city": "Oslo", "degrees": 12}
    assert "".join(chunks) == (message.to_text() if stream else "")


def test_an_answer_of_blanks_after_thinking_counts_as_empty(make_driver):
    with OllamaSimulator([SimulatedModel(name="thinker", capabilities=("completion", "thinking"))]) as server:
        server.reply(thinking="Hm", text="\n", done_reason="length")
        server.reply("Hello")
        stack = PromptStack()
        stack.add_user_message("Hi")
        driver = make_driver(model="thinker", host=server.url, on_empty="retry_without_thinking")
        assert driver.run(stack).to_text().strip() == "Hello"
        assert len(server.chats) == 2
