"""Facts about a server and its models, asked once and remembered for a short time.

Facts never fail a prompt: where the server does not tell, there are sensible defaults. They are shared by everybody in
the process who talks to the same address, and never asked for after a reply.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

from attrs import evolve

from griptape_ollama.errors import (
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaError,
    OllamaGatewayError,
    OllamaTimeoutError,
)
from griptape_ollama.escaping import printable
from griptape_ollama.models.inconsistent_servers import inconsistent_servers
from griptape_ollama.models.model_quirks import model_quirks
from griptape_ollama.models.refused_endpoints import Question, RefusedEndpoints, is_refusal
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.protocol.model_name import find_model, model_key, name_of_entry
from griptape_ollama.protocol.parameters import parse_parameters
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import once_more_if_stale, retrying
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
# Facts are answered from memory, in a few milliseconds; a server that takes longer is better asked for the reply.
_LIMITS = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=5)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelMetadata:
    """What `/api/show` tells of one model.

    Attributes:
        capabilities: For example `completion`, `tools`, `vision`, `thinking`, `embedding`; None where the server does
            not tell (before 0.6.4).
        parameters: The model's own PARAMETERs: options by name.
        context_length: Longest context that the model was made for, in tokens; None where unknown.
        embedding_length: How many numbers its vectors have; None where unknown.
        remote_host: Where a cloud model really runs; None for a local one.
        think_levels: Levels of thinking that the model lists; None where it lists none (before 0.34).
        missing: Capabilities that a refusal of the server denied.
        is_cloud: Whether the server runs in Ollama's cloud itself, and with it all its models.
        quirks: How the model behaved (`model_quirks`).
        raw: The whole reply.
    """

    capabilities: frozenset[str] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context_length: int | None = None
    embedding_length: int | None = None
    remote_host: str | None = None
    think_levels: tuple[str, ...] | None = None
    missing: frozenset[str] = frozenset()
    is_cloud: bool = False
    quirks: frozenset[str] = frozenset()
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def can(self, capability: str) -> bool:
        """Whether the model has the capability; assumed where the server does not tell."""
        return capability not in self.missing and (self.capabilities is None or capability in self.capabilities)

    @classmethod
    def from_show(cls, reply: Mapping[str, Any]) -> ModelMetadata:
        """Read the reply of `/api/show`; what is missing or odd in it is left at its default."""
        capabilities = reply.get("capabilities")
        info = reply.get("model_info")
        parameters = reply.get("parameters")
        remote_host = reply.get("remote_host")
        return cls(
            capabilities=frozenset(map(str, cast("list[Any]", capabilities)))
            if isinstance(capabilities, list)
            else None,
            parameters=parse_parameters(parameters) if isinstance(parameters, str) else {},
            context_length=_number(info, "context_length"),
            embedding_length=_number(info, "embedding_length"),
            remote_host=remote_host if isinstance(remote_host, str) and remote_host else None,
            think_levels=think_levels_of(reply),
            raw=reply,
        )


def think_levels_of(reply: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the levels of thinking that a reply of `/api/show` lists; None where it lists none."""
    values = _field(reply.get("thinking"), "values")
    if not isinstance(values, list):
        return None
    return tuple(each for each in cast("list[Any]", values) if isinstance(each, str))


UNKNOWN_MODEL = ModelMetadata()


def is_cloud_model(model: str, known: ModelMetadata) -> bool:
    """Whether a model runs at ollama.com, whatever server is asked.

    The tag in its name tells (`:cloud`, `:120b-cloud`), unless the server shows a file of its own under that name.
    """
    if known.is_cloud or known.remote_host is not None:
        return True
    tag = model.lower().rpartition("/")[2].partition(":")[2]
    details: Any = known.raw.get("details")
    is_file = isinstance(details, dict) and bool(cast("dict[str, Any]", details).get("format"))
    return not is_file and (tag == "cloud" or tag.endswith((":cloud", "-cloud")))


