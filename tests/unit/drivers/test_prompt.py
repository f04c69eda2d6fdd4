"""One prompt: its message, its events, and its failures."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import griptape.common
import pytest
from griptape.artifacts import (
    AudioArtifact,
    GenericArtifact,
    ImageUrlArtifact,
    ListArtifact,
    TextArtifact,
    VideoUrlArtifact,
)
from griptape.common import (
    ActionCallDeltaMessageContent,
    ActionCallMessageContent,
    Message,
    PromptStack,
    TextDeltaMessageContent,
)
from griptape.events import (
    ActionChunkEvent,
    EventBus,
    EventListener,
    FinishPromptEvent,
    StartPromptEvent,
    TextChunkEvent,
)
from griptape.utils.contextvars_utils import with_contextvars

from griptape_ollama import (
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaResponseEvent,
    OllamaStreamError,
    OllamaTimeout,
    OllamaTimeoutError,
    ReasoningChunkEvent,
)
from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel


def _line(content="", *, done=False, **fields):
    message = {"role": "assistant", "content": content, **fields.pop("message", {})}
    return {"model": "simulator", "created_at": "2026-11-20T08:49:41Z", "message": message, "done": done, **fields}


_COUNTS = {
    "done_reason": "stop",
    "total_duration": 3_000_000_000,
    "load_duration": 500_000_000,
    "prompt_eval_count": 45,
    "prompt_eval_duration": 250_000_000,
    "eval_count": 24,
    "eval_duration": 1_200_000_000,
}
_CALLS = [
    {"id": "call_a", "function": {"index": 0, "name": "WeatherTool_look_up", "arguments": {"city": "Oslo"}}},
    {"id": "call_b", "function": {"index": 1, "name": "WeatherTool_look_up", "arguments": {"city": "Rome"}}},
]
_REPLIES = {
    "text": [_line("Hel"), _line("lo"), _line(), _line(done=True, **_COUNTS)],
    "one line": [_line("Hello", done=True, **_COUNTS)],
    "empty": [_line(done=True, **_COUNTS)],
    "thinking": [
        _line(message={"thinking": "Hm, "}),
        _line(message={"thinking": "well."}),
        _line("Yes"),
        _line(done=True, **_COUNTS),
    ],
    "calls in lines of their own": [
        *(_line(message={"tool_calls": [call]}) for call in _CALLS),
        _line(done=True, **_COUNTS),
    ],
    "calls in the last line": [_line(message={"tool_calls": _CALLS}, done=True, **_COUNTS)],
    "text and calls in one line": [_line("Let me look.", message={"tool_calls": _CALLS}, done=True, **_COUNTS)],
    "calls and then text": [_line(message={"tool_calls": _CALLS}), _line("Wait."), _line(done=True, **_COUNTS)],
    "text and then calls": [_line("Let "), _line("me."), _line(message={"tool_calls": _CALLS}, done=True, **_COUNTS)],
    "no counts": [_line("Hello"), _line(done=True, done_reason="length")],
    "odd characters": [_line("a\x85b\u2028c"), _line("😀"), _line(done=True, **_COUNTS)],
}
_each_reply = pytest.mark.parametrize("lines", _REPLIES.values(), ids=_REPLIES)
_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def _contents(message):
    """What a message says, without the ids that artifacts draw and without the measured time."""
    return [
        (
            type(content).__name__,
            content.artifact.value.to_dict()
            if isinstance(content, ActionCallMessageContent)
            else content.artifact.value,
            {name: value for name, value in content.artifact.meta["ollama"].items() if name != "time_to_first_token"},
        )
        for content in message.content
    ]


def _of(events, kind):
    return [event for event in events if type(event) is kind]


def _from_stream(deltas):
    """Put the deltas of try_stream together as Griptape's own loop does."""
    groups = {}
    for delta in deltas:
        if delta.content is not None:
            groups.setdefault(delta.content.index, []).append(delta.content)
    return [
        "".join(delta.text for delta in group)
        if isinstance(group[0], TextDeltaMessageContent)
        else ActionCallMessageContent.from_deltas(group).artifact.value.to_dict()
        for group in groups.values()
    ]


