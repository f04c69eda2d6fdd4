"""Objects that begin anew in a forked process, where the threads that served them or held their locks are gone."""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import Any, Protocol


class Renewable(Protocol):
    """What can begin anew."""

    def start_afresh(self) -> None:
        """Forget threads that are gone, and locks that they may have held."""
        ...


_objects: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_when_forked(what: Renewable) -> None:
    """Let an object begin anew in each process that is forked while it lives."""
    _objects.add(what)


def forget_connections(pool: Any) -> None:
    """Empty a connection pool in a forked process, where another process uses its connections.

    Two processes that read from one socket get each other's responses. Closing a socket here sends nothing, neither
    of TCP nor of TLS, while the other process has it open.

    Args:
        pool: A pool of httpcore. Its lock may be held by a thread that is gone.
    """
    inherited = list(pool.connections)
    pool._connections = []  # noqa: SLF001
    # A request of this thread that is being answered takes itself out later; those that wait belong to other threads.
    pool._requests = [each for each in pool._requests if not each.is_queued()]  # noqa: SLF001
    pool._optional_thread_lock = type(pool._optional_thread_lock)()  # noqa: SLF001
    for each in inherited:
        with contextlib.suppress(Exception):
            each.close()


def _renew() -> None:
    for each in tuple(_objects):
        each.start_afresh()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
