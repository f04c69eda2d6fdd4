"""Loads models ahead, beside the tasks that run."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable

POLL_SECONDS = 0.1
"""How often it is looked whether the model of the running task is there, so that it is loaded first."""


class Warmer:
    """Runs the loading in threads of its own, until it is stopped."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, is_time: Callable[[], bool], work: Callable[[], None]) -> None:
        """Do something as soon as it is time.

        Args:
            is_time: Asked again and again; whatever it raises ends the waiting.
            work: What is done then.
        """

        def run() -> None:
            while not is_time():
                if self._stopped.wait(POLL_SECONDS):
                    return
            if not self._stopped.is_set():
                work()

        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            # A load is stopped with the structure that it is for.
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(run,), name="ollama-lifecycle-warmer", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, cancel: Callable[[], None]) -> None:
        """Stop, and wait for the end.

        Args:
            cancel: Stops work that is under way.
        """
        self._stopped.set()
        for thread in self._threads:
            # What was about to begin when the others were stopped needs to be stopped, too.
            while thread.is_alive():
                cancel()
                thread.join(POLL_SECONDS)
