"""A model in memory, and what its replies tell of it."""

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
from griptape_ollama.lifecycle.eviction import Resident, Room, make_room, next_to_warm, no_longer_needed
from griptape_ollama.lifecycle.keep_alive_replay import Use
from griptape_ollama.lifecycle.server_adapter import ModelServer
from griptape_ollama.lifecycle.usage import Ledger, Load
from griptape_ollama.models.types import LoadedModel

# For a model that is there, servers tell load times of some milliseconds (server 0.33).
_SHORTEST_LOAD_SECONDS = 0.1
# A model is listed for a moment after its time is over. One that is listed long after it answers just now, and stays
# for its keep_alive afterwards; or the server's clock is another, which a proxy with a `Date` of its own hides.
_PLACE_LEAVING_SECONDS = 5.0
_USUAL_STAY_SECONDS = 300.0


@dataclass
class Place:
    """A model in memory.

    Attributes:
        seen: The model as the server lists it; as far as is known, where it has not been seen.
        is_foreign: Whether somebody else loaded it.
        is_touched: Whether the structure used it.
        stay: Seconds that it would have stayed when it was seen first; -1 for good, None where unknown.
        options: Options that the structure asked it with the last time, of those that it is loaded with.
        load: How it was loaded; None where somebody else did.
        ready_at: When it was there, at the latest, on the clock of `time.monotonic`.
    """

    seen: LoadedModel
    is_foreign: bool = False
    is_touched: bool = False
    stay: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    load: Load | None = None
    ready_at: float = field(default_factory=time.monotonic)

    def note(self, use: Use) -> None:
        """Take in what a use of the model tells."""
        self.is_touched = True
        if self.load is not None and self.load.seconds is None:
            self.load.seconds = use.load_seconds or None
        self.ready_at = max(self.ready_at, use.begin + use.load_seconds)

    def was_reloaded_for(self, use: Use) -> bool:
        """Whether a use had the model loaded again, as one with other options does; not so one that waited with others.

        Who waited for the same load began before the model was ready.
        """
        known = (self.load.seconds if self.load is not None else None) or 0.0
        is_load = use.load_seconds >= max(_SHORTEST_LOAD_SECONDS, known / 2)
        has_load = self.load is None or self.load.seconds is not None
        return is_load and has_load and use.begin + use.load_seconds / 2 > self.ready_at


def remaining_seconds(model: LoadedModel) -> float | None:
    """Return the seconds that a model has left if nobody uses it; -1 for good, None where unknown.

    Where the time is long over, that is Ollama's default.
    """
    if model.expires_at is None or model.stays_for_good:
        return -1 if model.stays_for_good else None
    left = (model.expires_at - datetime.now(timezone.utc)).total_seconds()
    return max(left, 0.0) if left > -_PLACE_LEAVING_SECONDS else _USUAL_STAY_SECONDS


T = TypeVar("T")

# A server that hangs is not asked again for so many seconds.
_SILENCE_SECONDS = 60.0
# So long may `/api/ps` list a model that was unloaded (server 0.33); one that is there later was loaded anew.
_LEAVING_SECONDS = 10.0

