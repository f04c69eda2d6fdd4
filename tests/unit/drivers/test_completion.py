"""Answers that take several requests: each fits the window that the model has by then."""

import pytest
from schema import Schema

from griptape_ollama import OllamaContextEvent, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.drivers.context_prompts import (
    LARGE_WINDOW,
    calibrate,
    loaded_windows,
    meta_of,
    prose,
    sent_windows,
    stack_of,
    truncated_chats,
    turns,
)

_NARROW = SimulatedModel(name="narrow", context_length=4096)
_SCHEMA = Schema({"city": str})
_LONG_DRAFT = prose(3500, 40)
_ANSWER = '{"city": "Ulm"}'


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[LARGE_WINDOW, _NARROW]) as simulator:
        calibrate(simulator, "roomy", "narrow")
        yield simulator


@pytest.fixture
def make_driver(simulator):
    def make(**settings):
        known = {"model": "roomy", "host": simulator.url, "structured_output_strategy": "rule"}
        return OllamaPromptDriver(**{**known, **settings})

    return make


def _kinds(events):
    return [event.kind for event in events if isinstance(event, OllamaContextEvent)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_repair_that_does_not_fit_makes_the_window_grow(simulator, make_driver, stream, events):
    simulator.reply(_LONG_DRAFT)
    simulator.reply(_ANSWER)
    message = make_driver(stream=stream).run(stack_of(("user", prose(500)), output_schema=_SCHEMA))
    assert sent_windows(simulator) == [None, 8192]
    assert truncated_chats(simulator) == []
    assert meta_of(message)["context"] == {"window": 8192, "num_ctx": 8192, "grown_from": 4096}
    assert _kinds(events) == ["grown"]


def test_a_repair_that_fits_sends_what_was_sent(simulator, make_driver, events):
    simulator.reply("Ulm, I think.")
    simulator.reply(_ANSWER)
    make_driver().run(stack_of(("user", prose(5000)), output_schema=_SCHEMA))
    assert sent_windows(simulator) == [8192, 8192]
    assert loaded_windows(simulator) == [8192]
    assert _kinds(events) == ["grown"]


def test_an_answer_that_has_to_fit_a_schema_after_tools_grows_too(simulator, make_driver, weather_tool):
    simulator.reply(_LONG_DRAFT)
    simulator.reply(_ANSWER)
    stack = stack_of(("user", prose(500)), tools=[weather_tool], output_schema=_SCHEMA)
    make_driver(structured_output_strategy="native").run(stack)
    assert sent_windows(simulator) == [None, 8192]
    assert truncated_chats(simulator) == []


def test_a_correction_of_a_call_grows_too(simulator, make_driver, weather_tool):
    simulator.reply(_LONG_DRAFT, tool_calls=[("No_such", {})])
    simulator.reply("Fine.")
    make_driver().run(stack_of(("user", prose(500)), tools=[weather_tool]))
    assert sent_windows(simulator) == [None, 8192]
    assert truncated_chats(simulator) == []


def test_a_number_stays_that_number(simulator, make_driver):
    simulator.reply("Ulm, I think.")
    simulator.reply(_ANSWER)
    make_driver(num_ctx=6000).run(stack_of(("user", prose(500)), output_schema=_SCHEMA))
    assert sent_windows(simulator) == [6000, 6000]


def test_a_repair_drops_old_turns_but_never_the_question(simulator, make_driver, events):
    simulator.reply(prose(1600, 40))
    simulator.reply(_ANSWER)
    question = "Which city? " + prose(300, 70)
    stack = stack_of(*turns(8, 300), ("user", question), output_schema=_SCHEMA)
    make_driver(model="narrow", on_overflow="trim").run(stack)
    first, second = ([message["content"] for message in chat.messages] for chat in simulator.chats)
    assert any(text.startswith("Which city?") for text in second)
    assert len(second) < len(first) + 2
    assert truncated_chats(simulator) == []
    assert set(_kinds(events)) == {"trimmed"}


def test_a_repair_that_the_server_has_no_room_for_is_asked_again_with_less(simulator, make_driver):
    simulator.reply(prose(6500, 40))
    simulator.fault("status", n=2, status=500, error="model requires more system memory than is available")
    simulator.reply(_ANSWER)
    message = make_driver(max_attempts=1).run(stack_of(("user", prose(500)), output_schema=_SCHEMA))
    assert sent_windows(simulator) == [None, 16_384, 8192]
    assert meta_of(message)["context"]["window"] == 8192
