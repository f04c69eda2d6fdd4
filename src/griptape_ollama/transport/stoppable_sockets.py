"""Sockets whose waits another thread can end, in any phase."""

from __future__ import annotations

import contextlib
import importlib
import queue
import socket
import ssl
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable
from typing import Any

import httpcore

from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.happy_eyeballs import AddressRace, Resolver, resolve
from griptape_ollama.transport.idle_connections import forget_connections
from griptape_ollama.transport.tcp_keepalive import UserTimeoutPause, set_socket_options

_current = threading.local()


class Cancellation:
    """Whether a call was cancelled, and what ends its current wait: another thread, or its deadline.

    Attributes:
        stopped: Whether `cancel` was called.
        deadline: `time.monotonic()` at which the wait for bytes ends; None for no limit.
        is_bound: Whether a stream of ours carries the current request, so that `cancel` and `deadline` reach it.
        is_stale: Whether the request went over a connection that had served another, and nothing came back yet.
    """

    def __init__(self) -> None:
        self.is_cancelled = False
        self.deadline: float | None = None
        self.is_bound = False
        self.is_stale = False
        self._interrupt: Callable[[], object] | None = None
        self._wake = threading.Event()
        # Reentrant, since a signal handler may stop the call in the very thread that is binding.
        self._lock = threading.RLock()

    def on_cancel(self, interrupt: Callable[[], object]) -> None:
        """Call a function on cancellation, to end the wait that comes next; at once if cancelled already."""
        with self._lock:
            self._interrupt = interrupt
            if self.is_cancelled:
                interrupt()

    def release(self) -> None:
        """Drop the function, before another call gets the socket that it would shut down."""
        with self._lock:
            self._interrupt = None
            self.is_bound = False

    def cancel(self) -> None:
        """Cancel, and end the current wait. Harmless when repeated."""
        with self._lock:
            self.is_cancelled = True
            self._wake.set()
            if self._interrupt is not None:
                self._interrupt()

    @contextlib.contextmanager
    def wakes(self, wake: Callable[[], object]) -> Generator[None, None, None]:
        """Call a function on cancellation inside the block, so that the wait there ends."""
        self.on_cancel(wake)
        try:
            yield
        finally:
            self.release()

    def sleep(self, seconds: float) -> None:
        """Wait, unless cancelled."""
        self._wake.wait(seconds)

    def set_limit(self, seconds: float | None) -> None:
        """Set the deadline to that many seconds from now."""
        self.deadline = None if seconds is None else time.monotonic() + seconds

    def remaining(self) -> float | None:
        """Seconds until the deadline; None for no limit."""
        return None if self.deadline is None else self.deadline - time.monotonic()

    @contextlib.contextmanager
    def active(self) -> Generator[None, None, None]:
        """Apply this to what the current thread sends in the block."""
        before = getattr(_current, "cancellation", None)
        _current.cancellation = self
        try:
            yield
        finally:
            _current.cancellation = before


class StoppableBackend(httpcore.NetworkBackend):
    """Opens connections whose streams belong to the call that last wrote to them.

    The library's own backend tries the addresses of a name one after the other, and sets no keepalive. In its place
    come `AddressRace` and `keepalive`; a backend of another kind opens its connections itself.

    Args:
        inner: The backend that it takes the place of.
        resolver: Looks up names.
        pool: The pool that it opens connections for, which are forgotten in a forked process.
    """

    def __init__(
        self,
        inner: httpcore.NetworkBackend,
        resolver: Resolver = resolve,
        *,
        pool: httpcore.ConnectionPool | None = None,
    ) -> None:
        self._inner = inner
        self._pool = None if pool is None else weakref.ref(pool)
        renew_when_forked(self)
        self._resolver = resolver
        self._library = _library_of(inner)
        self._stream_type = _stream_type(inner, self._library)

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect; name resolution and connecting can be stopped, and share one limit."""
        race = AddressRace(host, port, timeout=timeout, local_address=local_address, resolver=self._resolver)

        def connect() -> httpcore.NetworkStream:
            if self._stream_type is not None:
                return self._stream_over(race, self._stream_type, socket_options)
            return self._inner.connect_tcp(host, port, timeout, local_address, socket_options)

        started = time.monotonic()
        stream = _abandonable(connect, timeout, self._library, abandon=race.stop)
        connect_by = None if timeout is None else started + timeout
        return StoppableStream(stream, connect_by=connect_by, library=self._library)

    def start_afresh(self) -> None:
        """Drop the connections of the pool, which the parent process uses."""
        if self._pool is not None and (pool := self._pool()) is not None:
            forget_connections(pool)

    def _stream_over(
        self, race: AddressRace, stream_type: Callable[[socket.socket], httpcore.NetworkStream], options: Any
    ) -> httpcore.NetworkStream:
        try:
            sock = race.connect()
        except TimeoutError as error:
            raise self._library.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise self._library.ConnectError(str(error)) from error
        try:
            set_socket_options(sock, options)
            return stream_type(sock)
        except BaseException:
            sock.close()
            raise

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Connect to a socket in the file system."""
        stream = self._inner.connect_unix_socket(path, timeout, socket_options)
        return StoppableStream(stream, library=self._library)

    def sleep(self, seconds: float) -> None:
        """Wait between the tries of the HTTP library."""
        self._inner.sleep(seconds)


