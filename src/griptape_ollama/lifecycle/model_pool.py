"""The models in the memory of one server: what is loaded, and what to load and unload for the structure."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

from griptape_ollama.errors import OllamaCancelledError, OllamaError, OllamaTimeoutError
from griptape_ollama.escaping import printable
from griptape_ollama.lifecycle.eviction import (
    EvictionCandidate,
    MemoryLimits,
    choose_evictions,
    choose_preload,
    choose_unloads,
)
from griptape_ollama.lifecycle.keep_alive_replay import RecordedUse
from griptape_ollama.lifecycle.server_adapter import ServerAdapter
from griptape_ollama.lifecycle.usage import ModelLoad, UsageRecorder
from griptape_ollama.models.circuit_breaker import CircuitBreaker
from griptape_ollama.models.types import LoadedModel

T = TypeVar("T")

# Servers report some milliseconds of load time for a model that is loaded already (server 0.33).
_MIN_LOAD_SECONDS = 0.1
# A model is listed for a moment after it has expired. One that is listed longer is answering now, and stays for its
# keep_alive afterwards; or the clock of the server differs, which a proxy with a `Date` of its own hides.
_EXPIRY_GRACE_SECONDS = 5.0
_DEFAULT_KEEP_ALIVE_SECONDS = 300.0
# A server that does not answer gets no request for this long.
_SILENCE_SECONDS = 60.0
# `/api/ps` may list a model for this long after it was unloaded (server 0.33); later, it was loaded anew.
_UNLOAD_GRACE_SECONDS = 10.0

_logger = logging.getLogger("griptape_ollama.lifecycle")


@dataclass
class PooledModel:
    """A loaded model.

    Attributes:
        listed: The model as the server lists it, or what is known before it was listed.
        is_foreign: Whether another client loaded it.
        is_used: Whether the structure used it.
        remaining_seconds: Seconds that it had left when it was listed first; -1 for good, None if unknown.
        options: Options that it is loaded with, of the last request of the structure.
        load: How it was loaded; None if another client did.
        ready_at: When it was loaded at the latest, on the clock of `time.monotonic`.
    """

    listed: LoadedModel
    is_foreign: bool = False
    is_used: bool = False
    remaining_seconds: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    load: ModelLoad | None = None
    ready_at: float = field(default_factory=time.monotonic)

    def record_use(self, use: RecordedUse) -> None:
        """Update the load time and the time when it was ready from a use."""
        self.is_used = True
        if self.load is not None and self.load.seconds is None:
            self.load.seconds = use.load_seconds or None
        self.ready_at = max(self.ready_at, use.begin + use.load_seconds)

    def was_reloaded_for(self, use: RecordedUse) -> bool:
        """Whether the model was loaded again for a use, as for other options.

        A use that waited for the load of another began before the model was ready: it does not count.
        """
        known = (self.load.seconds if self.load is not None else None) or 0.0
        is_load = use.load_seconds >= max(_MIN_LOAD_SECONDS, known / 2)
        is_measured = self.load is None or self.load.seconds is not None
        return is_load and is_measured and use.begin + use.load_seconds / 2 > self.ready_at


@dataclass(frozen=True, kw_only=True)
class ModelDemand:
    """Which models the structure needs at this moment.

    Attributes:
        next_uses: Distances of the next uses, by model.
        in_use: Models that running steps may use.
    """

    next_uses: Mapping[str, int]
    in_use: Collection[str]


class ModelPool:
    """The models in the memory of one server.

    The state comes from `/api/ps`, which is requested before and after each load and not otherwise. `_request_lock`
    makes requests one after the other; `_lock` guards the state, and is never held during a request.

    Args:
        server: The server.
        limits: What fits.
        usage: Records loads and unloads.
        unload_foreign: Whether models that other clients loaded may be unloaded, too.
    """

    def __init__(
        self, server: ServerAdapter, limits: MemoryLimits, usage: UsageRecorder, *, unload_foreign: bool = False
    ) -> None:
        self.server = server
        self._limits = limits
        self._usage = usage
        self._unload_foreign = unload_foreign
        self._lock = threading.Lock()
        self._request_lock = threading.RLock()
        self._models: dict[str, PooledModel] = {}
        self._own: set[str] = set()
        self._pending: set[str] = set()
        self._preloading: set[str] = set()
        self._unloaded_at: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._breaker = CircuitBreaker()

    def refresh(self) -> None:
        """Request what is loaded. At the start, all of it is foreign."""
        with self._request_lock:
            self._refresh()

    def add_model(self, model: str, name: str) -> None:
        """Add a model of the structure."""
        self._usage.add_model(self.server.host, model, name)
        with self._lock:
            loaded = self._models.get(model)
        if loaded is not None and loaded.is_foreign:
            self._usage.record_present(self.server.host, model)

    def expect_size(self, model: str, size: int) -> None:
        """Set the size of a model until the server reports the real one."""
        with self._lock:
            self._sizes.setdefault(model, size)

    def only_chat_model(self) -> str | None:
        """Return the model that drivers without a model use; None if there is no such model."""
        return self._request(self.server.only_chat_model)

    def is_loaded(self, model: str) -> bool:
        """Whether a model is in memory, as far as is known."""
        with self._lock:
            return model in self._models

    def reserve(self, model: str, options: Mapping[str, Any], demand: Callable[[], ModelDemand]) -> None:
        """Evict what does not fit beside a model before its request, unless it is loaded or reserved already.

        `options` are those that the request loads it with; `demand` is called when the decision is made.
        """
        if self._mark_used(model, options) or self._is_pending(model):
            return
        with self._usage.measuring_request():
            self._request_lock.acquire()
        try:
            self._refresh()
            if self._mark_used(model, options):
                return
            now = demand()
            with self._lock:
                candidates, size = self._candidates(now.in_use), self._sizes.get(model, 0)
            plan = choose_evictions(candidates, now.next_uses, self._limits, model, size)
            for each in plan.models:
                self._unload(each, is_eviction=True)
            if not plan.is_enough:
                _logger.debug(
                    "Not enough memory for %s at %s: the loaded models are in use or foreign.", model, self.server.host
                )
            with self._lock:
                self._own.add(model)
                self._pending.add(model)
        finally:
            self._request_lock.release()

    def record_use(self, use: RecordedUse, name: str) -> None:
        """Record that the model of a name answered: if it was not known to be loaded, it was loaded for that."""
        load = ModelLoad(use.load_seconds or None)
        with self._lock:
            loaded = self._models.get(use.model)
            is_reload = loaded is not None and loaded.was_reloaded_for(use)
            if loaded is not None:
                loaded.record_use(use)
        if is_reload:
            self._usage.record_load(self.server.host, use.model, load)
        if loaded is not None:
            return
        with self._usage.measuring_request():
            self._request_lock.acquire()
        try:
            self._record_load(use.model, name, load, use.begin + use.load_seconds)
            self._refresh()
        finally:
            self._request_lock.release()

    def refresh_if_pending(self, models: Iterable[str]) -> None:
        """Request what is loaded if one of these was reserved and has not answered since: it may not publish events."""
        with self._lock:
            pending = self._pending.intersection(models)
        if pending:
            self.refresh()

    def release(self, demand: Callable[[], ModelDemand]) -> None:
        """Unload what no coming step needs, and restore the expiry of foreign models."""
        now = demand()
        with self._lock:
            self._pending.intersection_update({*now.in_use, *self._preloading})
            used = [each for each in self._candidates(now.in_use) if self._is_used(each.model)]
        unneeded = choose_unloads(used, now.next_uses)
        foreign = [
            each.model
            for each in used
            if not each.is_evictable and not each.is_busy and each.model not in now.next_uses
        ]
        if not unneeded and not foreign:
            return
        with self._request_lock:
            for model in unneeded:
                self._unload(model, is_eviction=False)
            for model in foreign:
                self._restore_expiry(model)

    def reserve_preload(self, first_uses: Mapping[str, int], in_use: Collection[str]) -> str | None:
        """Choose a model to preload, by the distances of the first uses; from now on it counts as loaded."""
        with self._lock:
            model = choose_preload(self._candidates(in_use), first_uses, self._limits, self._sizes)
            if model is not None:
                for models in (self._own, self._pending, self._preloading):
                    models.add(model)
            return model

    def cancel_preload(self, model: str) -> None:
        """Drop the reservation of a preload."""
        with self._lock:
            self._preloading.discard(model)
            self._pending.discard(model)

    def preload(self, model: str, name: str, keep_alive: Any, options: Mapping[str, Any]) -> None:
        """Load a model, by its key and name, that was reserved for it."""
        try:
            seconds = self.server.load(name, keep_alive=keep_alive, options=options)
        except OllamaError as error:
            self.cancel_preload(model)
            _logger.debug("Not loaded ahead: %s", printable(str(error)))
            self.refresh()  # the server may have loaded it all the same
            return
        with self._request_lock:
            self._record_load(model, name, ModelLoad(seconds, is_ahead=True))
            self._refresh()

    def _record_load(self, model: str, name: str, load: ModelLoad, ready_at: float | None = None) -> None:
        with self._lock:
            self._own.add(model)
            self._unloaded_at.pop(model, None)
            self._pending.discard(model)
            self._preloading.discard(model)
            if model in self._models:
                return
            listed = LoadedModel(name=name, size=self._sizes.get(model, 0))
            loaded = self._models[model] = PooledModel(listed, is_used=True, load=load)
            loaded.ready_at = loaded.ready_at if ready_at is None else ready_at
        self._usage.record_load(self.server.host, model, load)

    def _mark_used(self, model: str, options: Mapping[str, Any]) -> bool:
        """Mark a model as used if it is loaded; return whether it is."""
        with self._lock:
            loaded = self._models.get(model)
            if loaded is not None:
                loaded.is_used = True
                loaded.options = options
            return loaded is not None

    def _is_pending(self, model: str) -> bool:
        with self._lock:
            return model in self._pending

    def _is_used(self, model: str) -> bool:
        return model in self._models and self._models[model].is_used

    def _candidates(self, in_use: Collection[str]) -> list[EvictionCandidate]:
        loaded = [
            EvictionCandidate(
                model=model,
                size=each.listed.size,
                is_busy=model in in_use,
                is_evictable=self._unload_foreign or not each.is_foreign,
            )
            for model, each in self._models.items()
        ]
        pending = [
            EvictionCandidate(model=model, size=self._sizes.get(model, 0), is_busy=True, is_evictable=False)
            for model in sorted(self._pending.difference(self._models))
        ]
        return loaded + pending

    def _refresh(self) -> None:
        listed = self._request(
            lambda: {self.server.memory_key(model.name): model for model in self.server.loaded_models()}
        )
        if listed is None:
            return
        now = time.monotonic()
        appeared: list[tuple[str, str]] = []
        with self._lock:
            for model in [model for model in self._models if model not in listed]:
                del self._models[model]
            self._unloaded_at = {
                model: since
                for model, since in self._unloaded_at.items()
                if model in listed and now - since < _UNLOAD_GRACE_SECONDS
            }
            for key, model in listed.items():
                if key in self._unloaded_at:
                    continue
                if key not in self._models and key in self._own:
                    appeared.append((key, model.name))
                    continue
                self._update(key, model)
        for key, name in appeared:
            self._record_load(key, name, ModelLoad())
            with self._lock:
                self._update(key, listed[key])
        with self._lock:
            models = dict(self._models)
        self._usage.record_memory(self.server.host, {model: each.listed.size for model, each in models.items()})
        for each in models.values():
            self._check_size(each)

    def _update(self, key: str, model: LoadedModel) -> None:
        loaded = self._models.get(key)
        if loaded is None:
            left = _remaining_seconds(model)
            loaded = self._models[key] = PooledModel(model, is_foreign=True, remaining_seconds=left)
        loaded.listed = model
        self._sizes[key] = model.size

    def _check_size(self, loaded: PooledModel) -> None:
        memory, listed = self._limits.memory, loaded.listed
        if memory is not None and listed.size > memory and not loaded.is_foreign:
            self._report_problem(f"Model {listed.name!r} takes {listed.size:,} bytes, more than memory={memory:,}.")

    def _unload(self, model: str, *, is_eviction: bool) -> None:
        with self._lock:
            loaded = self._models.get(model)
        if loaded is None or self._request(lambda: self.server.unload(loaded.listed) or True) is None:
            return
        with self._lock:
            self._models.pop(model, None)
            self._own.discard(model)
            self._unloaded_at[model] = time.monotonic()
        self._usage.record_unload(self.server.host, model, is_eviction=is_eviction)

    def _restore_expiry(self, model: str) -> None:
        """Set the expiry of a foreign model to what it had left when it was listed first.

        The request has the options that the model is loaded with: other options would load it again.
        """
        self._refresh()
        with self._lock:
            loaded = self._models.get(model)
            if loaded is None:
                return
            loaded.is_used = False
        left = loaded.remaining_seconds
        if left is not None:
            name, window = loaded.listed.name, loaded.listed.context_length
            options = {**loaded.options, **({} if window is None else {"num_ctx": window})}
            keep_alive = left if left < 0 else max(left, 1.0)
            self._request(lambda: self.server.load(name, keep_alive=keep_alive, options=options))

    def _request(self, request: Callable[[], T]) -> T | None:
        """Send a request; return None if it fails, which must not fail the structure."""
        if self._breaker.is_open:
            return None
        try:
            with self._usage.measuring_request():
                return request()
        except OllamaCancelledError:
            return None  # the structure was cancelled, and raises that itself
        except OllamaError as error:
            if isinstance(error, OllamaTimeoutError):
                self._breaker.open(_SILENCE_SECONDS)
            self._report_problem(f"{error} Going on without it.")
            return None

    def _report_problem(self, text: str) -> None:
        if self._usage.record_problem(text):
            _logger.warning(text)


def _remaining_seconds(model: LoadedModel) -> float | None:
    """Return the seconds until a model is unloaded if it gets no request; -1 for good, None if unknown.

    Where the time is long over, that is Ollama's default.
    """
    if model.expires_at is None or model.stays_for_good:
        return -1 if model.stays_for_good else None
    left = (model.expires_at - datetime.now(timezone.utc)).total_seconds()
    return max(left, 0.0) if left > -_EXPIRY_GRACE_SECONDS else _DEFAULT_KEEP_ALIVE_SECONDS
