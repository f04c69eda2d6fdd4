"""The runs that are under way, so that somebody else can stop them."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Generator
from typing import Protocol

from griptape_ollama.transport.forking import renew_when_forked
from griptape_ollama.transport.run import Run


class Awaited(Protocol):
    """What somebody awaits, whose run begins in another thread a moment later."""

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun and not ended."""
        ...

    def cancel(self) -> None:
        """Stop. Harmless when repeated, and after the end."""
        ...


class RunningRuns:
    """The runs of one driver that are under way, on any thread."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
        # Adding to a set, copying it and discarding from it are each one step, as the garbage collector needs it.
        self._awaited: set[weakref.ref[Awaited]] = set()
        # Reentrant, since a signal handler may cancel in the very thread that is starting a run.
        self._lock = threading.RLock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Forget the runs of threads that are gone."""
        self.__init__()

    @contextlib.contextmanager
    def tracking(self, run: Run) -> Generator[Run, None, None]:
        """Count a run as under way.

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

    def watch(self, awaited: Awaited) -> None:
        """Count something as under way from its own beginning on, before its run is there."""
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