@_each_reply
def test_streamed_and_plain_runs_give_the_same_message(simulator, make_driver, stack, lines):
    simulator.reply(lines=lines, times=None)
    plain, streamed = (make_driver(stream=stream).run(stack) for stream in (False, True))
    tried = make_driver().try_run(stack)
    assert _contents(plain) == _contents(streamed) == _contents(tried)
    assert plain.usage == streamed.usage == tried.usage
    assert plain.role == streamed.role == tried.role == Message.ASSISTANT_ROLE


@_each_reply
def test_try_stream_gives_the_same_piece_by_piece_and_the_usage_at_the_end(simulator, make_driver, stack, lines):
    simulator.reply(lines=lines, times=None)
    message = make_driver().run(stack)
    deltas = list(make_driver().try_stream(stack))
    values = [content[1] for content in _contents(message)]
    assert _from_stream(deltas) == [value for value in values if value]
    assert deltas[-1].content is None
    assert (deltas[-1].usage.input_tokens, deltas[-1].usage.output_tokens) == (
        message.usage.input_tokens,
        message.usage.output_tokens,
    )


@_each_reply
@_both_ways
def test_events_tell_what_the_message_says(simulator, make_driver, stack, events, *, lines, stream):
    simulator.reply(lines=lines)
    message = make_driver(stream=stream).run(stack)
    assert type(events[0]) is StartPromptEvent
    assert [type(event) for event in events[-2:]] == [OllamaResponseEvent, FinishPromptEvent]
    chunks = events[1:-2]
    assert all(type(event) in (TextChunkEvent, ActionChunkEvent, ReasoningChunkEvent) for event in chunks)
    assert all(event.token for event in _of(events, TextChunkEvent))
    calls = [content.artifact.value for content in message.content if isinstance(content, ActionCallMessageContent)]
    assert "".join(event.token for event in _of(events, TextChunkEvent)) == (message.to_text() if stream else "")
    thinking = message.content[0].artifact.meta["ollama"].get("thinking", "")
    assert "".join(event.token for event in _of(events, ReasoningChunkEvent)) == (thinking if stream else "")
    assert [(event.tag, event.name, event.path) for event in _of(events, ActionChunkEvent)] == (
        [(call.tag, call.name, call.path) for call in calls] if stream else []
    )


def test_chunks_carry_the_place_of_their_content(simulator, make_driver, stack, events):
    simulator.reply(lines=_REPLIES["text and then calls"])
    make_driver(stream=True).run(stack)
    assert [(event.token, event.index) for event in _of(events, TextChunkEvent)] == [("Let ", 0), ("me.", 0)]
    assert [(event.partial_input, event.index) for event in _of(events, ActionChunkEvent)] == [
        ('{"city": "Oslo"}', 1),
        ('{"city": "Rome"}', 2),
    ]
    simulator.reply(lines=[_line(message={"tool_calls": _CALLS}), _line("Wait."), _line(done=True)])
    make_driver(stream=True).run(stack)
    assert [(event.token, event.index) for event in _of(events, TextChunkEvent)][2:] == [("Wait.", 2)]
    ids = [event.id for event in events]
    assert len(set(ids)) == len(ids)


def test_chunks_are_published_as_they_arrive(simulator, make_driver, stack, events):
    go_on = threading.Event()
    simulator.reply(lines=_REPLIES["text"], pause=(1, go_on))
    heard = threading.Event()
    EventBus.add_event_listener(EventListener(lambda _: heard.set(), event_types=[TextChunkEvent]))
    with ThreadPoolExecutor(1) as pool:
        message = pool.submit(with_contextvars(make_driver(stream=True).run), stack)
        assert heard.wait(10)
        assert [event.token for event in _of(events, TextChunkEvent)] == ["Hel"]
        assert not message.done()
        go_on.set()
        assert message.result().to_text() == "Hello"


