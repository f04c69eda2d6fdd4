"""Thinking: seen as it comes, kept beside the answer, and sent back with the calls that it led to."""

import asyncio
import itertools
import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.common import PromptStack
from griptape.events import BaseEvent, FinishPromptEvent, TextChunkEvent
from griptape.structures import Agent
from griptape.utils import Stream
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schema import Schema

from griptape_ollama import (
    OllamaContentError,
    OllamaPromptDriver,
    ReasoningChunkEvent,
)
from griptape_ollama.conversion.tool_history import MAX_TURNS, ToolHistory, ToolTurn
from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
_each_kind = pytest.mark.parametrize("model", ["template", "builtin", "native"])
_CAPABILITIES = ("completion", "tools", "thinking")


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="template", capabilities=_CAPABILITIES),
        SimulatedModel(name="builtin", capabilities=_CAPABILITIES, kind="builtin"),
        SimulatedModel(name="native", capabilities=_CAPABILITIES, kind="native"),
        SimulatedModel(name="plain", capabilities=("completion", "tools")),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


def _text(events, kind):
    return "".join(event.token for event in events if type(event) is kind)


def _thinking(artifact):
    return artifact.meta["ollama"].get("thinking")


@_both_ways
@_each_kind
def test_thinking_is_an_event_and_metadata_and_never_text(simulator, make_driver, events, *, model, stream):
    simulator.reply(thinking="Hm, well.", text="Yes.")
    output = Agent(prompt_driver=make_driver(model=model, stream=stream)).run("Hi").output
    assert output.value == "Yes."
    assert _thinking(output) == "Hm, well."
    assert _text(events, TextChunkEvent) == ("Yes." if stream else "")
    assert _text(events, ReasoningChunkEvent) == ("Hm, well." if stream else "")
    kinds = [type(event) for event in events if type(event) in (TextChunkEvent, ReasoningChunkEvent)]
    assert kinds == sorted(kinds, key=[ReasoningChunkEvent, TextChunkEvent].index)


def test_who_uses_griptapes_stream_sees_the_answer_only(simulator, make_driver):
    simulator.reply(thinking="Hm, well.", text="Yes.")
    shown = "".join(
        part.value for part in Stream(Agent(prompt_driver=make_driver(model="template", stream=True))).run("Hi")
    )
    assert shown.strip() == "Yes."


def test_who_uses_try_stream_gets_the_answer_only(simulator, make_driver, stack):
    simulator.reply(thinking="Hm, well.", text="Yes.")
    deltas = list(make_driver(model="template").try_stream(stack))
    assert "".join(delta.content.text for delta in deltas if delta.content) == "Yes."


def test_an_event_of_thinking_can_be_stored_and_loaded(simulator, make_driver, stack, events):
    simulator.reply(thinking="Hm", text="Yes.")
    make_driver(model="template", stream=True).run(stack)
    event = next(event for event in events if isinstance(event, ReasoningChunkEvent))
    back = BaseEvent.from_dict(json.loads(json.dumps(event.to_dict())))
    assert (type(back), back.token, str(back)) == (ReasoningChunkEvent, "Hm", "Hm")


# What is asked for


@_both_ways
@pytest.mark.parametrize("think", [None, True, False, "low", "medium", "high", "max"])
def test_think_is_sent_as_it_is_set(simulator, make_driver, stack, *, think, stream):
    make_driver(model="template", think=think, stream=stream).run(stack)
    assert simulator.last_chat.body.get("think") == think
    assert ("think" in simulator.last_chat.body) == (think is not None)


@_both_ways
@pytest.mark.parametrize("think", ["", " ", 1, 0, 0.5, [], b"low"])
def test_an_invalid_think_is_refused_before_anything_is_sent(simulator, make_driver, stack, *, think, stream):
    with pytest.raises(OllamaContentError, match="think="):
        make_driver(model="template", think=think, stream=stream).run(stack)
    assert simulator.chats == []


# What is sent back


def _call(city="Oslo"):
    return ("WeatherTool_look_up", {"city": city})


def _assistant(request):
    return [message for message in request.messages if message["role"] == "assistant"]


