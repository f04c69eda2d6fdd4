"""The order in which requests for one model reach the server, so that its window only grows."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar, cast

from griptape_ollama.models.metadata_cache import LoadedList, ModelMetadata, ServerMetadata
from griptape_ollama.models.types import weights_of
from griptape_ollama.protocol.context_window import MAX_NUM_CTX
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.protocol.model_name import find_model, model_key, name_of_entry
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

ARRIVAL_SECONDS = 10.0
"""After so long a request has reached the server, which lets none that came later load another window before it."""


@dataclass
class Order:
    """Requests for one model that were not heard of yet, and those that wait for them. Whoever uses it holds the lock.

    A request that was decided before another made the window grow, and that arrives after it, would have the model
    loaded with the window before, and then anew. So whoever needs a larger window waits for the others to be answered,
    and who comes meanwhile waits with it: then the largest window that any of them needs is loaded at once.
    """

    _sent: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    _waiting: dict[SimpleQueue[None], int] = field(default_factory=dict[SimpleQueue[None], int])

    def most(self, needed: int) -> int:
        """Give the most tokens that one of those who wait needs, or `needed`."""
        return max((needed, *self._waiting.values()))

    def seconds_ahead(self, tokens: int, now: float) -> float:
        """Give how long a request for a window may have to wait for those with a smaller one; 0 for not at all."""
        return max((at + ARRIVAL_SECONDS - now for smaller, at in self._sent.values() if smaller < tokens), default=0.0)

    def wait(self, needed: int) -> SimpleQueue[None]:
        """Begin to wait, and give what is put into whenever a request was answered."""
        woken: SimpleQueue[None] = SimpleQueue()
        self._waiting[woken] = needed
        return woken

    def stop_waiting(self, woken: SimpleQueue[None]) -> None:
        """End a wait."""
        del self._waiting[woken]

    def send(self, request: object, tokens: int, now: float) -> None:
        """Note that a request, which is known by its identity, is about to be sent for a window."""
        self._sent = {key: sent for key, sent in self._sent.items() if now - sent[1] < ARRIVAL_SECONDS}
        self._sent[id(request)] = tokens, now

    def arrived(self, request: object) -> None:
        """Note that a request was answered, or failed."""
        if self._sent.pop(id(request), None) is not None:
            for woken in self._waiting:
                woken.put(None)


@dataclass(frozen=True)
class Sight:
    """One look at what is loaded.

    Attributes:
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
        is_listed: Whether the model is loaded.
        tokens: Its window; None where the server does not tell, as before 0.12.
    """

    asked_at: float
    is_listed: bool
    tokens: int | None = None


def sight_of(metadata: ServerMetadata, model: str, known: ModelMetadata, loaded: LoadedList) -> Sight:
    """Find a model among those that are loaded."""
    entry = _find(metadata, model, known, loaded)
    if entry is None:
        return Sight(loaded.asked_at, is_listed=False)
    tokens = to_count(entry.get("context_length"), least=1, most=MAX_NUM_CTX)
    return Sight(loaded.asked_at, is_listed=True, tokens=tokens)


def _find(metadata: ServerMetadata, model: str, known: ModelMetadata, loaded: LoadedList) -> Mapping[str, Any] | None:
    found = find_model(model, loaded.entries, name_of_entry)
    if found is not None:
        return found
    # Models with the same weights share one place, under the name that was loaded first (server 0.33).
    weights = weights_of(known.raw)
    if weights is None:
        return None
    named = ((name_of_entry(entry), entry) for entry in loaded.entries)
    alike = ((name, entry) for name, entry in named if name and _looks_alike(entry, known.raw))
    return next((entry for name, entry in alike if weights_of(metadata.show(name).raw) == weights), None)


def _looks_alike(entry: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Whether it may be the same weights, so that it is worth a request to know."""
    one, other = entry.get("details"), shown.get("details")
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    mine, theirs = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
    return all(mine.get(name) == theirs.get(name) for name in ("family", "quantization_level"))


V = TypeVar("V")

_MAX_SERVERS = 64
_MAX_MODELS = 256
# Other programs come and go: room that was not there may be later.
_NO_ROOM_SECONDS = 300.0
# The server gives up a load that does not get on for so long (OLLAMA_LOAD_TIMEOUT).
_LOAD_SECONDS = 300.0