@_both_ways
def test_usage_is_in_the_message_and_in_the_finish_event(simulator, make_driver, stack, events, stream):
    simulator.reply(lines=_REPLIES["text"])
    message = make_driver(stream=stream).run(stack)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (45, 24)
    [finish] = _of(events, FinishPromptEvent)
    assert (finish.model, finish.result) == ("simulator", "Hello")
    assert (finish.input_token_count, finish.output_token_count) == (45, 24)


@_both_ways
def test_missing_counts_are_fine(simulator, make_driver, stack, events, stream):
    simulator.reply(lines=_REPLIES["no counts"])
    message = make_driver(stream=stream).run(stack)
    assert (message.usage.input_tokens, message.usage.output_tokens) == (None, None)
    [response] = _of(events, OllamaResponseEvent)
    assert (response.done_reason, response.input_tokens, response.tokens_per_second) == ("length", None, None)


@_both_ways
@pytest.mark.parametrize("kind", ["text", "calls in the last line", "empty"])
def test_the_response_event_and_the_metadata_tell_the_same(simulator, make_driver, stack, events, *, stream, kind):
    simulator.reply(lines=_REPLIES[kind])
    before = time.monotonic()
    message = make_driver(stream=stream).run(stack)
    took = time.monotonic() - before
    [event] = _of(events, OllamaResponseEvent)
    meta = message.content[0].artifact.meta["ollama"]
    assert (event.model, event.host, event.done_reason) == ("simulator", simulator.url, "stop")
    assert (event.input_tokens, event.output_tokens) == (45, 24)
    assert (event.total_seconds, event.load_seconds, event.prompt_seconds) == (3.0, 0.5, 0.25)
    assert (event.generation_seconds, event.tokens_per_second) == (1.2, 20.0)
    assert 0 < event.time_to_first_token <= took
    for name in ("model", "host", "done_reason", "total_seconds", "tokens_per_second", "time_to_first_token"):
        assert meta[name] == getattr(event, name)


def test_an_artifact_can_be_asked_directly(simulator, make_driver):
    simulator.reply("Hello")
    assert make_driver().run(TextArtifact("Hi")).to_text() == "Hello"
    assert simulator.last_chat.messages == [{"role": "user", "content": "Hi"}]


def test_trying_alone_publishes_nothing(make_driver, stack, events):
    make_driver().try_run(stack)
    list(make_driver().try_stream(stack))
    assert events == []


@_both_ways
def test_a_failure_that_passes_is_tried_again_and_listeners_hear_of_one_run(
    simulator, make_driver, stack, events, stream
):
    simulator.reply(status=503, error="server busy, please try again. maximum pending requests exceeded")
    simulator.reply(lines=_REPLIES["text"])
    assert make_driver(stream=stream).run(stack).to_text() == "Hello"
    assert len(simulator.chats) == 2
    assert simulator.chats[0].body == simulator.chats[1].body
    for kind in (StartPromptEvent, OllamaResponseEvent, FinishPromptEvent):
        assert len(_of(events, kind)) == 1
    assert [event.token for event in _of(events, TextChunkEvent)] == (["Hel", "lo"] if stream else [])


@pytest.mark.parametrize(
    "failure",
    [
        {"status": 503, "error": "server busy"},
        {"status": 502, "error": "bad gateway"},
        {"status": 500, "error": "llama runner process has terminated"},
        {"status": 500, "error": "error parsing tool call"},
        {"reset": "before_headers"},
        {"lines": [_line(done=True, done_reason="load")]},
        {"lines": [{"error": "an error was encountered while running the model: unexpected EOF"}]},
    ],
    ids=str,
)
def test_what_passes_is_tried_again(simulator, make_driver, stack, failure):
    simulator.reply(**failure)
    simulator.reply("Hello")
    assert make_driver().run(stack).to_text() == "Hello"
    assert len(simulator.chats) == 2


