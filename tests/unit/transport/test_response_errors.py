"""What a refusal means, and what it tells the user to do."""

import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaConnectionError,
    OllamaContextError,
    OllamaGatewayError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
)
from griptape_ollama.transport.response_errors import ErrorReply, server_message, to_response_error
from griptape_ollama.transport.server_clock import retry_after

CONTEXT = (
    '{"error":"{\\"error\\":{\\"code\\":400,\\"message\\":\\"request (45043 tokens) exceeds the available context size '
    '(4096 tokens), try increasing it\\",\\"type\\":\\"exceed_context_size_error\\"}}"}'
)


def _error(status, text, **headers):
    return to_response_error(ErrorReply(status, text, headers, "POST", "/api/chat", "http://gpu-box:11434", "qwen3"))


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
        (
            500,
            '{"error":"this model is not supported by your version of Ollama"}',
            OllamaResponseError,
            "Upgrade Ollama",
        ),
        (500, '{"error":"model requires more system memory (44 GiB)"}', OllamaResponseError, "smaller"),
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


_NGINX_504 = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body><center><h1>504</h1></center></html>"
_CLOUDFLARE = "<!DOCTYPE html><html><head><title>llm.example.com | 524: A timeout occurred</title></head></html>"
_HAPROXY = (
    "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>"
)
_ALB = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center>...</center></body>\r\n</html>"
_APACHE = (
    '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>502 Proxy Error</title>\n</head></html>'
)


@pytest.mark.parametrize(
    ("status", "text", "shown", "advice"),
    [
        (504, _NGINX_504, "504 Gateway Time-out", "proxy_read_timeout"),
        (524, _CLOUDFLARE, "llm.example.com | 524: A timeout occurred", "did not wait long enough"),
        (504, "", "status 504.", "did not wait long enough"),
        (502, _ALB, "502 Bad Gateway", "does not reach Ollama behind it"),
        (502, _APACHE, "502 Proxy Error", "does not reach Ollama behind it"),
        (502, "", "status 502.", "does not reach Ollama behind it"),  # Caddy
        (502, "Bad Gateway", "Bad Gateway", "does not reach Ollama behind it"),  # Traefik
        (503, _HAPROXY, "503 Service Unavailable", "does not reach Ollama behind it"),
        (503, "no healthy upstream", "no healthy upstream", "does not reach Ollama behind it"),  # Envoy
        (503, '{"message":"name resolution failed"}', "name resolution failed", "does not reach Ollama"),  # Kong
        (503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>", "503", "limit_req"),
        (522, "<html></html>", "status 522.", "does not reach Ollama behind it"),
        (525, "<html><title>525: SSL handshake failed</title></html>", "525", "TLS fails"),
        (530, "error code: 1033", "error code: 1033", "cloudflared"),
    ],
)
def test_a_reply_of_a_gateway_is_not_taken_for_a_reply_of_ollama(status, text, shown, advice):
    error = _error(status, text, server="nginx/1.22.1")
    assert type(error) is OllamaGatewayError
    assert isinstance(error, OllamaConnectionError)
    assert (error.status, error.permanent, error.refused) == (status, False, False)
    assert "The proxy in front of Ollama at http://gpu-box:11434 (nginx/1.22.1)" in str(error)
    assert shown in str(error)
    assert advice in str(error)
    assert "<" not in str(error)
    assert "server's log" not in str(error)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_what_ollama_says_of_its_own_under_such_a_status_stays_its_own(status):
    error = _error(status, '{"error":"dial tcp: lookup ollama.com: no such host"}')
    assert type(error) is (OllamaBusyError if status == 503 else OllamaResponseError)
    assert not error.permanent


def test_a_page_of_a_failed_proxy_names_the_log_of_the_proxy():
    error = _error(500, "<html><head><title>500 Internal Server Error</title></head></html>")
    assert (type(error), error.permanent) == (OllamaResponseError, False)
    assert "log of that proxy" in str(error)


@pytest.mark.parametrize(
    ("challenge", "advice"),
    [
        ('Basic realm="Ollama"', "user:password@"),
        ("basic", "user:password@"),
        ('Bearer realm="x", error="invalid_token"', "api_key"),
        ('Bearer realm="api", Basic realm="x"', "user:password@"),
        ('Basic realm="a, Bearer b=c"', "user:password@"),
        ("Negotiate", "negotiate"),
        ("", "Check api_key and headers"),
    ],
)
def test_a_challenge_names_the_setting_that_answers_it(challenge, advice):
    error = _error(401, "<html><title>401 Authorization Required</title></html>", **{"www-authenticate": challenge})
    assert type(error) is OllamaAuthError
    assert advice in str(error)


@pytest.mark.parametrize("status", [408, 425])
def test_a_gateway_that_did_not_get_all_of_the_request_may_get_it_later(status):
    error = _error(status, "<html><body><h1>408 Request Time-out</h1></body></html>")
    assert not error.permanent
    assert "client_body_timeout" in str(error)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<html><head><title>429 Too Many Requests</title></head></html>", OllamaBusyError),
        ("<html><meta content='upgrade-insecure-requests'><title>Slow down</title></html>", OllamaBusyError),
        ("Too Many Requests\n", OllamaBusyError),
        ("", OllamaBusyError),
        ("You have used up your daily quota.", OllamaQuotaError),
    ],
)
def test_a_rate_limit_is_distinguished_from_a_quota(text, kind):
    error = _error(429, text)
    assert type(error) is kind
    assert error.permanent is (kind is OllamaQuotaError)
    assert ("proxy in between limits requests" in str(error)) is (kind is OllamaBusyError)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("<html><head><title>400 No required SSL certificate was sent</title></head></html>", "cert="),
        ("<html><head><title>400 The SSL certificate error</title></head></html>", "cert="),
        ("<html><head><title>400 The plain HTTP request was sent to HTTPS port</title></head></html>", "https://"),
        ("Client sent an HTTP request to an HTTPS server.\n", "https://"),
    ],
)
def test_a_refusal_that_is_about_tls_names_the_setting(text, advice):
    assert advice in str(_error(400, text))


