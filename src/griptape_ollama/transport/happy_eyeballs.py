"""Connecting to a name with several addresses, where some of them may be dead (RFC 8305, "Happy Eyeballs").

One after the other, the first address that swallows packets would use up the whole limit for connecting. Here the next
one is tried after 250 ms, or at once when one fails; the first that answers is taken, and the rest are closed.
asyncio and the library `aiohappyeyeballs` do this for event loops only. Our sockets are read by threads, so the race
is run by a selector over sockets that do not block: no thread for each address, and one wake-up stops all of them.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

STEP_SECONDS = 0.25
"""How long an address is waited for before the next one is tried, too (RFC 8305, 5)."""

AddressInfo = tuple[Any, Any, int, str, Any]
"""An address as `socket.getaddrinfo` gives it."""

Resolver = Callable[[str, int], Sequence[AddressInfo]]
"""Looks up the addresses of a name and a port; raises an OSError if there is none."""

_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", 10035)})


def resolve(host: str, port: int) -> Sequence[AddressInfo]:
    """Resolve a name.

    Raises:
        OSError: It has no address.
    """
    return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)


def interleave(addresses: Iterable[AddressInfo]) -> list[AddressInfo]:
    """Order addresses so that families alternate, each in the order of the system's own preference (RFC 8305, 4)."""
    families: dict[Any, list[AddressInfo]] = {}
    for each in dict.fromkeys(addresses):
        families.setdefault(each[0], []).append(each)
    rounds = itertools.zip_longest(*families.values())
    return [each for one_round in rounds for each in one_round if each is not None]


class AddressRace:
    """Connects to the first address of a name that answers. Can be stopped from another thread.

    Args:
        host: Name or address.
        port: Port.
        timeout: Seconds for all of it, name resolution included; None for no limit.
        local_address: Address of this machine to connect from.
        resolver: Looks up the name.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float | None = None,
        local_address: str | None = None,
        resolver: Resolver = resolve,
    ) -> None:
        self._host = host
        self._port = port
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._local_address = local_address
        self._resolver = resolver
        self._lock = threading.Lock()
        self._stopped = False
        self._error = OSError(f"{host} has no address")
        self._waker: socket.socket | None = None

    def stop(self) -> None:
        """End the race: `connect` raises within milliseconds, and all its sockets are closed."""
        with self._lock:
            self._stopped = True
            if self._waker is not None:
                with contextlib.suppress(OSError):
                    self._waker.send(b"x")

    def connect(self) -> socket.socket:
        """Connect.

        Returns:
            A connected socket that blocks.

        Raises:
            OSError: The name is unknown, no address answers (the error of the last one), or the race was stopped.
            TimeoutError: The time is over.
        """
        waiting = interleave(self._resolver(self._host, self._port))
        with contextlib.ExitStack() as open_things, selectors.DefaultSelector() as selector:
            woken, waker = socket.socketpair()
            open_things.enter_context(woken)
            open_things.enter_context(waker)
            open_things.callback(self._set_waker, None)
            self._set_waker(waker)
            selector.register(woken, selectors.EVENT_READ)
            winner = self._race(waiting, selector, woken)
        winner.setblocking(True)
        return winner

    def _set_waker(self, waker: socket.socket | None) -> None:
        with self._lock:
            self._waker = waker

    def _race(
        self, waiting: list[AddressInfo], selector: selectors.BaseSelector, woken: socket.socket
    ) -> socket.socket:
        under_way: list[socket.socket] = []
        next_start = 0.0
        try:
            while waiting or under_way:
                if waiting and time.monotonic() >= next_start:
                    next_start = time.monotonic() + STEP_SECONDS
                    sock = self._start(waiting.pop(0), selector)
                    if sock is None:
                        next_start = 0.0
                        continue
                    under_way.append(sock)
                for sock in self._wait(selector, woken, next_start if waiting else None):
                    under_way.remove(sock)
                    if self._is_connected(sock):
                        return sock
                    sock.close()
                    next_start = 0.0
            raise self._error
        finally:
            for sock in under_way:
                sock.close()

    def _start(self, address: AddressInfo, selector: selectors.BaseSelector) -> socket.socket | None:
        """Begin to connect to an address; None if that fails at once."""
        family, kind, protocol, _, where = address
        sock = None
        try:
            sock = socket.socket(family, kind, protocol)
            sock.setblocking(False)
            if self._local_address is not None:
                sock.bind((self._local_address, 0))
            code = sock.connect_ex(where)
            if not code or code in _UNDER_WAY:
                selector.register(sock, selectors.EVENT_WRITE)
                return sock
            self._error = OSError(code, os.strerror(code))
        except OSError as error:  # this machine has no such family, or no such address to connect from
            self._error = error
        if sock is not None:
            sock.close()
        return None

    def _wait(
        self, selector: selectors.BaseSelector, woken: socket.socket, next_start: float | None
    ) -> list[socket.socket]:
        """Wait until an address answers, the next one may be tried, or the race ends.

        Returns:
            Sockets whose addresses answered; they are no longer watched.

        Raises:
            TimeoutError: The time is over.
            ConnectionAbortedError: The race was stopped.
        """
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            raise TimeoutError("timed out")
        ends = [end for end in (next_start, self._deadline) if end is not None]
        seconds = 0.0 if self._stopped else max(0.0, min(ends) - now) if ends else None
        ready = [key.fileobj for key, _ in selector.select(seconds)]
        if self._stopped:
            raise ConnectionAbortedError("stopped")
        found = [each for each in ready if isinstance(each, socket.socket) and each is not woken]
        for each in found:
            selector.unregister(each)
        return found

    def _is_connected(self, sock: socket.socket) -> bool:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._error = OSError(code, os.strerror(code))
        return not code