class StoppableStream(httpcore.NetworkStream):
    """A connection that binds itself to the current call when that writes its request.

    Writing is the moment at which a connection, new or reused, is certain to serve this call and no other.

    Args:
        inner: The connection.
        connect_by: `time.monotonic()` at which it must stand, TLS included; None for no limit.
        library: The library whose exceptions it raises.
    """

    def __init__(
        self, inner: httpcore.NetworkStream, *, connect_by: float | None = None, library: Any = httpcore
    ) -> None:
        self._inner = inner
        self._library = library
        self._patience = UserTimeoutPause(inner.get_extra_info("socket"))
        self._connect_by = connect_by
        self._cancellation: Cancellation | None = None
        self._is_used = False
        tls = inner.get_extra_info("ssl_object")
        # HTTP/2 (a client may ask for it) mixes many calls on one connection, which can belong to none of them.
        self._is_shared = tls is not None and tls.selected_alpn_protocol() == "h2"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Bind to the current call and send."""
        cancellation = None if self._is_shared else _current_cancellation()
        # Head and body of a request are written one after the other: it is bound once.
        if cancellation is not None and (cancellation is not self._cancellation or not cancellation.is_bound):
            cancellation.is_stale = self._is_used
            cancellation.on_cancel(self._shut_down)
            cancellation.is_bound = True
        self._cancellation = cancellation
        self._is_used = True
        self._patience.before_write(len(buffer))
        self._inner.write(buffer, timeout)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Receive until the deadline of the call, which moves with each line of the reply.

        Raises:
            httpcore.ReadTimeout: The deadline has passed, be it that bytes kept coming that made no line.
        """
        cancellation = self._cancellation
        if cancellation is not None:
            timeout = cancellation.remaining()
            if timeout is not None and timeout <= 0:
                raise self._library.ReadTimeout("timed out")
        data = self._inner.read(max_bytes, timeout)
        self._patience.after_read()
        if cancellation is not None:
            cancellation.is_stale = cancellation.is_stale and not data
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

        stream = _abandonable(shake_hands, timeout, self._library, abandon=self._shut_down)
        return StoppableStream(stream, connect_by=self._connect_by, library=self._library)

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection knows of itself."""
        return self._inner.get_extra_info(info)

    def _shut_down(self) -> None:
        # Closing a socket does not wake the thread that reads from it, shutting it down does. An SSLSocket's own
        # method would first forget its TLS state under the reader, so the plain socket's method is called on it.
        sock = self._inner.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _current_cancellation() -> Cancellation | None:
    return getattr(_current, "cancellation", None)


def _library_of(backend: object) -> Any:
    """Return the module that a backend belongs to, whose exceptions its callers expect: `httpcore`, or `httpcore2`."""
    for kind in type(backend).__mro__:
        library = sys.modules.get(kind.__module__.partition(".")[0])
        if hasattr(library, "SyncBackend") and hasattr(library, "ConnectTimeout"):
            return library
    return httpcore


def _stream_type(backend: object, library: Any) -> Callable[[socket.socket], httpcore.NetworkStream] | None:
    """Return what makes a stream of a socket as the library's own backend does; None for any other backend."""
    if type(backend) is not library.SyncBackend:
        return None
    try:
        return importlib.import_module(f"{library.__name__}._backends.sync").SyncStream
    except (ImportError, AttributeError):  # a later release, whose backend connects by itself then
        return None


def _abandonable(
    work: Callable[[], httpcore.NetworkStream],
    timeout: float | None,
    library: Any,
    *,
    abandon: Callable[[], object],
) -> httpcore.NetworkStream:
    """Run what cannot be interrupted (name resolution, TLS) in a thread; `abandon` ends it when the caller stops."""
    cancellation = _current_cancellation()
    if cancellation is None:
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
            elif not isinstance(result, BaseException):
                result.close()

    cancellation.on_cancel(lambda: outcome.put(None))
    threading.Thread(target=run, name="griptape-ollama-connect", daemon=True).start()
    try:
        result = outcome.get(timeout=timeout)
    except queue.Empty:
        result = library.ConnectTimeout("timed out")
    cancellation.release()
    with lock:
        wanted = False
    if result is not None and not isinstance(result, BaseException):
        return result
    abandon()
    _close_late(outcome)
    if result is None:
        raise library.ConnectError("stopped")
    raise result


def _close_late(outcome: queue.SimpleQueue[httpcore.NetworkStream | BaseException | None]) -> None:
    with contextlib.suppress(queue.Empty):
        while True:
            late = outcome.get_nowait()
            if late is not None and not isinstance(late, BaseException):
                late.close()
