"""Idle connections of a pool: closed in time, and forgotten in a forked process."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import httpcore

from griptape_ollama.shared_state import when_forked

SWEEP_SECONDS = 5.0
"""How often the thread checks, in seconds."""

THREAD_NAME = "ollama-idle-connections"


class IdleConnectionCloser:
    """Closes connections that were idle for longer than their pool allows.

    Pools do that themselves, but only when a request comes. Here one thread does it for all pools; it runs only while
    one of them has a connection.

    Args:
        seconds: How often the thread checks.
    """

    def __init__(self, seconds: float = SWEEP_SECONDS) -> None:
        self._seconds = seconds
        self._pools: dict[int, weakref.ref[httpcore.ConnectionPool]] = {}
        self._thread: threading.Thread | None = None
        self._is_pausing = threading.Event()
        # Reentrant, since a signal handler may send a request in the very thread that is at it.
        self._lock = threading.RLock()

    def close_when_idle(self, pool: httpcore.ConnectionPool) -> None:
        """Watch a pool for as long as it has connections.

        Args:
            pool: The pool, which has one now. It is referenced weakly.
        """
        with self._lock:
            self._pools[id(pool)] = weakref.ref(pool)
            self._start()

    def pause(self) -> None:
        """End the thread for now, so that a process can be forked without one."""
        self._is_pausing.set()
        if (thread := self._thread) is not None and thread is not threading.current_thread():
            thread.join(1)

    def resume(self) -> None:
        """Continue after a pause."""
        with self._lock:
            self._is_pausing.clear()
            if self._thread is None or not self._thread.is_alive():
                self._thread = None
                if self._pools:
                    self._start()

    def start_afresh(self) -> None:
        """Forget the pools of the process that this one was forked from: their connections are not its own."""
        self.__init__(self._seconds)

    def _start(self) -> None:
        if self._thread is None and not self._is_pausing.is_set():
            self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # The interpreter ends, or can start no thread: the next request does the work.
                self._thread = None

    def _run(self) -> None:
        expired: set[httpcore.ConnectionInterface] = set()
        while not self._is_pausing.wait(self._seconds):
            found = set[httpcore.ConnectionInterface]()
            with self._lock:
                pools = list(self._pools.items())
            for number, pool in pools:
                found |= self._close_expired(number, pool, expired)
            expired = found
            with self._lock:
                if not self._pools:
                    self._thread = None
                    return

    def _close_expired(
        self,
        number: int,
        known: weakref.ref[httpcore.ConnectionPool],
        expired: Collection[httpcore.ConnectionInterface],
    ) -> set[httpcore.ConnectionInterface]:
        """Close what was expired at the last check, too, and return the rest of what is.

        A request may have got a connection right before that expired, and use it a moment later. No request gets one
        that has expired: after a whole round, none comes any more.
        """
        pool = known()
        if not _open_connections(pool):
            with self._lock:
                # A request may have come meanwhile.
                if self._pools.get(number) is known and not _open_connections(pool):
                    del self._pools[number]
        found = {each for each in _open_connections(pool) if each.is_idle() and each.has_expired()}
        for each in found.intersection(expired):
            with suppress(OSError):
                each.close()
        return found.difference(expired)


def _open_connections(pool: httpcore.ConnectionPool | None) -> list[httpcore.ConnectionInterface]:
    return [] if pool is None else [each for each in pool.connections if not each.is_closed()]


_closer = IdleConnectionCloser()
close_when_idle = _closer.close_when_idle

when_forked(_closer.start_afresh, before=_closer.pause, after_in_parent=_closer.resume)


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
