"""What a refusal means, and what it tells the user to do."""

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaContextError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
)
from griptape_ollama.transport.refusals import Refusal, server_message, to_response_error

CONTEXT = (
    '{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"request (45043 tokens) exceeds the available context size '
    '(4096 tokens), try increasing it\\",\\"type\\":\\"exceed_context_size_error\\"}}"}'
)


def _error(status, text, **headers):
    return to_response_error(Refusal(status, text, headers, "POST", "/api/chat", "http://gpu-box:11434", "qwen3"))


@pytest.mark.parametrize(
    ("status", "text", "kind", "advice"),
    [
        (404, '{"error":"model \'qwen3\' not found"}', OllamaModelNotFoundError, "ollama pull qwen3"),
        (404, '{"error":"model \\"qwen3\\" not found, try pulling it first"}', OllamaModelNotFoundError, "ollama pull"),
        (404, "404 page not found", OllamaResponseError, "path prefix"),
        (401, '{"error":"unauthorized","signin_url":"https://ollama.com/connect"}', OllamaAuthError, "ollama signin"),
        (401, '{"error":"unauthorized"}', OllamaAuthError, "api_key"),
        (403, "", OllamaAuthError, "OLLAMA_ORIGINS"),
        (403, '{"error":"ollama cloud is disabled"}', OllamaAuthError, "ollama cloud is disabled"),
        (429, '{"error":"weekly usage limit reached, upgrade"}', OllamaQuotaError, "quota"),
        (429, '{"error":"too many concurrent requests"}', OllamaBusyError, "at once"),
        (503, '{"error":"server busy"}', OllamaBusyError, "OLLAMA_MAX_QUEUE"),
        (400, CONTEXT, OllamaContextError, "num_ctx"),
        (400, '{"error":"the input length exceeds the context length"}', OllamaContextError, "num_ctx"),
        (400, '{"error":"x does not support tools"}', OllamaResponseError, "use_native_tools=False"),
        (400, '{"error":"x does not support thinking"}', OllamaResponseError, "Leave think out"),
        (400, '{"error":"\\"x\\" does not support chat"}', OllamaResponseError, "embedding model"),
        (400, '{"error":"illegal base64 data at input byte 4"}', OllamaResponseError, "PNG"),
        (413, "<html>413 Request Entity Too Large</html>", OllamaResponseError, "proxy"),
        (500, '{"error":"option \\"seed\\" must be of type integer"}', OllamaResponseError, "Correct the option"),
        (500, '{"error":"unable to load model: /x"}', OllamaResponseError, "cannot be loaded"),
        (500, "", OllamaResponseError, "status 500"),
    ],
)
def test_each_refusal_has_its_kind_and_its_advice(status, text, kind, advice):
    error = _error(status, text)
    assert type(error) is kind
    assert advice in str(error)
    assert "http://gpu-box:11434" in str(error)
    assert "'qwen3'" in str(error)
    assert (error.status, error.model, error.host) == (status, "qwen3", "http://gpu-box:11434")


def test_a_context_error_tells_tokens_wanted_and_had():
    error = _error(400, CONTEXT)
    assert (error.tokens_wanted, error.tokens_available) == (45043, 4096)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"error":"plain"}', "plain"),
        (CONTEXT, "request (45043 tokens) exceeds the available context size (4096 tokens), try increasing it"),
        ('{"error":{"message":"nested"}}', "nested"),
        ("404 page not found\n", "404 page not found"),
        ("", ""),
        ("[1]", "[1]"),
        ('{"other":1}', '{"other": 1}'),
        ('{"error":null}', '{"error": null}'),
        ("{}", ""),
        ('{"error":["one","two"]}', '["one", "two"]'),
        ('{"detail":"of another framework"}', "of another framework"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_the_servers_words_are_unwrapped(text, said):
    assert server_message(text) == said


@pytest.mark.parametrize(("value", "seconds"), [("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", None), ("", None)])
def test_retry_after_in_seconds(value, seconds):
    assert _error(503, "busy", **{"retry-after": value}).retry_after == seconds


@pytest.mark.parametrize("value", ["soon", "", "Mon, 99 Foo", "Mon, 01 Jan 99999999999 00:00:00 GMT", "0x10"])
def test_a_retry_after_that_cannot_be_understood_is_none(value):
    assert _error(503, "busy", **{"retry-after": value}).retry_after is None


def test_retry_after_as_a_date():
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    assert 25 < _error(503, "busy", **{"retry-after": date}).retry_after <= 31


def test_a_long_text_is_cut():
    assert len(str(_error(500, "x" * 100_000))) < 1000


def test_a_long_text_is_understood_by_its_beginning():
    error = to_response_error(
        Refusal(404, "model " * 2000 + "not found", {}, "POST", "/api/chat", "http://gpu:11434", "qwen3")
    )
    assert type(error) is OllamaResponseError