@_both_ways
def test_tries_are_counted_and_then_the_failure_is_raised(simulator, make_driver, stack, events, stream):
    simulator.reply(status=503, error="server busy", times=None)
    tried = []
    driver = make_driver(stream=stream, max_attempts=3, after_hook=lambda state: tried.append(state.attempt_number))
    with pytest.raises(OllamaBusyError, match="server busy") as caught:
        driver.run(stack)
    assert caught.value.status == 503
    assert len(simulator.chats) == 3
    assert tried == [1, 2, 3]
    assert [type(event) for event in events] == [StartPromptEvent]


def test_one_attempt_means_one_request(simulator, make_driver, stack):
    simulator.reply(status=503, error="server busy", times=None)
    with pytest.raises(OllamaBusyError):
        make_driver(max_attempts=1).run(stack)
    assert len(simulator.chats) == 1


def test_types_to_ignore_are_not_tried_again(simulator, make_driver, stack):
    simulator.reply(status=503, error="server busy", times=None)
    with pytest.raises(OllamaBusyError):
        make_driver(ignored_exception_types=(OllamaBusyError,)).run(stack)
    assert len(simulator.chats) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, "bad request"), (401, "unauthorized"), (404, "no such route"), (501, "not implemented")],
)
def test_what_the_server_would_say_again_is_not_tried_again(simulator, make_driver, stack, status, error):
    simulator.reply(status=status, error=error, times=None)
    with pytest.raises(OllamaResponseError, match=error) as caught:
        make_driver(max_attempts=5).run(stack)
    assert (caught.value.status, caught.value.model) == (status, "simulator")
    assert len(simulator.chats) == 1


def test_a_model_that_is_not_there_is_named_with_the_command_that_gets_it(make_driver, stack):
    with pytest.raises(OllamaModelNotFoundError, match=r"has no model 'nope'\. Get it with: ollama pull nope"):
        make_driver(model="nope").run(stack)


def test_a_server_that_is_down_is_named_with_the_command_that_starts_it(simulator, make_driver, stack):
    driver = make_driver()
    simulator.stop()
    with pytest.raises(OllamaConnectionError, match="ollama serve") as caught:
        driver.run(stack)
    assert caught.value.host in str(caught.value)


_BROKEN = {
    "cut": {"lines": [_line("Hel"), _line("lo")], "cut": 2},
    "reset": {"lines": [_line("Hel"), _line("lo")], "reset": 2},
    "ended without its last line": {"lines": [_line("Hel"), _line("lo")]},
    "error line": {"lines": [_line("Hel"), _line("lo"), {"error": "unexpected EOF"}]},
    "not json": {"lines": [_line("Hel"), _line("lo"), "<html>"]},
    "odd line": {"lines": [_line("Hel"), _line("lo"), _line(["?"])]},
}


@pytest.mark.parametrize("reply", _BROKEN.values(), ids=_BROKEN)
@_both_ways
def test_a_reply_that_breaks_is_an_error_with_what_was_said_and_no_token_is_seen_twice(
    simulator, make_driver, stack, events, *, reply, stream
):
    simulator.reply(**reply, times=None)
    with pytest.raises(OllamaStreamError) as caught:
        make_driver(stream=stream, max_attempts=3).run(stack)
    error = caught.value
    assert (error.partial_text, error.model, error.host) == ("Hello", "simulator", simulator.url)
    assert "simulator" in str(error)
    assert simulator.url in str(error)
    assert len(simulator.chats) == 1
    assert [event.token for event in _of(events, TextChunkEvent)] == (["Hel", "lo"] if stream else [])
    assert _of(events, FinishPromptEvent) == []


@pytest.mark.parametrize("reply", _BROKEN.values(), ids=_BROKEN)
def test_a_broken_stream_gives_its_pieces_before_the_error(simulator, make_driver, stack, reply):
    simulator.reply(**reply, times=None)
    received = []
    with pytest.raises(OllamaStreamError):
        received.extend(delta.content.text for delta in make_driver().try_stream(stack))
    assert len(simulator.chats) == 1


