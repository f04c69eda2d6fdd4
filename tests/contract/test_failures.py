"""Recorded refusals and broken streams: the right error, as many tries as make sense, and no token seen twice."""

import pickle
import socket
import time

import pytest
from griptape.artifacts import ErrorArtifact
from griptape.events import EventListener, TextChunkEvent
from griptape.structures import Agent

from contract.observing import BROKEN_RUN, WHOLE_RUN, expected_facts, facts_of, new_driver, prompt, run
from contract.replay import (
    CHUNKINGS,
    CLOSED_BEFORE_HEADERS,
    CONTENT_LENGTH,
    RESET_BEFORE_HEADERS,
    Answer,
    ReplayServer,
    recording,
)
from griptape_ollama import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaConnectionError,
    OllamaContextError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaStreamError,
)

streamed_and_plain = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])

TOO_LONG = "request ({} tokens) exceeds the available context size (4096 tokens), try increasing it"
NO_SCHEMA = "JSON schema conversion failed:\n"
NO_IMAGES = "Multimodal data provided, but model does not support multimodal requests."
IN_STRUCT = "into Go struct field ChatRequest"
LOAD_FAILED = "error loading model: check_tensor_dims: tensor 'output_norm.weight' not found"

# Name of the recording: class of the error, what the server said (its beginning), what to do next.
PERMANENT = {
    "format_bad_string": (OllamaResponseError, "invalid format:", "Correct the option or format"),
    "format_number": (OllamaResponseError, "invalid format:", "Correct the option or format"),
    "native_image": (OllamaResponseError, "image input is not supported", "model with vision"),
    "bad_model_name": (OllamaResponseError, "invalid model name", ""),
    "body_array": (OllamaResponseError, "json: cannot unmarshal array into Go value of type api.ChatRequest", ""),
    "body_empty": (OllamaResponseError, "missing request body", ""),
    "body_not_json": (OllamaResponseError, "invalid character 'h' in literal true (expecting 'r')", ""),
    "body_truncated_json": (OllamaResponseError, "unexpected EOF", ""),
    "chat_on_embed_model": (OllamaResponseError, '"tiny-embed" does not support chat', "use a chat model"),
    "chat_option_temperature_string": (
        OllamaResponseError,
        'option "temperature" must be of type float32',
        "Correct the option or format",
    ),
    "chat_option_wrong_type": (
        OllamaResponseError,
        'option "num_predict" must be of type integer',
        "Correct the option or format",
    ),
    "chat_overlong_truncate_false": (OllamaContextError, TOO_LONG.format(45043), "raise num_ctx"),
    "chat_overlong_truncate_false_stream": (OllamaContextError, TOO_LONG.format(45043), "raise num_ctx"),
    "chat_stop_string": (OllamaResponseError, 'option "stop" must be of type array', "Correct the option or format"),
    "chat_top_logprobs_21": (OllamaResponseError, "top_logprobs must be between 0 and 20", ""),
    "content_list": (OllamaResponseError, f"json: cannot unmarshal array {IN_STRUCT}.messages.content", ""),
    "content_number": (OllamaResponseError, f"json: cannot unmarshal number {IN_STRUCT}.messages.content", ""),
    "format_bad_schema": (OllamaResponseError, "Field 'json_schema': \"json_schema\": " + NO_SCHEMA, ""),
    "format_bad_schema_stream": (OllamaResponseError, "Field 'json_schema': \"json_schema\": " + NO_SCHEMA, ""),
    "format_native_bad_schema": (OllamaResponseError, "Unable to generate parser for this template.", ""),
    "format_unresolved_ref": (OllamaResponseError, "Field 'json_schema': \"json_schema\": " + NO_SCHEMA, ""),
    "host_forbidden": (OllamaAuthError, "", "OLLAMA_HOST and OLLAMA_ORIGINS"),
    "image_data_url": (OllamaResponseError, "illegal base64 data at input byte 4", "PNG, JPEG, WebP or GIF"),
    "image_http_url": (OllamaResponseError, "illegal base64 data at input byte 4", "PNG, JPEG, WebP or GIF"),
    "image_not_base64": (OllamaResponseError, "illegal base64 data at input byte 0", "PNG, JPEG, WebP or GIF"),
    "image_on_nonvision": (OllamaResponseError, NO_IMAGES, ""),
    "image_on_nonvision_stream": (OllamaResponseError, NO_IMAGES, ""),
    "keepalive_bad_string": (OllamaResponseError, 'time: invalid duration "abc"', ""),
    "keepalive_bool": (OllamaResponseError, "Unsupported type: 'bool'", ""),
    "load_fails_nostream": (
        OllamaResponseError,
        "llama-server process has terminated: exit status 1: " + LOAD_FAILED,
        "cannot be loaded",
    ),
    "messages_string": (OllamaResponseError, f"json: cannot unmarshal string {IN_STRUCT}.messages", ""),
    "method_405": (OllamaResponseError, "405 method not allowed", ""),
    "model_empty": (OllamaResponseError, "model is required", ""),
    "model_missing": (OllamaResponseError, "model is required", ""),
    "native_overlong_default": (OllamaContextError, TOO_LONG.format(45021), "Shorten the conversation"),
    "native_overlong_default_stream": (OllamaContextError, TOO_LONG.format(45021), "Shorten the conversation"),
    "origin_forbidden": (OllamaAuthError, "", "OLLAMA_HOST and OLLAMA_ORIGINS"),
    "route_404": (OllamaResponseError, "404 page not found", "path prefix"),
    "stream_string": (OllamaResponseError, f"json: cannot unmarshal string {IN_STRUCT}.stream of type bool", ""),
    "think_bad_string": (OllamaResponseError, 'invalid think value: "loads"', ""),
    "think_number": (OllamaResponseError, "think must be a boolean or string", ""),
    "think_on_nonthinking_model": (OllamaResponseError, '"tiny-chat" does not support thinking', "Leave think out"),
    "tools_arguments_as_string": (OllamaResponseError, "Value looks like object, but can't find closing '}'", ""),
    "tools_on_nontool_model": (
        OllamaResponseError,
        "registry.ollama.ai/library/tiny-chat:latest does not support tools",
        "use_native_tools=False",
    ),
    "tools_string": (OllamaResponseError, f"json: cannot unmarshal string {IN_STRUCT}.tools of type api.Tools", ""),
    "unknown_model_nostream": (OllamaModelNotFoundError, "model 'nope' not found", "ollama pull nope"),
    "unknown_model_stream": (OllamaModelNotFoundError, "model 'nope' not found", "ollama pull nope"),
    "unknown_model_tag": (OllamaModelNotFoundError, "model 'tiny-chat:7b' not found", "ollama pull tiny-chat:7b"),
}
PASSING = {
    "queue_full_503": (
        OllamaBusyError,
        "server busy, please try again.  maximum pending requests exceeded",
        "OLLAMA_MAX_QUEUE",
    ),
    "native_tools_bad_params": (
        OllamaResponseError,
        'llama-server returned invalid tool call arguments for "get_weather": unexpected end of JSON input',
        "",
    ),
}
# Status 500 for requests that would fail again. Neither can come from a driver's own settings, which are checked
# before anything is sent, and the last is a model's that has no other sign; so nothing is said about tries here.

