"""What a refusal means: the status and the text of the server, as one of our errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
    """One refusal.

    Attributes:
        status: HTTP status; None for an error line inside a reply of status 200.
        text: Body or error line, as the server sent it.
        headers: Headers of the response.
        method: HTTP method of the request.
        path: Path of the request.
        host: Address of the server.
        model: Model that was asked for.
        sent: Bytes of the body of the request; None where they are not known.
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
# Memory that lacks before a model is there; the server has unloaded what it could before it says so.
_TOO_LARGE = re.compile(
    r"requires more system memory|model requires .{1,40} but only|out-of-memory during startup", re.IGNORECASE
)
_OUT_OF_MEMORY = re.compile(
    r"requires more system memory|out of (device )?memory|malloc failed|failed to allocate|allocation failed"
    r"|unable to allocate|(not enough|insufficient) memory",
    re.IGNORECASE,
)
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
# Patterns are looked for in so much of a text only: a long one could be made to take them seconds.
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


def to_response_error(refusal: ErrorReply) -> OllamaResponseError:
    """Make the error that tells what was refused, why, and what to do next."""
    said = replace_surrogates(server_message(refusal.text))
    shown = gateways.title_of(said) if gateways.is_page(said) else _without_repeats(said[:_CLASSIFIED])
    kind, permanent, advice = _classify(refusal, shown)
    who = f"Ollama at {refusal.host}"
    about = f" (model {refusal.model!r})" if refusal.model else ""
    status = "" if refusal.status is None else f" with status {refusal.status}"
    why = f": {shown[:_EXCERPT]}" if shown else ""
    did = "refused"
    if kind is OllamaGatewayError:
        if refusal.proxy is None:
            who = f"The proxy in front of {who}{gateways.name_of(refusal.headers)}"
        else:
            who = f"The {refusal.proxy.name}, through which {who} is asked, or another one behind it"
        did = "answered in its place"
    if refusal.proxy is not None and not gateways.is_of_ollama(refusal.text):
        login = refusal.status == 407
        through = "" if kind is OllamaGatewayError else f"It was asked through the {refusal.proxy.name}. "
        advice = f"{advice} {through}{refusal.proxy.advice_on_login if login else refusal.proxy.advice}"
    text = f"{who} {did} {refusal.method} {refusal.path}{about}{status}{why}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    arguments: dict[str, Any] = {
        "host": refusal.host,
        "model": refusal.model,
        "status": refusal.status,
        "server_message": said,
        "method": refusal.method,
        "path": refusal.path,
        "retry_after": retry_after(refusal.headers),
        "permanent": permanent,
    }
    if kind is OllamaModelNotFoundError:
        text = f"{who} has no model {refusal.model!r}."
    if kind is OllamaContextError and (match := _TOKENS.search(said)):
        arguments |= {"tokens_wanted": int(match[1]), "tokens_available": int(match[2])}
    return kind(f"{text} {advice}".rstrip(), **arguments)


def server_message(text: str) -> str:
    """Unwrap what the server said from `{"error": ...}`, also where that is JSON inside a string again."""
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


def is_out_of_memory(said: str) -> bool:
    """Whether a server says that a model, with the window that it was asked for, does not fit into memory (0.33)."""
    return _OUT_OF_MEMORY.search(said[:_CLASSIFIED]) is not None


def _inner(fields: Mapping[str, Any]) -> Any:
    return next((fields[name] for name in ("error", "message", "detail") if fields.get(name)), None)