@_both_ways
@_each_kind
def test_thinking_goes_back_with_the_calls_in_the_next_turn(simulator, make_driver, weather_tool, *, model, stream):
    simulator.reply(thinking="First Oslo.", tool_calls=[_call("Oslo"), _call("Rome")])
    simulator.reply(thinking="Now Lyon.", text="And one more. ", tool_calls=[_call("Lyon")])
    simulator.reply(thinking="That is all.", text="Done.")
    output = Agent(prompt_driver=make_driver(model=model, stream=stream), tools=[weather_tool]).run("Go").output
    assert output.value == "Done."
    assert _thinking(output) == "That is all."
    first, second = _assistant(simulator.last_chat)
    assert (first["thinking"], len(first["tool_calls"])) == ("First Oslo.", 2)
    assert (second["thinking"], second["content"], len(second["tool_calls"])) == ("Now Lyon.", "And one more. ", 1)


def test_thinking_before_a_corrected_call_goes_back_too(simulator, make_driver, weather_tool):
    simulator.reply(thinking="What is there?", tool_calls=[("nope", {})])
    simulator.reply(thinking="I see.", tool_calls=[_call()])
    simulator.reply("Done.")
    output = Agent(prompt_driver=make_driver(model="template"), tools=[weather_tool]).run("Go").output
    assert output.value == "Done."
    assert _assistant(simulator.chats[1])[0]["thinking"] == "What is there?"
    assert _assistant(simulator.chats[2])[0]["thinking"] == "I see."


def test_thinking_does_not_go_back_in_the_next_task(simulator, make_driver):
    simulator.reply(thinking="Hm.", text="Yes.")
    agent = Agent(prompt_driver=make_driver(model="template"))
    agent.run("Hi")
    agent.run("Really?")
    assert "thinking" not in _assistant(simulator.last_chat)[0]


