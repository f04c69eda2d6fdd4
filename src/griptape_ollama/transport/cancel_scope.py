"""Scopes of cancellation: what runs inside can be stopped from outside, on any thread.

A context variable holds the scopes that are open, so that they reach wherever the framework carries context variables:
tasks, tools, and the threads that these run on.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Generator
from contextvars import ContextVar
from types import TracebackType
from typing import Protocol

from typing_extensions import Self

from griptape_ollama.protocol.numbers import check_seconds
from griptape_ollama.shared_state import renew_when_forked

_open: ContextVar[tuple[CancelScope, ...]] = ContextVar("ollama_cancel_scopes", default=())


class Cancellable(Protocol):
    """What can be stopped."""

    def cancel(self) -> None:
        """Stop. Harmless when repeated, and after the end."""
        ...


class CancelScope:
    """Stops all requests to Ollama that start within its `with` block, on any thread.

    Made by `cancel_scope` or `cancel_after`. A cancelled scope stays cancelled: whatever is asked inside it later fails
    at once. What is asked outside it is not concerned.

    Args:
        seconds: Cancel it by itself, that many seconds after its block was entered; None for never.

    Raises:
        OllamaContentError: That is no number of seconds.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = None if seconds is None else _checked_seconds(seconds)
        self._is_cancelled = False
        self._blocks: list[None] = []
        self._timer: threading.Timer | None = None
        self._threads: list[threading.Thread] = []
        # Adding to a set, copying it and discarding from it are each one step: no lock that a signal handler, or the
        # garbage collector, could find taken by its own thread.
        self._members: set[weakref.ref[Cancellable]] = set()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Drop members of the parent process: their threads and sockets are not those of this one."""
        self._members.clear()
        self._timer = None
        self._threads.clear()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._is_cancelled

    def cancel(self) -> None:
        """Stop the requests inside, in any phase, and those that start there later.

        From any thread, and from a signal handler. Harmless before the start, when repeated, and after the end.
        """
        self._is_cancelled = True
        self._stop_timer()
        for member in self._members.copy():
            if (each := member()) is not None:
                each.cancel()

    def cancel_after(self, seconds: float) -> None:
        """Cancel it by itself, that many seconds from now, unless its block is left before.

        A later call takes the place of an earlier one.

        Args:
            seconds: How long from now; 0 is at once.

        Raises:
            OllamaContentError: That is no number of seconds.
        """
        wait = _checked_seconds(seconds)
        self._stop_timer()
        timer = threading.Timer(wait, self.cancel)
        timer.name = "griptape-ollama-cancel-after"
        timer.daemon = True
        self._timer = timer
        timer.start()
        self._threads = [*(each for each in self._threads if each.is_alive()), timer]
        if self._is_cancelled:
            self._stop_timer()

    def join(self, member: Cancellable) -> None:
        """Stop a member together with the scope, for as long as the member exists."""
        # Added first and checked then, so that a `cancel` in between, or one that interrupts this, misses nothing.
        self._members.add(weakref.ref(member, self._members.discard))
        if self._is_cancelled:
            member.cancel()

    def __enter__(self) -> Self:
        _open.set((*_open.get(), self))
        self._blocks.append(None)
        if self._seconds is not None and self._timer is None:
            self.cancel_after(self._seconds)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not by a token: a generator may be closed in another context than it began in.
        scopes = list(_open.get())
        if self in scopes:
            del scopes[len(scopes) - 1 - scopes[::-1].index(self)]
            _open.set(tuple(scopes))
        self._blocks.pop()
        if not self._blocks:
            self._stop_timer()
            for thread in self._threads:
                thread.join()
            self._threads = []

    def _stop_timer(self) -> None:
        # Taken away first: a signal handler that cancels must not stop the same timer, whose lock its thread may hold.
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def cancel_scope() -> CancelScope:
    """Return a scope that can be cancelled from any thread.

    ```python
    with cancel_scope() as scope:
        stop_button.on_click(scope.cancel)
        agent.run("Tell me a long story.")
    ```
    """
    return CancelScope()


def cancel_after(seconds: float) -> CancelScope:
    """Return a scope that is cancelled a number of seconds after its block was entered.

    Args:
        seconds: How long; 0 is at once.

    Raises:
        OllamaContentError: That is no number of seconds.
    """
    return CancelScope(seconds)


def register_in_open_scopes(member: Cancellable) -> None:
    """Stop a member together with each scope that is open here."""
    for scope in _open.get():
        scope.join(member)


@contextlib.contextmanager
def outside_scopes() -> Generator[None, None, None]:
    """Run the block outside the caller's scopes: other callers need its result too, or it restores a state."""
    before = _open.set(())
    try:
        yield
    finally:
        _open.reset(before)


def _checked_seconds(seconds: float) -> float:
    # What is longer no lock can wait for.
    return check_seconds(seconds, longest=threading.TIMEOUT_MAX)