STREAM = "chat_stream"
SLOW = "runner_killed_midstream"
CUT = "server_sigkill_midstream"
RUNNER_DIED = "an error was encountered while running the model: unexpected EOF"


def patient_driver(server, **settings):
    """A driver that tries three times, without waiting between."""
    return new_driver(server.host, **{"max_attempts": 3, "min_retry_delay": 0, "max_retry_delay": 0, **settings})


def text_of(body_lines):
    return "".join(line["message"]["content"] for line in body_lines)


def failing(*answers, **settings):
    """Run a driver that fails, and give its run and the number of requests."""
    with ReplayServer(*answers) as server:
        result = run(patient_driver(server, **settings))
        assert result.error is not None
        assert result.frame() == BROKEN_RUN
        assert result.error.host == server.host
        return result, len(server.chats)


def succeeding(*answers, **settings):
    """Run a driver that gets there in the end, and give its run, the address and the number of requests."""
    with ReplayServer(*answers) as server:
        result = run(patient_driver(server, **settings))
        assert result.error is None, result.error
        assert result.frame() == WHOLE_RUN
        return result, server.host, len(server.chats)


class TestRefusals:
    @streamed_and_plain
    @pytest.mark.parametrize("name", [*PERMANENT, *PASSING])
    def test_an_error_has_the_server_s_text_and_advice(self, name, stream):
        recorded = recording(name)
        kind, said, advice = (PERMANENT | PASSING)[name]
        model = (isinstance(recorded.request, dict) and recorded.request.get("model")) or "tiny-chat"
        result, _ = failing(Answer.of(recorded), model=model, stream=stream, max_attempts=1)
        error = result.error
        assert type(error) is kind
        assert error.status == recorded.status
        assert error.server_message.startswith(said)
        assert (error.method, error.path, error.model) == ("POST", "/api/chat", model)
        assert error.partial_text == ""
        text = str(error)
        assert advice in text
        assert repr(model) in text
        assert error.host in text
        assert said in text or kind is OllamaModelNotFoundError
        assert not error.server_message.startswith("{")
        assert result.chunks() == []

    @streamed_and_plain
    @pytest.mark.parametrize("name", PERMANENT)
    def test_permanent_errors_are_not_retried(self, name, stream):
        answers = [Answer.of(recording(name)), Answer.of(recording(STREAM))]
        result, requests = failing(*answers, stream=stream)
        assert result.error.permanent
        assert requests == 1

    @streamed_and_plain
    @pytest.mark.parametrize("name", PASSING)
    def test_transient_errors_are_retried(self, name, stream):
        answers = [Answer.of(recording(name)), Answer.of(recording(name)), Answer.of(recording(STREAM))]
        result, host, requests = succeeding(*answers, stream=stream)
        assert requests == 3
        assert facts_of(result.message) == expected_facts(recording(STREAM).lines(), host)
        assert result.text == (result.message.to_text() if stream else "")

    @pytest.mark.parametrize("name", PASSING)
    @pytest.mark.parametrize("attempts", [1, 2, 4])
    def test_max_attempts_limits_the_tries(self, name, attempts):
        result, requests = failing(*[Answer.of(recording(name))] * 6, max_attempts=attempts)
        assert requests == attempts
        assert type(result.error) is PASSING[name][0]

    @pytest.mark.parametrize("framing", [*(name for name in CHUNKINGS if name != "inside_characters"), CONTENT_LENGTH])
    @pytest.mark.parametrize("name", ["format_bad_schema_stream", "unknown_model_stream"])
    def test_an_error_response_may_come_in_any_chunks(self, name, framing):
        result, _ = failing(Answer.of(recording(name), framing))
        assert result.error.server_message.startswith(PERMANENT[name][1])

    def test_a_context_error_has_both_token_counts(self):
        result, _ = failing(Answer.of(recording("chat_overlong_truncate_false")))
        assert (result.error.tokens_wanted, result.error.tokens_available) == (45043, 4096)

    def test_an_error_survives_pickling(self):
        result, _ = failing(Answer.of(recording("chat_overlong_truncate_false")))
        twin = pickle.loads(pickle.dumps(result.error))  # noqa: S301 # our own
        assert (type(twin), str(twin), vars(twin)) == (type(result.error), str(result.error), vars(result.error))

    @streamed_and_plain
    def test_a_task_shows_the_text_of_the_error(self, stream):
        with ReplayServer(Answer.of(recording("unknown_model_stream"))) as server:
            agent = Agent(prompt_driver=patient_driver(server, model="nope", stream=stream))
            output = agent.run("hi").output
            assert isinstance(output, ErrorArtifact)
            assert output.value == f"Ollama at {server.host} has no model 'nope'. Get it with: ollama pull nope"
            assert len(server.chats) == 1

    @streamed_and_plain
    def test_a_refused_connection_fails_at_once_and_is_not_retried(self, stream):
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{unused.getsockname()[1]}"
            driver = OllamaPromptDriver(
                model="tiny-slow", host=address, stream=stream, max_attempts=3, min_retry_delay=60
            )
            driver.connection  # noqa: B018 # made beforehand: reading the system's certificates takes a while
            started = time.monotonic()
            result = run(driver)
            seconds = time.monotonic() - started
        assert type(result.error) is OllamaConnectionError
        assert result.error.refused
        assert address in str(result.error)
        assert "ollama serve" in str(result.error)
        assert seconds < 30  # far below the 60 s before a second try