def test_tasks_at_the_same_time_get_their_own_thinking_back(simulator, make_driver, weather_tool):
    def answer(request):
        name = request.messages[1]["content"]
        if request.messages[-1]["role"] == "tool":
            assert _assistant(request)[0]["thinking"] == f"About {name}."
            return Reply(text=f"Done {name}.")
        return Reply(thinking=[f"About {name}."], tool_calls=[_call(name)])

    simulator.reply(answer, times=None)
    driver = make_driver(model="template")
    cities = [f"City {number}" for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        outputs = list(
            pool.map(lambda city: Agent(prompt_driver=driver, tools=[weather_tool]).run(city).output, cities)
        )
    assert [output.value for output in outputs] == [f"Done {city}." for city in cities]


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first():
    history = ToolHistory()
    for number in range(MAX_TURNS + 5):
        history.record([str(number)], ToolTurn(f"thought {number}"))
    assert history.find("4") is None
    assert history.find("5") == ToolTurn("thought 5")
    assert history.find(str(MAX_TURNS + 4)) == ToolTurn(f"thought {MAX_TURNS + 4}")


def test_many_threads_may_remember_and_find_at_once():
    history, barrier = ToolHistory(), threading.Barrier(8)

    def work(thread):
        barrier.wait()
        for number in range(200):
            tag = f"{thread}.{number}"
            history.record([tag], ToolTurn(tag))
            assert history.find(tag) in (ToolTurn(tag), None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


# Thinking that used up all tokens


@_both_ways
def test_the_reason_for_an_empty_answer_is_visible(simulator, make_driver, caplog, stream):
    simulator.reply(thinking="Hm, well, let me see", done_reason="length")
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        output = Agent(prompt_driver=make_driver(model="template", stream=stream)).run("Hi").output
    assert output.value == ""
    meta = output.meta["ollama"]
    assert meta["done_reason"] == "length"
    assert meta["thinking"] == "Hm, well, let me see"
    assert meta["problem"] == "The reply was cut, its tokens were used up by thinking: raise max_tokens (num_predict)."
    assert meta["problem"] in caplog.text
    assert len(simulator.chats) == 1


@_both_ways
def test_it_can_be_tried_again_without_thinking(simulator, make_driver, stack, events, stream):
    simulator.reply(thinking="Hm, well", done_reason="length", final={"prompt_eval_count": 5, "eval_count": 9})
    simulator.reply("Yes.", final={"prompt_eval_count": 5, "eval_count": 2})
    driver = make_driver(model="template", think="high", on_empty="retry_without_thinking", stream=stream)
    message = driver.run(stack)
    assert message.to_text() == "Yes."
    assert [request.body["think"] for request in simulator.chats] == ["high", False]
    assert simulator.chats[0].messages == simulator.chats[1].messages
    meta = message.content[0].artifact.meta["ollama"]
    assert (meta["done_reason"], meta["thinking"], meta["requests"]) == ("stop", "Hm, well", 2)
    assert "problem" not in meta
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 11)
    assert _text(events, TextChunkEvent) == ("Yes." if stream else "")
    assert sum(type(event) is FinishPromptEvent for event in events) == 1


@_both_ways
def test_it_is_tried_again_once(simulator, make_driver, stack, stream):
    simulator.reply(thinking="Hm, well", done_reason="length", times=None)
    message = make_driver(model="template", on_empty="retry_without_thinking", stream=stream).run(stack)
    assert len(simulator.chats) == 2
    assert "used up by" in message.content[0].artifact.meta["ollama"]["problem"]


def test_an_answer_that_was_cut_after_it_began_is_left_as_it_is(simulator, make_driver, stack):
    simulator.reply(thinking="Hm", text="Well, I", done_reason="length")
    message = make_driver(model="template", on_empty="retry_without_thinking").run(stack)
    assert message.to_text() == "Well, I"
    assert len(simulator.chats) == 1


# Replies that end by themselves, without having said anything


_BLANK = pytest.mark.parametrize("text", ["", "\n\n", " \t\u200b\ufeff"], ids=["none", "line ends", "no width"])


@_both_ways
@_BLANK
@pytest.mark.parametrize("thinking", ["", "The answer is four."])
@pytest.mark.parametrize("done_reason", ["stop", "length", "tool_calls", ""])
def test_a_reply_that_says_nothing_has_a_problem_whatever_its_reason(
    simulator, make_driver, caplog, *, text, thinking, done_reason, stream
):
    simulator.reply(text=text, thinking=thinking, done_reason=done_reason)
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        output = Agent(prompt_driver=make_driver(model="template", stream=stream)).run("2+2").output
    problem = output.meta["ollama"]["problem"]
    assert problem.startswith("The reply ")
    assert ("thinking," in problem or "by thinking" in problem) == bool(thinking)
    assert "raise max_tokens" in problem if done_reason == "length" else "ask again" in problem
    assert problem in caplog.text
    assert len(simulator.chats) == 1


@_both_ways
@_BLANK
@pytest.mark.parametrize("thinking", ["", "The answer is four."])
def test_a_reply_that_says_nothing_is_asked_for_again_without_thinking(
    simulator, make_driver, *, text, thinking, stream
):
    simulator.reply(text=text, thinking=thinking)
    simulator.reply("Four.")
    driver = make_driver(model="template", on_empty="retry_without_thinking", stream=stream)
    output = Agent(prompt_driver=driver).run("2+2").output
    assert output.value == "Four."
    assert [request.body.get("think") for request in simulator.chats] == [None, False]
    assert "problem" not in output.meta["ollama"]


@_both_ways
def test_a_reply_after_a_tools_result_that_says_nothing_is_asked_for_again(
    simulator, make_driver, weather_tool, stream
):
    simulator.reply(tool_calls=[_call()])
    simulator.reply(thinking="Twelve, then.")
    simulator.reply("12 degrees.")
    driver = make_driver(model="template", on_empty="retry_without_thinking", stream=stream)
    output = Agent(prompt_driver=driver, tools=[weather_tool]).run("Oslo?").output
    assert output.value == "12 degrees."
    assert simulator.chats[1].messages == simulator.chats[2].messages


def test_an_empty_reply_where_tools_were_offered_says_what_may_have_become_of_it(simulator, make_driver, weather_tool):
    simulator.reply("")
    output = Agent(prompt_driver=make_driver(model="template"), tools=[weather_tool]).run("Oslo?").output
    assert "(it may have called a tool that there is not)" in output.meta["ollama"]["problem"]


@_both_ways
def test_an_empty_reply_is_asked_for_again_once(simulator, make_driver, stack, stream):
    simulator.reply("", times=None)
    message = make_driver(model="template", on_empty="retry_without_thinking", stream=stream).run(stack)
    assert len(simulator.chats) == 2
    assert "word the prompt differently" in message.content[0].artifact.meta["ollama"]["problem"]


def test_the_async_way_asks_again_too(simulator, make_driver, stack):
    simulator.reply(thinking="Four, then.")
    simulator.reply("Four.")
    driver = make_driver(model="template", on_empty="retry_without_thinking")
    assert asyncio.run(driver.arun(stack)).to_text() == "Four."


@_both_ways
def test_an_empty_answer_to_a_schema_has_a_problem_and_is_asked_for_again(simulator, make_driver, stream):
    schema = Schema({"city": str})
    stack = PromptStack(output_schema=schema)
    stack.add_user_message("Where?")
    simulator.reply(thinking="Oslo, then.")
    message = make_driver(model="template", stream=stream).run(stack)
    assert "after thinking" in message.content[0].artifact.meta["ollama"]["problem"]
    simulator.reply(thinking="Oslo, then.")
    simulator.reply('{"city": "Oslo"}')
    driver = make_driver(model="template", on_empty="retry_without_thinking", stream=stream)
    assert driver.run(stack).to_text() == '{"city": "Oslo"}'


def test_a_reply_whose_window_is_full_says_so(simulator, make_driver, stack):
    simulator.reply(thinking="Hm", done_reason="length", final={"prompt_eval_count": 12, "eval_count": 4085})
    simulator.reply("Well.", final={"prompt_eval_count": 12, "eval_count": 3})
    message = make_driver(model="template", num_ctx=4096).run(stack)
    assert "raise num_ctx" in message.content[0].artifact.meta["ollama"]["problem"]


@pytest.mark.parametrize("value", ["retry", True, 1])
def test_what_to_do_about_an_empty_answer_is_one_thing_or_nothing(value):
    with pytest.raises(OllamaContentError, match="on_empty"):
        OllamaPromptDriver(model="m", on_empty=value)


# Tags


@_both_ways
def test_thinking_in_tags_is_separated(simulator, make_driver, stack, events, stream):
    simulator.reply(text=["<th", "ink>Hm, ", "well.</", "think>", "\n\n", "Yes", "."])
    message = make_driver(model="plain", stream=stream).run(stack)
    assert message.to_text() == "Yes."
    assert _thinking(message.content[0].artifact) == "Hm, well."
    assert _text(events, TextChunkEvent) == ("Yes." if stream else "")
    assert _text(events, ReasoningChunkEvent) == ("Hm, well." if stream else "")


@_both_ways
def test_separating_tags_can_be_switched_off(simulator, make_driver, stack, stream):
    simulator.reply(text=["<think>Hm.</think>", "Yes."])
    message = make_driver(model="plain", separate_think_tags=False, stream=stream).run(stack)
    assert message.to_text() == "<think>Hm.</think>Yes."
    assert _thinking(message.content[0].artifact) is None


@_both_ways
@pytest.mark.parametrize("text", ["Use <think> for it.", "<thi", "<this>", "  two spaces"])
def test_text_that_only_looks_like_a_tag_is_left_alone(simulator, make_driver, stack, *, text, stream):
    simulator.reply(text=list(text))
    assert make_driver(model="plain", stream=stream).run(stack).to_text() == text


@_both_ways
def test_thinking_in_tags_goes_back_with_its_calls(simulator, make_driver, weather_tool, stream):
    simulator.reply(text=["<think>Oslo.", "</think>"], tool_calls=[_call()])
    simulator.reply("Done.")
    Agent(prompt_driver=make_driver(model="plain", stream=stream), tools=[weather_tool]).run("Go")
    assert _assistant(simulator.last_chat)[0]["thinking"] == "Oslo."
    assert _assistant(simulator.last_chat)[0]["content"] == ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.integers(0, 29), max_size=6), st.booleans())