_logger = logging.getLogger("griptape_ollama.lifecycle")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the structure wants at this moment.

    Attributes:
        coming: Distances of the next uses of models that are still to be used.
        busy: Models that steps which run now may use.
    """

    coming: Mapping[str, int]
    busy: Collection[str]


class Residence:
    """The memory of one server.

    What is known comes from `/api/ps`, which is asked before and after each load and not otherwise. Requests are made
    one after the other under `_acting`; what is known is guarded by `_lock`, which nobody holds while asking.

    Args:
        server: The server.
        room: What fits.
        ledger: Where loads and unloads are noted.
        unload_foreign: Whether models that somebody else loaded may be unloaded, too.
    """

    def __init__(self, server: ModelServer, room: Room, ledger: Ledger, *, unload_foreign: bool = False) -> None:
        self.server = server
        self._room = room
        self._ledger = ledger
        self._unload_foreign = unload_foreign
        self._lock = threading.Lock()
        self._acting = threading.RLock()
        self._places: dict[str, Place] = {}
        self._ours: set[str] = set()
        self._arriving: set[str] = set()
        self._warming: set[str] = set()
        self._leaving: dict[str, float] = {}
        self._sizes: dict[str, int] = {}
        self._silent_until = 0.0

    def begin(self) -> None:
        """Look what is there before anything else: all of it is somebody else's."""
        with self._acting:
            self._look()

    def know(self, model: str, name: str) -> None:
        """Take in a model of the structure."""
        self._ledger.know(self.server.host, model, name)
        with self._lock:
            place = self._places.get(model)
        if place is not None and place.is_foreign:
            self._ledger.was_present(self.server.host, [model])

    def expect_size(self, model: str, size: int) -> None:
        """Take a size for a model until the server tells the real one."""
        with self._lock:
            self._sizes.setdefault(model, size)

    def only_chat_model(self) -> str | None:
        """Name the model that drivers without one ask; None where they will find none either."""
        return self._ask(self.server.only_chat_model)

    def is_there(self, model: str) -> bool:
        """Whether a model is in memory, as far as is known."""
        with self._lock:
            return model in self._places

    def need(self, model: str, options: Mapping[str, Any], wanted: Callable[[], Wanted]) -> None:
        """Make room for a model that is about to be asked, unless it is there or room was made already.

        Args:
            model: The model.
            options: Options that it is going to be asked with, of those that it is loaded with.
            wanted: Called when the decision is made.
        """
        if self._touch(model, options) or self._is_arriving(model):
            return
        with self._ledger.asking():
            self._acting.acquire()
        try:
            self._look()
            if self._touch(model, options):
                return
            now = wanted()
            with self._lock:
                size = self._sizes.get(model, 0)
                eviction = make_room(self._residents(now.busy), now.coming, self._room, model, size)
            for each in eviction.models:
                self._unload(each, to_make_room=True)
            if not eviction.is_enough:
                _logger.debug("No room for %s at %s: what is there is in use or not ours.", model, self.server.host)
            with self._lock:
                self._ours.add(model)
                self._arriving.add(model)
        finally:
            self._acting.release()

    def answered(self, use: Use, name: str) -> None:
        """Note that a model answered: if it was not known to be there, it was loaded for that.

        Args:
            use: The use of the model.
            name: Its name.
        """
        load = Load(use.load_seconds or None)
        with self._lock:
            place = self._places.get(use.model)
            is_reload = place is not None and place.was_reloaded_for(use)
            if place is not None:
                place.note(use)
        if is_reload:
            self._ledger.loaded(self.server.host, use.model, load)
        if place is not None:
            return
        with self._ledger.asking():
            self._acting.acquire()
        try:
            self._arrived(use.model, name, load, use.begin + use.load_seconds)
            self._look()
        finally:
            self._acting.release()

    def look_for(self, models: Iterable[str]) -> None:
        """Look whether models came that nobody heard of: what asks for vectors says nothing of it."""
        with self._lock:
            missing = self._arriving.intersection(models)
        if missing:
            with self._acting:
                self._look()

    def release(self, wanted: Callable[[], Wanted]) -> None:
        """Unload what no coming step needs, and let models of others go when they would have gone."""
        now = wanted()
        with self._lock:
            self._arriving.intersection_update({*now.busy, *self._warming})
            touched = [each for each in self._residents(now.busy) if each.model in self._touched()]
            gone = no_longer_needed(touched, now.coming)
            kept = [
                each.model
                for each in touched
                if not each.is_movable and not each.is_busy and each.model not in now.coming
            ]
        if not gone and not kept:
            return
        with self._acting:
            for model in gone:
                self._unload(model, to_make_room=False)
            for model in kept:
                self._give_back(model)

    def next_to_warm(self, openings: Mapping[str, int], busy: Collection[str]) -> str | None:
        """Choose the model to load ahead; it counts as being there from now on.

        Args:
            openings: Distances of the steps that ask a model first of all.
            busy: Models that steps which run now may use.
        """
        with self._lock:
            model = next_to_warm(self._residents(busy), openings, self._room, self._sizes)
            if model is not None:
                self._ours.add(model)
                self._arriving.add(model)
                self._warming.add(model)
            return model

    def give_up(self, model: str) -> None:
        """Do not load ahead what was chosen for it."""
        with self._lock:
            self._warming.discard(model)
            self._arriving.discard(model)

    def warm(self, model: str, name: str, keep_alive: Any, options: Mapping[str, Any]) -> None:
        """Load a model ahead.

        Args:
            model: What it is known by.
            name: Its name.
            keep_alive: How long it stays.
            options: Options that it is loaded with.
        """
        try:
            seconds = self.server.warm(name, keep_alive=keep_alive, options=options)
        except OllamaError as error:
            self.give_up(model)
            _logger.debug("Not loaded ahead: %s", printable(str(error)))
            # It may have been too late to stop it.
            with self._acting:
                self._look()
            return
        with self._acting:
            self._arrived(model, name, Load(seconds, is_ahead=True))
            self._look()

    def _arrived(self, model: str, name: str, load: Load, ready_at: float | None = None) -> None:
        with self._lock:
            self._ours.add(model)
            self._leaving.pop(model, None)
            self._arriving.discard(model)
            self._warming.discard(model)
            if model in self._places:
                return
            seen = LoadedModel(name=name, size=self._sizes.get(model, 0))
            place = self._places[model] = Place(seen, is_touched=True, load=load)
            place.ready_at = place.ready_at if ready_at is None else ready_at
        self._ledger.loaded(self.server.host, model, load)

    def _touch(self, model: str, options: Mapping[str, Any]) -> bool:
        with self._lock:
            place = self._places.get(model)
            if place is not None:
                place.is_touched = True
                place.options = options
            return place is not None

    def _is_arriving(self, model: str) -> bool:
        with self._lock:
            return model in self._arriving

    def _touched(self) -> set[str]:
        return {model for model, place in self._places.items() if place.is_touched}

    def _residents(self, busy: Collection[str]) -> list[Resident]:
        """Give what is there or on its way, as the plan sees it."""
        there = [
            Resident(
                model=model,
                size=place.seen.size,
                is_busy=model in busy,
                is_movable=self._unload_foreign or not place.is_foreign,
            )
            for model, place in self._places.items()
        ]
        coming = [
            Resident(model=model, size=self._sizes.get(model, 0), is_busy=True, is_movable=False)
            for model in sorted(self._arriving.difference(self._places))
        ]
        return there + coming

    def _look(self) -> None:
        """Ask what is loaded, and take it for true."""
        found = self._ask(lambda: {self.server.key(model.name): model for model in self.server.loaded()})
        if found is None:
            return
        now = time.monotonic()
        appeared: list[tuple[str, str]] = []
        with self._lock:
            for model in [model for model in self._places if model not in found]:
                del self._places[model]
            self._leaving = {
                model: since
                for model, since in self._leaving.items()
                if model in found and now - since < _LEAVING_SECONDS
            }
            for key, model in found.items():
                if key in self._leaving:
                    continue
                if key not in self._places and key in self._ours:
                    appeared.append((key, model.name))
                    continue
                self._update(key, model)
        for key, name in appeared:
            self._arrived(key, name, Load())
            with self._lock:
                self._update(key, found[key])
        with self._lock:
            places = dict(self._places)
        self._ledger.saw(self.server.host, {model: place.seen.size for model, place in places.items()})
        for place in places.values():
            self._check_size(place)

    def _update(self, key: str, model: LoadedModel) -> None:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = Place(model, is_foreign=True, stay=remaining_seconds(model))
        place.seen = model
        self._sizes[key] = model.size

    def _check_size(self, place: Place) -> None:
        memory = self._room.memory
        seen = place.seen
        if memory is not None and seen.size > memory and not place.is_foreign:
            self._complain(f"Model {seen.name!r} takes {seen.size:,} bytes, more than memory={memory:,}.")

    def _unload(self, model: str, *, to_make_room: bool) -> None:
        with self._lock:
            place = self._places.get(model)
        if place is None or self._ask(lambda: self.server.unload(place.seen) or True) is None:
            return
        with self._lock:
            self._places.pop(model, None)
            self._ours.discard(model)
            self._leaving[model] = time.monotonic()
        self._ledger.unloaded(self.server.host, model, to_make_room=to_make_room)

    def _give_back(self, model: str) -> None:
        """Let a model that somebody else loaded stay for as long as it had left when it was seen first.

        With the options that it was asked with last, and the window that it has: with others it would be loaded again.
        """
        self._look()
        with self._lock:
            place = self._places.get(model)
            if place is None:
                return
            place.is_touched = False
        if place.stay is not None:
            name, window = place.seen.name, place.seen.context_length
            options = {**place.options, **({} if window is None else {"num_ctx": window})}
            stay = place.stay if place.stay < 0 else max(place.stay, 1.0)
            self._ask(lambda: self.server.warm(name, keep_alive=stay, options=options))

    def _ask(self, request: Callable[[], T]) -> T | None:
        """Make a request; None where it fails, which is no reason for the structure to fail."""
        if time.monotonic() < self._silent_until:
            return None
        try:
            with self._ledger.asking():
                return request()
        except OllamaCancelledError:
            return None  # with the structure, which says so itself
        except OllamaError as error:
            if isinstance(error, OllamaTimeoutError):
                self._silent_until = time.monotonic() + _SILENCE_SECONDS
            self._complain(f"{error} Going on without it.")
            return None

    def _complain(self, text: str) -> None:
        if self._ledger.problem(text):
            _logger.warning(text)
