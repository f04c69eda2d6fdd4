"""How models behave that no server tells: found out from their replies, and remembered for a while."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

IGNORES_FORMAT = "ignores format"
"""Replies under a `format` are no JSON: what runs the model does not know formats."""

UNOPENED_THINK_TAG = "lone think mark"
"""Thinking stands in the text without the mark that begins it, which is in the prompt."""

_SECONDS = 3600.0
_MAX_MODELS = 512

_Key = tuple[tuple[str, str], str]


class _Habit(NamedTuple):
    """What the server told of the model when it was found out, and until when it holds."""

    version: str
    until: float


class ModelQuirks:
    """Habits of models, by the connection and the name of each. They end with a new version of the model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._habits: OrderedDict[_Key, dict[str, _Habit]] = OrderedDict()

    def of(self, key: _Key, version: str) -> frozenset[str]:
        """Return the habits of a model.

        Args:
            key: Identity of the connection, and name of the model.
            version: What the server tells of its version now.
        """
        now = time.monotonic()
        with self._lock:
            known = self._habits.get(key, {})
            return frozenset(name for name, each in known.items() if each.until > now and each.version == version)

    def note(self, key: _Key, quirk: str, version: str) -> bool:
        """Remember a habit for an hour, and return whether it is new."""
        with self._lock:
            known = self._habits.setdefault(key, {})
            before = known.get(quirk)
            known[quirk] = _Habit(version, time.monotonic() + _SECONDS)
            self._habits.move_to_end(key)
            while len(self._habits) > _MAX_MODELS:
                self._habits.popitem(last=False)
            return before is None or before.version != version

    def drop(self, key: _Key, quirk: str) -> None:
        """Forget a habit that a reply did not show."""
        with self._lock:
            self._habits.get(key, {}).pop(quirk, None)

    def forget(self, base_url: str) -> None:
        """Forget the habits of all models of one server."""
        with self._lock:
            for key in [key for key in self._habits if key[0][0] == base_url]:
                del self._habits[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._habits.clear()

    def start_afresh(self) -> None:
        """Begin anew in a forked process, where threads that held the lock are gone."""
        self.__init__()


model_quirks = ModelQuirks()
renew_when_forked(model_quirks)
reset_with_shared_state(model_quirks.clear)
