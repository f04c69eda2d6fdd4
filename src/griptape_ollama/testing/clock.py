"""The simulator's time: real, scaled, or driven by a test."""

import math
import threading
import time

from griptape_ollama.testing.loop_waits import Bell

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
