"""What all requests of one run share: the clock, the limits, and the stop."""

from __future__ import annotations

import queue
import time

from griptape_ollama.errors import OllamaCancelledError, OllamaTimeoutError
from griptape_ollama.transport.limits import OllamaTimeout
from griptape_ollama.transport.scope import join_open_scopes
from griptape_ollama.transport.sockets import Guard


class Run:
    """One run of a driver, from its first line to its last: facts, requests, and the waits between them.

    It is stopped with each scope that is open where it is made.

    Args:
        limits: Limits; `total` counts from here.
        wait_for_server: Seconds for which a server that is not there is asked again.
        host: Address of the server that is asked, without user and password, for errors.
        model: Model that is asked for, likewise.

    Attributes:
        guard: What the run waits for right now.
        limits: Limits of each request.
        wait_for_server: Seconds for which a server that is not there is asked again.
        has_waited: Whether it was waited for in vain, so that no other request of the run waits again.
    """

    def __init__(
        self,
        limits: OllamaTimeout | None = None,
        *,
        wait_for_server: float = 0.0,
        host: str | None = None,
        model: str | None = None,
    ) -> None:
        self.guard = Guard()
        self.limits = limits or OllamaTimeout()
        self.wait_for_server = wait_for_server
        self.has_waited = False
        self._host = host
        self._model = model or None
        self._started = time.monotonic()
        join_open_scopes(self)

    def cancel(self) -> None:
        """Stop the run, in any phase, from any thread. Harmless when repeated, and after its end."""
        self.guard.stop()

    def check(self) -> None:
        """Raise if stopped, where nothing is asked for right now.

        Raises:
            OllamaCancelledError: It was stopped.
        """
        if self.guard.stopped:
            raise OllamaCancelledError(f"{self._subject} was cancelled.", host=self._host, model=self._model)

    def wait(self, woken: queue.SimpleQueue[None], seconds: float | None) -> bool:
        """Wait for another thread, and tell whether it was heard of; no longer than the total limit.

        Args:
            woken: What the other thread puts something into.
            seconds: Longest wait; None for no limit but the run's.

        Raises:
            OllamaCancelledError: The run was stopped.
        """
        self.guard.bind(lambda: woken.put(None))
        try:
            woken.get(timeout=self.shorter(seconds))
        except queue.Empty:
            return False
        finally:
            self.guard.release()
        self.check()
        return True

    def out_of_time(self) -> OllamaTimeoutError:
        """Make the error for a total limit that has passed."""
        seconds = self.limits.total
        return OllamaTimeoutError(
            f"{self._subject} took longer than {seconds:g} s in all (limit: total).",
            host=self._host,
            model=self._model,
            limit="total",
            seconds=seconds,
        )

    @property
    def _subject(self) -> str:
        if self._host is None:
            return "The run"
        return f"The run of {f'model {self._model!r} of ' if self._model else ''}Ollama at {self._host}"

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