def test_silence_is_ended_by_the_limit(simulator, make_driver, stack):
    silence = threading.Event()
    simulator.reply("Hello", wait=silence)
    try:
        with pytest.raises(OllamaTimeoutError) as caught:
            make_driver(timeout=OllamaTimeout(first_token=0.05)).run(stack)
    finally:
        silence.set()
    assert (caught.value.limit, caught.value.seconds) == ("first_token", 0.05)
    assert isinstance(caught.value, TimeoutError)


@_both_ways
def test_a_driver_can_be_stopped_from_another_thread(simulator, make_driver, stack, stream):
    silence = threading.Event()
    simulator.reply(lines=_REPLIES["text"], pause=(1, silence))
    driver = make_driver(stream=stream)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(driver.run, stack)
        simulator.wait_for_request(path="/api/chat")
        driver.cancel()
        with pytest.raises(OllamaCancelledError):
            running.result(10)
    silence.set()
    assert driver.run(stack).to_text()


def test_leaving_a_stream_early_stops_the_generation(simulator, make_driver, stack):
    silence = threading.Event()
    simulator.reply(lines=_REPLIES["text"], pause=(1, silence))
    deltas = make_driver().try_stream(stack)
    assert next(deltas).content.text == "Hel"
    deltas.close()
    simulator.wait_for_disconnect()
    silence.set()


@pytest.mark.parametrize(
    ("artifact", "told"),
    [
        (AudioArtifact(b"RIFF", format="wav"), "AudioArtifact cannot be sent"),
        pytest.param(
            VideoUrlArtifact("https://example.com/film.mp4"),
            "VideoUrlArtifact cannot be sent",
            marks=pytest.mark.skipif(
                not hasattr(griptape.common, "VideoMessageContent"), reason="Griptape 1.12 makes text of a video"
            ),
        ),
        (GenericArtifact({"x": 1}), "GenericArtifact cannot be sent"),
        (ImageUrlArtifact("cat.png"), "'cat.png' is no URL of an image"),
    ],
    ids=["audio", "video", "generic", "no url"],
)
@_both_ways
def test_content_that_ollama_cannot_carry_is_refused_before_anything_is_sent(
    simulator, make_driver, artifact, told, stream
):
    stack = PromptStack.from_artifact(ListArtifact([TextArtifact("Look"), artifact]))
    with pytest.raises(ValueError, match=told):
        make_driver(stream=stream).run(stack)
    with pytest.raises(OllamaContentError):
        list(make_driver().try_stream(stack))
    assert simulator.requests == []


@_both_ways
def test_many_threads_share_one_driver_and_each_gets_its_own_answer(simulator, make_driver, stream):
    def answer(request):
        text = request.messages[-1]["content"]
        return Reply(text=[f"{text} "] * 5, final={"prompt_eval_count": int(text)})

    simulator.reply(answer, times=None)
    driver = make_driver(stream=stream)
    with ThreadPoolExecutor(16) as pool:
        messages = list(pool.map(lambda number: driver.run(TextArtifact(str(number))), range(100)))
    for number, message in enumerate(messages):
        assert message.to_text() == f"{number} " * 5
        assert message.usage.input_tokens == number
    assert sum(request.path == "/api/show" for request in simulator.requests) == 1


def test_a_stack_is_not_changed_by_asking(make_driver, stack):
    before = [(message.role, message.to_text()) for message in stack.messages]
    make_driver().run(stack)
    make_driver(stream=True).run(stack)
    assert [(message.role, message.to_text()) for message in stack.messages] == before


def test_tags_of_the_conversation_are_not_given_again(simulator, make_driver):
    simulator.reply(lines=_REPLIES["calls in the last line"], times=None)
    stack = PromptStack.from_artifact(TextArtifact("Hi"))
    first = make_driver().run(stack)
    stack.messages.append(first)
    second = make_driver().run(stack)
    tags = [content.artifact.value.tag for message in (first, second) for content in message.content]
    assert tags[:2] == ["call_a", "call_b"]
    assert len(set(tags)) == 4


