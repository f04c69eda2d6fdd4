"""What a failed transfer means: whether another try may help, and what to do next."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaDiskError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.models.disk import human_size
from griptape_ollama.models.progress import Progress

_EXCERPT = 300
# Registries redirect to storage with signed addresses; what signs them is a secret.
_QUERY = re.compile(r"(https?://[^\s\"?]+)\?[^\s\"]*")


@dataclass(frozen=True)
class _Meaning:
    """What an error text of the server means.

    Attributes:
        pattern: How it is known.
        kind: Error class.
        advice: What to do next.
    """

    pattern: re.Pattern[str]
    kind: type[OllamaError]
    advice: str


def _meaning(pattern: str, kind: type[OllamaError], advice: str) -> _Meaning:
    return _Meaning(re.compile(pattern, re.IGNORECASE), kind, advice)


# The first that fits counts. Texts as in servers 0.5 to 0.33, of Linux and Windows.
_PERMANENT = (
    _meaning(
        r"no space left on device|not enough space on the disk|disk quota exceeded|disk full",
        OllamaDiskError,
        "The server's disk is full: delete models that nobody needs, or set OLLAMA_MODELS there to a larger disk.",
    ),
    _meaning(
        r"pull model manifest: (?:file does not exist|.*manifest unknown|.*not found|404\b)|manifest unknown",
        OllamaModelNotFoundError,
        "The name may be wrong: see https://ollama.com/library for those that there are.",
    ),
    _meaning(
        r"insecure protocol|does not look like a TLS handshake|HTTP response to HTTPS client",
        OllamaResponseError,
        "The registry speaks plain HTTP: pass insecure=True if that is meant.",
    ),
    _meaning(
        r"x509|certificate",
        OllamaResponseError,
        "The server does not trust the registry's certificate: install it there, or pass insecure=True.",
    ),
    _meaning(
        r"unauthorized|authentication required|access denied|not allowed to|forbidden|\b40[13]:",
        OllamaAuthError,
        "The registry does not let the server do that: sign in there with `ollama signin`, and check whose name it is.",
    ),
    _meaning(r"newer version of ollama|requires MLX|\b412:", OllamaResponseError, "Update Ollama on the server."),
    _meaning(
        r"permission denied|read-only file system",
        OllamaResponseError,
        "The server cannot write into its folder of models: check its owner, and OLLAMA_MODELS on the server.",
    ),
    _meaning(r"invalid model name|unqualified name|\b4(?!08|29)\d\d:", OllamaResponseError, "Correct the request."),
)
_WRONG_PARENT = "The name of the model that it is made from may be wrong."
_NO_REGISTRY = "The server does not reach the registry: check its network and its HTTPS_PROXY."
_UNREACHABLE = re.compile(
    r"no such host|name resolution|server misbehaving|connection refused|unreachable|no route|i/o timeout",
    re.IGNORECASE,
)
_PASSING = re.compile(
    r"max retries exceeded|tls|handshake|EOF|time.?out|deadline exceeded|connection (?:reset|refused)|broken pipe|"
    r"no such host|name resolution|server misbehaving|unreachable|no route|stalled|digest mismatch|unexpected status|"
    r"\b(?:408|429|5\d\d):",
    re.IGNORECASE,
)


def to_transfer_error(error: OllamaError, progress: Progress) -> OllamaError:
    """Make the error of a try that failed, for the retry policy and for whoever waits.

    Args:
        error: What the call raised.
        progress: How far the transfer is.
    """
    said = _without_queries(getattr(error, "server_message", ""))
    if said and isinstance(error, (OllamaStreamError, OllamaResponseError)):
        status = error.status if isinstance(error, OllamaResponseError) else None
        # Another status than 500 says by itself what it means; 500 is what a task gives that fails at once.
        return _of_text(said, progress, status) if status in (None, 500) else error
    if isinstance(error, OllamaStreamError) and (error.retryable or progress.status):
        text = f"{_subject(progress)} broke off: {error}{_kept(progress)}"
        return OllamaStreamError(text, **_about(progress), retryable=True)
    if isinstance(error, OllamaConnectionError) and progress.total:
        error.args = (f"{error}{_kept(progress)}",)
    return error


def _of_text(said: str, progress: Progress, status: int | None) -> OllamaError:
    text = f"{_subject(progress)} failed: {said[:_EXCERPT]}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    meaning = next((each for each in _PERMANENT if each.pattern.search(said)), None)
    if meaning is not None and meaning.kind is OllamaDiskError:
        return OllamaDiskError(f"{text} {meaning.advice}", **_about(progress))
    response: dict[str, Any] = {
        **_about(progress),
        "status": status,
        "server_message": said,
        "method": "POST",
        "path": f"/api/{progress.action}",
    }
    if meaning is not None and issubclass(meaning.kind, OllamaResponseError):
        is_of_parent = meaning.kind is OllamaModelNotFoundError and progress.action == "create"
        return meaning.kind(f"{text} {_WRONG_PARENT if is_of_parent else meaning.advice}", **response)
    # What moves files fails by the network unless known otherwise; what makes models, by what it was given.
    is_passing = progress.action != "create" or _PASSING.search(said) is not None
    advice = _NO_REGISTRY if _UNREACHABLE.search(said) else "See the server's log."
    return OllamaResponseError(f"{text}{_kept(progress)} {advice}", **response, permanent=not is_passing)


def _subject(progress: Progress) -> str:
    what = {"pull": "The pull", "push": "The push", "create": "The creation"}[progress.action]
    return f"{what} of model {progress.model!r} by Ollama at {progress.host}"


def _kept(progress: Progress) -> str:
    if not progress.total or progress.action == "create":
        return ""
    there = f"{human_size(progress.completed)} of {human_size(progress.total)}"
    return f" {there} were there: another {progress.action} goes on from what the server has kept."


def _about(progress: Progress) -> dict[str, Any]:
    return {"host": progress.host, "model": progress.model}


def _without_queries(text: str) -> str:
    return _QUERY.sub(r"\1?...", text)
