"""Writing a response to the socket, with the faults that a reply asks for."""

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
LABEL = ("X-Ollama-Simulator", "griptape-ollama")
"""Header that tells the simulator from a server."""

_BATCH = 32_768
# Go's HTTP server gives the length of a body that fits its buffer, and sends longer ones in chunks.
_LONGEST_KNOWN = 2048
# A threading.Event cannot be awaited, so it is looked at this often.
_EVENT_POLL = 0.001
# How often a reply in tiny pieces lets other connections have a turn.
_PIECES_PER_TURN = 64


@dataclass(frozen=True)
class TimedLine:
    """A line that comes some time after the one before it.

    Attributes:
        delay: Seconds on the simulator's clock.
        data: The line.
    """

    delay: float
    data: bytes


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """A response that is ready to be written.

    Attributes:
        status: HTTP status.
        content_type: Content type, None for none.
        headers: Other headers.
        lines: Parts of the body; pauses and faults come between them.
        before_last: Called before the last line is handed over.
        length: Bytes of the body, None to send it in HTTP chunks.
        reply: Where the manner of travel stands.
        closes: Whether the connection is closed after it.
        has_body: False for the answer to a HEAD request, which has the length of a body but not the body.
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


def plain(body: bytes, reply: Reply | None = None, **changes: Any) -> Outgoing:
    """Make the response for a body that is known as a whole; `changes` are further fields of `Outgoing`."""
    reply = reply or Reply()
    ends_early = reply.cut is not None or reply.reset is not False
    # A fault after one line of a body that has no lines strikes in its middle.
    lines = [body[: len(body) // 2], body[len(body) // 2 :]] if ends_early else [body]
    length = len(body) if len(body) <= _LONGEST_KNOWN else None
    return replace(Outgoing(lines=lines, length=length, reply=reply), **changes)


class Written(web.StreamResponse):
    """Tells aiohttp that the response has been written already."""

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


class Wire:
    """Writes one response to the connection of a request."""

    def __init__(
        self,
        request: web.BaseRequest,
        outgoing: Outgoing,
        clock: Clock,
        line_delay: float,
        before_last: Callable[[], None],
    ) -> None:
        """Prepare to write a response.

        Args:
            request: Request that it answers.
            outgoing: The response.
            clock: Time that delays are measured in.
            line_delay: Seconds between lines where the reply does not say.
            before_last: Called before the last line is handed over.
        """
        self._before_last = before_last
        self._request = request
        self._clock = clock
        self._outgoing = outgoing
        self._reply = outgoing.reply
        self._line_delay = line_delay if self._reply.line_delay is None else self._reply.line_delay
        self._is_chunked = outgoing.length is None and self._reply.raw is None
        self._cuts_lines = self._reply.chunking != "lines"
        self._piece = {"lines": 0, "whole": 0, "bytes": 1}.get(str(self._reply.chunking), 0) or (
            self._reply.chunking if isinstance(self._reply.chunking, int) else 0
        )
        self._rest = bytearray()
        self._batch: list[bytes] = []
        self._batch_size = 0

    async def send(self) -> Written:
        """Write the response; return when the transport has it.

        Raises:
            ConnectionError: The client went away.
        """
        reply = self._reply
        if reply.reset is not False:
            # So that draining waits until the system has every byte: a reset throws away what it does not have.
            self._transport.set_write_buffer_limits(0)
        if reply.wait is not None:
            await _until(reply.wait)
        if reply.headers_delay:
            await self._clock.sleep(reply.headers_delay)
        if reply.reset is True or reply.reset == "before_headers":
            return await self._break()
        if reply.raw is None:
            self._add(self._head())
        if reply.reset == "after_headers":
            return await self._break()
        ends_at = reply.cut if reply.cut is not None else reply.reset if reply.reset is not False else None
        if self._outgoing.has_body:
            await self._send_lines(ends_at if isinstance(ends_at, int) else None)
        await self._flush_rest()
        if ends_at is not None:
            return await self._break()
        if self._is_chunked and self._outgoing.has_body:
            self._add(b"0\r\n\r\n")
        await self._flush()
        return Written(keeps_connection=self._keeps_connection and reply.raw is None)

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
        for number, (line, is_last) in enumerate(_marked(self._outgoing.lines)):
            if number == ends_at:
                return
            if number == pause_at and pause is not None:
                await self._flush_rest()
                await _until(pause)
            if number and self._line_delay:
                await self._flush()
                due = max(due + self._line_delay, self._clock.seconds - self._line_delay)
                await self._clock.sleep_until(due)
            elif not number:
                # Headers go out with the first token, not before it.
                due = self._clock.seconds
            data = await self._in_time(line)
            if is_last:
                self._before_last()
            await self._send_line(data)
        if pause is not None and pause_at > number:
            await self._flush_rest()
            await _until(pause)

    async def _in_time(self, line: bytes | TimedLine) -> bytes:
        """Return the bytes of a line when its time has come."""
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
                # A turn of the loop, in which a client that went away is noticed.
                await asyncio.sleep(0)
            return
        self._rest += line
        if self._piece:
            whole = len(self._rest) - len(self._rest) % self._piece
            await self._send_pieces(bytes(self._rest[:whole]))
            del self._rest[:whole]

    async def _send_pieces(self, data: bytes) -> None:
        """Give the transport one piece at a time."""
        await self._flush()
        for number, start in enumerate(range(0, len(data), self._piece), 1):
            self._transport.write(self._frame(data[start : start + self._piece]))
            if number % _PIECES_PER_TURN == 0:
                await self._request.writer.drain()
                await asyncio.sleep(0)

    async def _flush_rest(self) -> None:
        if self._rest:
            self._add(self._frame(bytes(self._rest)))
            self._rest.clear()
        await self._flush()

    async def _flush(self) -> None:
        """Hand over what has gathered, and wait while the client is slow."""
        if self._batch:
            self._transport.write(b"".join(self._batch))
            self._batch.clear()
            self._batch_size = 0
            await self._request.writer.drain()

    async def _break(self) -> Written:
        await self._flush()
        transport = self._transport
        if self._reply.reset is not False:
            linger = struct.pack("ii", 1, 0)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            transport.abort()
        else:
            transport.close()
        return Written(keeps_connection=False)

    def _add(self, data: bytes) -> None:
        self._batch.append(data)
        self._batch_size += len(data)

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data

    def _head(self) -> bytes:
        outgoing = self._outgoing
        headers = {"Date": formatdate(usegmt=True), LABEL[0]: LABEL[1], **outgoing.headers}
        content_type = self._reply.content_type or outgoing.content_type
        if content_type is not None:
            headers["Content-Type"] = content_type
        for name, value in self._reply.headers.items():
            same = next((known for known in headers if known.lower() == name.lower()), name)
            headers[same] = value
        # The server sorts its headers by name and puts those about the body last.
        lines = [f"{name}: {headers[name]}" for name in sorted(headers)]
        if outgoing.length is not None:
            lines.append(f"Content-Length: {outgoing.length}")
        elif outgoing.status != HTTPStatus.NO_CONTENT and outgoing.has_body:
            lines.append("Transfer-Encoding: chunked")
        if not self._keeps_connection:
            lines.append("Connection: close")
        return "\r\n".join([f"HTTP/1.1 {outgoing.status} {phrase_of(outgoing.status)}", *lines, "\r\n"]).encode(
            "latin-1", "replace"
        )


def phrase_of(status: int) -> str:
    """Name a status, also one that has no name."""
    return HTTPStatus(status).phrase if status in _STATUSES else "Unknown"


_STATUSES = frozenset(int(status) for status in HTTPStatus)


def _marked(lines: Iterable[bytes | TimedLine]) -> Iterator[tuple[bytes | TimedLine, bool]]:
    """Tell of each line whether it is the last one."""
    rest = iter(lines)
    for line in rest:
        held = line
        for following in rest:
            yield held, False
            held = following
        yield held, True


async def _until(event: threading.Event) -> None:
    while not event.is_set():  # noqa: ASYNC110  it is set by another thread
        await asyncio.sleep(_EVENT_POLL)
