"""Log lines that a process writes once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable

from cachetools import LRUCache

from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

_MAX_KEYS = 4096


class _Logged:
    """The keys that were logged last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: LRUCache[Hashable, None] = LRUCache(_MAX_KEYS)
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()

    def add(self, key: Hashable) -> bool:
        """Add a key, and return whether it was missing."""
        with self._lock:
            is_new = key not in self._keys
            self._keys[key] = None
            return is_new


_logged = _Logged()
reset_with_shared_state(_logged.clear)


def log_once(logger: logging.Logger, level: int, message: str, *args: object, key: Hashable = None) -> bool:
    """Log a message unless this process has logged it already, and return whether it was logged.

    Args:
        logger: The logger.
        level: Level of the message, as in `logging`.
        message: The message, with `%` placeholders.
        args: Values of the placeholders.
        key: Identifies the message; by default the message with its values. The last 4,096 keys are known.
    """
    is_new = _logged.add((logger.name, (message, *map(str, args)) if key is None else key))
    if is_new:
        # The caller's file and line, not those of this module.
        logger.log(level, message, *args, stacklevel=2)
    return is_new