@dataclass(frozen=True)
class LoadedList:
    """The loaded models at one moment.

    Attributes:
        entries: They, as `/api/ps` lists them.
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
    """Facts about the server at the other end of a connection.

    Args:
        connection: The way to the server.
        run: The run that wants to know. Facts share its clock and its stop, and never take more than a few seconds.
    """

    def __init__(self, connection: Connection, run: Run | None = None) -> None:
        self._connection = connection
        self._run = run or Run()

    @property
    def address(self) -> str:
        """Address of the server, without user and password."""
        return self._connection.base_url

    def show(self, model: str) -> ModelMetadata:
        """Facts about a model; all unknown where the server does not answer, or does not have it."""
        reply = self._ask("/api/show", {"model": model}, _SHOW_SECONDS)
        metadata = UNKNOWN_MODEL if reply is None else ModelMetadata.from_show(reply)
        missing = _cache.missing((self._connection.base_url, model_key(model)))
        quirks = model_quirks.of(self._quirk_key(model), _version_of(metadata))
        is_cloud = self._connection.is_cloud
        changes = bool(missing or quirks or is_cloud)
        return replace(metadata, missing=missing, quirks=quirks, is_cloud=is_cloud) if changes else metadata

    def note_missing(self, model: str, capability: str) -> None:
        """Remember that the server denied the model a capability, until it is forgotten."""
        _cache.note_missing((self._connection.base_url, model_key(model)), capability)

    def record_quirk(self, model: str, known: ModelMetadata, quirk: str) -> bool:
        """Remember how a model behaved (`model_quirks`), and return whether that is new."""
        return model_quirks.note(self._quirk_key(model), quirk, _version_of(known))

    def forget_quirk(self, model: str, quirk: str) -> None:
        """Forget how a model behaved, since it does so no more."""
        model_quirks.drop(self._quirk_key(model), quirk)

    def _quirk_key(self, model: str) -> tuple[tuple[str, str], str]:
        return self._connection.identity, model_key(model)

    def tags(self) -> list[dict[str, Any]]:
        """The installed models, as `/api/tags` lists them; empty where the server does not answer."""
        return _models(self._ask("/api/tags", None, _SHOW_SECONDS))

    def digest(self, model: str) -> str | None:
        """Digest of an installed model; None where the server does not tell."""
        listed = self.listed_digest(model)
        return None if listed is None else listed.digest

    def listed_digest(self, model: str) -> ListedDigest | None:
        """Digest of an installed model, and how old that is; None where the server does not tell."""
        known = self._entry("/api/tags", None, _SHOW_SECONDS)
        found = None if known is None else find_model(model, _models(known.answer), name_of_entry)
        digest = None if found is None else found.get("digest")
        return ListedDigest(digest, known.asked_at) if known and isinstance(digest, str) and digest else None

    def ps(self) -> list[dict[str, Any]]:
        """The loaded models, as `/api/ps` lists them; empty where the server does not answer."""
        return _models(self._ask(_PS, None, _PS_SECONDS))

    def loaded(self) -> LoadedList | None:
        """The loaded models, and how old that is; None where the server does not answer."""
        known = self._entry(_PS, None, _PS_SECONDS)
        return None if known is None or known.answer is None else LoadedList(_models(known.answer), known.asked_at)

    def version(self) -> str | None:
        """Version of the server; None where it does not answer."""
        version = (self._ask("/api/version", None, _SHOW_SECONDS) or {}).get("version")
        return version if isinstance(version, str) else None

    def forget(self) -> None:
        """Forget what is known of this server: it was changed, or is another one now."""
        _cache.forget(self._connection.base_url)
        model_quirks.forget(self._connection.base_url)

    def forget_loaded(self) -> None:
        """Forget which models are loaded: some were loaded or unloaded."""
        _cache.forget_answers(self._connection.base_url, _PS)

    def wait(self, woken: queue.SimpleQueue[None], seconds: float) -> bool:
        """Wait for another thread of this process, as `Run.wait` of the run that wants to know.

        Raises:
            OllamaCancelledError: The run was stopped.
        """
        return self._run.wait(woken, seconds)

    def _ask(self, path: str, body: dict[str, Any] | None, seconds: float) -> dict[str, Any] | None:
        known = self._entry(path, body, seconds)
        return None if known is None else known.answer

    def _entry(self, path: str, body: dict[str, Any] | None, seconds: float) -> _Entry | None:
        if self._question(path) in _cache.refused:
            return None
        key = (self._connection.identity, path, model_key(body["model"]) if body else None)
        return _cache.get(key, lambda: self._answer(path, body, seconds), self._run)

    def _answer(self, path: str, body: dict[str, Any] | None, seconds: float) -> _Answer:
        """Ask the server, and say for how many seconds the answer holds."""
        wait = self._run.wait_for_server
        call = Call(
            self._connection,
            path,
            body,
            method="GET" if body is None else "POST",
            limits=_shorter(_limits(wait), self._run.limits),
            run=self._run,
            policy=retrying(min_delay=0, wait_for_server=wait) if wait else once_more_if_stale(),
        )
        asked_at = time.monotonic()
        try:
            answer = call.document()
        except OllamaCancelledError:
            raise
        except OllamaTimeoutError as error:
            _logger.warning(
                "%s Going on without facts; they are asked for again in %d s.", printable(str(error)), _HUNG_SECONDS
            )
            return None, _HUNG_SECONDS
        except OllamaError as error:
            _logger.debug("No facts from %s: %s", path, printable(str(error)))
            return None, self._failed(path, error, has_waited=wait > 0)
        _cache.refused.remove(self._question(path))
        inconsistent_servers.observe(self.address, path, call.model, answer, asked_at=asked_at, now=time.monotonic())
        return answer, seconds

    def _failed(self, path: str, error: OllamaError, *, has_waited: bool) -> float:
        """Record a failure, and return for how many seconds the model is not asked about again."""
        if is_refusal(error):
            _cache.refused.add(self._question(path), error)
        if not isinstance(error, OllamaConnectionError) or error.redirected:
            return _FAILURE_SECONDS
        is_absent = error.refused or isinstance(error, OllamaGatewayError)
        self._run.has_waited = self._run.has_waited or (is_absent and has_waited)
        self.forget()  # what was known may be about another server
        return 0.0

    def _question(self, path: str) -> Question:
        return self._connection.identity, path


_Key = tuple[tuple[str, str], str, str | None]
_Answer = tuple["dict[str, Any] | None", float]


class _Entry(NamedTuple):
    """An answer, when it was asked for, and until when it holds."""

    answer: dict[str, Any] | None
    asked_at: float
    until: float


class _Cache:
    """Remembers answers until they are too old. Threads that want the same answer ask once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[_Key, list[queue.SimpleQueue[None]]] = {}
        self._answers: OrderedDict[_Key, _Entry] = OrderedDict()
        self._missing: dict[tuple[str, str], frozenset[str]] = {}
        self.refused = RefusedEndpoints()

    def get(self, key: _Key, ask: Callable[[], _Answer], run: Run) -> _Entry | None:
        """Give the remembered answer, or ask for it; wait for it where another thread is asking."""
        with self._lock:
            known = self._fresh(key)
            others = self._waiting.get(key)
            mine: queue.SimpleQueue[None] = queue.SimpleQueue()
            if known is None and others is None:
                self._waiting[key] = []
            elif known is None and others is not None:
                others.append(mine)
        if known is not None:
            return known
        if others is None:
            return self._asked(key, ask)
        if not run.wait(mine, _limits(run.wait_for_server).total):
            return None
        return self.get(key, ask, run)

    def _asked(self, key: _Key, ask: Callable[[], _Answer]) -> _Entry:
        asked_at = time.monotonic()
        try:
            answer, seconds = ask()
            entry = _Entry(answer, asked_at, time.monotonic() + seconds)
            self._keep(key, entry)
            return entry
        finally:
            with self._lock:
                for each in self._waiting.pop(key, ()):
                    each.put(None)

    def missing(self, model: tuple[str, str]) -> frozenset[str]:
        """Capabilities that were denied to a model of a server."""
        return self._missing.get(model, frozenset())

    def note_missing(self, model: tuple[str, str], capability: str) -> None:
        """Remember that a capability was denied."""
        with self._lock:
            self._missing[model] = self.missing(model) | {capability}

    def forget(self, base_url: str) -> None:
        """Drop all answers of one server."""
        with self._lock:
            for key in [key for key in self._answers if key[0][0] == base_url]:
                del self._answers[key]
            for model in [model for model in self._missing if model[0] == base_url]:
                del self._missing[model]

    def forget_answers(self, base_url: str, path: str) -> None:
        """Drop the answers of one server to one question."""
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
        """Begin anew in a forked process, where threads that held the lock are gone."""
        self.__init__()

    def _fresh(self, key: _Key) -> _Entry | None:
        known = self._answers.get(key)
        return known if known is not None and known.until > time.monotonic() else None

    def _keep(self, key: _Key, entry: _Entry) -> None:
        with self._lock:
            self._answers[key] = entry
            self._answers.move_to_end(key)
            while len(self._answers) > _MAX_ENTRIES:
                self._answers.popitem(last=False)


