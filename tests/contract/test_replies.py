"""Recorded replies, replayed over a socket in all kinds of pieces, give the message that the server meant."""

import json

import ollama
import pytest
from griptape.artifacts import ListArtifact
from griptape.events import FinishPromptEvent, TextChunkEvent

from contract.observing import (
    ENDED_EMPTY,
    SPENT_ON_A_CALL,
    SPENT_ON_THINKING,
    WHOLE_RUN,
    expected_chunks,
    expected_facts,
    facts_of,
    new_driver,
    prompt,
    run,
)
from contract.replay import CHUNKINGS, CONTENT_LENGTH, Answer, ReplayServer, recording
from griptape_ollama import OllamaPromptDriver, OllamaResponseEvent

SENTENCE = (
    "Hello! I am a tiny scripted model, running inside a real Ollama server. "
    "I give this very same answer each time, word by word."
)

CHAT = (
    "chat_cold_stream",
    "chat_latest_tag",
    "chat_model_uppercase",
    "chat_nostream",
    "chat_num_predict_0",
    "chat_num_predict_3",
    "chat_overlong_default",
    "chat_overlong_history",
    "chat_pulled",
    "chat_seed_1a",
    "chat_shift_false",
    "chat_shift_true",
    "chat_stop",
    "chat_stop_nostream",
    "chat_stream",
    "chat_temperature_0",
    "chat_with_keepalive_0",
    "content_null",
    "gzip_accept",
    "native_overlong_history",
    "native_stop",
    "num_ctx_huge",
    "role_unknown_native",
    "utf8_stream",
)
LOGPROBS = ("chat_logprobs_nostream", "chat_logprobs_stream", "chat_top_logprobs_only", "native_logprobs_stream")
IMAGES = ("image_jpeg", "image_on_vision", "image_webp")
FORMAT = (
    "format_json_nostream",
    "format_json_stream",
    "format_schema_cut",
    "format_schema_native_stream",
    "format_schema_nostream",
    "format_schema_stream",
    "tools_native_with_format",
)
THINKING = (
    "native_generate_think",
    "think_cut_by_num_predict",
    "think_default_stream",
    "think_false",
    "think_high",
    "think_native_stream",
    "think_true_nostream",
)
TOOLS = (
    "native_tool_arguments_string",
    "tool_message_first",
    "tools_bad_schema",
    "tools_call_text_without_tools_param",
    "tools_content_and_call_nostream",
    "tools_model_calls_unlisted_tool",
    "tools_native_nostream",
    "tools_native_stream",
    "tools_nostream",
    "tools_num_predict_cut_stream",
    "tools_roundtrip_tiny-native",
    "tools_roundtrip_tiny-thinktools",
    "tools_roundtrip_tiny-tools",
    "tools_stream",
    "tools_thinking_nostream",
    "tools_thinking_stream",
    "tools_two_calls_stream",
    "tools_type_list",
)
REPLIES = (*CHAT, *LOGPROBS, *IMAGES, *FORMAT, *THINKING, *TOOLS)
HUGE = "native_tools_noargs"  # 120 kB: replayed in large pieces only

streamed_and_plain = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


def framings_of(name):
    recorded = recording(name)
    yield from (chunking for chunking in CHUNKINGS if chunking != "inside_characters" or not recorded.body.isascii())
    if recorded.is_json_document:
        yield CONTENT_LENGTH


CASES = [
    *((name, framing) for name in REPLIES for framing in framings_of(name)),
    *((HUGE, framing) for framing in ("whole", "lines", CONTENT_LENGTH)),
]


def replay(name, *, framing=None, stream=False):
    """Run a driver against one recorded reply, and give the run and the address that it went to."""
    recorded = recording(name)
    with ReplayServer(Answer.of(recorded, framing)) as server:
        result = run(new_driver(server.host, model=recorded.request["model"], stream=stream, max_attempts=1))
        assert len(server.chats) == 1
    assert result.error is None, result.error
    return result, server.host


