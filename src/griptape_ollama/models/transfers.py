"""Pull, push and create: tasks of the server that take long and report their progress."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import attrs

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaDiskError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import Change
from griptape_ollama.models.catalogue import Catalogue
from griptape_ollama.models.disk import DiskCheck
from griptape_ollama.models.progress import OnProgress, ProgressMeter
from griptape_ollama.models.types import ModelInfo, TransferResult
from griptape_ollama.protocol.numbers import format_bytes
from griptape_ollama.transport.timeouts import DEFAULT_BETWEEN_TOKENS, OllamaTimeout

BETWEEN_LINES = 600.0
"""Longest silence within a transfer, in seconds, unless the user sets one: a server sends nothing while it checks the
digest of a file, which takes minutes for tens of gigabytes on a slow disk."""

_EXCERPT = 300
# Registries redirect to storage with signed addresses; the signature is a secret.
_QUERY = re.compile(r"(https?://[^\s\"?]+)\?[^\s\"]*")


class Transfer:
    """One pull, push or creation, with its retries.

    A retry does not start again: the server keeps what it has of each file, and resumes.

    Args:
        api: Sends the requests.
        action: `pull`, `push` or `create`.
        body: Body of the request, with the model in it.
        report: Called with the progress.
    """

    def __init__(self, api: OllamaApi, action: str, body: Mapping[str, Any], report: OnProgress) -> None:
        self._api = api
        self._action = action
        self._model: str = body["model"]
        self._body = body
        self._report = report
        self._catalogue = Catalogue(api)
        self._meter = ProgressMeter(action, self._model, api.host)
        self._disk = DiskCheck(api.host, self._model) if action == "pull" else None
        self._attempts = 0

    def run(self, change: Change) -> TransferResult:
        """Transfer the model, and verify that it is there. The digests are recorded in the change.

        Raises:
            OllamaError: Any kind of it.
        """
        started = time.monotonic()
        before = self._catalogue.require(self._model) if self._action == "push" else self._catalogue.find(self._model)
        change.digest_before = before.digest if before else None
        try:
            self._with_retries()
        finally:
            self._api.metadata.forget()
        after = self._verified()
        change.digest_after = after.digest
        return TransferResult(
            action=self._action,
            model=after,
            digest_before=change.digest_before,
            bytes_moved=self._meter.moved,
            attempts=self._attempts,
            seconds=time.monotonic() - started,
        )

    def _with_retries(self) -> None:
        policy = self._api.policy(progress=lambda: self._meter.moved)
        policy.copy(sleep=self._api.run.sleep)(self._attempt)

    def _attempt(self) -> None:
        self._attempts += 1
        limits = transfer_limits(self._api.run.limits)
        lines = self._api.status_lines(f"/api/{self._action}", self._body, limits)
        try:
            for line in lines:
                progress = self._meter.read(line)
                if self._disk is not None:
                    self._disk.check(line, self._meter)
                if progress is not None:
                    self._report(progress)
        except OllamaError as error:
            explained = to_transfer_error(error, self._meter.last)
            if explained is error:
                raise
            raise explained from error
        finally:
            # The connection is closed, so that the server stops, too.
            lines.close()

    def _verified(self) -> ModelInfo:
        model, host = self._model, self._api.host
        found = self._catalogue.find(model)
        if found is None:
            raise OllamaStreamError(
                f"Ollama at {host} says that the {self._action} of model {model!r} is done, but does not list it. "
                "See the server's log, and whether another client deleted it.",
                host=host,
                model=model,
            )
        return found


def transfer_limits(limits: OllamaTimeout) -> OllamaTimeout:
    """Return the timeouts of a transfer: those of other calls, with a longer silence unless the user set one."""
    if limits.between_tokens != DEFAULT_BETWEEN_TOKENS:
        return limits
    return attrs.evolve(limits, between_tokens=BETWEEN_LINES)


@dataclass(frozen=True)
class _Failure:
    """An error text of the server: the error to raise, and what to do next."""

    pattern: re.Pattern[str]
    kind: type[OllamaError]
    advice: str

    @classmethod
    def of(cls, pattern: str, kind: type[OllamaError], advice: str) -> _Failure:
        return cls(re.compile(pattern, re.IGNORECASE), kind, advice)


# The first match counts. Texts of servers 0.5 to 0.33, on Linux and Windows.
_PERMANENT = (
    _Failure.of(
        r"no space left on device|not enough space on the disk|disk quota exceeded|disk full",
        OllamaDiskError,
        "The server's disk is full: delete models that you do not need, or set OLLAMA_MODELS there to a larger disk.",
    ),
    _Failure.of(
        r"pull model manifest: (?:file does not exist|.*manifest unknown|.*not found|404\b)|manifest unknown",
        OllamaModelNotFoundError,
        "The name may be wrong: see https://ollama.com/library for the models that exist.",
    ),
    _Failure.of(
        r"insecure protocol|does not look like a TLS handshake|HTTP response to HTTPS client",
        OllamaResponseError,
        "The registry speaks plain HTTP: pass insecure=True if that is meant.",
    ),
    _Failure.of(
        r"x509|certificate",
        OllamaResponseError,
        "The server does not trust the registry's certificate: install it there, or pass insecure=True.",
    ),
    _Failure.of(
        r"unauthorized|authentication required|access denied|not allowed to|forbidden|\b40[13]:",
        OllamaAuthError,
        "The registry does not let the server do that: sign in there with `ollama signin`, and check whose name it is.",
    ),
    _Failure.of(r"newer version of ollama|requires MLX|\b412:", OllamaResponseError, "Update Ollama on the server."),
    _Failure.of(
        r"permission denied|read-only file system",
        OllamaResponseError,
        "The server cannot write into its folder of models: check its owner, and OLLAMA_MODELS on the server.",
    ),
    _Failure.of(r"invalid model name|unqualified name|\b4(?!08|29)\d\d:", OllamaResponseError, "Correct the request."),
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


def to_transfer_error(error: OllamaError, progress: OllamaProgressEvent) -> OllamaError:
    """Return the error of a failed attempt, for the retry policy and for the caller.

    Args:
        error: The error of the call.
        progress: The progress so far.
    """
    message = _QUERY.sub(r"\1?...", getattr(error, "server_message", ""))
    if message and isinstance(error, (OllamaStreamError, OllamaResponseError)):
        status = error.status if isinstance(error, OllamaResponseError) else None
        # A task that fails at once has status 500; another status has its own meaning.
        return _of_message(message, progress, status) if status in (None, 500) else error
    if isinstance(error, OllamaStreamError) and (error.retryable or progress.status):
        text = f"{_subject(progress)} broke off: {error}{_kept(progress)}"
        return OllamaStreamError(text, host=progress.host, model=progress.model, retryable=True)
    if isinstance(error, OllamaConnectionError) and progress.total:
        error.args = (f"{error}{_kept(progress)}",)
    return error


def _of_message(message: str, progress: OllamaProgressEvent, status: int | None) -> OllamaError:
    text = f"{_subject(progress)} failed: {message[:_EXCERPT]}"
    text = text if text.endswith((".", "!", "?")) else f"{text}."
    failure = next((each for each in _PERMANENT if each.pattern.search(message)), None)
    if failure is not None and failure.kind is OllamaDiskError:
        return OllamaDiskError(f"{text} {failure.advice}", host=progress.host, model=progress.model)
    response: dict[str, Any] = {
        "host": progress.host,
        "model": progress.model,
        "status": status,
        "server_message": message,
        "method": "POST",
        "path": f"/api/{progress.action}",
    }
    if failure is not None and issubclass(failure.kind, OllamaResponseError):
        is_of_parent = failure.kind is OllamaModelNotFoundError and progress.action == "create"
        return failure.kind(f"{text} {_WRONG_PARENT if is_of_parent else failure.advice}", **response)
    # Pulls and pushes fail because of the network unless known otherwise, creations because of their input.
    is_passing = progress.action != "create" or _PASSING.search(message) is not None
    advice = _NO_REGISTRY if _UNREACHABLE.search(message) else "See the server's log."
    return OllamaResponseError(f"{text}{_kept(progress)} {advice}", **response, permanent=not is_passing)


def _subject(progress: OllamaProgressEvent) -> str:
    what = {"pull": "The pull", "push": "The push", "create": "The creation"}[progress.action]
    return f"{what} of model {progress.model!r} by Ollama at {progress.host}"


def _kept(progress: OllamaProgressEvent) -> str:
    if not progress.total or progress.action == "create":
        return ""
    there = f"{format_bytes(progress.completed)} of {format_bytes(progress.total)}"
    return f" {there} were there: another {progress.action} goes on from what the server has kept."
