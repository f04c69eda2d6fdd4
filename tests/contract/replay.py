"""Recordings of a real server, and a small server that replays them over a real socket."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

from typing_extensions import Self

from griptape_ollama.shared_state import reset_shared_state

RECORDINGS = Path(__file__).parent / "recordings" / "0.33.0-rc2"

SHOWS = {
    "tiny-broken": "show_broken",
    "tiny-chat": "show_tiny-chat",
    "tiny-embed": "show_tiny-embed",
    "tiny-native": "show_tiny-native",
    "tiny-qwen3": "show_tiny-qwen3",
    "tiny-thinktools": "show_tiny-thinktools",
    "tiny-vision": "show_tiny-vision",
}
"""Recorded metadata by model. Other models are unknown to the server."""

SHOW_UNKNOWN = "show_unknown"
NOTHING_LOADED = "ps_empty"

_PATIENCE = 30.0  # seconds; longer than anything takes, shorter than the limit of a test
_FRAMING = ("content-length", "transfer-encoding")

Ending = Literal["whole", "closed", "closed in mid-chunk", "reset", "reset on request", "held open"]


@dataclass(frozen=True)
class Recording:
    """One recorded exchange.

    Attributes:
        name: Name of its file, without the ending.
        request: Body of the request.
        status: HTTP status of the response.
        headers: Headers of the response, without those of the framing of its body.
        body: Body of the response, as the server sent it.
    """

    name: str
    request: Any
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def is_json_document(self) -> bool:
        """Whether the reply was one JSON document, not a stream of lines."""
        return b"\n" not in self.body

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.body.splitlines()]

    def first(self, count: int) -> bytes:
        """The first lines of a stream, with their ends."""
        return b"".join(self.body.splitlines(keepends=True)[:count])


@cache
def recording(name: str) -> Recording:
    """Read a recording."""
    exchange = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))
    response = exchange["response"]
    return Recording(
        name=name,
        request=exchange["request"]["body"],
        status=response["status"],
        headers=tuple((key, value) for key, value in response["headers"] if key.lower() not in _FRAMING),
        body=_body(response),
    )


def _body(response: dict[str, Any]) -> bytes:
    if "lines" in response:
        return "".join(line["line"] + "\n" for line in response["lines"]).encode()
    text = response["raw_body"]
    try:
        is_whole = not isinstance(response["body"], dict) or json.loads(text) == response["body"]
    except ValueError:  # the raw text of long documents was recorded in part
        is_whole = False
    return (text if is_whole else json.dumps(response["body"], ensure_ascii=False, separators=(",", ":"))).encode()


def _in_sizes(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    start = 0
    for size in sizes:
        if start >= len(body):
            return
        yield body[start : start + size]
        start += size


def _inside_characters(body: bytes) -> Iterator[bytes]:
    start = 0
    for at, byte in enumerate(body):
        if byte & 0b1100_0000 == 0b1000_0000:  # a continuation byte: not the first one of its character
            yield body[start:at]
            start = at
    yield body[start:]


CHUNKINGS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "whole": lambda body: [body],
    "lines": lambda body: body.splitlines(keepends=True),
    "sevens": lambda body: _in_sizes(body, cycle([7])),
    "primes": lambda body: _in_sizes(body, cycle([2, 3, 5, 7, 11, 13])),
    "bytes": lambda body: _in_sizes(body, cycle([1])),
    "inside_characters": _inside_characters,
}
"""Ways to split a body into HTTP chunks."""

CONTENT_LENGTH = "content_length"
"""No chunks: the body in one piece, its length in a header."""


@dataclass(frozen=True)
class Answer:
    """The answer to one request.

    Attributes:
        body: The bytes of the body.
        status: HTTP status; None closes the connection before any header is sent.
        headers: Headers.
        framing: Name of a chunking, or `content_length`.
        ending: End of the connection: complete, or broken in one of several ways.
    """

    body: bytes = b""
    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "application/x-ndjson"),)
    framing: str = "lines"
    ending: Ending = "whole"

    @classmethod
    def of(cls, recorded: Recording, framing: str | None = None, **changes: Any) -> Answer:
        """Return a recorded answer; errors and documents have a Content-Length unless a framing is given."""
        if framing is None:
            framing = CONTENT_LENGTH if recorded.is_json_document else "lines"
        answer = cls(body=recorded.body, status=recorded.status, headers=recorded.headers, framing=framing)
        return replace(answer, **changes)


CLOSED_BEFORE_HEADERS = Answer(status=None, ending="closed")
RESET_BEFORE_HEADERS = Answer(status=None, ending="reset")
_NOTHING_LEFT = Answer(b'{"error":"the replay has no answer left"}', status=400, framing=CONTENT_LENGTH)


class ReplayServer(socketserver.ThreadingTCPServer):
    """Answers `/api/chat` with the given answers, one after the other, and `/api/show` and `/api/ps` from recordings.

    Args:
        answers: One for each request; further requests get status 400.
        knows_models: False makes `/api/show` report an unknown model.

    Attributes:
        chats: Bodies of the chat requests so far.
        connections: Number of connections so far.
        client_left: Set when the client closes a connection that is held open.
        reset_requested: Set by a test to reset a connection.
    """

    block_on_close = True
    daemon_threads = False

    def __init__(self, *answers: Answer, knows_models: bool = True) -> None:
        self.chats: list[Any] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self.client_left = threading.Event()
        self.reset_requested = threading.Event()
        self._answers = list(answers)
        self._knows_models = knows_models
        self._open: set[socket.socket] = set()
        self._resets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        super().__init__(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        reset_shared_state()  # the port may have been that of another server
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        socket.create_connection(self.server_address).close()  # wakes the thread that accepts
        self._thread.join()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):  # the client may have closed it already
                    connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
        assert not self.failures, self.failures

    def chat(self, body: Any) -> Answer:
        with self._lock:
            self.chats.append(body)
            return self._answers.pop(0) if self._answers else _NOTHING_LEFT

    def show(self, body: dict[str, Any]) -> Answer:
        name = SHOWS.get(body["model"].lower().removesuffix(":latest")) if self._knows_models else None
        if name is not None:
            return Answer.of(recording(name), CONTENT_LENGTH)
        unknown = recording(SHOW_UNKNOWN)
        return Answer.of(unknown, body=unknown.body.replace(b"nope", body["model"].encode()))

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        with self._lock:
            self.connections += 1
            self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
            is_reset = request in self._resets
        if is_reset:
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Record an exception of a handler for the test, except a disconnect of the client."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self.failures.append(error)

    def reset_at_close(self, connection: socket.socket) -> None:
        """Close the connection by a reset (RST) and not by FIN."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self._lock:
            self._resets.add(connection)

    def _serve(self) -> None:
        while not self._stopping:
            self.handle_request()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ReplayServer

    def do_GET(self) -> None:
        self._send(Answer.of(recording(NOTHING_LOADED), CONTENT_LENGTH))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send(self.server.chat(body) if self.path == "/api/chat" else self.server.show(body))

    def log_message(self, *_: object) -> None:
        """Tests print nothing."""

    def _send(self, answer: Answer) -> None:
        self.close_connection = answer.ending != "whole"
        if answer.ending.startswith("reset"):
            self.server.reset_at_close(self.connection)
        try:
            if answer.status is not None:
                self._send_response(answer)
            if answer.ending == "reset on request":
                assert self.server.reset_requested.wait(_PATIENCE)
            if answer.ending == "held open":
                while self.connection.recv(1024):
                    pass
                self.server.client_left.set()
        except ConnectionError:
            self.close_connection = True
            self.server.client_left.set()

    def _send_response(self, answer: Answer) -> None:
        if answer.framing == CONTENT_LENGTH:
            pieces = [answer.body]
            framing = f"Content-Length: {len(answer.body)}"
        else:
            pieces = _chunked(list(CHUNKINGS[answer.framing](answer.body)), answer.ending)
            framing = "Transfer-Encoding: chunked"
        head = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        head += [f"{name}: {value}" for name, value in answer.headers]
        self.connection.sendall("\r\n".join([*head, framing, "", ""]).encode() + (pieces[0] if pieces else b""))
        for piece in pieces[1:]:
            self.connection.sendall(piece)


_CHUNKS_PER_WRITE = 64  # the client gets several chunks at once


def _chunked(chunks: Sequence[bytes], ending: Ending) -> list[bytes]:
    framed = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk]
    if len(framed) > _CHUNKS_PER_WRITE:
        framed = [b"".join(framed[i : i + _CHUNKS_PER_WRITE]) for i in range(0, len(framed), _CHUNKS_PER_WRITE)]
    if ending == "whole":
        framed.append(b"0\r\n\r\n")
    if ending == "closed in mid-chunk":
        framed.append(b'7f\r\n{"model":"tiny-')
    return framed
