"""Waiting in the event loop for what another thread, or another request, changes."""

import asyncio
import math
import threading
import time
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


_SECOND = 1_000_000_000


class Clock:
    """Time as simulated models live through it.

    Loading, keep_alive, the pace of tokens, pulls and delays all pass on it.

    Args:
        scale: Simulated seconds per real one. With 60 five minutes take five seconds; with 0 time stands still until
            somebody advances it.
    """

    def __init__(self, scale: float = 1.0) -> None:
        if not (scale >= 0 and math.isfinite(scale)):
            raise ValueError(f"time_scale={scale!r}: use 1 for real time, more for faster, 0 to advance it yourself")
        self._scale = scale
        self._lock = threading.Lock()
        self._bell = Bell()
        self._began_ns = time.time_ns()
        self._began = time.monotonic()
        self._added = 0.0

    @property
    def seconds(self) -> float:
        """Simulated seconds since the clock was made."""
        with self._lock:
            return (time.monotonic() - self._began) * self._scale + self._added

    @property
    def now_ns(self) -> int:
        """Simulated time in nanoseconds since 1970."""
        return self._began_ns + int(self.seconds * _SECOND)

    @property
    def sleepers(self) -> int:
        """How many wait for time to pass."""
        return len(self._bell)

    def wait_for_sleepers(self, n: int, timeout: float) -> bool:
        """Block the calling thread until n wait for time to pass; give whether they do."""
        return self._bell.wait_for_waiters(n, timeout)

    def advance(self, seconds: float) -> None:
        """Let time pass at once; whoever waited for it goes on.

        Raises:
            ValueError: The time is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: time goes forward only")
        with self._lock:
            self._added += seconds
        self._bell.ring()

    async def sleep(self, seconds: float) -> None:
        """Wait for simulated seconds."""
        if seconds > 0:
            await self.sleep_until(self.seconds + seconds)

    async def sleep_until(self, due: float) -> None:
        """Wait until `seconds` has reached a value."""

        def rest() -> float | None:
            return max(0.0, due - self.seconds) / self._scale if self._scale else None

        await self._bell.until(lambda: self.seconds >= due, rest)