def test_deltas_of_calls_are_whole(simulator, make_driver, stack):
    simulator.reply(lines=_REPLIES["calls in lines of their own"])
    contents = [delta.content for delta in make_driver().try_stream(stack)][:-1]
    assert all(isinstance(content, ActionCallDeltaMessageContent) for content in contents)
    assert [content.tag for content in contents] == ["call_a", "call_b"]


def test_a_message_without_metadata_has_no_response_event(make_driver, events):
    make_driver().after_run(Message("Hello", role=Message.ASSISTANT_ROLE))
    assert [type(event) for event in events] == [FinishPromptEvent]


@_both_ways
def test_a_listener_that_fails_ends_the_run_and_the_generation(simulator, make_driver, stack, stream):
    def fail(_):
        raise LookupError("listener")

    silence = threading.Event()
    simulator.reply(lines=_REPLIES["text"], pause=(1, silence) if stream else None)
    kind = TextChunkEvent if stream else FinishPromptEvent
    EventBus.add_event_listener(EventListener(fail, event_types=[kind]))
    with pytest.raises(LookupError):
        make_driver(stream=stream, max_attempts=3).run(stack)
    if stream:
        simulator.wait_for_disconnect()
    silence.set()
    assert len(simulator.chats) == 1


def test_every_error_of_a_run_is_one_of_ours(simulator, make_driver, stack):
    simulator.reply(raw=b"SSH-2.0-OpenSSH_9.6\r\n", times=None)
    with pytest.raises(OllamaError):
        make_driver(max_attempts=1).run(stack)


@_both_ways
def test_a_run_can_be_stopped_before_its_first_request(simulator, make_driver, stack, stream):
    driver = make_driver(stream=stream)
    EventBus.add_event_listener(EventListener(lambda _: driver.cancel(), event_types=[StartPromptEvent]))
    with pytest.raises(OllamaCancelledError):
        driver.run(stack)
    assert simulator.requests == []


def test_a_run_can_be_stopped_while_it_asks_for_facts(simulator, make_driver, stack):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence)
    driver = make_driver()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(driver.run, stack)
        simulator.wait_for_request(path="/api/show")
        driver.cancel()
        with pytest.raises(OllamaCancelledError):
            running.result(10)
    silence.set()
    assert simulator.chats == []


def test_facts_count_for_the_total(simulator, make_driver, stack):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence)
    with pytest.raises(OllamaTimeoutError) as caught:
        make_driver(timeout=0.4).run(stack)
    silence.set()
    assert (caught.value.limit, caught.value.seconds) == ("total", 0.4)
    assert simulator.chats == []  # nothing was left for it


def test_an_empty_prompt_is_refused_before_anything_is_sent(simulator, make_driver):
    with pytest.raises(OllamaContentError, match="empty"):
        make_driver().run(PromptStack())
    assert simulator.requests == []


@pytest.mark.parametrize("wrong", [{"tools": 5}, {"tools": {"a": 1}}, {"messages": 5}, {"options": 5}, {"think": " "}])
def test_wrong_extra_params_are_refused_before_anything_is_sent(simulator, make_driver, stack, wrong):
    with pytest.raises(OllamaContentError):
        make_driver(extra_params=wrong).run(stack)
    assert simulator.requests == []


def test_no_extra_params_may_be_none(make_driver, stack):
    assert make_driver(extra_params=None).run(stack).to_text()


def test_a_server_that_comes_up_late_is_waited_for(stack):
    with OllamaSimulator() as gone:
        host = gone.host
    port = int(host.rsplit(":", 1)[1])
    driver = OllamaPromptDriver(model="simulator", host=host, wait_for_server=20)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(driver.run, stack)
        with OllamaSimulator(port=port):
            assert running.result(20).to_text()


def test_a_server_that_does_not_come_up_is_not_waited_for_longer(stack, unused_port):
    host = f"127.0.0.1:{unused_port}"
    start = time.monotonic()
    with pytest.raises(OllamaConnectionError, match="ollama serve"):
        OllamaPromptDriver(model="simulator", host=host, wait_for_server=0.6).run(stack)
    assert 0.6 <= time.monotonic() - start < 30


