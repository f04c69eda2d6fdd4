"""Error replies of servers and gateways, and the errors that they become, in one table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaContextError,
    OllamaGatewayError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
)
from griptape_ollama.protocol.surrogates import replace_surrogates
from griptape_ollama.transport import gateways
from griptape_ollama.transport.environment_proxies import Proxy
from griptape_ollama.transport.server_clock import retry_after


class ErrorReply(NamedTuple):
    """One error reply.

    Attributes:
        status: HTTP status; None for an error line inside a reply of status 200.
        text: Body or error line, as the server sent it.
        headers: Headers of the response.
        method: HTTP method of the request.
        path: Path of the request.
        host: Address of the server.
        model: Model that was asked for.
        sent: Bytes of the body of the request; None if they are not known.
        proxy: Proxy that the request was passed on by, and that may have answered; None for none.
    """

    status: int | None
    text: str
    headers: Mapping[str, str]
    method: str
    path: str
    host: str
    model: str | None
    sent: int | None = None
    proxy: Proxy | None = None


_QUOTA = re.compile(
    r"quota|usage limit|limit reached|billing|upgrade|credits|(?:hourly|daily|weekly|monthly)", re.IGNORECASE
)
# Texts of servers 0.1 to 0.40 about a model that they can never load; a load that a dead process ended may pass.
_LOAD_FAILED = re.compile(
    r"loading model|unable to load|failed to load|startup failed|binary not found"
    r"|error starting (?:llama|mlx|runner)|failed to start \w* ?runner"
    r"|invalid file magic|GGUF|check_tensor|wrong number of tensors|missing tensor"
    r"|tensor \S+ (?:not found|offset|size|elements|dimensions)"
    r"|no projector tensors|mmproj metadata|draft model metadata|architecture not set"
    r"|unsupported quantization|improper type for|cannot find tokenizer|MLX (?:on|is not|not|runtime is not|support)",
    re.IGNORECASE,
)
_TOO_OLD = re.compile(
    r"(?:not supported by|incompatible with) your version|newer version of ollama|need to upgrade"
    r"|unknown model architecture|unsupported model|unsupported architecture",
    re.IGNORECASE,
)
# Too little memory to load a model; the server reports it after it has unloaded what it could.
_TOO_LARGE = re.compile(
    r"requires more system memory|model requires .{1,40} but only|out-of-memory during startup", re.IGNORECASE
)
_OUT_OF_MEMORY = re.compile(
    r"requires more system memory|out of (device )?memory|malloc failed|failed to allocate|allocation failed"
    r"|unable to allocate|(not enough|insufficient) memory",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"model .*not found|not found.*model")
_WRONG_REQUEST = re.compile(r"option \"[^\"]*\" must be|invalid option|invalid format", re.IGNORECASE)
_NO_IMAGES = re.compile(r"image input is not supported|multimodal data provided", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"exceeds? the (?:available )?(?:context|maximum context)|input length exceeds|prompt too long"
    r"|prompt is longer than the context"
    r"|input .{0,40}too large to process",
    re.IGNORECASE,
)
# What became of the connection to the process that runs the model; /api/embed passes it on with status 400 (0.33).
_DEAD_RUNNER = re.compile(
    r": EOF$|connection (?:reset|refused)|no longer running|server not responding|unexpected server status|no slots",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"\((\d{1,12}) tokens\)[^(]*\((\d{1,12}) tokens\)")
_EXCERPT = 500
# Patterns are searched in so much of a text only: a long one could be crafted to take seconds.
_CLASSIFIED = 2000
_LENGTH_ADVICE = {
    "/api/chat": "Shorten the conversation, or raise num_ctx or max_num_ctx as far as the model allows.",
    "/api/embed": "Shorten the text, or use on_long_text='chunk' or 'truncate'.",
}
_USE_VISION = "Use a model with vision for images."
_ADVICE = (
    ("does not support tools", "Use a model with tools, or use_native_tools=False."),
    ("does not support thinking", "Leave think out for this model."),
    ("invalid think value", "Use a think level that the model knows, True or False."),
    ("does not support chat", "It is an embedding model: use a chat model here."),
    ("does not support embeddings", "It is a chat model: use an embedding model here, such as nomic-embed-text."),
    ("multimodal data provided", _USE_VISION),
    ("image input is not supported", _USE_VISION),
    ("illegal base64", "Images must be PNG, JPEG, WebP or GIF."),
    ("json schema conversion failed", "Simplify the JSON schema: no unresolved $ref, and patterns of the form ^...$."),
    ("invalid duration", "Correct keep_alive."),
    ("unsupported type", "Correct keep_alive."),
)


def to_response_error(reply: ErrorReply) -> OllamaResponseError:
    """Build the error of a reply, which names what was refused, why, and what to do next."""
    message = replace_surrogates(server_message(reply.text))
    shown = gateways.title_of(message) if gateways.is_page(message) else _without_repeats(message[:_CLASSIFIED])
    rule = next(each for each in _RULES if each.applies(reply, shown))
    kind = rule.kind
    advice = rule.advice if isinstance(rule.advice, str) else rule.advice(reply, shown)
    who = f"Ollama at {reply.host}"
    about = f" (model {reply.model!r})" if reply.model else ""
    status = "" if reply.status is None else f" with status {reply.status}"
    why = f": {shown[:_EXCERPT]}" if shown else ""
    did = "refused"
    if kind is OllamaGatewayError:
        if reply.proxy is None:
            who = f"The proxy in front of {who}{gateways.name_of(reply.headers)}"
        else:
            who = f"The {reply.proxy.name}, through which {who} is asked, or another one behind it"
        did = "answered in its place"
    if reply.proxy is not None and not gateways.is_of_ollama(reply.text):
        login = reply.status == 407
        through = "" if kind is OllamaGatewayError else f"It was asked through the {reply.proxy.name}. "
        advice = f"{advice} {through}{reply.proxy.advice_on_login if login else reply.proxy.advice}"
    text = f"{who} {did} {reply.method} {reply.path}{about}{status}{why}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    arguments: dict[str, Any] = {
        "host": reply.host,
        "model": reply.model,
        "status": reply.status,
        "server_message": message,
        "method": reply.method,
        "path": reply.path,
        "retry_after": retry_after(reply.headers),
        "permanent": rule.is_permanent,
    }
    if kind is OllamaModelNotFoundError:
        text = f"{who} has no model {reply.model!r}."
    if kind is OllamaContextError and (match := _TOKENS.search(message)):
        arguments |= {"tokens_wanted": int(match[1]), "tokens_available": int(match[2])}
    return kind(f"{text} {advice}".rstrip(), **arguments)


def server_message(text: str) -> str:
    """Return the server's message, unwrapped from `{"error": ...}`, also where that is JSON inside a string again."""
    while True:
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            return text.strip()
        while isinstance(value, dict) and (inner := _inner(cast("dict[str, Any]", value))) is not None:
            value = inner
        if not isinstance(value, str):
            return "" if value in ({}, [], None) else json.dumps(value)
        if value == text:
            return value
        text = value


