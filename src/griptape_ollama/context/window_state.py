"""What is known of the context window of each model on each server, and of the requests that are under way for it."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, NamedTuple, cast

from cachetools import LRUCache

from griptape_ollama.models.catalogue import find_loaded_model
from griptape_ollama.models.circuit_breaker import CircuitBreaker
from griptape_ollama.models.metadata_cache import LoadedList, ServerMetadata
from griptape_ollama.models.model_metadata import ModelMetadata
from griptape_ollama.models.types import weights_of
from griptape_ollama.protocol.model_name import model_key, name_of_entry
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.protocol.options import MAX_NUM_CTX
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

ARRIVAL_SECONDS = 10.0
"""After so many seconds a request has reached the server, so that no later request can overtake it there."""

_MAX_SERVERS = 64
_MAX_MODELS = 256
# Other programs load and unload models: memory that was full may be free later.
_OUT_OF_MEMORY_SECONDS = 300.0
# The server gives up a load that makes no progress for so long (OLLAMA_LOAD_TIMEOUT).
_LOAD_SECONDS = 300.0


class LoadedWindow(NamedTuple):
    """What `/api/ps` showed of one model.

    Attributes:
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
        is_loaded: Whether the model was listed.
        tokens: Its window; None if the server does not list it, as before 0.12.
    """

    asked_at: float
    is_loaded: bool
    tokens: int | None = None


def find_loaded(metadata: ServerMetadata, model: str, known: ModelMetadata, loaded: LoadedList) -> LoadedWindow:
    """Find a model among the loaded ones; models with the same weights are one model, as on the server."""
    entry = find_loaded_model(
        model,
        loaded.entries,
        name_of_entry,
        lambda name: weights_of((known if name == model else metadata.show(name)).raw),
        may_share=lambda entry: _has_same_details(entry, known.raw),
    )
    if entry is None:
        return LoadedWindow(loaded.asked_at, is_loaded=False)
    tokens = reported_count(entry.get("context_length"), least=1, most=MAX_NUM_CTX)
    return LoadedWindow(loaded.asked_at, is_loaded=True, tokens=tokens)


def _has_same_details(entry: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Return whether the weights may be the same, so that it is worth a request to know."""
    one, other = entry.get("details"), shown.get("details")
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    one, other = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
    return all(one.get(name) == other.get(name) for name in ("family", "quantization_level"))


