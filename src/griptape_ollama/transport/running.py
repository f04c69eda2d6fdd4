"""The runs that are under way, so that somebody else can stop them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

from griptape_ollama.transport.forking import renew_when_forked
from griptape_ollama.transport.run import Run


class RunningRuns:
    """The runs of one driver that are under way, on any thread."""

    def __init__(self) -> None:
        self._runs: set[Run] = set()
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

    def cancel(self) -> None:
        """Stop them all. Runs that start later are not concerned."""
        with self._lock:
            runs = list(self._runs)
        for run in runs:
            run.cancel()