class TestBrokenStreams:
    """After the first output nothing is tried again: the caller has it, and the rest is an error."""

    @streamed_and_plain
    @pytest.mark.parametrize("framing", [name for name in CHUNKINGS if name != "inside_characters"])
    def test_a_runner_that_dies(self, framing, stream):
        recorded = recording(SLOW)
        partial = text_of(recorded.lines()[:-1])
        result, requests = failing(Answer.of(recorded, framing), Answer.of(recording(STREAM)), stream=stream)
        error = result.error
        assert type(error) is OllamaStreamError
        assert error.partial_text == partial
        assert partial.startswith(" one two three four five")
        assert error.server_message == RUNNER_DIED
        assert RUNNER_DIED in str(error)
        assert requests == 1
        assert result.text == (partial if stream else "")

    @streamed_and_plain
    @pytest.mark.parametrize("ending", ["closed", "closed in mid-chunk"])
    @pytest.mark.parametrize("framing", ["whole", "lines", "sevens"])
    def test_a_server_that_dies(self, framing, ending, stream):
        recorded = recording(CUT)
        answer = Answer.of(recorded, framing, ending=ending)
        result, requests = failing(answer, Answer.of(recording(STREAM)), stream=stream)
        assert type(result.error) is OllamaStreamError
        assert result.error.partial_text == text_of(recorded.lines())
        assert result.error.partial_text.startswith(" one two three four five")
        assert requests == 1
        assert result.text == (result.error.partial_text if stream else "")

    def test_a_connection_that_is_reset_after_text(self):
        recorded = recording(CUT)
        with ReplayServer(Answer.of(recorded, ending="reset on request"), Answer.of(recording(STREAM))) as server:
            deltas = patient_driver(server).try_stream(prompt())
            said = [next(deltas)]
            server.reset_requested.set()  # what the client has not read by now may be lost
            with pytest.raises(OllamaStreamError) as caught:
                said.extend(deltas)
            assert len(server.chats) == 1
        assert caught.value.partial_text == "".join(delta.content.text for delta in said)
        assert text_of(recorded.lines()).startswith(caught.value.partial_text)

    @streamed_and_plain
    @pytest.mark.parametrize("count", [1, 5, 23])
    def test_a_clean_end_without_the_last_line(self, count, stream):
        recorded = recording(STREAM)
        answer = Answer.of(recorded, body=recorded.first(count))
        result, requests = failing(answer, Answer.of(recorded), stream=stream)
        assert type(result.error) is OllamaStreamError
        assert result.error.partial_text == text_of(recorded.lines()[:count])
        assert "without its last line" in str(result.error)
        assert not result.error.retryable
        assert requests == 1
        assert result.text == (result.error.partial_text if stream else "")

    @streamed_and_plain
    @pytest.mark.parametrize("garbage", [b"<html>\n", b"[1]\n", b'{"model":\n', b"\xff\xfe\n", b"nul"], ids=repr)
    def test_a_line_that_is_not_json_after_text(self, garbage, stream):
        recorded = recording(STREAM)
        answer = Answer.of(recorded, "whole", body=recorded.first(3) + garbage)
        result, requests = failing(answer, Answer.of(recorded), stream=stream)
        assert type(result.error) is OllamaStreamError
        assert result.error.partial_text == text_of(recorded.lines()[:3]) == "Hello! I am"
        assert requests == 1
        assert result.text == ("Hello! I am" if stream else "")

    @streamed_and_plain
    def test_a_reply_that_is_not_ollamas_at_all(self, stream):
        page = Answer(b"<html>It works!</html>\n", headers=(("Content-Type", "text/html"),))
        result, requests = failing(page, Answer.of(recording(STREAM)), stream=stream)
        assert type(result.error) is OllamaStreamError
        assert "a page in place of a reply: 'It works!'" in str(result.error)
        assert "Is it an Ollama server?" in str(result.error)
        assert requests == 1

    @streamed_and_plain
    def test_thinking_counts_as_output(self, stream):
        recorded = recording("think_default_stream")
        answer = Answer.of(recorded, body=recorded.first(3), ending="closed")
        result, requests = failing(answer, Answer.of(recorded), stream=stream)
        assert type(result.error) is OllamaStreamError
        assert result.thinking == ("The user said" if stream else "")
        assert result.error.partial_text == ""
        assert requests == 1

    @streamed_and_plain
    def test_a_call_without_the_last_line_is_not_made(self, stream):
        recorded = recording("tools_two_calls_stream")
        answer = Answer.of(recorded, body=recorded.first(2), ending="closed")
        result, requests = failing(answer, Answer.of(recorded), stream=stream)
        assert type(result.error) is OllamaStreamError
        assert requests == 1

    @streamed_and_plain
    def test_a_call_without_a_name_is_an_error(self, stream):
        answers = [Answer.of(recording("tools_no_function")), Answer.of(recording(STREAM))]
        result, requests = failing(*answers, model="tiny-tools", stream=stream)
        assert type(result.error) is OllamaStreamError
        assert "name of a tool call" in str(result.error)
        assert "'tiny-tools'" in str(result.error)
        assert requests == 1