@dataclass
class WindowState:
    """The window of one model, as far as it is known, and the requests that are under way. All times are monotonic.

    What `/api/ps` shows counts only if it is newer than the last reply, and never while the server may be loading the
    model for a request of this process: meanwhile it lists the previous window, or nothing.

    A request that was sent with a smaller window, and reaches the server after one with a larger window, makes the
    server load the model twice. So a request that needs a larger window waits until the earlier ones were answered.
    Requests that come meanwhile wait too, and the largest window that any of them needs is loaded at once.

    Attributes:
        is_loaded: Whether the model is loaded, or about to be for a request of this process.
        tokens: Its window then; None if the server does not list it.
        num_ctx: The `num_ctx` that was sent last; None for none.
        committed_at: When that was decided.
        answered_at: When the last reply to such a request came.
        is_loading: Whether a request of this process makes the server load the model, and was not answered yet.
        has_default: Whether a request of this process had it loaded with the default window, whose size the server has
            not listed since.
        default: The window that the model is loaded with by default, once learned.
        least_default: Tokens that the default window has at least, since the model read so long a prompt.
        has_asked: Whether the server was asked for the sake of the default.
    """

    is_loaded: bool = False
    tokens: int | None = None
    num_ctx: int | None = None
    committed_at: float = -math.inf
    answered_at: float = -math.inf
    is_loading: bool = False
    has_default: bool = False
    default: int | None = None
    least_default: int = 0
    has_asked: bool = False
    _refused_tokens: int = 0
    _refused_until: float = -math.inf
    # Windows and times of the requests that were sent, by the identity of their windows; what the waiting ones need.
    _sent: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    _waiting: dict[SimpleQueue[None], int] = field(default_factory=dict[SimpleQueue[None], int])

    def may_be_loading(self, now: float) -> bool:
        """Return whether the server may be loading the model for a request of this process."""
        return self.is_loading and now - self.committed_at < _LOAD_SECONDS

    def memory_limit(self, now: float) -> int | None:
        """Return the window to grow to at most since the server ran out of memory; None if it did not."""
        return self._refused_tokens // 2 if now < self._refused_until else None

    def needs_newer(self, asked_at: float) -> bool:
        """Return whether a newer list than that of `asked_at` would show the default window."""
        return self.has_default and self.default is None and not self.has_asked and asked_at <= self.answered_at

    def record_loaded(self, loaded: LoadedWindow, now: float) -> bool:
        """Record what the server lists, and return whether the model was unloaded meanwhile."""
        if self.may_be_loading(now) or loaded.asked_at <= self.answered_at:
            return False
        was_loaded, self.is_loading, self.is_loaded = self.is_loaded, False, loaded.is_loaded
        if not loaded.is_loaded:
            self.tokens, self.has_default = None, False
            return was_loaded
        if loaded.tokens is not None:
            if self.has_default:
                self.default, self.least_default = loaded.tokens, 0
            self.tokens, self.has_default = loaded.tokens, False
        return False

    def commit(self, num_ctx: int | None, tokens: int, *, is_default: bool, now: float) -> None:
        """Record what a request asks for, and the window that the model has when it answers."""
        if not self.is_loaded or tokens != self.tokens:
            self.is_loading, self.has_default = True, is_default
        self.is_loaded, self.tokens, self.num_ctx, self.committed_at = True, tokens, num_ctx, now

    def record_reply(self, num_ctx: int | None, tokens: int, now: float) -> None:
        """Record that a request was answered, so that the model has the window that it asked for."""
        if num_ctx != self.num_ctx:
            return
        if not self.is_loaded:
            self.is_loaded, self.tokens = True, tokens
        self.is_loading, self.answered_at = False, now

    def record_longer_prompt(self, tokens: int) -> None:
        """Record that the default window has at least so many tokens, whatever was known of it."""
        self.least_default = max(self.least_default, tokens)
        self.default, self.has_asked = None, False
        if self.num_ctx is None:
            self.tokens, self.has_default = None, True

    def record_failure(self, num_ctx: int | None, now: float) -> bool:
        """Record that a request failed, and return whether the server may have loaded something else."""
        if num_ctx != self.num_ctx or not self.is_loading:
            return False
        self.is_loading = self.is_loaded = self.has_default = False
        self.tokens, self.answered_at = None, now
        return True

    def record_out_of_memory(self, tokens: int, now: float) -> None:
        """Record that the server had no memory for a window."""
        self._refused_tokens, self._refused_until = tokens, now + _OUT_OF_MEMORY_SECONDS

    def most_needed(self, needed: int) -> int:
        """Return the most tokens that one of the waiting requests needs, or `needed`."""
        return max((needed, *self._waiting.values()))

    def seconds_to_wait(self, tokens: int, now: float) -> float:
        """Return how long a request has to wait at most for those with a smaller window; 0 for not at all."""
        return max((at + ARRIVAL_SECONDS - now for smaller, at in self._sent.values() if smaller < tokens), default=0.0)

    def start_waiting(self, needed: int) -> SimpleQueue[None]:
        """Return a queue that gets an item whenever a request was answered."""
        answered: SimpleQueue[None] = SimpleQueue()
        self._waiting[answered] = needed
        return answered

    def stop_waiting(self, answered: SimpleQueue[None]) -> None:
        """Forget a waiting request."""
        del self._waiting[answered]

    def add_request(self, window: object, tokens: int, now: float) -> None:
        """Record that a request for a window is about to be sent."""
        self._sent = {key: sent for key, sent in self._sent.items() if now - sent[1] < ARRIVAL_SECONDS}
        self._sent[id(window)] = tokens, now

    def remove_request(self, window: object) -> None:
        """Record that a request was answered or failed, and wake those that wait."""
        if self._sent.pop(id(window), None) is not None:
            for answered in self._waiting:
                answered.put(None)


class ServerWindows:
    """The windows of the models on one server.

    Attributes:
        default: Window that the server loads models with by default, once learned. Where a model was made for less, it
            is the model's.
        ps_breaker: Open while the server is not asked again what is loaded, since it did not answer.
    """

    def __init__(self, max_models: int = _MAX_MODELS) -> None:
        self.default: int | None = None
        self.ps_breaker = CircuitBreaker()
        self._states: LRUCache[str, WindowState] = LRUCache(max_models)
        self._keys: LRUCache[str, tuple[Mapping[str, Any], str]] = LRUCache(max_models)

    def __len__(self) -> int:
        return len(self._states)

    def state(self, model: str, known: ModelMetadata | None = None) -> WindowState:
        """Return the state of a model; models with the same weights have one, as on the server.

        Args:
            model: Its name.
            known: Its metadata; None for that which it was found with before.
        """
        cached = self._keys.get(model)
        if known is not None and (cached is None or cached[0] is not known.raw):
            cached = self._keys[model] = known.raw, weights_of(known.raw) or model_key(model)
        key = model_key(model) if cached is None else cached[1]
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = WindowState()
        return state

    def record_default(self, tokens: int, limit: int | None) -> None:
        """Record the default window of a model that was made for at most `limit` tokens."""
        is_whole = limit is None or tokens < limit
        self.default = tokens if is_whole else max(tokens, self.default or 0)


class WindowRegistry:
    """The windows of all servers. Callers hold `lock` while they use one."""

    def __init__(self) -> None:
        self.start_afresh()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Begin anew in a forked process, where the thread that held the lock may be gone."""
        self.lock = threading.Lock()
        self._servers: LRUCache[str, ServerWindows] = LRUCache(_MAX_SERVERS)

    def server(self, address: str) -> ServerWindows:
        """Return the windows of a server."""
        windows = self._servers.get(address)
        if windows is None:
            windows = self._servers[address] = ServerWindows()
        return windows

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self._servers.clear()


window_registry = WindowRegistry()

reset_with_shared_state(window_registry.clear)
