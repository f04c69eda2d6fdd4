"""Which simulated models are loaded, until when, and whose turn it is."""

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from griptape_ollama.testing.clock import Bell, Clock
from griptape_ollama.testing.models.load_settings import Load, Runner
from griptape_ollama.testing.models.simulated_model import SimulatedModel, model_details
from griptape_ollama.testing.wire_format import Refusal, timestamp

_SECOND = 1_000_000_000
# "For good" is the longest duration that Go can hold, about 292 years.
_FOREVER_NS = 2**63 - 1
_DEFAULT_KEEP_ALIVE = 300.0
# A recorded model took this much more memory per token of its window.
_BYTES_PER_TOKEN = 1280
# A real server keeps 8 GiB of prompts beside those that it works on.
_PROMPTS_KEPT = 32
_GIB = 2**30
_BUSY = "server busy, please try again.  maximum pending requests exceeded"


class PromptCache:
    """The latest prompts. A server keeps more of them than it can answer at a time: gigabytes beside its slots.

    Args:
        size: How many are kept.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._texts: list[str] = []

    def evaluate(self, text: str, tokens: int) -> int:
        """Take in a prompt.

        Args:
            text: The whole prompt as the model reads it.
            tokens: Its tokens.

        Returns:
            How many of them had to be evaluated: those after the longest known beginning, and at least the last.
        """
        shared, best = max(((_shared(known, text), known) for known in self._texts), default=(0, ""))
        known = tokens * shared // len(text) if text else 0
        if best and shared == len(best):
            # It goes on from there; a prompt that turned elsewhere takes a place of its own.
            self._texts.remove(best)
        self.keep(text)
        return max(1, tokens - known) if tokens else 0

    def keep(self, text: str) -> None:
        """Remember a text, and forget the oldest where there is no more room."""
        self._texts = [*self._texts, text][-self._size :]

    def extend(self, text: str, more: str) -> None:
        """Add what the model said to the prompt that it answered."""
        if text in self._texts:
            self._texts[self._texts.index(text)] = text + more

    def forget(self, text: str) -> None:
        """Forget a prompt: the window has moved on, and it is no longer whole."""
        if text in self._texts:
            self._texts.remove(text)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server allows, named after the variables that set it on a real one.

    Attributes:
        memory: Bytes for all loaded models, None for any number.
        max_loaded_models: Models in memory at a time (`OLLAMA_MAX_LOADED_MODELS`).
        num_parallel: Requests that one model answers at a time (`OLLAMA_NUM_PARALLEL`).
        max_queue: Requests that may wait for a model to be loaded (`OLLAMA_MAX_QUEUE`). As on the real server, those
            that wait for their turn with a loaded model do not count.
    """

    memory: int | None = None
    max_loaded_models: int = 3
    num_parallel: int = 1
    max_queue: int = 512

    def __post_init__(self) -> None:
        if min(self.max_loaded_models, self.num_parallel) < 1 or self.max_queue < 0 or (self.memory or 1) < 1:
            raise ValueError(f"{self}: at least one model, one request at a time and one byte; no negative queue")


@dataclass(eq=False, kw_only=True)
class Loaded:
    """A model in memory, or on its way there."""

    model: SimulatedModel
    runner: Runner
    slots: int
    cache: PromptCache
    keep_alive: float = _DEFAULT_KEEP_ALIVE
    expires_ns: int = 0
    users: int = 0
    speaking: int = 0
    turns: deque[object] = field(default_factory=deque[object])
    is_ready: bool = False
    is_gone: bool = False

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return size_of(self.model, self.runner, self.slots)


