"""The background thread that a simulator's event loop runs in."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

from aiohttp import web

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_STOP_SECONDS = 0.5


class ServerThread:
    """Serves HTTP on loopback from a daemon thread with its own event loop."""

    def __init__(self, handler: Handler, port: int) -> None:
        self._handler = handler
        self._port = port
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="ollama-simulator", daemon=True)

    @property
    def port(self) -> int:
        """Port that the server listens on."""
        return self._port

    def start(self) -> None:
        """Start serving; return when the port is open.

        Raises:
            OSError: The port is taken.
        """
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Drop all connections, close the port and end the thread."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  start() raises it in the thread that asked
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        # With cancellation a handler learns at once that its client went away.
        server = web.Server(self._handler, handler_cancellation=True, access_log=None)  # pyright: ignore[reportArgumentType]
        runner = web.ServerRunner(server, shutdown_timeout=_STOP_SECONDS)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", self._port)
            await site.start()
            self._port = runner.addresses[0][1]
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self._ready.set()
            await self._stop.wait()
            await site.stop()
        finally:
            # Connections are dropped, not closed politely: a client that does not read would hold up the end.
            for connection in server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
            await runner.cleanup()