def test_a_server_that_comes_up_late_is_asked_about_its_models_first(stack):
    model = SimulatedModel(name="simulator", capabilities=("completion",), parameters={"temperature": 0.9})
    with OllamaSimulator() as gone:
        host = gone.host
    driver = OllamaPromptDriver(model="simulator", host=host, wait_for_server=20)
    with ThreadPoolExecutor(2) as pool:
        running, asked = pool.submit(driver.run, stack), pool.submit(lambda: driver.use_native_tools)
        with OllamaSimulator(models=[model], port=int(host.rsplit(":", 1)[1])) as late:
            assert running.result(30).to_text()
            assert asked.result(30) is False
            assert "temperature" not in late.last_chat.options


def test_a_server_that_does_not_come_up_is_waited_for_once(stack, caplog, unused_port):
    host = f"127.0.0.1:{unused_port}"
    driver = OllamaPromptDriver(model="simulator", host=host, wait_for_server=1.2)
    with caplog.at_level(logging.WARNING, "griptape_ollama"), pytest.raises(OllamaConnectionError):
        driver.run(stack)
    # It is asked every half a second.
    assert 1 <= len([record for record in caplog.records if "Attempt" in record.message]) <= 3


def test_waiting_for_a_server_keeps_to_the_total(stack, unused_port):
    host = f"127.0.0.1:{unused_port}"
    driver = OllamaPromptDriver(model="simulator", host=host, wait_for_server=60, timeout=0.2)
    with pytest.raises(OllamaTimeoutError) as caught:
        driver.run(stack)
    assert (caught.value.limit, caught.value.seconds) == ("total", 0.2)


def test_waiting_for_a_server_can_be_cancelled(stack, unused_port):
    host = f"127.0.0.1:{unused_port}"
    driver = OllamaPromptDriver(model="simulator", host=host, wait_for_server=60)
    tick = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(driver.run, stack)
        while not running.done():
            driver.cancel()
            tick.wait(0.001)
        with pytest.raises(OllamaCancelledError):
            running.result(30)


@_both_ways
def test_each_retry_is_one_line_that_says_what_failed_which_try_it_was_and_how_long_the_wait_is(
    simulator, make_driver, stack, caplog, *, stream
):
    simulator.reply(status=503, error="server busy", headers={"Retry-After": "0"}, times=2)
    simulator.reply("Hello")
    with caplog.at_level(logging.WARNING, "griptape_ollama"):
        make_driver(stream=stream, max_attempts=3).run(stack)
    first, second = (record.message for record in caplog.records)
    assert first.startswith("Attempt 1 failed: ")
    assert "status 503: server busy" in first
    assert first.endswith("Trying again in 0.0 s.")
    assert second == "Attempt 2 failed in the same way. Trying again in 0.0 s."


_LATE = {
    "first_token": ({"headers_delay": 60}, OllamaTimeout(first_token=0.1), ""),
    "between_tokens": ({"pause": (2, threading.Event())}, OllamaTimeout(between_tokens=1), "one two"),
    "total": ({"pause": (2, threading.Event())}, OllamaTimeout(total=3), "one two"),
}


@pytest.mark.parametrize("limit", _LATE)
@_both_ways
def test_a_limit_that_is_reached_is_named_and_what_was_said_is_kept(
    simulator, make_driver, stack, events, *, limit, stream
):
    reply, timeout, said = _LATE[limit]
    simulator.reply("one two three", **reply)
    with pytest.raises(OllamaTimeoutError, match=f"limit: {limit}") as caught:
        make_driver(stream=stream, timeout=timeout, max_attempts=3).run(stack)
    error = caught.value
    assert (error.limit, error.seconds, error.partial_text) == (limit, getattr(timeout, limit), said)
    assert "".join(event.token for event in _of(events, TextChunkEvent)) == (said if stream else "")
    assert len(simulator.chats) == 1
