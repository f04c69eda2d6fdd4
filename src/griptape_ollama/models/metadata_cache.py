"""Metadata of servers and their models, requested once and cached for a short time.

Missing metadata never fails a prompt: if the server does not answer, there are sensible defaults. All drivers of the
process share what is known of an address. Nothing is requested after a reply.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from attrs import evolve
from cachetools import LRUCache

from griptape_ollama.errors import (
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaError,
    OllamaGatewayError,
    OllamaTimeoutError,
)
from griptape_ollama.escaping import printable
from griptape_ollama.models.circuit_breaker import Endpoint, RefusedEndpoints, is_refusal
from griptape_ollama.models.inconsistent_servers import inconsistent_servers
from griptape_ollama.models.model_metadata import UNKNOWN_MODEL, ModelMetadata, model_quirks
from griptape_ollama.protocol.model_name import find_model, model_key, name_of_entry
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy, stale_connection_policy
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

DEFAULT_WINDOW = 4096
"""Context window, in tokens, of a server on a small machine (server 0.33)."""

_PS = "/api/ps"
_SHOW_SECONDS = 60.0
_PS_SECONDS = 5.0
_FAILURE_SECONDS = 2.0
_HUNG_SECONDS = 60.0
_MAX_ENTRIES = 512
# The server answers from memory, in a few milliseconds; if it takes longer, the prompt is better sent without metadata.
_LIMITS = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=5)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedList:
    """The loaded models at one moment.

    Attributes:
        entries: Their entries in `/api/ps`.
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
    """

    entries: list[dict[str, Any]]
    asked_at: float


@dataclass(frozen=True)
class ListedDigest:
    """Digest of a model at one moment.

    Attributes:
        digest: The digest, as `/api/tags` lists it.
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
    """

    digest: str
    asked_at: float


class ServerMetadata:
    """Metadata of the server behind a connection.

    Args:
        connection: Connection to the server.
        run: The run that needs the metadata; requests share its total limit and its cancellation, and never take more
            than a few seconds.
    """

    def __init__(self, connection: Connection, run: Run | None = None) -> None:
        self._connection = connection
        self._run = run or Run()

    @property
    def address(self) -> str:
        """Address of the server, without user and password."""
        return self._connection.base_url

    def show(self, model: str) -> ModelMetadata:
        """Return the metadata of a model; all unknown if the server does not answer, or does not have it."""
        reply = self._request("/api/show", {"model": model}, _SHOW_SECONDS)
        metadata = UNKNOWN_MODEL if reply is None else ModelMetadata.from_show(reply)
        missing = _cache.missing_capabilities((self._connection.base_url, model_key(model)))
        quirks = model_quirks.get(self._quirk_key(model), metadata.version)
        is_cloud = self._connection.is_cloud
        changes = bool(missing or quirks or is_cloud)
        return replace(metadata, missing=missing, quirks=quirks, is_cloud=is_cloud) if changes else metadata

    def note_missing(self, model: str, capability: str) -> None:
        """Record that the server denied a capability of a model, until its metadata are forgotten."""
        _cache.add_missing_capability((self._connection.base_url, model_key(model)), capability)

    def record_quirk(self, model: str, known: ModelMetadata, quirk: str) -> bool:
        """Record a quirk of a model, and return whether it is new."""
        return model_quirks.add(self._quirk_key(model), quirk, known.version)

    def forget_quirk(self, model: str, quirk: str) -> None:
        """Forget a quirk that a reply did not show."""
        model_quirks.remove(self._quirk_key(model), quirk)

    def _quirk_key(self, model: str) -> tuple[tuple[str, str], str]:
        return self._connection.identity, model_key(model)

    def tags(self) -> list[dict[str, Any]]:
        """Return the entries of `/api/tags`; none if the server does not answer."""
        return _entries(self._request("/api/tags", None, _SHOW_SECONDS))

    def digest(self, model: str) -> str | None:
        """Return the digest of an installed model; None if the server does not list it."""
        listed = self.listed_digest(model)
        return None if listed is None else listed.digest

    def listed_digest(self, model: str) -> ListedDigest | None:
        """Return the digest of an installed model, and how old that is; None if the server does not list it."""
        answer = self._answer("/api/tags", None, _SHOW_SECONDS)
        found = None if answer is None else find_model(model, _entries(answer.document), name_of_entry)
        digest = None if found is None else found.get("digest")
        return ListedDigest(digest, answer.asked_at) if answer and isinstance(digest, str) and digest else None

    def ps(self) -> list[dict[str, Any]]:
        """Return the entries of `/api/ps`; none if the server does not answer."""
        return _entries(self._request(_PS, None, _PS_SECONDS))

    def loaded(self) -> LoadedList | None:
        """Return the loaded models, and how old that is; None if the server does not answer."""
        answer = self._answer(_PS, None, _PS_SECONDS)
        if answer is None or answer.document is None:
            return None
        return LoadedList(_entries(answer.document), answer.asked_at)

    def version(self) -> str | None:
        """Return the version of the server; None if it does not answer."""
        version = (self._request("/api/version", None, _SHOW_SECONDS) or {}).get("version")
        return version if isinstance(version, str) else None

    def forget(self) -> None:
        """Forget the metadata of this server: it was changed, or is another one now."""
        _cache.forget(self._connection.base_url)
        model_quirks.forget_server(self._connection.base_url)

    def forget_loaded(self) -> None:
        """Forget which models are loaded: some were loaded or unloaded."""
        _cache.forget_answers(self._connection.base_url, _PS)

    def wait(self, woken: queue.SimpleQueue[None], seconds: float) -> bool:
        """Wait for another thread of this process, as `Run.wait` of the run.

        Raises:
            OllamaCancelledError: The run was cancelled.
        """
        return self._run.wait(woken, seconds)

    def _request(self, path: str, body: dict[str, Any] | None, seconds: float) -> dict[str, Any] | None:
        answer = self._answer(path, body, seconds)
        return None if answer is None else answer.document

    def _answer(self, path: str, body: dict[str, Any] | None, seconds: float) -> _Answer | None:
        if self._endpoint(path) in _cache.refused:
            return None
        key = (self._connection.identity, path, model_key(body["model"]) if body else None)
        return _cache.get(key, lambda: self._send(path, body, seconds), self._run)

    def _send(self, path: str, body: dict[str, Any] | None, seconds: float) -> tuple[dict[str, Any] | None, float]:
        """Send a request, and return the document with the seconds for which it is valid."""
        wait = self._run.wait_for_server
        call = Call(
            self._connection,
            path,
            body,
            method="GET" if body is None else "POST",
            limits=_shorter(_limits(wait), self._run.limits),
            run=self._run,
            policy=retry_policy(min_delay=0, wait_for_server=wait) if wait else stale_connection_policy(),
        )
        asked_at = time.monotonic()
        try:
            document = call.document()
        except OllamaCancelledError:
            raise
        except OllamaTimeoutError as error:
            _logger.warning(
                "%s Going on without metadata; it is requested again in %d s.", printable(str(error)), _HUNG_SECONDS
            )
            return None, _HUNG_SECONDS
        except OllamaError as error:
            _logger.debug("No metadata from %s: %s", path, printable(str(error)))
            return None, self._failed(path, error, has_waited=wait > 0)
        _cache.refused.remove(self._endpoint(path))
        inconsistent_servers.observe(self.address, path, call.model, document, asked_at=asked_at, now=time.monotonic())
        return document, seconds

    def _failed(self, path: str, error: OllamaError, *, has_waited: bool) -> float:
        """Record a failure, and return the seconds for which the request is not repeated."""
        if is_refusal(error):
            _cache.refused.add(self._endpoint(path), error)
        if not isinstance(error, OllamaConnectionError) or error.redirected:
            return _FAILURE_SECONDS
        is_absent = error.refused or isinstance(error, OllamaGatewayError)
        self._run.has_waited = self._run.has_waited or (is_absent and has_waited)
        self.forget()  # it may be about another server
        return 0.0

    def _endpoint(self, path: str) -> Endpoint:
        return self._connection.identity, path


_Key = tuple[tuple[str, str], str, "str | None"]
"""Identity of a connection, path, and model."""


class _Answer(NamedTuple):
    """A document, or None for none; when it was requested, and until when it is valid."""

    document: dict[str, Any] | None
    asked_at: float
    until: float


class _Cache:
    """Keeps answers until they are too old. Threads that need the same answer send one request.

    Unlike a transfer, which has a thread of its own, the request is sent by the first caller. If that one is cancelled,
    another caller sends it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[_Key, list[queue.SimpleQueue[None]]] = {}
        self._answers: LRUCache[_Key, _Answer] = LRUCache(_MAX_ENTRIES)
        self._missing: dict[tuple[str, str], frozenset[str]] = {}
        self.refused = RefusedEndpoints()

    def get(self, key: _Key, send: Callable[[], tuple[dict[str, Any] | None, float]], run: Run) -> _Answer | None:
        """Return the cached answer, or send the request; wait for the answer if another thread has sent it."""
        while True:
            woken: queue.SimpleQueue[None] = queue.SimpleQueue()
            with self._lock:
                known = self._answers.get(key)
                if known is not None and known.until > time.monotonic():
                    return known
                waiting = self._waiting.get(key)
                if waiting is None:
                    self._waiting[key] = []
                else:
                    waiting.append(woken)
            if waiting is None:
                return self._sent(key, send)
            if not run.wait(woken, _limits(run.wait_for_server).total):
                return None

    def _sent(self, key: _Key, send: Callable[[], tuple[dict[str, Any] | None, float]]) -> _Answer:
        asked_at = time.monotonic()
        try:
            document, seconds = send()
            answer = _Answer(document, asked_at, time.monotonic() + seconds)
            with self._lock:
                self._answers[key] = answer
            return answer
        finally:
            with self._lock:
                for woken in self._waiting.pop(key, ()):
                    woken.put(None)

    def missing_capabilities(self, model: tuple[str, str]) -> frozenset[str]:
        """Return the capabilities that were denied to a model of a server."""
        return self._missing.get(model, frozenset())

    def add_missing_capability(self, model: tuple[str, str], capability: str) -> None:
        """Record that a capability was denied."""
        with self._lock:
            self._missing[model] = self.missing_capabilities(model) | {capability}

    def forget(self, base_url: str) -> None:
        """Drop all answers of one server."""
        with self._lock:
            for key in [key for key in self._answers if key[0][0] == base_url]:
                del self._answers[key]
            for model in [model for model in self._missing if model[0] == base_url]:
                del self._missing[model]

    def forget_answers(self, base_url: str, path: str) -> None:
        """Drop the answers of one server for one path."""
        with self._lock:
            for key in [key for key in self._answers if (key[0][0], key[1]) == (base_url, path)]:
                del self._answers[key]

    def clear(self) -> None:
        """Drop all answers."""
        with self._lock:
            self._answers.clear()
            self._missing.clear()
        self.refused.clear()

    def start_afresh(self) -> None:
        """Drop everything in a forked process, with a lock that a thread of the parent may hold."""
        self.__init__()


_cache = _Cache()
renew_when_forked(_cache)
reset_with_shared_state(_cache.clear)


def _limits(wait_for_server: float) -> OllamaTimeout:
    """Return the timeouts of a request, with the wait for a server that is not there yet."""
    return _LIMITS if not wait_for_server else evolve(_LIMITS, total=(_LIMITS.total or 0.0) + wait_for_server)


def _shorter(one: OllamaTimeout, other: OllamaTimeout) -> OllamaTimeout:
    def shorter(*seconds: float | None) -> float | None:
        return min((limit for limit in seconds if limit is not None), default=None)

    return OllamaTimeout(
        connect=shorter(one.connect, other.connect),
        first_token=shorter(one.first_token, other.first_token),
        total=shorter(one.total, other.total),
    )


def _entries(reply: dict[str, Any] | None) -> list[dict[str, Any]]:
    models = (reply or {}).get("models")
    entries = cast("list[Any]", models) if isinstance(models, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]