def contents_of(name, **settings):
    return facts_of(replay(name, **settings)[0].message).contents


def meta_of(name, **settings):
    return facts_of(replay(name, **settings)[0].message).meta


@streamed_and_plain
@pytest.mark.parametrize(("name", "framing"), CASES)
def test_the_message_equals_the_recorded_reply(name, framing, stream):
    result, host = replay(name, framing=framing, stream=stream)
    expected = expected_facts(recording(name).lines(), host)
    assert facts_of(result.message) == expected
    assert result.frame() == WHOLE_RUN
    finish = result.of(FinishPromptEvent)[0]
    assert (finish.input_token_count, finish.output_token_count) == expected.usage
    assert result.chunks() == (expected_chunks(recording(name).lines()) if stream else [])


@pytest.mark.parametrize("name", REPLIES)
def test_streamed_and_plain_replies_are_the_same_message(name):
    with ReplayServer(*[Answer.of(recording(name))] * 2) as server:
        driver = new_driver(server.host, model=recording(name).request["model"])
        driver.stream = True
        streamed = run(driver).message
        driver.stream = False
        plain = run(driver).message
    assert facts_of(streamed) == facts_of(plain)


@pytest.mark.parametrize("name", REPLIES)
def test_the_chunks_that_a_listener_sees_add_up_to_the_message(name):
    result, _ = replay(name, stream=True)
    assert result.text == result.message.to_text()
    assert all(event.token for event in result.of(TextChunkEvent))
    calls = [chunk[:-1] for chunk in result.chunks() if chunk[0] == "call"]
    assert calls == [content for content in facts_of(result.message).contents if content[0] == "call"]
    # Each chunk names the content of the message that it is part of.
    for kind, *_, index in result.chunks():
        assert kind == "thinking" or facts_of(result.message).contents[index][0] == kind
    assert result.thinking == facts_of(result.message).meta.get("thinking", "")


@pytest.mark.parametrize("name", REPLIES)
def test_try_stream_yields_the_same_pieces_and_the_usage_at_the_end(name):
    recorded = recording(name)
    with ReplayServer(Answer.of(recorded)) as server:
        driver = new_driver(server.host, model=recorded.request["model"])
        *deltas, last = driver.try_stream(prompt())
    text = "".join(delta.content.text for delta in deltas if hasattr(delta.content, "text"))
    assert text == "".join(line["message"]["content"] for line in recorded.lines())
    assert last.content is None
    final = recorded.lines()[-1]
    assert (last.usage.input_tokens, last.usage.output_tokens) == (final["prompt_eval_count"], final["eval_count"])


@pytest.mark.parametrize("character", ["\u0085", "\u2028", "\u2029"], ids=ascii)
def test_a_character_that_other_readers_take_for_the_end_of_a_line_is_text(character):
    # Ollama escapes some of these; a proxy between may not.
    recorded = recording("chat_stream")
    lines = recorded.lines()
    lines[3]["message"]["content"] = f"a{character}b"
    body = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    with ReplayServer(Answer.of(recorded, "inside_characters", body=body.encode())) as server:
        result = run(new_driver(server.host, stream=True))
    assert f"a{character}b" in result.message.to_text()
    assert result.text == result.message.to_text()


def test_two_replies_in_a_row_come_over_one_connection():
    answers = [Answer.of(recording("chat_stream")), Answer.of(recording("chat_nostream"))]
    with ReplayServer(*answers) as server:
        driver = new_driver(server.host)
        assert run(driver).message.to_text() == SENTENCE
        assert run(driver).message.to_text() == SENTENCE
        assert server.connections == 1


