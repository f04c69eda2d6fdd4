"""Which simulated models are loaded, and until when."""

import math
import threading
import time
from dataclasses import dataclass
from typing import Any

from griptape_ollama.testing.json_text import timestamp
from griptape_ollama.testing.models import SimulatedModel
from griptape_ollama.testing.show import details

_SECOND = 1_000_000_000
# "For good" is the longest duration that Go can hold, about 292 years.
_FOREVER_NS = 2**63 - 1
# A recorded model took this much more memory per token of its window.
_BYTES_PER_TOKEN = 1280


@dataclass
class Loaded:
    """A loaded model."""

    model: SimulatedModel
    context_length: int
    expires_ns: int
    users: int = 0


class Memory:
    """The loaded models. They leave when their time is over and nobody uses them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[str, Loaded] = {}

    def enter(self, model: SimulatedModel, context_length: int, keep_alive: float) -> bool:
        """Begin to use a model.

        Args:
            model: The model.
            context_length: Window in tokens; another window than now loads the model anew.
            keep_alive: Seconds that it stays after the reply.

        Returns:
            Whether it had to be loaded.
        """
        with self._lock:
            self._expire()
            loaded = self._loaded.get(model.full_name)
            is_cold = loaded is None or loaded.context_length != context_length
            if loaded is None or is_cold:
                loaded = self._loaded[model.full_name] = Loaded(model, context_length, 0, loaded.users if loaded else 0)
            loaded.users += 1
            loaded.expires_ns = _expiry(keep_alive)
            return is_cold

    def leave(self, model: SimulatedModel, keep_alive: float) -> None:
        """End a use; `keep_alive` seconds from now the model goes."""
        with self._lock:
            loaded = self._loaded.get(model.full_name)
            if loaded is None:
                return
            loaded.users = max(0, loaded.users - 1)
            loaded.expires_ns = _expiry(keep_alive)
            self._expire()

    def unload(self, model: SimulatedModel) -> None:
        """Let a model go as soon as nobody uses it."""
        with self._lock:
            loaded = self._loaded.get(model.full_name)
            if loaded is not None:
                loaded.expires_ns = 0
            self._expire()

    def clear(self) -> None:
        """Unload everything."""
        with self._lock:
            self._loaded.clear()

    def ps(self) -> dict[str, Any]:
        """Return the body of `/api/ps`: those that stay longest first."""
        with self._lock:
            self._expire()
            order = sorted(self._loaded.values(), key=lambda loaded: -(loaded.expires_ns // _SECOND))
            return {"models": [_entry(loaded) for loaded in order]}

    def names(self) -> list[str]:
        """Return the names of the loaded models, in the order in which they were loaded."""
        with self._lock:
            self._expire()
            return list(self._loaded)

    def _expire(self) -> None:
        now = time.time_ns()
        gone = [name for name, loaded in self._loaded.items() if not loaded.users and loaded.expires_ns <= now]
        for name in gone:
            del self._loaded[name]


class Holding:
    """One use of a model, from its construction until `end`.

    Attributes:
        is_cold: Whether the model had to be loaded.
    """

    def __init__(self, memory: Memory, model: SimulatedModel, context_length: int, keep_alive: float) -> None:
        self._memory = memory
        self._model = model
        self._keep_alive = keep_alive
        self.is_cold = memory.enter(model, context_length, keep_alive)

    def end(self) -> None:
        """End the use."""
        self._memory.leave(self._model, self._keep_alive)


def _expiry(keep_alive: float) -> int:
    now = time.time_ns()
    return now + (_FOREVER_NS if math.isinf(keep_alive) else min(int(keep_alive * _SECOND), _FOREVER_NS))


def _entry(loaded: Loaded) -> dict[str, Any]:
    model = loaded.model
    return {
        "name": model.full_name,
        "model": model.full_name,
        "size": model.size + _BYTES_PER_TOKEN * loaded.context_length,
        "digest": model.digest,
        "details": details(model),
        "expires_at": timestamp(loaded.expires_ns),
        "size_vram": model.size_vram,
        "context_length": loaded.context_length,
    }
