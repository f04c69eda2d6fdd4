"""What all requests of one run share: the clock, the limits, and the stop."""

from __future__ import annotations

import time

from griptape_ollama.transport.limits import OllamaTimeout
from griptape_ollama.transport.scope import join_open_scopes
from griptape_ollama.transport.sockets import Guard


class Run:
    """One run of a driver, from its first line to its last: facts, requests, and the waits between them.

    It is stopped with each scope that is open where it is made.

    Args:
        limits: Limits; `total` counts from here.
        wait_for_server: Seconds for which a server that is not there is asked again.

    Attributes:
        guard: What the run waits for right now.
        limits: Limits of each request.
        wait_for_server: Seconds for which a server that is not there is asked again.
        has_waited: Whether it was waited for in vain, so that no other request of the run waits again.
    """

    def __init__(self, limits: OllamaTimeout | None = None, *, wait_for_server: float = 0.0) -> None:
        self.guard = Guard()
        self.limits = limits or OllamaTimeout()
        self.wait_for_server = wait_for_server
        self.has_waited = False
        self._started = time.monotonic()
        join_open_scopes(self)

    def cancel(self) -> None:
        """Stop the run, in any phase, from any thread. Harmless when repeated, and after its end."""
        self.guard.stop()

    @property
    def is_over(self) -> bool:
        """Whether the total limit has passed."""
        return self.limits.total is not None and time.monotonic() >= self._started + self.limits.total

    def shorter(self, seconds: float | None) -> float | None:
        """Cut a number of seconds to what is left of the total limit; above 0 in any case."""
        if self.limits.total is None:
            return seconds
        left = max(self._started + self.limits.total - time.monotonic(), 0.001)
        return left if seconds is None else min(seconds, left)
