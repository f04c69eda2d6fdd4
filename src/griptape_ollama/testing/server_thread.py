"""The background thread that a simulator's event loop runs in."""

import asyncio
import contextlib
import errno
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_STOP_SECONDS = 0.5
_ANSWER_SECONDS = 10
_LOOP_PASSES_TO_ACCEPT = 3


class ServerThread:
    """HTTP server on loopback, in a daemon thread with its own event loop."""

    def __init__(self, handler: Handler, port: int) -> None:
        self._handler = handler
        self._port = port
        self._busy: set[asyncio.BaseTransport | None] = set()
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._runner: web.ServerRunner | None = None
        self._site: web.SockSite | None = None
        self._socket: socket.socket | None = None
        self._reopening: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="ollama-simulator", daemon=True)

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return self._port

    def start(self) -> None:
        """Start serving, and return when the port is open.

        Raises:
            OSError: The port is taken.
        """
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            if isinstance(self._error, OSError) and self._error.errno == errno.EADDRINUSE:
                text = f"port {self._port} of 127.0.0.1 is taken (address already in use); port=0 finds a free one"
                raise OSError(errno.EADDRINUSE, text) from self._error
            raise self._error

    def stop(self) -> None:
        """Drop all connections, close the port and end the thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def close_port(self, wait_to_reopen: Callable[[], Awaitable[None]] | None = None) -> None:
        """Close the port and drop idle connections. Runs in the loop of the server.

        Args:
            wait_to_reopen: Waits for the time at which the port opens again, None to leave it closed.
        """
        self._cancel_reopening()
        await self._stop_site()
        self._drop(lambda connection: connection.transport not in self._busy)
        if wait_to_reopen is not None:
            self._reopening = asyncio.create_task(self._reopen(wait_to_reopen))

    async def open_port(self) -> None:
        """Open the same port again. Runs in the loop of the server."""
        self._cancel_reopening()
        await self._open_site()

    async def _reopen(self, wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        # From here on it cannot be cancelled.
        self._reopening = None
        await self._open_site()

    def _cancel_reopening(self) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None

    async def _open_site(self) -> None:
        if self._site is None and self._runner is not None:
            self._socket = socket.create_server(("127.0.0.1", self._port))
            self._site = web.SockSite(self._runner, self._socket)
            await self._site.start()

    async def _stop_site(self) -> None:
        site, self._site = self._site, None
        if site is None or self._socket is None:
            return
        # asyncio never closes a connection if its server is closed between accepting and serving it.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().remove_reader(self._socket)
        for _ in range(_LOOP_PASSES_TO_ACCEPT):
            await asyncio.sleep(0)
        await site.stop()

    def run(self, coroutine: Coroutine[Any, Any, None], *, waits: bool = True) -> None:
        """Run a coroutine in the loop of the server, from another thread; with `waits` until it is done."""
        if self._loop is None or not self._thread.is_alive():
            coroutine.close()
            return
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        if waits:
            future.result(_ANSWER_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        transport = request.transport
        self._busy.add(transport)
        try:
            return await self._handler(request)
        finally:
            self._busy.discard(transport)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  start() raises it in the calling thread
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        # With cancellation a handler stops at once when its client disconnects.
        # Bodies stay compressed, as on the real server, which then finds no JSON in them.
        server = web.Server(self._handle, handler_cancellation=True, access_log=None, auto_decompress=False)  # pyright: ignore[reportArgumentType]
        self._runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        try:
            await self.open_port()
            self._port = self._runner.addresses[0][1]
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self._ready.set()
            await self._stop.wait()
            await self._stop_site()
        finally:
            # Connections are aborted: closing one waits for its client to read.
            self._drop(lambda _: True)
            await asyncio.sleep(0)
            await self._runner.cleanup()

    def _drop(self, is_dropped: Callable[[Any], bool]) -> None:
        server = self._runner.server if self._runner is not None else None
        for connection in server.connections if server is not None else ():
            if connection.transport is not None and is_dropped(connection):
                with contextlib.suppress(OSError):
                    connection.transport.abort()