def test_it_does_not_matter_where_a_tag_is_cut(simulator, make_driver, stack, cuts, stream):
    text = "<think>Hm, well.</think>\nYes."
    edges = [0, *sorted(set(cuts)), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(edges) if start < end]
    simulator.reply(text=pieces)
    message = make_driver(model="plain", stream=stream).run(stack)
    assert (message.to_text(), _thinking(message.content[0].artifact)) == ("Yes.", "Hm, well.")


# Marks that only end


@_both_ways
@pytest.mark.parametrize(
    "pieces", [["Hm, </th", "ink>\n\n", "Yes."], [*"Hm, </think>\nYes."], ["Hm, ", "[/THINK]Yes."]]
)
def test_everything_before_a_lone_closing_mark_is_thinking(simulator, make_driver, stack, *, pieces, stream):
    simulator.reply(text=pieces)
    message = make_driver(model="plain", stream=stream).run(stack)
    assert (message.to_text(), _thinking(message.content[0].artifact)) == ("Yes.", "Hm, ")


def test_a_model_that_did_that_once_is_held_back_until_the_mark_or_the_end(simulator, make_driver, stack, events):
    driver = make_driver(model="plain", stream=True)
    simulator.reply(text=["Hm, ", "</think>", "Yes."])
    driver.run(stack)
    events.clear()
    simulator.reply(text=["Hm, ", "</think>", "Y", "es."])
    assert driver.run(stack).to_text() == "Yes."
    assert [event.token for event in events if type(event) is ReasoningChunkEvent] == ["Hm, "]
    assert [event.token for event in events if type(event) is TextChunkEvent] == ["Y", "es."]
    for shown in (["No, never."], ["No,", " never."]):  # without a mark it is text, and the next reply is not held back
        events.clear()
        simulator.reply(text=["No,", " never."])
        assert driver.run(stack).to_text() == "No, never."
        assert [event.token for event in events if type(event) is TextChunkEvent] == shown


