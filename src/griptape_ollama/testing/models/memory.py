"""The loaded models: loading, expiry, eviction, slots, and the prompt cache of each."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from griptape_ollama.testing.clock import AsyncCondition, Clock
from griptape_ollama.testing.models.load_settings import Load, LoadSettings
from griptape_ollama.testing.models.simulated_model import SimulatedModel, model_details
from griptape_ollama.testing.wire_format import ErrorResponse, timestamp

_SECOND = 1_000_000_000
# "Forever" is the longest duration in Go, about 292 years.
_FOREVER_NS = 2**63 - 1
_DEFAULT_KEEP_ALIVE = 300.0
# A recorded model took this much more memory per token of its window.
_BYTES_PER_TOKEN = 1280
# A real server keeps 8 GiB of prompts beside those that it works on.
_PROMPTS_KEPT = 32
_GIB = 2**30
_BUSY = "server busy, please try again.  maximum pending requests exceeded"


class PromptCache:
    """The latest prompts, which need no evaluation again. A server keeps gigabytes of them besides its slots.

    Args:
        size: Number of prompts to keep.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[str] = []

    def evaluate(self, text: str, tokens: int) -> int:
        """Add a prompt, and return the number of tokens to evaluate.

        Args:
            text: The whole prompt as the model reads it.
            tokens: Its tokens.

        Returns:
            Tokens after the longest cached prefix, at least one.
        """
        shared, best = max(((_shared(known, text), known) for known in self._texts), default=(0, ""))
        known = tokens * shared // len(text) if text else 0
        if best and shared == len(best):
            # The prompt continues that one; a prompt that differs earlier is kept besides it.
            self._texts.remove(best)
        self.keep(text)
        return max(1, tokens - known) if tokens else 0

    def keep(self, text: str) -> None:
        """Keep a text, and evict the oldest if there are too many."""
        self._texts = [*self._texts, text][-self._size :]

    def extend(self, text: str, more: str) -> None:
        """Append a reply to the prompt that it answers."""
        if text in self._texts:
            self._texts[self._texts.index(text)] = text + more

    def forget(self, text: str) -> None:
        """Remove a prompt whose window was shifted."""
        if text in self._texts:
            self._texts.remove(text)


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Limits of a server, named after the variables that set them on a real one.

    Attributes:
        memory: Bytes for all loaded models, None for any number.
        max_loaded_models: Models in memory at a time (`OLLAMA_MAX_LOADED_MODELS`).
        num_parallel: Requests that one model answers at a time (`OLLAMA_NUM_PARALLEL`).
        max_queue: Requests that may wait for a load (`OLLAMA_MAX_QUEUE`). As on the real server, those that wait for
            a slot of a loaded model do not count.
    """

    memory: int | None = None
    max_loaded_models: int = 3
    num_parallel: int = 1
    max_queue: int = 512

    def __post_init__(self) -> None:
        if min(self.max_loaded_models, self.num_parallel) < 1 or self.max_queue < 0 or (self.memory or 1) < 1:
            raise ValueError(f"{self}: at least one model, one request at a time and one byte; no negative queue")


@dataclass(eq=False, kw_only=True)
class ResidentModel:
    """A model that is loaded or is being loaded."""

    model: SimulatedModel
    load_settings: LoadSettings
    slots: int
    cache: PromptCache
    keep_alive: float = _DEFAULT_KEEP_ALIVE
    expires_ns: int = 0
    users: int = 0
    active_requests: int = 0
    queue: deque[object] = field(default_factory=deque[object])
    is_ready: bool = False
    is_unloaded: bool = False

    @property
    def size(self) -> int:
        """Bytes in memory."""
        return memory_size(self.model, self.load_settings, self.slots)


class ModelMemory:
    """The loaded models. Idle ones are unloaded when they expire, or when another model needs their memory.

    Models with the same weights are loaded once, under the name of the first one (seen in 0.33.0-rc2).

    Args:
        clock: Clock of loads and expiry.
        limits: Limits of the server.
        on_load: Called when a model has been loaded.
    """

    def __init__(self, clock: Clock, limits: ServerLimits, on_load: Callable[[Load], None]) -> None:
        self._clock = clock
        self._limits = limits
        self._on_load = on_load
        self._lock = threading.RLock()
        self._changed = AsyncCondition()
        self._loaded: dict[str, ResidentModel] = {}
        self._pending: deque[object] = deque()

    async def acquire(
        self, model: SimulatedModel, load_settings: LoadSettings, keep_alive: float | None
    ) -> "ModelReservation":
        """Reserve a model: wait until it is loaded and has a free slot.

        Args:
            model: The model.
            load_settings: Settings to load it with; other settings than those of the loaded model reload it.
            keep_alive: Seconds that it stays loaded after the reply; None for no change, which is five minutes after
                a load.

        Raises:
            ErrorResponse: It does not fit, or too many requests wait already.
        """
        began_ns = self._clock.now_ns
        while True:
            loaded = self._reuse(model, load_settings, keep_alive) or await self._load(model, load_settings, keep_alive)
            reservation = ModelReservation(self, loaded, began_ns)
            try:
                await self._changed.wait_until(lambda loaded=loaded: loaded.is_ready or loaded.is_unloaded)
                if loaded.is_unloaded:
                    # The request that loaded it was cancelled.
                    reservation.release()
                    continue
                reservation.ready_ns = self._clock.now_ns
                await self._wait_for_slot(loaded)
            except BaseException:
                reservation.release()
                raise
            reservation.has_slot = True
            return reservation

    def release(self, loaded: ResidentModel, *, had_slot: bool) -> None:
        """End a reservation, from when the keep_alive of the model counts."""
        with self._lock:
            loaded.users -= 1
            loaded.active_requests -= had_slot
            loaded.expires_ns = self._expiry(loaded.keep_alive)
            self._expire()
        self._changed.notify_all()

    def unload(self, model: SimulatedModel) -> None:
        """Unload a model as soon as it is idle. One that is still being loaded stays (seen in 0.33.0-rc2)."""
        with self._lock:
            loaded = self._loaded.get(model.weights_digest)
            if loaded is not None and loaded.is_ready:
                loaded.keep_alive = 0
                loaded.expires_ns = 0
            self._expire()
        self._changed.notify_all()

    def drop(self, model: SimulatedModel) -> None:
        """Remove a model from memory at once, as when the process that runs it dies."""
        with self._lock:
            loaded = self._loaded.get(model.weights_digest)
            if loaded is not None:
                self._remove(loaded)
        self._changed.notify_all()

    def clear(self) -> None:
        """Unload everything."""
        with self._lock:
            for loaded in list(self._loaded.values()):
                self._remove(loaded)
        self._changed.notify_all()

    def ps_body(self) -> dict[str, Any]:
        """Return the body of `/api/ps`, with the latest expiry first."""
        with self._lock:
            self._expire()
            order = sorted(self._loaded.values(), key=lambda loaded: -(loaded.expires_ns // _SECOND))
            return {"models": [_entry(loaded) for loaded in order if loaded.is_ready]}

    def loaded_names(self) -> list[str]:
        """Return the names of the loaded models, in the order in which they were loaded."""
        with self._lock:
            self._expire()
            return [loaded.model.full_name for loaded in self._loaded.values() if loaded.is_ready]

    def _reuse(
        self, model: SimulatedModel, load_settings: LoadSettings, keep_alive: float | None
    ) -> ResidentModel | None:
        """Return a model that is loaded with the right settings already."""
        with self._lock:
            self._expire()
            loaded = self._loaded.get(model.weights_digest)
            if loaded is None or loaded.load_settings != load_settings:
                return None
            return self._count_use(loaded, keep_alive)

    async def _load(
        self, model: SimulatedModel, load_settings: LoadSettings, keep_alive: float | None
    ) -> ResidentModel:
        """Wait for memory, then load the model, or return the one that another request loads."""
        ticket = object()
        found: list[ResidentModel] = []
        is_reload = False

        def is_placed() -> bool:
            nonlocal is_reload
            with self._lock:
                self._expire()
                is_reload = is_reload or model.weights_digest in self._loaded
                loaded = self._place_model(model, load_settings)
                if loaded is not None:
                    found.append(self._count_use(loaded, keep_alive))
                return loaded is not None

        if len(self._pending) > self._limits.max_queue:
            raise ErrorResponse(503, _BUSY)
        self._pending.append(ticket)
        try:
            await self._changed.wait_until(lambda: self._pending[0] is ticket)
            await self._changed.wait_until(is_placed)
        finally:
            self._pending.remove(ticket)
            self._changed.notify_all()
        (loaded,) = found
        if loaded.users == 1 and not loaded.is_ready:
            await self._wait_for_load(loaded, is_reload=is_reload)
        return loaded

    async def _wait_for_load(self, loaded: ResidentModel, *, is_reload: bool) -> None:
        try:
            await self._clock.sleep(loaded.model.load_seconds)
            loaded.is_ready = True
            self._on_load(
                Load(
                    model=loaded.model.full_name,
                    context_length=loaded.load_settings.context_length,
                    shift=loaded.load_settings.shift,
                    is_reload=is_reload,
                    at=self._clock.seconds,
                )
            )
        except asyncio.CancelledError:
            # The client disconnected: the load is cancelled, as on the real server.
            with self._lock:
                loaded.users -= 1
                self._remove(loaded)
            raise
        finally:
            self._changed.notify_all()

    async def _wait_for_slot(self, loaded: ResidentModel) -> None:
        """Wait until earlier requests have left a slot of the model."""
        ticket = object()
        loaded.queue.append(ticket)
        try:
            await self._changed.wait_until(lambda: loaded.queue[0] is ticket and loaded.active_requests < loaded.slots)
            loaded.active_requests += 1
        finally:
            loaded.queue.remove(ticket)
            self._changed.notify_all()

    def _place_model(self, model: SimulatedModel, load_settings: LoadSettings) -> ResidentModel | None:
        """Return the model in memory, after eviction if need be; None while models in use leave too little memory."""
        present = self._loaded.get(model.weights_digest)
        if present is not None and present.load_settings == load_settings:
            return present
        if present is not None:
            # Another window or other settings: it is unloaded as soon as it is idle, and then loaded again.
            present.keep_alive = present.expires_ns = 0
            self._expire()
            if not present.is_unloaded:
                return None
        slots = self._limits.num_parallel
        needed = memory_size(model, load_settings, slots)
        limit = self._limits.memory
        if limit is not None and needed > limit:
            raise ErrorResponse(
                500,
                f"model requires more system memory ({needed / _GIB:.1f} GiB) "
                f"than is available ({limit / _GIB:.1f} GiB)",
            )
        while len(self._loaded) >= self._limits.max_loaded_models or (
            limit is not None and needed + sum(loaded.size for loaded in self._loaded.values()) > limit
        ):
            idle = [loaded for loaded in self._loaded.values() if not loaded.users]
            if not idle:
                return None
            # Not the least recently used one: the shortest keep_alive, then the path of the weights (0.33).
            self._remove(min(idle, key=lambda loaded: (loaded.keep_alive, loaded.model.weights_digest)))
        loaded = ResidentModel(
            model=model, load_settings=load_settings, slots=slots, cache=PromptCache(_PROMPTS_KEPT + slots)
        )
        self._loaded[model.weights_digest] = loaded
        return loaded

    def _count_use(self, loaded: ResidentModel, keep_alive: float | None) -> ResidentModel:
        loaded.users += 1
        if keep_alive is not None:
            loaded.keep_alive = keep_alive
        loaded.expires_ns = self._expiry(loaded.keep_alive)
        return loaded

    def _expire(self) -> None:
        now = self._clock.now_ns
        for loaded in list(self._loaded.values()):
            if not loaded.users and loaded.expires_ns <= now:
                self._remove(loaded)

    def _remove(self, loaded: ResidentModel) -> None:
        loaded.is_unloaded = True
        if self._loaded.get(loaded.model.weights_digest) is loaded:
            del self._loaded[loaded.model.weights_digest]

    def _expiry(self, keep_alive: float) -> int:
        return self._clock.now_ns + (
            _FOREVER_NS if math.isinf(keep_alive) else min(int(keep_alive * _SECOND), _FOREVER_NS)
        )


class ModelReservation:
    """Reservation of a loaded model by a request, until `release`.

    Attributes:
        loaded: The model in memory.
        began_ns: Time of the request for it, in nanoseconds since 1970.
        ready_ns: Time at which it was in memory.
        has_slot: Whether the request has a slot of the model.
    """

    def __init__(self, memory: ModelMemory, loaded: ResidentModel, began_ns: int) -> None:
        self._memory = memory
        self._has_ended = False
        self.loaded = loaded
        self.began_ns = began_ns
        self.ready_ns = began_ns
        self.has_slot = False

    @property
    def load_ns(self) -> int:
        """Nanoseconds until the model was in memory, the wait for memory included."""
        return self.ready_ns - self.began_ns

    def release(self) -> None:
        """End the reservation."""
        if not self._has_ended:
            self._has_ended = True
            self._memory.release(self.loaded, had_slot=self.has_slot)


def memory_size(model: SimulatedModel, load_settings: LoadSettings, slots: int) -> int:
    """Return the bytes that a model takes in memory: each slot has a window of its own."""
    return model.size + _BYTES_PER_TOKEN * load_settings.context_length * slots


def _entry(loaded: ResidentModel) -> dict[str, Any]:
    model = loaded.model
    return {
        "name": model.full_name,
        "model": model.full_name,
        "size": loaded.size,
        "digest": model.digest,
        "details": model_details(model),
        "expires_at": timestamp(loaded.expires_ns),
        "size_vram": model.size_vram,
        "context_length": loaded.load_settings.context_length,
    }


def _shared(one: str, other: str) -> int:
    """Return the length of the common prefix of two texts, by bisection."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
