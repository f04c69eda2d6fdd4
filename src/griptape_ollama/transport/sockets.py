"""Sockets that a call can let go of from another thread, in any phase."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any

import httpcore

_current = threading.local()


class Guard:
    """What a call waits for right now, so that another thread can end the wait, and by when it must end.

    Attributes:
        stopped: Whether `stop` was called while the call was under way.
        deadline: `time.monotonic()` at which the wait for bytes ends; None for no limit.
        is_bound: Whether a stream of ours carries the current request, so that `stop` and `deadline` reach it.
        is_stale: Whether the request went over a connection that had served another, and nothing came back yet.
    """

    def __init__(self) -> None:
        self.stopped = False
        self.deadline: float | None = None
        self.is_bound = False
        self.is_stale = False
        self._interrupt: Callable[[], object] | None = None
        self._wake = threading.Event()
        # Reentrant, since a signal handler may stop the call in the very thread that is binding.
        self._lock = threading.RLock()

    def bind(self, interrupt: Callable[[], object]) -> None:
        """Say how to end the wait that comes next."""
        with self._lock:
            self._interrupt = interrupt
            if self.stopped:
                interrupt()

    def release(self) -> None:
        """Let go of the socket before somebody else gets it; stopping has no effect on it any more."""
        with self._lock:
            self._interrupt = None
            self.is_bound = False

    def stop(self) -> None:
        """End the wait, whatever it is for. Harmless when repeated."""
        with self._lock:
            self.stopped = True
            self._wake.set()
            if self._interrupt is not None:
                self._interrupt()

    def sleep(self, seconds: float) -> None:
        """Wait, unless stopped."""
        self._wake.wait(seconds)

    def set_limit(self, seconds: float | None) -> None:
        """Let the wait for bytes end that many seconds from now."""
        self.deadline = None if seconds is None else time.monotonic() + seconds

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def remaining(self) -> float | None:
        """Seconds until the deadline; None for no limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @contextlib.contextmanager
    def active(self) -> Generator[None, None, None]:
        """Make this the guard of what the current thread sends."""
        before = getattr(_current, "guard", None)
        _current.guard = self
        try:
            yield
        finally:
            _current.guard = before


class GuardedBackend(httpcore.NetworkBackend):
    """Opens connections whose streams belong to the call that last wrote to them.

    Args:
        inner: The backend that really opens them.
    """

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect; looking up the name and connecting can be stopped, and share one limit."""

        def connect() -> httpcore.NetworkStream:
            return self._inner.connect_tcp(host, port, timeout, local_address, socket_options)

        started = time.monotonic()
        stream = _abandonable(connect, timeout)
        return GuardedStream(stream, connect_by=None if timeout is None else started + timeout)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Connect to a socket in the file system."""
        return GuardedStream(self._inner.connect_unix_socket(path, timeout, socket_options))

    def sleep(self, seconds: float) -> None:
        """Wait between the tries of the HTTP library."""
        self._inner.sleep(seconds)


class GuardedStream(httpcore.NetworkStream):
    """A connection that binds itself to the current call when that writes its request.

    Writing is the moment at which a connection, new or reused, is certain to serve this call and no other.

    Args:
        inner: The connection.
        connect_by: `time.monotonic()` at which it must stand, TLS included; None for no limit.
    """

    def __init__(self, inner: httpcore.NetworkStream, *, connect_by: float | None = None) -> None:
        self._inner = inner
        self._connect_by = connect_by
        self._guard: Guard | None = None
        self._is_used = False
        tls = inner.get_extra_info("ssl_object")
        # HTTP/2 (a client may ask for it) mixes many calls on one connection, which can belong to none of them.
        self._is_shared = tls is not None and tls.selected_alpn_protocol() == "h2"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Bind to the current call and send."""
        guard = None if self._is_shared else _current_guard()
        # Head and body of a request are written one after the other: it is bound once.
        if guard is not None and (guard is not self._guard or not guard.is_bound):
            guard.is_stale = self._is_used
            guard.bind(self._shut_down)
            guard.is_bound = True
        self._guard = guard
        self._is_used = True
        self._inner.write(buffer, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive until the deadline of the call, which moves with each line of the reply.

        Raises:
            httpcore.ReadTimeout: The deadline has passed, be it that bytes kept coming that made no line.
        """
        guard = self._guard
        if guard is None:
            return self._inner.read(max_bytes, timeout)
        remaining = guard.remaining()
        if remaining is not None and remaining <= 0:
            raise httpcore.ReadTimeout("timed out")
        data = self._inner.read(max_bytes, remaining)
        guard.is_stale = guard.is_stale and not data
        return data

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """Shake hands; can be stopped, and has what connecting left of its limit."""
        if timeout is not None and self._connect_by is not None:
            timeout = min(timeout, max(self._connect_by - time.monotonic(), 0.001))

        def shake_hands() -> httpcore.NetworkStream:
            return self._inner.start_tls(ssl_context, server_hostname, timeout)

        return GuardedStream(_abandonable(shake_hands, timeout), connect_by=self._connect_by)

    def get_extra_info(self, info: str) -> Any:
        """Tell what the connection knows of itself."""
        return self._inner.get_extra_info(info)

    def _shut_down(self) -> None:
        # Closing a socket does not wake the thread that reads from it, shutting it down does. An SSLSocket's own
        # method would first forget its TLS state under the reader, so the plain socket's method is called on it.
        sock = self._inner.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _current_guard() -> Guard | None:
    return getattr(_current, "guard", None)


def _abandonable(work: Callable[[], httpcore.NetworkStream], timeout: float | None) -> httpcore.NetworkStream:
    """Run what cannot be interrupted (name look-up, connecting, TLS) in a thread that is left alone when stopped."""
    guard = _current_guard()
    if guard is None:
        return work()
    outcome: queue.SimpleQueue[httpcore.NetworkStream | BaseException | None] = queue.SimpleQueue()
    lock = threading.Lock()
    wanted = True

    def run() -> None:
        try:
            result: httpcore.NetworkStream | BaseException = work()
        except BaseException as error:  # noqa: BLE001 # raised again in the thread that waits
            result = error
        with lock:
            if wanted:
                outcome.put(result)
            elif isinstance(result, httpcore.NetworkStream):
                result.close()

    guard.bind(lambda: outcome.put(None))
    threading.Thread(target=run, name="griptape-ollama-connect", daemon=True).start()
    try:
        result = outcome.get(timeout=timeout)
    except queue.Empty:
        result = httpcore.ConnectTimeout("timed out")
    guard.release()
    with lock:
        wanted = False
    if isinstance(result, httpcore.NetworkStream):
        return result
    _close_late(outcome)
    if result is None:
        raise httpcore.ConnectError("stopped")
    raise result


def _close_late(outcome: queue.SimpleQueue[httpcore.NetworkStream | BaseException | None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            late = outcome.get_nowait()
            if isinstance(late, httpcore.NetworkStream):
                late.close()