class Memory:
    """The loaded models. They leave when their time is over and nobody uses them, or when another needs the room.

    Models with the same weights share one place, under the name of the one that was loaded first (seen in 0.33.0-rc2).

    Args:
        clock: Time as the models live through it.
        limits: What the server allows.
        on_load: Called when a model has been loaded.
    """

    def __init__(self, clock: Clock, limits: Limits, on_load: Callable[[Load], None]) -> None:
        self._clock = clock
        self._limits = limits
        self._on_load = on_load
        self._lock = threading.RLock()
        self._bell = Bell()
        self._loaded: dict[str, Loaded] = {}
        self._pending: deque[object] = deque()

    async def enter(self, model: SimulatedModel, runner: Runner, keep_alive: float | None) -> "Holding":
        """Begin to use a model: wait until it is in memory and it is this request's turn.

        Args:
            model: The model.
            runner: What it is to be loaded with; anything else than now loads the model anew.
            keep_alive: Seconds that it stays after the reply; None leaves that as it is, which is five minutes for a
                model that is loaded now.

        Raises:
            Refusal: It does not fit, or too many wait already.
        """
        began_ns = self._clock.now_ns
        while True:
            loaded = self._join(model, runner, keep_alive) or await self._load(model, runner, keep_alive)
            holding = Holding(self, loaded, began_ns)
            try:
                await self._bell.until(lambda loaded=loaded: loaded.is_ready or loaded.is_gone)
                if loaded.is_gone:
                    # Whoever loaded it gave up.
                    holding.end()
                    continue
                holding.ready_ns = self._clock.now_ns
                await self._take_turn(loaded)
            except BaseException:
                holding.end()
                raise
            holding.is_speaking = True
            return holding

    def leave(self, loaded: Loaded, *, was_speaking: bool) -> None:
        """End a use; from now on the time of the model runs."""
        with self._lock:
            loaded.users -= 1
            loaded.speaking -= was_speaking
            loaded.expires_ns = self._expiry(loaded.keep_alive)
            self._expire()
        self._bell.ring()

    def unload(self, model: SimulatedModel) -> None:
        """Let a model go as soon as nobody uses it. One that is still being loaded stays (seen in 0.33.0-rc2)."""
        with self._lock:
            loaded = self._loaded.get(model.weights_digest)
            if loaded is not None and loaded.is_ready:
                loaded.keep_alive = 0
                loaded.expires_ns = 0
            self._expire()
        self._bell.ring()

    def lose(self, model: SimulatedModel) -> None:
        """Take a model out of memory at once, as when the process that runs it dies."""
        with self._lock:
            loaded = self._loaded.get(model.weights_digest)
            if loaded is not None:
                self._remove(loaded)
        self._bell.ring()

    def clear(self) -> None:
        """Unload everything."""
        with self._lock:
            for loaded in list(self._loaded.values()):
                self._remove(loaded)
        self._bell.ring()

    def ps(self) -> dict[str, Any]:
        """Return the body of `/api/ps`: those that stay longest first."""
        with self._lock:
            self._expire()
            order = sorted(self._loaded.values(), key=lambda loaded: -(loaded.expires_ns // _SECOND))
            return {"models": [_entry(loaded) for loaded in order if loaded.is_ready]}

    def names(self) -> list[str]:
        """Return the names of the loaded models, in the order in which they were loaded."""
        with self._lock:
            self._expire()
            return [loaded.model.full_name for loaded in self._loaded.values() if loaded.is_ready]

    def _join(self, model: SimulatedModel, runner: Runner, keep_alive: float | None) -> Loaded | None:
        """Use a model that is there already, loaded with the right settings."""
        with self._lock:
            self._expire()
            loaded = self._loaded.get(model.weights_digest)
            if loaded is None or loaded.runner != runner:
                return None
            return self._used(loaded, keep_alive)

    async def _load(self, model: SimulatedModel, runner: Runner, keep_alive: float | None) -> Loaded:
        """Wait for room, then load the model, or join whoever was first to load it."""
        ticket = object()
        found: list[Loaded] = []
        is_reload = False

        def is_placed() -> bool:
            nonlocal is_reload
            with self._lock:
                self._expire()
                is_reload = is_reload or model.weights_digest in self._loaded
                loaded = self._place(model, runner)
                if loaded is not None:
                    found.append(self._used(loaded, keep_alive))
                return loaded is not None

        if len(self._pending) > self._limits.max_queue:
            raise Refusal(503, _BUSY)
        self._pending.append(ticket)
        try:
            await self._bell.until(lambda: self._pending[0] is ticket)
            await self._bell.until(is_placed)
        finally:
            self._pending.remove(ticket)
            self._bell.ring()
        (loaded,) = found
        if loaded.users == 1 and not loaded.is_ready:
            await self._wait_for_load(loaded, is_reload=is_reload)
        return loaded

    async def _wait_for_load(self, loaded: Loaded, *, is_reload: bool) -> None:
        try:
            await self._clock.sleep(loaded.model.load_seconds)
            loaded.is_ready = True
            self._on_load(
                Load(
                    model=loaded.model.full_name,
                    context_length=loaded.runner.context_length,
                    shift=loaded.runner.shift,
                    is_reload=is_reload,
                    at=self._clock.seconds,
                )
            )
        except asyncio.CancelledError:
            # The client went: loading is given up, as on the real server.
            with self._lock:
                loaded.users -= 1
                self._remove(loaded)
            raise
        finally:
            self._bell.ring()

    async def _take_turn(self, loaded: Loaded) -> None:
        """Wait until the model has answered those that came before."""
        ticket = object()
        loaded.turns.append(ticket)
        try:
            await self._bell.until(lambda: loaded.turns[0] is ticket and loaded.speaking < loaded.slots)
            loaded.speaking += 1
        finally:
            loaded.turns.remove(ticket)
            self._bell.ring()

    def _place(self, model: SimulatedModel, runner: Runner) -> Loaded | None:
        """Find the model in memory, or room for it; None while all of it is in use."""
        present = self._loaded.get(model.weights_digest)
        if present is not None and present.runner == runner:
            return present
        if present is not None:
            # Another window or other settings: it has to leave before it comes back, and leaves as soon as it can.
            present.keep_alive = present.expires_ns = 0
            self._expire()
            if not present.is_gone:
                return None
        slots = self._limits.num_parallel
        needed = size_of(model, runner, slots)
        limit = self._limits.memory
        if limit is not None and needed > limit:
            raise Refusal(
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
            # Not the one that was used longest ago: the shortest keep_alive, then the path of the weights (0.33).
            self._remove(min(idle, key=lambda loaded: (loaded.keep_alive, loaded.model.weights_digest)))
        loaded = Loaded(model=model, runner=runner, slots=slots, cache=PromptCache(_PROMPTS_KEPT + slots))
        self._loaded[model.weights_digest] = loaded
        return loaded

    def _used(self, loaded: Loaded, keep_alive: float | None) -> Loaded:
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

    def _remove(self, loaded: Loaded) -> None:
        loaded.is_gone = True
        if self._loaded.get(loaded.model.weights_digest) is loaded:
            del self._loaded[loaded.model.weights_digest]

    def _expiry(self, keep_alive: float) -> int:
        return self._clock.now_ns + (
            _FOREVER_NS if math.isinf(keep_alive) else min(int(keep_alive * _SECOND), _FOREVER_NS)
        )


class Holding:
    """One use of a model, until `end`.

    Attributes:
        loaded: The model in memory.
        began_ns: When the request asked for it, in nanoseconds since 1970.
        ready_ns: When it was in memory.
        is_speaking: Whether it is this request's turn.
    """

    def __init__(self, memory: Memory, loaded: Loaded, began_ns: int) -> None:
        self._memory = memory
        self._has_ended = False
        self.loaded = loaded
        self.began_ns = began_ns
        self.ready_ns = began_ns
        self.is_speaking = False

    @property
    def load_ns(self) -> int:
        """Nanoseconds until the model was in memory, the wait for room included."""
        return self.ready_ns - self.began_ns

    def end(self) -> None:
        """End the use."""
        if not self._has_ended:
            self._has_ended = True
            self._memory.leave(self.loaded, was_speaking=self.is_speaking)


def size_of(model: SimulatedModel, runner: Runner, slots: int) -> int:
    """Return the bytes that a model takes in memory: each request that it answers at a time has a window of its own."""
    return model.size + _BYTES_PER_TOKEN * runner.context_length * slots


def _entry(loaded: Loaded) -> dict[str, Any]:
    model = loaded.model
    return {
        "name": model.full_name,
        "model": model.full_name,
        "size": loaded.size,
        "digest": model.digest,
        "details": model_details(model),
        "expires_at": timestamp(loaded.expires_ns),
        "size_vram": model.size_vram,
        "context_length": loaded.runner.context_length,
    }


def _shared(one: str, other: str) -> int:
    """Return how many characters two texts begin with alike; halving, as comparing one by one is slow."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