def test_a_request_that_is_too_large_tells_its_size_and_the_limit_to_raise():
    refusal = ErrorReply(413, "", {}, "POST", "/api/chat", "http://gpu-box:11434", "qwen3", 1_234_567)
    assert "1,234,567 bytes" in str(to_response_error(refusal))
    assert "client_max_body_size" in str(to_response_error(refusal))


@pytest.mark.parametrize("end", ["/v1", "/V1", "/api", "/api/chat", "/v1/chat/completions", "/ollama/v1", "/api/embed"])
@pytest.mark.parametrize("status", [404, 405])
def test_an_endpoint_at_the_end_of_the_address_is_to_be_left_out(end, status):
    refusal = ErrorReply(status, "404 page not found", {}, "POST", "/api/chat", f"http://gpu-box:11434{end}", "qwen3")
    assert f"Leave out '{end.removeprefix('/ollama')}' at the end of host" in str(to_response_error(refusal))


def test_a_path_that_is_a_prefix_is_not():
    refusal = ErrorReply(404, "", {}, "POST", "/api/chat", "http://gpu-box:11434/v1/ollama", "qwen3")
    assert "Leave out" not in str(to_response_error(refusal))


def test_what_a_server_says_twice_is_shown_once():
    said = "llama-server process has terminated: error loading model: x\nerror loading model: x"
    error = _error(500, json.dumps({"error": said}))
    assert str(error).count("error loading model: x") == 1
    assert error.server_message == said


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
def test_the_message_of_the_server_is_unwrapped(text, said):
    assert server_message(text) == said


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3), ("0.5", 0.5), ("-1", 0), ("soon", None), ("", None), ("-inf", None)]
)
def test_retry_after_in_seconds(value, seconds):
    assert _error(503, "busy", **{"retry-after": value}).retry_after == seconds


@pytest.mark.parametrize("value", ["soon", "", "Mon, 99 Foo", "Mon, 01 Jan 99999999999 00:00:00 GMT", "0x10"])
def test_a_retry_after_that_cannot_be_understood_is_none(value):
    assert _error(503, "busy", **{"retry-after": value}).retry_after is None


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_for_which_nothing_can_wait_is_none(value):
    assert _error(503, "busy", **{"retry-after": value}).retry_after is None


def test_retry_after_as_a_date():
    date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=30), usegmt=True)
    assert 25 < _error(503, "busy", **{"retry-after": date}).retry_after <= 31


def _http_date(seconds, *, ahead=0.0):
    return format_datetime(datetime.now(timezone.utc) + timedelta(seconds=seconds + ahead), usegmt=True)


@pytest.mark.parametrize("ahead", [-7200, -600, 600, 86_400])
def test_retry_after_as_a_date_is_read_by_the_clock_of_who_wrote_it(ahead):
    headers = {"retry-after": _http_date(30, ahead=ahead), "date": _http_date(0, ahead=ahead)}
    assert 28 <= _error(503, "busy", **headers).retry_after <= 31


def test_a_retry_after_by_another_clock_is_never_shorter_than_what_was_asked_for():
    headers = {"retry-after": "Fri, 02 Jan 2026 10:00:03 GMT", "date": "Fri, 02 Jan 2026 10:00:00 GMT"}
    assert retry_after(headers, now=1_767_347_000.7) == pytest.approx(3, abs=1e-6)


@pytest.mark.parametrize("date", ["", "soon", "Thu, 01 Jan 1970 00:00:10 GMT", "Mon, 01 Jan 99999999999 00:00:00 GMT"])
def test_a_date_that_cannot_be_is_no_clock(date):
    headers = {"retry-after": _http_date(30), "date": date}
    assert 28 <= _error(503, "busy", **headers).retry_after <= 31


def test_a_long_text_is_cut():
    assert len(str(_error(500, "x" * 100_000))) < 1000


def test_a_long_text_is_understood_by_its_beginning():
    error = to_response_error(
        ErrorReply(404, "model " * 2000 + "not found", {}, "POST", "/api/chat", "http://gpu:11434", "qwen3")
    )
    assert type(error) is OllamaResponseError
