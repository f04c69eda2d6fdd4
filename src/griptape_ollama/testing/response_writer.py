"""Writes a response to the socket, with the faults that its reply asks for."""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from aiohttp import web

from griptape_ollama.testing.clock import Clock
from griptape_ollama.testing.script import Reply

NDJSON = "application/x-ndjson"
SIMULATOR_HEADER = ("X-Ollama-Simulator", "griptape-ollama")
"""Header by which a simulator differs from a server."""

_BATCH = 32_768
# Go's HTTP server gives the length of a body that fits its buffer, and sends longer ones in chunks.
_LONGEST_CACHED = 2048
# Seconds between checks of a threading.Event, which cannot be awaited.
_EVENT_POLL = 0.001
# A reply in small pieces yields to other connections after this many.
_PIECES_PER_YIELD = 64


@dataclass(frozen=True)
class TimedLine:
    """A line with a delay before it.

    Attributes:
        delay: Seconds on the simulator's clock.
        data: The line.
    """

    delay: float
    data: bytes


@dataclass(frozen=True, kw_only=True)
class PreparedResponse:
    """A response that is ready to be written.

    Attributes:
        status: HTTP status.
        content_type: Content type, None for none.
        headers: Other headers.
        lines: Parts of the body, with pauses and faults between them.
        before_last: Called before the last line is written.
        length: Bytes of the body, None to send it in HTTP chunks.
        reply: Reply with chunking, delays and faults.
        closes: Whether the connection is closed after it.
        has_body: False for the response to a HEAD request, which has the length of a body but not the body.
    """

    status: int = 200
    content_type: str | None = "application/json; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    lines: Iterable[bytes | TimedLine] = ()
    before_last: Callable[[], None] | None = None
    length: int | None = None
    reply: Reply = Reply()  # noqa: RUF009  it is frozen
    has_body: bool = True
    closes: bool = False


