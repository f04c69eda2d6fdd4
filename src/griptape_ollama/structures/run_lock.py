"""A lock for runs of one structure, whose tasks keep the state of a run in themselves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from contextvars import ContextVar

from griptape.structures import Structure

from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.run import Run

_running: ContextVar[frozenset[int]] = ContextVar("ollama_running_structures", default=frozenset())


class RunLock:
    """Makes a run wait until an earlier one of the same structure has ended, also one that was left."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy: set[int] = set()

    def start_afresh(self) -> None:
        """Replace the lock in a forked process, where the threads that held it are gone."""
        self.__init__()

    @contextlib.contextmanager
    def held(self, structure: Structure) -> Generator[None, None, None]:
        """Hold the lock of a structure.

        Raises:
            OllamaCancelledError: A scope was cancelled while it waited.
        """
        key = id(structure)
        if key in _running.get():  # a structure that runs itself in a tool would wait for its own end
            yield
            return
        self._wait(key)
        before = _running.set(_running.get() | {key})
        try:
            yield
        finally:
            _running.reset(before)
            with self._changed:
                self._busy.discard(key)
                self._changed.notify_all()

    def _wait(self, key: int) -> None:
        with Run().waiting_until(lambda: key not in self._busy, self._changed):
            self._busy.add(key)


run_lock = RunLock()
"""The lock of all structures in this process."""

renew_when_forked(run_lock)
