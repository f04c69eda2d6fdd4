"""Lines of JSON from bytes that arrive in any pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest line that is taken. Replies are a few hundred bytes a line; a batch of 1,000 vectors of 1,024 numbers, the
longest thing asked for, arrives as one document of about 12 MB."""

_EXCERPT = 120

# json.loads looks at its arguments again for every line; a decoder of our own does not.
_decode_json = json.JSONDecoder().decode


class NdjsonError(ValueError):
    """A line that is not one JSON object, or that is longer than the limit. The text quotes its beginning."""


class NdjsonDecoder:
    r"""Splits bytes at ``\n`` and decodes each line as one JSON object.

    Only ``\n`` ends a line: text may hold U+0085 or U+2028, at which `str.splitlines` would cut. The bytes are split
    before they are decoded, so that a piece may end inside a multi-byte character.

    Args:
        max_line_bytes: Longest line that is taken, in bytes.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the objects whose lines end within the data.

        Raises:
            NdjsonError: A line is too long or not a JSON object. The objects before it were yielded.
        """
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = self._joined(line) if self._pieces else line
            if whole and not whole.isspace():
                yield decode_object(whole)
        if rest:
            self._keep(rest)

    def finish(self) -> Iterator[dict[str, Any]]:
        """Yield the object of a last line that came without an end of line.

        Raises:
            NdjsonError: That line is not a whole JSON object.
        """
        yield from self.feed(b"\n")

    def _keep(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._length += len(piece)
        if self._length > self._max_line_bytes:
            beginning = b"".join(self._pieces)[:_EXCERPT]
            self._pieces.clear()
            raise NdjsonError(f"a line is longer than {self._max_line_bytes:,} bytes; it begins {_quote(beginning)}")

    def _joined(self, end: bytes) -> bytes:
        self._keep(end)
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return whole


def decode_object(line: bytes) -> dict[str, Any]:
    """Decode one JSON object.

    Raises:
        NdjsonError: The bytes are not UTF-8, not JSON, nested too deeply, or JSON that is not an object.
    """
    try:
        value = _decode_json(line.decode())
    except (ValueError, RecursionError) as error:
        raise NdjsonError(f"expected a JSON object, got {_quote(line[:_EXCERPT])}") from error
    if not isinstance(value, dict):
        raise NdjsonError(f"expected a JSON object, got {_quote(line[:_EXCERPT])}")
    return value  # pyright: ignore[reportUnknownVariableType] # JSON objects have string keys and any values


def _quote(beginning: bytes) -> str:
    return repr(beginning.decode(errors="replace"))