def is_out_of_memory(message: str) -> bool:
    """Return whether a server reports that a model, with the requested window, does not fit into memory (0.33)."""
    return _OUT_OF_MEMORY.search(message[:_CLASSIFIED]) is not None


def _inner(fields: Mapping[str, Any]) -> Any:
    return next((fields[name] for name in ("error", "message", "detail") if fields.get(name)), None)


def _auth_advice(reply: ErrorReply) -> str:
    if "signin_url" in reply.text:
        return "Sign in on the server with `ollama signin`, or pass api_key."
    if reply.status == 403 and not reply.text.strip():
        return "It does not accept this Host or Origin: see OLLAMA_HOST and OLLAMA_ORIGINS on the server, or the proxy."
    return gateways.advice_on_login(reply.headers) or "Check api_key and headers."


def _request_advice(reply: ErrorReply, message: str) -> str:
    if reply.status == 413:
        return gateways.advice_on_size(reply.sent)
    if reply.status == 405 or (reply.status is not None and reply.status < 400):
        return _address_advice(reply)
    if not gateways.is_of_ollama(reply.text) and (advice := gateways.advice_on_tls(reply.text[:_CLASSIFIED])):
        return advice
    return next((advice for pattern, advice in _ADVICE if pattern in message.lower()), "Correct the request.")


def _address_advice(reply: ErrorReply) -> str:
    return gateways.advice_on_address(reply.host) or (
        f"Is {reply.host} an Ollama server, is its path prefix right, and does a proxy in between let {reply.path} "
        "through?"
    )


def _without_repeats(message: str) -> str:
    """Remove lines that repeat an earlier line."""
    lines: list[str] = []
    for line in message.splitlines():
        if not any(line.strip() in before for before in lines):
            lines.append(line)
    return "\n".join(lines)