_cache = _Cache()
renew_when_forked(_cache)


reset_with_shared_state(_cache.clear)


def _limits(wait_for_server: float) -> OllamaTimeout:
    """Give the limits of a question. Waiting for a server that is not there yet comes on top of them."""
    return _LIMITS if not wait_for_server else evolve(_LIMITS, total=(_LIMITS.total or 0.0) + wait_for_server)


def _shorter(one: OllamaTimeout, other: OllamaTimeout) -> OllamaTimeout:
    def shorter(*seconds: float | None) -> float | None:
        return min((limit for limit in seconds if limit is not None), default=None)

    return OllamaTimeout(
        connect=shorter(one.connect, other.connect),
        first_token=shorter(one.first_token, other.first_token),
        total=shorter(one.total, other.total),
    )


def _version_of(known: ModelMetadata) -> str:
    """Return what changes with the model behind a name."""
    return str(known.raw.get("modified_at", ""))


def _number(info: Any, name: str) -> int | None:
    """Read a number from 1 that stands under the model's architecture."""
    return to_count(_field(info, f"{_field(info, 'general.architecture')}.{name}"), least=1)


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None


def _models(reply: dict[str, Any] | None) -> list[dict[str, Any]]:
    models = (reply or {}).get("models")
    entries = cast("list[Any]", models) if isinstance(models, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]
