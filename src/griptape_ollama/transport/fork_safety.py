"""Connection pools in a forked process."""

from __future__ import annotations

import contextlib
from typing import Any


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