@streamed_and_plain
@pytest.mark.parametrize("name", ["chat_stream", "tools_two_calls_stream", "tools_native_stream", "utf8_stream"])
def test_a_client_of_the_user_returns_the_same_message(name, stream):
    recorded = recording(name)
    with ReplayServer(Answer.of(recorded, "primes")) as server:
        client = ollama.Client(host=server.host, verify=False)
        driver = OllamaPromptDriver(model=recorded.request["model"], client=client, stream=stream)
        result = run(driver)
        client._client.close()
    assert facts_of(result.message) == expected_facts(recorded.lines(), server.host)
    assert result.chunks() == (expected_chunks(recorded.lines()) if stream else [])


@streamed_and_plain
class TestFacts:
    """What the recordings hold, said once more in so many words."""

    def test_a_reply_of_24_tokens(self, stream):
        result, host = replay("chat_stream", stream=stream)
        assert result.message.to_text() == SENTENCE
        assert result.message.usage.input_tokens == 45
        assert result.message.usage.output_tokens == 24
        meta = facts_of(result.message).meta
        assert meta == {
            "model": "tiny-chat",
            "created_at": "2026-11-20T08:49:41.482197975Z",
            "host": host,
            "done_reason": "stop",
            "prompt_eval_count": 45,
            "eval_count": 24,
            "total_seconds": pytest.approx(0.006333974),
            "load_seconds": pytest.approx(0.001364713),
            "prompt_seconds": pytest.approx(0.000283),
            "generation_seconds": pytest.approx(0.002162),
            "tokens_per_second": pytest.approx(24 / 0.002162),
        }

    def test_the_response_event_has_the_same_metadata(self, stream):
        result, host = replay("chat_stream", stream=stream)
        (event,) = result.of(OllamaResponseEvent)
        assert (event.model, event.host, event.done_reason) == ("tiny-chat", host, "stop")
        assert (event.input_tokens, event.output_tokens) == (45, 24)
        assert event.load_seconds == pytest.approx(0.001364713)
        assert event.generation_seconds == pytest.approx(0.002162)
        assert event.time_to_first_token > 0

    def test_a_cold_model_reports_its_load_time(self, stream):
        assert meta_of("chat_cold_stream", stream=stream)["load_seconds"] == pytest.approx(0.254130606)

    def test_characters_of_several_bytes(self, stream):
        assert contents_of("utf8_stream", framing="inside_characters", stream=stream) == [
            ("text", "Café and 🎉 then 日 end")
        ]

    def test_the_model_is_named_as_the_request_spelled_it(self, stream):
        assert meta_of("chat_model_uppercase", stream=stream)["model"] == "Tiny-Chat"
        assert meta_of("chat_latest_tag", stream=stream)["model"] == "tiny-chat:latest"

    def test_a_cut_reply_has_done_reason_length(self, stream):
        result, _ = replay("chat_num_predict_3", stream=stream)
        assert result.message.to_text() == "Hello! I am"
        assert facts_of(result.message).meta["done_reason"] == "length"

    def test_a_silently_truncated_prompt_shows_in_the_usage(self, stream):
        result, _ = replay("chat_overlong_default", stream=stream)
        assert result.message.usage.input_tokens == 2051

    def test_text_ends_before_the_stop_text(self, stream):
        assert contents_of("chat_stop", stream=stream) == [("text", "Hello! I am a tiny")]

    def test_one_call(self, stream):
        assert contents_of("tools_stream", stream=stream) == [
            ("call", "call_98sejv8g", "get", "weather", {"city": "Paris"})
        ]

    def test_two_calls_that_came_in_two_lines(self, stream):
        first, second = contents_of("tools_two_calls_stream", stream=stream)
        assert first == ("call", "call_rojhtk92", "get", "weather", {"city": "Oslo"})
        assert second == ("call", "call_ho9vpfh1", "get", "weather", {"city": "Rome", "unit": "celsius"})

    def test_text_and_a_call(self, stream):
        assert contents_of("tools_content_and_call_nostream", stream=stream) == [
            ("text", "Let me look that up first.\n"),
            ("call", "call_ct490cyb", "get", "weather", {"city": "Berlin"}),
        ]

    def test_a_call_inside_the_final_line_of_a_native_model(self, stream):
        result, _ = replay("tools_native_stream", stream=stream)
        ((kind, tag, *call),) = facts_of(result.message).contents
        assert (kind, *call) == ("call", "get", "weather", {"city": "Lyon"})
        assert len(tag) == 32
        assert tag == recording("tools_native_stream").lines()[-1]["message"]["tool_calls"][0]["id"]
        assert facts_of(result.message).meta["thinking"] == "I need the weather, therefore the tool it is.\n"

    def test_a_thousand_calls_in_one_line(self, stream):
        result, _ = replay(HUGE, framing="whole", stream=stream)
        calls = facts_of(result.message).contents
        assert len(calls) == 1078
        assert len({tag for _, tag, *_ in calls}) == 1078
        assert facts_of(result.message).meta["done_reason"] == "length"

    def test_a_reply_that_is_only_a_call_has_no_text(self, stream):
        result, _ = replay("tools_stream", stream=stream)
        assert not isinstance(result.message.to_artifact(), ListArtifact)

    def test_a_cut_tool_call_is_an_empty_reply_with_done_reason_length(self, stream):
        result, _ = replay("tools_num_predict_cut_stream", stream=stream)
        assert facts_of(result.message).contents == [("text", "")]
        assert facts_of(result.message).meta["done_reason"] == "length"
        assert facts_of(result.message).meta["problem"] == SPENT_ON_A_CALL
        assert result.chunks() == []

    def test_a_call_of_an_unknown_tool_is_dropped_by_the_server(self, stream):
        assert contents_of("tools_model_calls_unlisted_tool", stream=stream) == [("text", "")]
        assert meta_of("tools_model_calls_unlisted_tool", stream=stream)["problem"] == ENDED_EMPTY

    def test_thinking_is_metadata_and_not_text(self, stream):
        result, _ = replay("think_default_stream", stream=stream)
        assert result.message.to_text() == "Good day! This reply came after some thinking."
        thinking = facts_of(result.message).meta["thinking"]
        assert thinking == "The user said something, so a short greeting will be the right reply.\n"
        assert "The user said" not in result.text

    def test_a_reply_of_only_thinking_has_an_empty_answer(self, stream):
        result, _ = replay("think_cut_by_num_predict", stream=stream)
        assert result.message.to_text() == ""
        meta = facts_of(result.message).meta
        assert (meta["thinking"], meta["done_reason"]) == ("The user said something, so", "length")
        assert meta["problem"] == SPENT_ON_THINKING
        assert result.message.usage.output_tokens == 6

    def test_log_probabilities_of_all_lines_are_joined(self, stream):
        logprobs = meta_of("chat_logprobs_stream", stream=stream)["logprobs"]
        assert [entry["token"] for entry in logprobs] == [" fox", " jungle", " merry"]
        assert [len(entry["top_logprobs"]) for entry in logprobs] == [3, 3, 3]
        assert meta_of("chat_logprobs_nostream", stream=stream)["logprobs"][0] == {
            "token": " fox",
            "logprob": pytest.approx(-4.00539),
            "bytes": [32, 102, 111, 120],
        }

    def test_log_probabilities_of_thinking_tokens_are_kept_too(self, stream):
        logprobs = meta_of("native_logprobs_stream", stream=stream)["logprobs"]
        assert "".join(entry["token"] for entry in logprobs).endswith("The user said")

    def test_a_reply_that_fits_a_schema_is_json(self, stream):
        result, _ = replay("format_schema_stream", stream=stream)
        assert set(json.loads(result.message.to_text())) == {"name", "age", "ok", "mood", "tags"}

    def test_a_reply_about_an_image(self, stream):
        assert contents_of("image_webp", stream=stream) == [("text", SENTENCE)]
