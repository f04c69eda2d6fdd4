"""Threads that are started for an event loop, which must not wait for them.

`Thread.start` returns when the new thread has begun, which may have worked for some milliseconds by then. A hundred
calls that begin at the same time would keep the event loop from everything else for the sum of these.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from griptape_ollama.transport.forking import renew_when_forked

THREAD_NAME = "griptape-ollama-start"


class Starter:
    """Calls functions in a thread, one after the other. The thread ends when there are no more."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._is_at_work = False
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Forget what was to be started in another process."""
        self.__init__()

    def add(self, start: Callable[[], object]) -> None:
        """Let a function be called soon.

        Args:
            start: The function. It must be quick, and raise nothing.

        Raises:
            RuntimeError: The system has no more threads.
        """
        with self._lock:
            if not self._is_at_work:
                # It waits for the lock before it looks.
                threading.Thread(target=self._work, name=THREAD_NAME, daemon=True).start()
                self._is_at_work = True
            self._due.append(start)

    def _work(self) -> None:
        while (start := self._next()) is not None:
            start()

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            if self._due:
                return self._due.popleft()
            self._is_at_work = False
            return None


starter = Starter()
"""Starts the threads of all event loops of this process."""
