"""What a refusal means: the status and the text of the server, as one of our errors."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, cast

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaContextError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
)
from griptape_ollama.protocol.surrogates import without_halves


class Refusal(NamedTuple):
    """One refusal.

    Attributes:
        status: HTTP status; None for an error line inside a reply of status 200.
        text: Body or error line, as the server sent it.
        headers: Headers of the response.
        method: HTTP method of the request.
        path: Path of the request.
        host: Address of the server.
        model: Model that was asked for.
    """

    status: int | None
    text: str
    headers: Mapping[str, str]
    method: str
    path: str
    host: str
    model: str | None


_QUOTA = re.compile(
    r"quota|usage limit|limit reached|billing|upgrade|credits|(?:hourly|daily|weekly|monthly)", re.IGNORECASE
)
_LOAD_FAILED = re.compile(r"loading model|unable to load|failed to load|requires more system memory", re.IGNORECASE)
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
    ("does not support chat", "It is an embedding model: use a chat model here."),
    ("does not support embeddings", "It is a chat model: use an embedding model here, such as nomic-embed-text."),
    ("multimodal data provided", _USE_VISION),
    ("image input is not supported", _USE_VISION),
    ("illegal base64", "Images must be PNG, JPEG, WebP or GIF."),
    ("json schema conversion failed", "Simplify the JSON schema: no unresolved $ref, and patterns of the form ^...$."),
    ("invalid duration", "Correct keep_alive."),
    ("unsupported type", "Correct keep_alive."),
)


def to_response_error(refusal: Refusal) -> OllamaResponseError:
    """Make the error that tells what was refused, why, and what to do next."""
    said = without_halves(server_message(refusal.text))
    kind, permanent, advice = _classify(refusal, said[:_CLASSIFIED])
    who = f"Ollama at {refusal.host}"
    about = f" (model {refusal.model!r})" if refusal.model else ""
    status = "" if refusal.status is None else f" with status {refusal.status}"
    why = f": {said[:_EXCERPT]}" if said else ""
    text = f"{who} refused {refusal.method} {refusal.path}{about}{status}{why}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    arguments: dict[str, Any] = {
        "host": refusal.host,
        "model": refusal.model,
        "status": refusal.status,
        "server_message": said,
        "method": refusal.method,
        "path": refusal.path,
        "retry_after": _retry_after(refusal.headers),
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


def _classify(refusal: Refusal, said: str) -> tuple[type[OllamaResponseError], bool, str]:
    """Find the kind of error, whether it is permanent, and the advice."""
    status = refusal.status
    if status == 404:
        return _not_found(refusal, said)
    if status in (401, 403):
        return OllamaAuthError, True, _auth_advice(refusal)
    if status == 429:
        if _QUOTA.search(said):
            return OllamaQuotaError, True, "A quota is used up: wait for its next period, or raise it."
        return OllamaBusyError, False, "Send fewer requests at once, or raise max_attempts."
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
        return _server_failure(said)
    return OllamaResponseError, True, _request_advice(refusal, said)


def _not_found(refusal: Refusal, said: str) -> tuple[type[OllamaResponseError], bool, str]:
    if refusal.model and re.search(r"model .*not found|not found.*model", said):
        return OllamaModelNotFoundError, True, f"Get it with: ollama pull {refusal.model}"
    return OllamaResponseError, True, f"Is {refusal.host} an Ollama server, and is its path prefix right?"


def _server_failure(said: str) -> tuple[type[OllamaResponseError], bool, str]:
    if _WRONG_REQUEST.search(said):
        return OllamaResponseError, True, "Correct the option or format."
    if _NO_IMAGES.search(said):
        return OllamaResponseError, True, _USE_VISION
    if _LOAD_FAILED.search(said):
        return OllamaResponseError, True, "The model cannot be loaded: see the server's log; pulling it again may help."
    return OllamaResponseError, False, "See the server's log."


def _auth_advice(refusal: Refusal) -> str:
    if "signin_url" in refusal.text:
        return "Sign in on the server with `ollama signin`, or pass api_key."
    if refusal.status == 403 and not refusal.text.strip():
        return "It does not accept this Host or Origin: see OLLAMA_HOST and OLLAMA_ORIGINS on the server, or the proxy."
    return "Check api_key and headers."


def _request_advice(refusal: Refusal, said: str) -> str:
    if refusal.status == 413:
        return "The request is larger than a proxy in between allows."
    if refusal.status is not None and refusal.status < 400:
        return "Is it an Ollama server?"
    return next((advice for pattern, advice in _ADVICE if pattern in said.lower()), "Correct the request.")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, OverflowError):  # no date, or one in a year that no calendar has
        return None
