"""Simulated time: real, scaled, or advanced by a test; and a condition that coroutines wait for."""

import asyncio
import math
import threading
import time
from collections.abc import Callable


class AsyncCondition:
    """Condition that coroutines wait for and that any thread may notify."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: set[asyncio.Future[None]] = set()

    def __len__(self) -> int:
        with self._changed:
            return len(self._waiting)

    def wait_for_waiters(self, n: int, timeout: float) -> bool:
        """Block the calling thread until n coroutines wait, and return whether they do."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._waiting) >= n, timeout)

    def notify_all(self) -> None:
        """Wake all waiting coroutines to check their predicates again."""
        with self._changed:
            waiting, self._waiting = self._waiting, set()
        for future in waiting:
            loop = future.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_wake, future)

    async def wait_until(self, is_true: Callable[[], bool], timeout: Callable[[], float | None] = lambda: None) -> None:
        """Wait until a predicate is true.

        Args:
            is_true: The predicate, called at once, after each notification and after each timeout.
            timeout: Function that returns the seconds until the next call without a notification, None for no limit.
        """
        while True:
            future = asyncio.get_running_loop().create_future()
            # Waiting begins before the predicate is called, so that no notification falls between the two.
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
    """Simulated time of loads, keep_alive, token pace, pulls and delays.

    Args:
        scale: Simulated seconds per real one. With 60 five minutes take five seconds; with 0 time stands still until
            `advance`.
    """

    def __init__(self, scale: float = 1.0) -> None:
        if not (scale >= 0 and math.isfinite(scale)):
            raise ValueError(f"time_scale={scale!r}: use 1 for real time, more for faster, 0 to advance it yourself")
        self._scale = scale
        self._lock = threading.Lock()
        self._changed = AsyncCondition()
        self._began_ns = time.time_ns()
        self._began = time.monotonic()
        self._added = 0.0

    @property
    def seconds(self) -> float:
        """Simulated seconds since the clock was built."""
        with self._lock:
            return (time.monotonic() - self._began) * self._scale + self._added

    @property
    def now_ns(self) -> int:
        """Simulated time in nanoseconds since 1970."""
        return self._began_ns + int(self.seconds * _SECOND)

    @property
    def sleepers(self) -> int:
        """Number of coroutines that wait for time to pass."""
        return len(self._changed)

    def wait_for_sleepers(self, n: int, timeout: float) -> bool:
        """Block the calling thread until n coroutines wait for time to pass, and return whether they do."""
        return self._changed.wait_for_waiters(n, timeout)

    def advance(self, seconds: float) -> None:
        """Move the time forward and wake the coroutines that waited for it.

        Raises:
            ValueError: The time is negative.
        """
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: time goes forward only")
        with self._lock:
            self._added += seconds
        self._changed.notify_all()

    async def sleep(self, seconds: float) -> None:
        """Wait for simulated seconds."""
        if seconds > 0:
            await self.sleep_until(self.seconds + seconds)

    async def sleep_until(self, due: float) -> None:
        """Wait until `seconds` has reached a value."""

        def rest() -> float | None:
            return max(0.0, due - self.seconds) / self._scale if self._scale else None

        await self._changed.wait_until(lambda: self.seconds >= due, rest)
