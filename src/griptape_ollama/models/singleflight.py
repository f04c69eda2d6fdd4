"""One transfer for everybody who asks for the same at the same time."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import attrs

from griptape_ollama.errors import OllamaCancelledError, OllamaError, OllamaTimeoutError
from griptape_ollama.models.progress import OnProgress, Progress
from griptape_ollama.models.types import TransferResult
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

Work = Callable[[Run, OnProgress], TransferResult]

# How long a caller who gives up waits for the task to have stopped, in seconds; it takes milliseconds.
_STOP_SECONDS = 1.0


@dataclass(frozen=True)
class Topic:
    """What a task is about.

    Attributes:
        action: `pull`, `push` or `create`.
        model: Model, as it was asked for.
        host: Address of the server, without user and password.
        key: What two callers have in common who want the same task.
    """

    action: str
    model: str
    host: str
    key: Hashable

    def cancelled(self) -> OllamaCancelledError:
        """Make the error for somebody who was told to stop."""
        return OllamaCancelledError(f"{self._subject} was cancelled.", host=self.host, model=self.model)

    def timed_out(self, seconds: float | None) -> OllamaTimeoutError:
        """Make the error for somebody whose total limit was reached."""
        return OllamaTimeoutError(
            f"{self._subject} took longer than {seconds:g} s in all (limit: total).",
            host=self.host,
            model=self.model,
            limit="total",
            seconds=seconds,
        )

    @property
    def _subject(self) -> str:
        return f"The {self.action} of model {self.model!r} by Ollama at {self.host}"


class Flights:
    """Tasks under way, by what they are about. Each runs in a thread of its own, for as long as anybody wants it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._flights: dict[Hashable, _Flight] = {}

    def join(self, topic: Topic, work: Work, run: Run, on_progress: OnProgress) -> TransferResult:
        """Wait for a task that is under way, or begin it.

        Args:
            topic: What the task is about.
            work: Does it, within a run, and tells how far it is. Called once, for all who wait.
            run: The run of the caller. When it is stopped or over, the caller leaves; the last one stops the task.
            on_progress: Called in the thread of the caller.

        Returns:
            What the task returned.

        Raises:
            OllamaCancelledError: The caller's run was stopped.
            OllamaTimeoutError: The caller's total limit was reached.
            OllamaError: What the task raised.
        """
        run.check()
        watcher = _Watcher(topic)
        with self._lock:
            flight = self._flights.get(topic.key)
            is_new = flight is None
            if flight is None:
                flight = self._flights[topic.key] = _Flight(work, attrs.evolve(run.limits, total=None))
            flight.add(watcher)
        try:
            if is_new:
                flight.start(lambda done: self._landed(topic.key, done))
            return watcher.follow(run, on_progress)
        finally:
            self._leave(topic.key, flight, watcher)

    def start_afresh(self) -> None:
        """Begin anew in a forked process, where the threads are gone."""
        self.__init__()

    def _leave(self, key: Hashable, flight: _Flight, watcher: _Watcher) -> None:
        with self._lock:
            is_last = flight.remove(watcher)
            if is_last:
                # Whoever comes now begins anew.
                self._landed(key, flight)
        if is_last:
            flight.stop()

    def _landed(self, key: Hashable, flight: _Flight) -> None:
        with self._lock:
            if self._flights.get(key) is flight:
                del self._flights[key]


class _Flight:
    """One task in its thread."""

    def __init__(self, work: Work, limits: OllamaTimeout) -> None:
        self._work = work
        # Whoever began it may leave, and others stay.
        with outside_scopes():
            self._run = Run(limits)
        self._lock = threading.RLock()
        self._watchers: list[_Watcher] = []
        self._latest: Progress | None = None
        self._ended = threading.Event()

    def start(self, landed: Callable[[_Flight], None]) -> None:
        """Begin."""
        # Log filters of the caller find what they look for.
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._fly, landed), name="griptape-ollama-transfer", daemon=True
        ).start()

    def add(self, watcher: _Watcher) -> None:
        """Let somebody wait."""
        with self._lock:
            self._watchers.append(watcher)
            if self._latest is not None:
                watcher.tell(self._latest)

    def remove(self, watcher: _Watcher) -> bool:
        """Let somebody go, and tell whether that was the last of them, with the task still under way."""
        with self._lock:
            self._watchers.remove(watcher)
            return not self._watchers and not self._ended.is_set()

    def stop(self) -> None:
        """Stop the task, and wait until it has stopped."""
        self._run.cancel()
        self._ended.wait(_STOP_SECONDS)

    def _fly(self, landed: Callable[[_Flight], None]) -> None:
        outcome: TransferResult | BaseException
        try:
            with outside_scopes():
                outcome = self._work(self._run, self._tell)
        except BaseException as error:  # noqa: BLE001 # raised again in the threads that wait
            outcome = error
        landed(self)
        with self._lock:
            self._ended.set()
            for watcher in self._watchers:
                watcher.end(outcome)

    def _tell(self, progress: Progress) -> None:
        with self._lock:
            self._latest = progress
            for watcher in self._watchers:
                watcher.tell(progress)


class _Watcher:
    """One caller who waits: what the task told meanwhile, and what it ended in."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._lock = threading.Lock()
        self._news: deque[Progress] = deque()
        self._outcome: TransferResult | BaseException | None = None
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()

    def tell(self, progress: Progress) -> None:
        """Keep the news. Whoever is slow hears of each status, not of each byte."""
        with self._lock:
            last = self._news[-1] if self._news else None
            if last is not None and (last.status, last.digest) == (progress.status, progress.digest):
                self._news[-1] = progress
                return
            self._news.append(progress)
        self._bell.put(None)

    def end(self, outcome: TransferResult | BaseException) -> None:
        """Keep what the task ended in."""
        with self._lock:
            self._outcome = outcome
        self._bell.put(None)

    def follow(self, run: Run, on_progress: OnProgress) -> TransferResult:
        """Pass on the news until the task has ended, or the run has."""
        run.guard.bind(lambda: self._bell.put(None))
        try:
            while True:
                outcome = self._pass_on(run, on_progress)
                if isinstance(outcome, BaseException):
                    # Each thread has an error of its own: raising changes it.
                    raise copy.copy(outcome) if isinstance(outcome, OllamaError) else outcome
                if outcome is not None:
                    return outcome
                self._wait(run)
        finally:
            run.guard.release()

    def _pass_on(self, run: Run, on_progress: OnProgress) -> TransferResult | BaseException | None:
        while True:
            with self._lock:
                if not self._news:
                    return self._outcome
                news = self._news.popleft()
            if run.guard.stopped:
                return self._topic.cancelled()
            on_progress(news)

    def _wait(self, run: Run) -> None:
        if run.guard.stopped:
            raise self._topic.cancelled()
        if run.is_over:
            raise self._topic.timed_out(run.limits.total)
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=run.shorter(None))


flights = Flights()
"""The transfers of this process."""
renew_when_forked(flights)
