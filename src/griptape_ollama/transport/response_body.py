"""The bytes of a reply, in chunks of bounded size, whatever the other side sends."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from collections.abc import Iterator

import httpx

from griptape_ollama.transport.http_libraries import raw_pieces

ACCEPTED = "gzip"
"""What requests for whole documents accept. Ollama compresses nothing (0.33); a proxy in between may."""

STREAMED = "identity"
"""What requests for streams accept: nginx and Caddy withhold a stream that they compress."""

_PIECE_BYTES = 64 * 1024
# Enough for the title of a page.
_PAGE_BYTES = 4 * 1024
# More of them before the first byte are no page: limits and cancelling are checked from piece to piece.
_BLANK_PIECES = 8
_BLANKS = b"\xef\xbb\xbf \t\r\n"
_PLAIN = frozenset({"", "identity"})
_ZIPPED = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP = b"\x1f"
_ANY_HEADER = zlib.MAX_WBITS | 32


class PageError(ValueError):
    """A body that is a page, where a reply is expected.

    Attributes:
        page: Its beginning.
    """

    def __init__(self, page: bytes) -> None:
        super().__init__("a page")
        self.page = page


def reply_chunks(response: httpx.Response) -> Iterator[bytes]:
    """Return the body as `body_chunks` does, if it is no page. The first byte tells: gateways give replies any type.

    It waits for that byte, and adds nothing to what each further piece costs.

    Raises:
        PageError: It begins with `<`.
        httpx.HTTPError: As `body_chunks` does.
    """
    chunks = body_chunks(response)
    first: list[bytes] = []
    for chunk in chunks:
        if (begun := chunk.lstrip(_BLANKS)).startswith(b"<"):
            raise PageError(_at_most(chunks, _PAGE_BYTES, begun))
        first.append(chunk)
        if begun or len(first) == _BLANK_PIECES:
            break
    return itertools.chain(first, chunks)


def body_chunks(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body as it arrives, unpacked.

    The HTTP library unpacks all that a read gave at once, layer by layer: 64 KB can become gigabytes. Here no piece is
    larger than 64 KB, and one layer is all that is taken.

    Raises:
        httpx.DecodingError: It is packed in another way, or cannot be unpacked.
        httpx.TransportError: The connection broke.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if response.is_stream_consumed:
        return response.iter_bytes(_PIECE_BYTES)
    if encoding in _PLAIN:
        return raw_pieces(response)
    if encoding in _ZIPPED:
        return _unzipped(raw_pieces(response))
    raise httpx.DecodingError(f"the body is packed as {encoding[:40]!r}, where only {ACCEPTED} was accepted")


def read_at_most(response: httpx.Response, size: int) -> bytes:
    """Read a body up to a size."""
    return _at_most(body_chunks(response), size)


def read_error_body(response: httpx.Response, size: int) -> bytes:
    """Read the body of an error as `read_at_most` does; a reset ends it like a closed connection.

    A proxy that refuses a request before it has read all of it (407, 413) closes the connection, and TCP resets it.
    """
    body = bytearray()
    has_an_end = "content-length" in response.headers or "transfer-encoding" in response.headers
    with contextlib.nullcontext() if has_an_end else contextlib.suppress(httpx.ReadError):
        for piece in body_chunks(response):
            body += piece
            if len(body) > size:
                break
    return bytes(body[:size])


def read_reply(response: httpx.Response, size: int) -> bytes:
    """Read a body as `read_at_most` does, if it is no page.

    Raises:
        PageError: It is one.
    """
    return _at_most(reply_chunks(response), size)


def _at_most(chunks: Iterator[bytes], size: int, begun: bytes = b"") -> bytes:
    body = bytearray(begun)
    for piece in chunks if len(body) <= size else ():
        body += piece
        if len(body) > size:
            break
    del body[size:]
    return bytes(body)


def _unzipped(packed: Iterator[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_ANY_HEADER)
    has_ended = False
    try:
        for each in packed:
            rest, piece = each, b""
            while rest or len(piece) == _PIECE_BYTES:
                if unpacker.eof:
                    # A body of gzip may have several members (RFC 1952, 2.2); what else follows is no part of it.
                    has_ended = has_ended or (bool(rest) and not rest.startswith(_GZIP))
                    if has_ended or not rest:
                        break
                    unpacker = zlib.decompressobj(_ANY_HEADER)
                piece = unpacker.decompress(rest, _PIECE_BYTES)
                rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
                if piece:
                    yield piece
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
