"""Spans of prompts and streams, as Griptape's observability drivers get them."""

import contextlib
import logging
import threading
from contextvars import ContextVar

import pytest
from griptape.drivers.observability import BaseObservabilityDriver
from griptape.events import EventBus, EventListener, TextChunkEvent
from griptape.observability import Observability

from griptape_ollama import OllamaError

_parent = ContextVar("parent", default=None)


class Spans(BaseObservabilityDriver):
    """Notes when spans begin and end, and inside of which other they are."""

    def __init__(self):
        self.log = []

    def observe(self, call):
        name = call.func.__name__
        self.log.append(("begin", name, _parent.get(), type(call.instance).__name__))
        before = _parent.set(name)
        try:
            result = call()
        except Exception as error:
            self.log.append(("fail", name, error))
            raise
        else:
            self.log.append(("end", name))
            return result
        finally:
            _parent.reset(before)

    def get_span_id(self):
        return None

    def of(self, name):
        return [entry[0] for entry in self.log if entry[1:2] == (name,)]


@pytest.fixture
def spans():
    spans = Spans()
    with Observability(observability_driver=spans):
        yield spans


def _span_threads():
    return [thread for thread in threading.enumerate() if thread.name == "griptape-ollama-span"]


def test_a_plain_run_is_a_span_with_the_request_inside(simulator, make_driver, spans, stack):
    make_driver().run(stack)
    assert spans.log == [
        ("begin", "run", None, "OllamaPromptDriver"),
        ("begin", "try_run", "run", "OllamaPromptDriver"),
        ("end", "try_run"),
        ("end", "run"),
    ]


def test_the_spans_of_a_streamed_run_last_until_its_last_token(simulator, make_driver, spans, stack):
    simulator.reply("one two three")
    EventBus.add_event_listener(EventListener(lambda _: spans.log.append(("token",)), event_types=[TextChunkEvent]))
    make_driver(stream=True).run(stack)
    assert [entry[:2] for entry in spans.log] == [
        ("begin", "run"),
        ("begin", "_run_streamed"),
        *[("token",)] * 3,
        ("end", "_run_streamed"),
        ("end", "run"),
    ]


def test_the_span_of_a_stream_begins_with_its_first_piece_and_ends_with_its_last(simulator, make_driver, spans, stack):
    simulator.reply("one two three")
    stream = make_driver().try_stream(stack)
    assert spans.log == []
    next(stream)
    assert spans.of("try_stream") == ["begin"]
    for _ in stream:
        assert spans.of("try_stream") == ["begin"]
    assert spans.of("try_stream") == ["begin", "end"]
    assert _span_threads() == []


def test_a_span_belongs_to_the_one_that_is_around_the_stream(simulator, make_driver, spans, stack):
    before = _parent.set("mine")
    try:
        list(make_driver().try_stream(stack))
    finally:
        _parent.reset(before)
    assert spans.log[0] == ("begin", "try_stream", "mine", "OllamaPromptDriver")


def test_a_stream_that_fails_ends_its_span_with_the_error(simulator, make_driver, spans, stack):
    simulator.reply("one two three")
    simulator.fault("no_done", after=2)
    with pytest.raises(OllamaError) as caught:
        list(make_driver().try_stream(stack))
    assert spans.log[-1] == ("fail", "try_stream", caught.value)
    assert _span_threads() == []


def test_a_stream_that_is_left_early_ends_its_span(simulator, make_driver, spans, stack):
    simulator.reply("one two three")
    with contextlib.closing(make_driver().try_stream(stack)) as stream:
        next(stream)
    assert spans.of("try_stream") == ["begin", "end"]
    assert _span_threads() == []


def test_an_observability_driver_that_fails_does_not_break_the_stream(simulator, make_driver, stack, caplog):
    class Broken(Spans):
        def observe(self, call):
            raise RuntimeError("no collector")

    with Observability(observability_driver=Broken()), caplog.at_level(logging.ERROR, "griptape_ollama"):
        simulator.reply("Hello")
        deltas = list(make_driver().try_stream(stack))
    assert deltas[0].content.text == "Hello"
    assert "no collector" in caplog.text


def test_without_an_observability_driver_there_is_no_thread(simulator, make_driver, stack):
    simulator.reply("one two three")
    for _ in make_driver().try_stream(stack):
        assert _span_threads() == []
