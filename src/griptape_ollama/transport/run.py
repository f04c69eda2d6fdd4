"""What all requests of one run share: the clock, the limits, cancellation, and waits that it interrupts."""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
import weakref
from collections.abc import Callable, Generator
from typing import Protocol, TypeVar

from griptape_ollama.errors import OllamaCancelledError, OllamaTimeoutError
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.cancel_scope import register_in_open_scopes
from griptape_ollama.transport.stoppable_sockets import Cancellation
from griptape_ollama.transport.timeouts import OllamaTimeout

T = TypeVar("T")


class Run:
    """One run of a driver, from its first request for metadata to its last reply, with the waits between them.

    It is stopped with each scope that is open where it is made.

    Args:
        limits: Limits; `total` counts from here.
        wait_for_server: Seconds for which an unreachable server is tried again.
        host: Address of the server, without user and password, for errors.
        model: Model of the requests, likewise.

    Attributes:
        cancellation: Ends the wait of the run when it is cancelled.
        limits: Limits of each request.
        ends_at: When the total limit is reached, on the clock of `time.monotonic`; infinite if there is none.
        wait_for_server: Seconds for which an unreachable server is tried again.
        has_waited: Whether a request waited for the server in vain; no other request of the run waits again.
    """

    def __init__(
        self,
        limits: OllamaTimeout | None = None,
        *,
        wait_for_server: float = 0.0,
        host: str | None = None,
        model: str | None = None,
    ) -> None:
        self.cancellation = Cancellation()
        self.limits = limits or OllamaTimeout()
        self.wait_for_server = wait_for_server
        self.has_waited = False
        self._host = host
        self._model = model or None
        total = self.limits.total
        self.ends_at = math.inf if total is None else time.monotonic() + total
        register_in_open_scopes(self)

    def cancel(self) -> None:
        """Stop the run, in any phase, from any thread. Harmless when repeated, and after its end."""
        self.cancellation.cancel()

    def check(self) -> None:
        """Raise if the run was cancelled, between two requests.

        Raises:
            OllamaCancelledError: It was stopped.
        """
        if self.cancellation.is_cancelled:
            raise OllamaCancelledError(f"{self._subject} was cancelled.", host=self._host, model=self._model)

    def wait(self, woken: queue.SimpleQueue[None], seconds: float | None) -> bool:
        """Wait until another thread puts something into a queue, and return whether it did before the time was over.

        Args:
            woken: The queue.
            seconds: Longest wait; None for no limit but the run's.

        Raises:
            OllamaCancelledError: The run was stopped.
        """
        with self.cancellation.wakes(lambda: woken.put(None)):
            try:
                woken.get(timeout=self.shorter(seconds))
            except queue.Empty:
                return False
        self.check()
        return True

    @contextlib.contextmanager
    def waiting_until(
        self, is_so: Callable[[], bool], changed: threading.Condition, seconds: float | None = None
    ) -> Generator[bool, None, None]:
        """Wait until something is so, then hold the condition in the block; yields False if the time is over.

        Args:
            is_so: Called at first and after each notification, with the condition held.
            changed: Notified by other threads.
            seconds: Longest wait; None for no limit but the run's.

        Raises:
            OllamaCancelledError: The run was stopped.
        """

        def wake() -> None:
            with changed:
                changed.notify_all()

        with self.cancellation.wakes(wake), changed:
            found = changed.wait_for(lambda: is_so() or self.cancellation.is_cancelled, self.shorter(seconds))
            self.check()
            yield found

    def sleep(self, seconds: float) -> None:
        """Wait, no longer than the total limit.

        Raises:
            OllamaCancelledError: The run was stopped.
        """
        self.cancellation.sleep(self.shorter(seconds) or 0.0)
        self.check()

    def timeout_error(self) -> OllamaTimeoutError:
        """Return the error of a total limit that has passed."""
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
        return time.monotonic() >= self.ends_at

    def shorter(self, seconds: float | None) -> float | None:
        """Cut a number of seconds to what is left of the total limit; above 0 in any case."""
        if self.ends_at == math.inf:
            return seconds
        left = max(self.ends_at - time.monotonic(), 0.001)
        return left if seconds is None else min(seconds, left)


class PendingCall(Protocol):
    """What a task awaits, and whose run begins in another thread a moment later."""

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun and not ended."""
        ...

    def cancel(self) -> None:
        """Stop. Harmless when repeated, and after the end."""
        ...


class ActiveRuns:
    """The runs of one driver that are under way, on any thread."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
        # Adding to a set, copying it and discarding from it are each one step, as the garbage collector needs it.
        self._awaited: set[weakref.ref[PendingCall]] = set()
        # Reentrant, since a signal handler may cancel in the very thread that is starting a run.
        self._lock = threading.RLock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Drop the runs of the parent process."""
        self.__init__()

    @contextlib.contextmanager
    def tracking(self, run: Run) -> Generator[Run, None, None]:
        """Track a run in the block.

        Raises:
            OllamaCancelledError: It was stopped before its start.
        """
        with self._lock:
            self._runs.add(run)
        try:
            run.check()
            yield run
        finally:
            with self._lock:
                self._runs.discard(run)

    def watch(self, awaited: PendingCall) -> None:
        """Track a pending call from its own beginning on, before its run is there."""
        self._awaited.add(weakref.ref(awaited, self._awaited.discard))

    def cancel(self) -> None:
        """Stop them all. Runs that start later are not concerned."""
        for reference in self._awaited.copy():
            awaited = reference()
            if awaited is not None and awaited.is_under_way:
                awaited.cancel()
        with self._lock:
            runs = list(self._runs)
        for run in runs:
            run.cancel()
