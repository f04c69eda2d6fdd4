"""What has to come back with a tool call in the next turn, and what the framework has no place for."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from griptape_ollama.conversion.turns import Turn

MAX_TURNS = 1000
"""Turns that are remembered per driver; a task has 20 of them at most, unless it is told otherwise."""


class TurnMemory:
    """Finds a turn again by the tag of one of its calls: all that survives from a call to the next turn."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, tags: Iterable[str], turn: Turn) -> None:
        """Remember a turn under the tags of its calls."""
        with self._lock:
            for tag in tags:
                self._turns[tag] = turn
                self._turns.move_to_end(tag)
            while len(self._turns) > MAX_TURNS:
                self._turns.popitem(last=False)

    def find(self, tag: str) -> Turn | None:
        """Give the turn of a call; None where it is not known (any more)."""
        with self._lock:
            return self._turns.get(tag)