BEFORE_OUTPUT = {
    "the connection is closed before the headers": CLOSED_BEFORE_HEADERS,
    "the connection is reset before the headers": RESET_BEFORE_HEADERS,
    "the connection is closed before the first line": Answer(ending="closed"),
    "the connection is closed within the first line": Answer(ending="closed in mid-chunk"),
    "the reply is empty": Answer(),
    "the first line has no output": Answer(
        b'{"model":"m","message":{"role":"assistant","content":""},"done":false}\n', ending="closed"
    ),
    "the runner dies": Answer.of(recording(SLOW), body=recording(SLOW).body.splitlines()[-1] + b"\n"),
    "the model was loaded": Answer.of(recording("chat_empty_messages_load")),
    "the model was loaded, without a stream": Answer.of(recording("chat_empty_messages_load_nostream")),
    "there were no messages": Answer.of(recording("chat_no_messages_key")),
    "the model was unloaded": Answer.of(recording("unload_chat")),
    "a model that was not loaded was unloaded": Answer.of(recording("unload_not_loaded")),
}


class TestBeforeOutput:
    """What breaks before the first output is tried again, and no listener notices."""

    @streamed_and_plain
    @pytest.mark.parametrize("answer", BEFORE_OUTPUT.values(), ids=BEFORE_OUTPUT)
    def test_a_retry_before_output_is_invisible(self, answer, stream):
        result, host, requests = succeeding(answer, Answer.of(recording(STREAM)), stream=stream)
        assert requests == 2
        assert facts_of(result.message) == expected_facts(recording(STREAM).lines(), host)
        assert [event.token for event in result.of(TextChunkEvent)] == (
            [line["message"]["content"] for line in recording(STREAM).lines()[:-1]] if stream else []
        )

    @pytest.mark.parametrize("answer", BEFORE_OUTPUT.values(), ids=BEFORE_OUTPUT)
    def test_failed_tries_end_with_an_error(self, answer):
        result, requests = failing(*[answer] * 5)
        assert requests == 3
        assert isinstance(result.error, (OllamaConnectionError, OllamaStreamError, OllamaResponseError))
        assert result.error.partial_text == ""

    @streamed_and_plain
    def test_one_failure_after_another(self, stream):
        answers = [CLOSED_BEFORE_HEADERS, Answer.of(recording("queue_full_503")), Answer.of(recording(STREAM))]
        result, _, requests = succeeding(*answers, stream=stream)
        assert requests == 3
        assert result.text == (result.message.to_text() if stream else "")

    def test_a_loaded_model_without_output_is_named_in_the_error(self):
        result, _ = failing(*[Answer.of(recording("chat_empty_messages_load"))] * 3)
        assert "only that the model was loaded" in str(result.error)
        assert "'tiny-chat'" in str(result.error)

    def test_an_idle_connection_closed_by_the_server_is_replaced(self):
        with ReplayServer(Answer.of(recording(STREAM)), CLOSED_BEFORE_HEADERS, Answer.of(recording(STREAM))) as server:
            driver = patient_driver(server)
            first, second = run(driver), run(driver)
            assert second.message.to_text() == first.message.to_text()
            assert len(server.chats) == 3


class TestLeaving:
    """A caller that has heard enough: the server sees the connection close, which stops the generation."""

    def test_leaving_a_stream_early_closes_the_connection(self):
        recorded = recording("disconnect_stream")
        with ReplayServer(Answer.of(recorded, ending="held open")) as server:
            deltas = patient_driver(server, model="tiny-slow").try_stream(prompt())
            assert next(deltas).content.text == " one"
            assert not server.client_left.is_set()
            deltas.close()
            assert server.client_left.wait(10)

    def test_an_exception_of_a_listener_ends_the_reply_and_is_raised(self):
        def refuse(_):
            raise LookupError("enough")

        recorded = recording("disconnect_stream")
        with ReplayServer(Answer.of(recorded, ending="held open")) as server:
            driver = patient_driver(server, model="tiny-slow", stream=True)
            with EventListener(refuse, event_types=[TextChunkEvent]), pytest.raises(LookupError, match="enough"):
                driver.run(prompt())
            assert server.client_left.wait(10)
            assert len(server.chats) == 1