@dataclass
class Remembered:
    """The window of one model, as far as is known. All times are on the clock of `time.monotonic()`.

    A look at the server counts only if it is newer than the last reply, and never while a load that was asked for here
    may be under way: meanwhile the server still lists the window before, or nothing.

    Attributes:
        is_loaded: Whether the model is loaded, or about to be for a request of ours.
        tokens: Its window then; None where the server does not tell.
        sent: The `num_ctx` that was sent last; None for nothing.
        settled_at: When that was decided.
        answered_at: When a reply came that was asked for like this.
        is_loading: Whether a request of ours makes the server load it, and was not answered yet.
        is_default: Whether a request of ours had it loaded with the default window, and the server has not told since
            how large that is.
        default: The window that it is loaded with by default, once learned.
        proven: What the default window has at least, since so long a prompt was read whole.
        has_looked: Whether the server was asked for the sake of the default.
        no_room_for: Window that the server had no room in memory for.
        no_room_until: Until when that counts.
        said: What was logged of it.
        order: Requests for it that are under way.
    """

    is_loaded: bool = False
    tokens: int | None = None
    sent: int | None = None
    settled_at: float = -math.inf
    answered_at: float = -math.inf
    is_loading: bool = False
    is_default: bool = False
    default: int | None = None
    proven: int = 0
    has_looked: bool = False
    no_room_for: int = 0
    no_room_until: float = -math.inf
    said: set[object] = field(default_factory=set[object])
    order: Order = field(default_factory=Order)

    def loads(self, now: float) -> bool:
        """Whether a request of ours may be loading it at this moment."""
        return self.is_loading and now - self.settled_at < _LOAD_SECONDS

    def room(self, now: float) -> int | None:
        """Size up to which it may grow since the server had no room for more; None where nothing is known of that."""
        return self.no_room_for // 2 if now < self.no_room_until else None

    def lacks_room(self, tokens: int, now: float) -> None:
        """Note that the server had no room for a window."""
        self.no_room_for, self.no_room_until = tokens, now + _NO_ROOM_SECONDS

    def needs_newer(self, asked_at: float) -> bool:
        """Whether a look that is newer than one from `asked_at` would tell the default window."""
        return self.is_default and self.default is None and not self.has_looked and asked_at <= self.answered_at

    def take_in(self, sight: Sight, now: float) -> bool:
        """Take in a look at the server, and tell whether it showed that the model was unloaded meanwhile."""
        if self.loads(now) or sight.asked_at <= self.answered_at:
            return False
        was_loaded, self.is_loading, self.is_loaded = self.is_loaded, False, sight.is_listed
        if not sight.is_listed:
            self.tokens, self.is_default = None, False
            return was_loaded
        if sight.tokens is not None:
            if self.is_default:
                self.default, self.proven = sight.tokens, 0
            self.tokens, self.is_default = sight.tokens, False
        return False

    def settle(self, num_ctx: int | None, tokens: int, *, is_default: bool, now: float) -> None:
        """Note what a request asks for, and what the model has when it answers.

        Args:
            num_ctx: What is sent.
            tokens: The window.
            is_default: Whether that is the default window of the server.
            now: The time.
        """
        if not self.is_loaded or tokens != self.tokens:
            self.is_loading, self.is_default = True, is_default
        self.is_loaded, self.tokens, self.sent, self.settled_at = True, tokens, num_ctx, now

    def answered(self, num_ctx: int | None, tokens: int, now: float) -> None:
        """Note that a request was answered: what it asked for is there."""
        if num_ctx != self.sent:
            return
        if not self.is_loaded:
            self.is_loaded, self.tokens = True, tokens
        self.is_loading, self.answered_at = False, now

    def prove(self, tokens: int) -> None:
        """Note that the default window has at least so many tokens, whatever was believed."""
        self.proven = max(self.proven, tokens)
        self.default, self.has_looked = None, False
        if self.sent is None:
            self.tokens, self.is_default = None, True

    def failed(self, num_ctx: int | None, now: float) -> bool:
        """Note that a request failed, and tell whether that leaves in doubt what is loaded."""
        if num_ctx != self.sent or not self.is_loading:
            return False
        self.is_loading = self.is_loaded = self.is_default = False
        self.tokens, self.answered_at = None, now
        return True


@dataclass
class Server:
    """What is remembered of one server.

    Attributes:
        default: Window that it loads models with by default, once learned; larger than a model, it was not seen whole.
        silent_until: Until when it is not asked again what is loaded, since it did not tell.
        said_silent: Whether that was logged.
        models: What is remembered of its models.
        keys: By which key a model is found there, with the facts that this comes from.
    """

    default: int | None = None
    silent_until: float = -math.inf
    said_silent: bool = False
    models: OrderedDict[str, Remembered] = field(default_factory=OrderedDict[str, Remembered])
    keys: OrderedDict[str, tuple[Mapping[str, Any], str]] = field(
        default_factory=OrderedDict[str, tuple[Mapping[str, Any], str]]
    )

    def find(self, model: str, known: ModelMetadata | None = None) -> Remembered:
        """Find what is remembered of a model; models with the same weights are one, as on the server.

        Args:
            model: Its name.
            known: Facts about it; None for those that it was found with before.
        """
        cached = self.keys.get(model)
        if known is not None and (cached is None or cached[0] is not known.raw):
            cached = self.keys[model] = known.raw, weights_of(known.raw) or model_key(model)
            _shorten(self.keys, _MAX_MODELS)
        return _found(self.models, model_key(model) if cached is None else cached[1], Remembered, _MAX_MODELS)

    def learn_default(self, tokens: int, limit: int | None) -> None:
        """Take in the default window of a model that was made for at most `limit` tokens."""
        is_whole = limit is None or tokens < limit
        self.default = tokens if is_whole else max(tokens, self.default or 0)


class Windows:
    """What is remembered of all servers. Whoever uses it holds the lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._servers: OrderedDict[str, Server] = OrderedDict()
        renew_when_forked(self)

    def server(self, address: str) -> Server:
        """Find what is remembered of a server."""
        return _found(self._servers, address, Server, _MAX_SERVERS)

    def clear(self) -> None:
        """Forget everything."""
        with self.lock:
            self._servers.clear()

    def start_afresh(self) -> None:
        """Begin anew in a forked process, where the thread that held the lock may be gone."""
        self.lock = threading.Lock()
        self._servers = OrderedDict()


windows = Windows()

reset_with_shared_state(windows.clear)


def _found(where: OrderedDict[str, V], key: str, make: Callable[[], V], most: int) -> V:
    found = where.get(key)
    if found is None:
        found = where[key] = make()
        _shorten(where, most)
    else:
        where.move_to_end(key)
    return found


def _shorten(what: OrderedDict[str, Any], most: int) -> None:
    while len(what) > most:
        what.popitem(last=False)