def test_a_template_that_opens_the_thinking_tells_beforehand(make_driver, stack, events):
    template = "{{ range .Messages }}{{ .Content }}{{ end }}<|assistant|><think>\n"
    model = SimulatedModel(name="opens", capabilities=("completion",), template=template)
    with OllamaSimulator([model]) as server:
        server.reply(text=["Hm, ", "</think>", "Yes."])
        message = make_driver(model="opens", host=server.url, stream=True).run(stack)
    assert (message.to_text(), _text(events, TextChunkEvent)) == ("Yes.", "Yes.")


@_both_ways
def test_a_server_that_separates_thinking_keeps_no_text_back(simulator, make_driver, stack, events, stream):
    driver = make_driver(model="template", stream=stream)
    simulator.reply(text="Hm, </think>Yes.")
    driver.run(stack)
    events.clear()
    simulator.reply(thinking="Hm, ", text=["The mark ", "</think> ends it."])
    assert driver.run(stack).to_text() == "The mark </think> ends it."
    assert [event.token for event in events if type(event) is TextChunkEvent] == (
        ["The mark ", "</think> ends it."] if stream else []
    )


@_both_ways
def test_thinking_before_a_lone_mark_goes_back_with_its_calls(simulator, make_driver, weather_tool, stream):
    simulator.reply(text=["Oslo.", "</think>"], tool_calls=[_call()])
    simulator.reply("Done.")
    output = Agent(prompt_driver=make_driver(model="plain", stream=stream), tools=[weather_tool]).run("Go").output
    assert output.value == "Done."
    assert (_assistant(simulator.last_chat)[0]["thinking"], _assistant(simulator.last_chat)[0]["content"]) == (
        "Oslo.",
        "",
    )


@_both_ways
@pytest.mark.parametrize("text", ["Write `</think>` to end it.", '{"note": "before </think> after"}'])
def test_an_answer_may_speak_of_the_mark(simulator, make_driver, stack, *, text, stream):
    simulator.reply(text=list(text))
    assert make_driver(model="plain", stream=stream).run(stack).to_text() == text


@_both_ways
def test_the_marks_are_a_setting(simulator, make_driver, stack, stream):
    text = "<think>a</think>b"
    simulator.reply(text, times=2)
    assert make_driver(model="plain", separate_think_tags=["[THINK]"], stream=stream).run(stack).to_text() == text
    driver = make_driver(model="plain", separate_think_tags=["[THINK]", ("<think>", "</think>")], stream=stream)
    assert driver.run(stack).to_text() == "b"
    simulator.reply("a</think>b")
    assert make_driver(model="plain", separate_think_tags=False).run(stack).to_text() == "a</think>b"


@_both_ways
def test_channels_of_harmony_are_separated(simulator, make_driver, stack, events, stream):
    text = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>"
    simulator.reply(text=list(text))
    message = make_driver(model="plain", stream=stream).run(stack)
    assert (message.to_text(), _thinking(message.content[0].artifact)) == ("Yes.", "Hm.")
    assert _text(events, TextChunkEvent) == ("Yes." if stream else "")
