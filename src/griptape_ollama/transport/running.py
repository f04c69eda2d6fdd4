"""The calls that are under way, so that somebody else can stop them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator

from griptape_ollama.transport.call import Call


class RunningCalls:
    """The calls of one driver that are under way, on any thread."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def tracking(self, call: Call) -> Generator[None, None, None]:
        """Count a call as under way."""
        with self._lock:
            self._calls.add(call)
        try:
            yield
        finally:
            with self._lock:
                self._calls.discard(call)

    def cancel(self) -> None:
        """Stop them all. Calls that start later are not concerned."""
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