def _classify(refusal: ErrorReply, said: str) -> tuple[type[OllamaResponseError], bool, str]:
    """Find the kind of error, whether it is permanent, and the advice."""
    status = refusal.status
    if status is not None and gateways.is_in_place_of_ollama(status, refusal.text):
        return OllamaGatewayError, False, gateways.advice_in_place(status, said)
    if status == 404:
        return _not_found(refusal, said)
    if status in (401, 403):
        return OllamaAuthError, True, _auth_advice(refusal)
    if status in (408, 425) and not gateways.is_of_ollama(refusal.text):
        advice = (
            "A proxy in between did not wait for all of the request: raise its limit (client_body_timeout in nginx)."
        )
        return OllamaResponseError, False, advice
    if status == 407:
        return OllamaAuthError, True, "A proxy in between wants a user and a password."
    if status == 429:
        return _too_many(refusal, said)
    if status == 503:
        return (
            OllamaBusyError,
            False,
            "Send fewer requests at once, or raise OLLAMA_MAX_QUEUE on the server.",
        )
    if _TOO_LONG.search(said):
        advice = _LENGTH_ADVICE.get(refusal.path, "Shorten it.")
        return OllamaContextError, True, advice
    is_dead = status == 400 and _DEAD_RUNNER.search(said) is not None
    if status is None or is_dead or (status >= 500 and status != 501):
        return _server_failure(refusal, said)
    return OllamaResponseError, True, _request_advice(refusal, said)


def _not_found(refusal: ErrorReply, said: str) -> tuple[type[OllamaResponseError], bool, str]:
    if refusal.model and re.search(r"model .*not found|not found.*model", said):
        return OllamaModelNotFoundError, True, f"Get it with: ollama pull {refusal.model}"
    return OllamaResponseError, True, _address_advice(refusal)


def _too_many(refusal: ErrorReply, said: str) -> tuple[type[OllamaResponseError], bool, str]:
    if _QUOTA.search(said):
        return OllamaQuotaError, True, "A quota is used up: wait for its next period, or raise it."
    if gateways.is_of_ollama(refusal.text):
        return OllamaBusyError, False, "Send fewer requests at once, or raise max_attempts."
    advice = (
        "A proxy in between limits requests: send fewer at once (max_concurrency), or raise its limit or max_attempts."
    )
    return OllamaBusyError, False, advice


def _server_failure(refusal: ErrorReply, said: str) -> tuple[type[OllamaResponseError], bool, str]:
    if gateways.is_page(refusal.text):
        return OllamaResponseError, False, "It is a page of a proxy in between: see the log of that proxy."
    if _WRONG_REQUEST.search(said):
        return OllamaResponseError, True, "Correct the option or format."
    if _NO_IMAGES.search(said):
        return OllamaResponseError, True, _USE_VISION
    if _TOO_OLD.search(said):
        return OllamaResponseError, True, "Upgrade Ollama on the server, then pull the model again."
    if _TOO_LARGE.search(said):
        advice = "It has no memory for the model: use a smaller one or a smaller num_ctx, or unload others."
        return OllamaResponseError, True, advice
    if _LOAD_FAILED.search(said):
        return OllamaResponseError, True, "The model cannot be loaded: see the server's log; pulling it again may help."
    return OllamaResponseError, False, "See the server's log."


def _auth_advice(refusal: ErrorReply) -> str:
    if "signin_url" in refusal.text:
        return "Sign in on the server with `ollama signin`, or pass api_key."
    if refusal.status == 403 and not refusal.text.strip():
        return "It does not accept this Host or Origin: see OLLAMA_HOST and OLLAMA_ORIGINS on the server, or the proxy."
    return gateways.advice_on_login(refusal.headers) or "Check api_key and headers."


def _request_advice(refusal: ErrorReply, said: str) -> str:
    if refusal.status == 413:
        return gateways.advice_on_size(refusal.sent)
    if refusal.status == 405 or (refusal.status is not None and refusal.status < 400):
        return _address_advice(refusal)
    if not gateways.is_of_ollama(refusal.text) and (advice := gateways.advice_on_tls(refusal.text[:_CLASSIFIED])):
        return advice
    return next((advice for pattern, advice in _ADVICE if pattern in said.lower()), "Correct the request.")


def _address_advice(refusal: ErrorReply) -> str:
    return gateways.advice_on_address(refusal.host) or (
        f"Is {refusal.host} an Ollama server, is its path prefix right, and does a proxy in between let {refusal.path} "
        "through?"
    )


def _without_repeats(said: str) -> str:
    """Leave out lines that say what a line before them has said."""
    lines: list[str] = []
    for line in said.splitlines():
        if not any(line.strip() in before for before in lines):
            lines.append(line)
    return "\n".join(lines)