def _is_from_gateway(reply: ErrorReply, _: str) -> bool:
    return reply.status is not None and gateways.is_in_place_of_ollama(reply.status, reply.text)


def _has_status(*statuses: int) -> Callable[[ErrorReply, str], bool]:
    return lambda reply, _: reply.status in statuses


def _is_failure(reply: ErrorReply, message: str) -> bool:
    """Return whether the server failed, rather than refused the request."""
    is_dead = reply.status == 400 and _DEAD_RUNNER.search(message) is not None
    return reply.status is None or is_dead or (reply.status >= 500 and reply.status != 501)


def _is_failure_with(pattern: re.Pattern[str]) -> Callable[[ErrorReply, str], bool]:
    return lambda reply, message: _is_failure(reply, message) and pattern.search(message) is not None


@dataclass(frozen=True)
class _Rule:
    """What some error replies mean.

    Attributes:
        applies: Returns whether the rule applies to a reply with a message.
        kind: Class of the error.
        is_permanent: Whether the same request would fail again.
        advice: What to do, or a function that returns it.
    """

    applies: Callable[[ErrorReply, str], bool]
    kind: type[OllamaResponseError]
    is_permanent: bool
    advice: str | Callable[[ErrorReply, str], str]


# The first rule that applies counts.
_RULES: tuple[_Rule, ...] = (
    _Rule(
        _is_from_gateway,
        OllamaGatewayError,
        False,
        lambda reply, message: gateways.advice_in_place(reply.status or 0, message),
    ),
    _Rule(
        lambda reply, message: reply.status == 404 and bool(reply.model) and _NO_MODEL.search(message) is not None,
        OllamaModelNotFoundError,
        True,
        lambda reply, _: f"Get it with: ollama pull {reply.model}",
    ),
    _Rule(_has_status(404), OllamaResponseError, True, lambda reply, _: _address_advice(reply)),
    _Rule(_has_status(401, 403), OllamaAuthError, True, lambda reply, _: _auth_advice(reply)),
    _Rule(
        lambda reply, _: reply.status in (408, 425) and not gateways.is_of_ollama(reply.text),
        OllamaResponseError,
        False,
        "A proxy in between did not wait for all of the request: raise its limit (client_body_timeout in nginx).",
    ),
    _Rule(_has_status(407), OllamaAuthError, True, "A proxy in between wants a user and a password."),
    _Rule(
        lambda reply, message: reply.status == 429 and _QUOTA.search(message) is not None,
        OllamaQuotaError,
        True,
        "A quota is used up: wait for its next period, or raise it.",
    ),
    _Rule(
        lambda reply, _: reply.status == 429 and gateways.is_of_ollama(reply.text),
        OllamaBusyError,
        False,
        "Send fewer requests at once, or raise max_attempts.",
    ),
    _Rule(
        _has_status(429),
        OllamaBusyError,
        False,
        "A proxy in between limits requests: send fewer at once (max_concurrency), or raise its limit or max_attempts.",
    ),
    _Rule(
        _has_status(503),
        OllamaBusyError,
        False,
        "Send fewer requests at once, or raise OLLAMA_MAX_QUEUE on the server.",
    ),
    _Rule(
        lambda _, message: _TOO_LONG.search(message) is not None,
        OllamaContextError,
        True,
        lambda reply, _: _LENGTH_ADVICE.get(reply.path, "Shorten it."),
    ),
    _Rule(
        lambda reply, message: _is_failure(reply, message) and gateways.is_page(reply.text),
        OllamaResponseError,
        False,
        "It is a page of a proxy in between: see the log of that proxy.",
    ),
    _Rule(_is_failure_with(_WRONG_REQUEST), OllamaResponseError, True, "Correct the option or format."),
    _Rule(_is_failure_with(_NO_IMAGES), OllamaResponseError, True, _USE_VISION),
    _Rule(
        _is_failure_with(_TOO_OLD),
        OllamaResponseError,
        True,
        "Upgrade Ollama on the server, then pull the model again.",
    ),
    _Rule(
        _is_failure_with(_TOO_LARGE),
        OllamaResponseError,
        True,
        "It has no memory for the model: use a smaller one or a smaller num_ctx, or unload others.",
    ),
    _Rule(
        _is_failure_with(_LOAD_FAILED),
        OllamaResponseError,
        True,
        "The model cannot be loaded: see the server's log; pulling it again may help.",
    ),
    _Rule(_is_failure, OllamaResponseError, False, "See the server's log."),
    _Rule(lambda _, __: True, OllamaResponseError, True, _request_advice),
)
