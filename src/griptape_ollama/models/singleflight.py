"""One transfer for all callers that ask for the same at the same time."""

from __future__ import annotations

import contextvars
import copy
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import attrs

from griptape_ollama.errors import OllamaCancelledError, OllamaError, OllamaTimeoutError
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.models.progress import OnProgress
from griptape_ollama.models.types import TransferResult
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

Work = Callable[[Run, OnProgress], TransferResult]

# How long a caller that leaves waits for the transfer to stop, in seconds; it takes milliseconds.
_STOP_SECONDS = 1.0


@dataclass(frozen=True)
class TransferKey:
    """Identifies a transfer.

    Attributes:
        action: `pull`, `push` or `create`.
        model: Model, as it was requested.
        host: Address of the server, without user and password.
        key: Equal for callers that share a transfer.
    """

    action: str
    model: str
    host: str
    key: Hashable

    def cancelled(self) -> OllamaCancelledError:
        """Build the error of a caller that was cancelled."""
        return OllamaCancelledError(f"{self._subject} was cancelled.", host=self.host, model=self.model)

    def timed_out(self, seconds: float | None) -> OllamaTimeoutError:
        """Build the error of a caller whose total limit was reached."""
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


class SharedTransfers:
    """The transfers under way. Each runs in a thread of its own until it ends or all of its callers have left."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._transfers: dict[Hashable, _SharedTransfer] = {}

    def join(self, key: TransferKey, work: Work, run: Run, on_progress: OnProgress) -> TransferResult:
        """Wait for a transfer that is under way, or start it.

        Args:
            key: Identifies the transfer.
            work: Makes the transfer within a run, and reports its progress. Called once for all callers.
            run: The run of the caller. Its end does not stop the transfer unless this is the last caller.
            on_progress: Called in the thread of the caller.

        Raises:
            OllamaCancelledError: The caller's run was cancelled.
            OllamaTimeoutError: The caller's total limit was reached.
            OllamaError: The transfer failed.
        """
        run.check()
        caller = _Caller(key)
        with self._lock:
            transfer = self._transfers.get(key.key)
            is_new = transfer is None
            if transfer is None:
                transfer = self._transfers[key.key] = _SharedTransfer(work, attrs.evolve(run.limits, total=None))
            transfer.add(caller)
        try:
            if is_new:
                transfer.start(lambda ended: self._remove(key.key, ended))
            return caller.wait(run, on_progress)
        finally:
            self._leave(key.key, transfer, caller)

    def start_afresh(self) -> None:
        """Forget transfers whose threads are gone."""
        self.__init__()

    def _leave(self, key: Hashable, transfer: _SharedTransfer, caller: _Caller) -> None:
        with self._lock:
            is_last = transfer.remove(caller)
            if is_last:
                # A caller that comes now starts another transfer.
                self._remove(key, transfer)
        if is_last:
            transfer.cancel()

    def _remove(self, key: Hashable, transfer: _SharedTransfer) -> None:
        with self._lock:
            if self._transfers.get(key) is transfer:
                del self._transfers[key]


class _SharedTransfer:
    """One transfer in its thread."""

    def __init__(self, work: Work, limits: OllamaTimeout) -> None:
        self._work = work
        # The caller that starts it may leave while the rest wait on.
        with outside_scopes():
            self._run = Run(limits)
        self._lock = threading.RLock()
        self._callers: list[_Caller] = []
        self._latest: OllamaProgressEvent | None = None
        self._ended = threading.Event()

    def start(self, on_end: Callable[[_SharedTransfer], None]) -> None:
        """Start the thread."""
        # Log filters of the caller find their context variables.
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._transfer, on_end), name="griptape-ollama-transfer", daemon=True
        ).start()

    def add(self, caller: _Caller) -> None:
        """Add a caller."""
        with self._lock:
            self._callers.append(caller)
            if self._latest is not None:
                caller.report(self._latest)

    def remove(self, caller: _Caller) -> bool:
        """Remove a caller, and return whether it was the last one of a transfer under way."""
        with self._lock:
            self._callers.remove(caller)
            return not self._callers and not self._ended.is_set()

    def cancel(self) -> None:
        """Cancel the transfer, and wait until it has stopped."""
        self._run.cancel()
        self._ended.wait(_STOP_SECONDS)

    def _transfer(self, on_end: Callable[[_SharedTransfer], None]) -> None:
        outcome: TransferResult | BaseException
        try:
            with outside_scopes():
                outcome = self._work(self._run, self._report)
        except BaseException as error:  # noqa: BLE001 # raised again in the threads that wait
            outcome = error
        on_end(self)
        with self._lock:
            self._ended.set()
            for caller in self._callers:
                caller.end(outcome)

    def _report(self, progress: OllamaProgressEvent) -> None:
        with self._lock:
            self._latest = progress
            for caller in self._callers:
                caller.report(progress)


class _Caller:
    """One caller that waits: the progress that it has not seen yet, and the outcome."""

    def __init__(self, key: TransferKey) -> None:
        self._key = key
        self._lock = threading.Lock()
        self._progress: deque[OllamaProgressEvent] = deque()
        self._outcome: TransferResult | BaseException | None = None
        self._woken: queue.SimpleQueue[None] = queue.SimpleQueue()

    def report(self, progress: OllamaProgressEvent) -> None:
        """Add progress. A slow caller gets each status, but not each step within it."""
        with self._lock:
            last = self._progress[-1] if self._progress else None
            if last is not None and (last.status, last.digest) == (progress.status, progress.digest):
                self._progress[-1] = progress
                return
            self._progress.append(progress)
        self._woken.put(None)

    def end(self, outcome: TransferResult | BaseException) -> None:
        """Set the outcome."""
        with self._lock:
            self._outcome = outcome
        self._woken.put(None)

    def wait(self, run: Run, on_progress: OnProgress) -> TransferResult:
        """Report progress until the transfer has ended, or the run has."""
        while True:
            outcome = self._pass_on(run, on_progress)
            if isinstance(outcome, BaseException):
                # Each thread raises a copy, since raising changes an error.
                raise copy.copy(outcome) if isinstance(outcome, OllamaError) else outcome
            if outcome is not None:
                return outcome
            try:
                run.wait(self._woken, None)
            except OllamaCancelledError:
                raise self._key.cancelled() from None
            if run.is_over:
                raise self._key.timed_out(run.limits.total)

    def _pass_on(self, run: Run, on_progress: OnProgress) -> TransferResult | BaseException | None:
        while True:
            with self._lock:
                if not self._progress:
                    return self._outcome
                progress = self._progress.popleft()
            if run.cancellation.is_cancelled:
                return self._key.cancelled()
            on_progress(progress)


shared_transfers = SharedTransfers()
"""The transfers of this process."""
renew_when_forked(shared_transfers)