def body_response(body: bytes, reply: Reply | None = None, **changes: Any) -> PreparedResponse:
    """Build the response with a complete body; `changes` are further fields of `PreparedResponse`."""
    reply = reply or Reply()
    ends_early = reply.cut is not None or reply.reset is not False
    # A fault after one line of a body without lines happens in its middle.
    lines = [body[: len(body) // 2], body[len(body) // 2 :]] if ends_early else [body]
    length = len(body) if len(body) <= _LONGEST_CACHED else None
    return replace(PreparedResponse(lines=lines, length=length, reply=reply), **changes)


class SentResponse(web.StreamResponse):
    """Response that has been written already, for aiohttp."""

    def __init__(self, *, keeps_connection: bool) -> None:
        super().__init__()
        self._keeps_connection = keeps_connection

    @property
    def keep_alive(self) -> bool:
        """Whether the connection takes another request."""
        return self._keeps_connection

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


class ResponseWriter:
    """Writes one response to the connection of a request."""

    def __init__(
        self,
        request: web.BaseRequest,
        response: PreparedResponse,
        clock: Clock,
        line_delay: float,
        before_last: Callable[[], None],
    ) -> None:
        """Prepare to write a response.

        Args:
            request: Request that it answers.
            response: The response.
            clock: Clock of the delays.
            line_delay: Seconds between lines, unless the reply sets its own.
            before_last: Called before the last line is written.
        """
        self._before_last = before_last
        self._request = request
        self._clock = clock
        self._outgoing = response
        self._reply = response.reply
        self._line_delay = line_delay if self._reply.line_delay is None else self._reply.line_delay
        self._is_chunked = response.length is None and self._reply.raw is None
        self._cuts_lines = self._reply.chunking != "lines"
        self._piece = {"lines": 0, "whole": 0, "bytes": 1}.get(str(self._reply.chunking), 0) or (
            self._reply.chunking if isinstance(self._reply.chunking, int) else 0
        )
        self._rest = bytearray()
        self._batch: list[bytes] = []
        self._batch_size = 0

    async def send(self) -> SentResponse:
        """Write the response, and return when the transport has it.

        Raises:
            ConnectionError: The client went away.
        """
        reply = self._reply
        if reply.reset is not False:
            # Draining then waits until the system has every byte: a reset discards what it does not have.
            self._transport.set_write_buffer_limits(0)
        if reply.wait is not None:
            await _wait_for_event(reply.wait)
        if reply.headers_delay:
            await self._clock.sleep(reply.headers_delay)
        if reply.reset is True or reply.reset == "before_headers":
            return await self._abort()
        if reply.raw is None:
            self._add(self._head())
        if reply.reset == "after_headers":
            return await self._abort()
        ends_at = reply.cut if reply.cut is not None else reply.reset if reply.reset is not False else None
        if self._outgoing.has_body:
            await self._send_lines(ends_at if isinstance(ends_at, int) else None)
        await self._flush_rest()
        if ends_at is not None:
            return await self._abort()
        if self._is_chunked and self._outgoing.has_body:
            self._add(b"0\r\n\r\n")
        await self._flush()
        return SentResponse(keeps_connection=self._keeps_connection and reply.raw is None)

    @property
    def _keeps_connection(self) -> bool:
        return self._request.keep_alive and not self._outgoing.closes

    @property
    def _transport(self) -> asyncio.Transport:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client went away")
        return transport

    async def _send_lines(self, ends_at: int | None) -> None:
        pause_at, pause = self._reply.pause or (-1, None)
        due = self._clock.seconds
        number = -1
        for number, (line, is_last) in enumerate(_with_last_flag(self._outgoing.lines)):
            if number == ends_at:
                return
            if number == pause_at and pause is not None:
                await self._flush_rest()
                await _wait_for_event(pause)
            if number and self._line_delay:
                await self._flush()
                due = max(due + self._line_delay, self._clock.seconds - self._line_delay)
                await self._clock.sleep_until(due)
            elif not number:
                # Headers go out with the first token, not before it.
                due = self._clock.seconds
            data = await self._wait_for_line(line)
            if is_last:
                self._before_last()
            await self._send_line(data)
        if pause is not None and pause_at > number:
            await self._flush_rest()
            await _wait_for_event(pause)

    async def _wait_for_line(self, line: bytes | TimedLine) -> bytes:
        """Wait for the delay of a line, and return its bytes."""
        if isinstance(line, bytes):
            return line
        if line.delay:
            await self._flush()
            await self._clock.sleep(line.delay)
        return line.data

    async def _send_line(self, line: bytes) -> None:
        if not self._cuts_lines:
            self._add(self._frame(line))
            if self._batch_size >= _BATCH:
                await self._flush()
                # One pass of the loop, in which a disconnect is noticed.
                await asyncio.sleep(0)
            return
        self._rest += line
        if self._piece:
            whole = len(self._rest) - len(self._rest) % self._piece
            await self._send_pieces(bytes(self._rest[:whole]))
            del self._rest[:whole]

    async def _send_pieces(self, data: bytes) -> None:
        """Write one piece at a time to the transport."""
        await self._flush()
        for number, start in enumerate(range(0, len(data), self._piece), 1):
            self._transport.write(self._frame(data[start : start + self._piece]))
            if number % _PIECES_PER_YIELD == 0:
                await self._request.writer.drain()
                await asyncio.sleep(0)

    async def _flush_rest(self) -> None:
        if self._rest:
            self._add(self._frame(bytes(self._rest)))
            self._rest.clear()
        await self._flush()

    async def _flush(self) -> None:
        """Write the collected batch, and wait while the client is slow."""
        if self._batch:
            self._transport.write(b"".join(self._batch))
            self._batch.clear()
            self._batch_size = 0
            await self._request.writer.drain()

    async def _abort(self) -> SentResponse:
        await self._flush()
        transport = self._transport
        if self._reply.reset is not False:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        else:
            transport.close()
        return SentResponse(keeps_connection=False)

    def _add(self, data: bytes) -> None:
        self._batch.append(data)
        self._batch_size += len(data)

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _head(self) -> bytes:
        response = self._outgoing
        headers = {"Date": formatdate(usegmt=True), SIMULATOR_HEADER[0]: SIMULATOR_HEADER[1], **response.headers}
        content_type = self._reply.content_type or response.content_type
        if content_type is not None:
            headers["Content-Type"] = content_type
        for name, value in self._reply.headers.items():
            same = next((known for known in headers if known.lower() == name.lower()), name)
            headers[same] = value
        # The server sorts its headers by name and puts those about the body last.
        lines = [f"{name}: {headers[name]}" for name in sorted(headers)]
        if response.length is not None:
            lines.append(f"Content-Length: {response.length}")
        elif response.status != HTTPStatus.NO_CONTENT and response.has_body:
            lines.append("Transfer-Encoding: chunked")
        if not self._keeps_connection:
            lines.append("Connection: close")
        return "\r\n".join([f"HTTP/1.1 {response.status} {reason_phrase(response.status)}", *lines, "\r\n"]).encode(
            "latin-1", "replace"
        )


def reason_phrase(status: int) -> str:
    """Return the reason phrase of a status, `Unknown` for one without."""
    return HTTPStatus(status).phrase if status in _STATUSES else "Unknown"


_STATUSES = frozenset(int(status) for status in HTTPStatus)


def _with_last_flag(lines: Iterable[bytes | TimedLine]) -> Iterator[tuple[bytes | TimedLine, bool]]:
    """Yield each line, and whether it is the last one."""
    rest = iter(lines)
    for line in rest:
        reservation = line
        for following in rest:
            yield reservation, False
            reservation = following
        yield reservation, True


async def _wait_for_event(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110  it is set by another thread
        await asyncio.sleep(_EVENT_POLL)
