"""Waiting in the event loop for what another thread, or another request, changes."""

import asyncio
import threading
from collections.abc import Callable


class Bell:
    """Wakes coroutines that wait for something to become true; any thread may ring it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting)

    def wait_for_waiters(self, n: int, timeout: float) -> bool:
        """Block the calling thread until n wait; give whether they do."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._waiting) >= n, timeout)

    def ring(self) -> None:
        """Let everybody who waits look again."""
        with self._changed:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)

    async def until(self, is_true: Callable[[], bool], timeout: Callable[[], float | None] = lambda: None) -> None:
        """Wait until something is true.

        Args:
            is_true: Asked at once, and again each time that the bell rings or the time is over.
            timeout: Gives the seconds after which to ask again without a ring, None for never.
        """
        while True:
            future = asyncio.get_running_loop().create_future()
            # Waiting begins before the question, so that no ring falls between the two.
            with self._changed:
                self._waiting.add(future)
                self._changed.notify_all()
            try:
                if is_true():
                    return
                await asyncio.wait({future}, timeout=timeout())
            finally:
                with self._changed:
                    self._waiting.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
