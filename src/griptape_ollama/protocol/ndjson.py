"""Lines of JSON from bytes that arrive in any pieces.

JSON is decoded by `orjson`, and by `json` of the standard library where the results would differ: half a surrogate
pair, NaN and infinities, integers beyond 64 bits, and bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import orjson

from griptape_ollama.protocol.stream_kinds import StreamKind
from griptape_ollama.protocol.surrogates import (
    SurrogateJoiner,
    may_contain_surrogates,
    replace_surrogates_in,
)

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest line that is accepted. Replies are a few hundred bytes a line; a batch of 1,000 vectors of 1,024 numbers, the
longest reply to any request, arrives as one document of about 12 MB."""

_EXCERPT = 120
_LARGE_BYTES = 64 * 1024

_decode_json = json.JSONDecoder().raw_decode
_BLANKS_TO_END = re.compile(r"\s*\Z")

# Reads a whole number of any length as a float where it has more digits than any counter.
_decode_any_number = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits)
).raw_decode

# orjson makes a float of an integer beyond 64 bits, which has 19 digits or more. With all digits alike, and all that
# may stand before a number alike, one search finds each.
_ALIKE = bytes.maketrans(b"123456789[:- \t\r\n", b"000000000,,,,,,,")
_LONG_INTEGER = b"," + b"0" * 19


class NdjsonError(ValueError):
    """A line that is not one JSON object, or that is longer than the limit. The text quotes its beginning."""


class NdjsonDecoder:
    r"""Splits bytes at ``\n`` and decodes each line as one JSON object.

    Only ``\n`` ends a line: text may hold U+0085 or U+2028, at which `str.splitlines` would cut. The bytes are split
    before they are decoded, so that a piece may end inside a multi-byte character. Halves of surrogate pairs in two
    lines are joined where the kind names the texts that continue from line to line; a lone one becomes U+FFFD.

    Args:
        max_line_bytes: Longest line that is accepted, in bytes.
        kind: Kind of the stream; None for lines that have nothing to do with each other.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES, *, kind: StreamKind | None = None) -> None:
        self._max_line_bytes = max_line_bytes
        self._joiner = None if kind is None else SurrogateJoiner(kind)
        # One buffer, not a list: pieces of two bytes would take twenty times their size.
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterable[dict[str, Any]]:
        """Return the objects whose lines end within the data. At the end of a reply, feed the end of line it may lack.

        Raises:
            NdjsonError: A line is too long or not a JSON object, here or after the objects before it.
        """
        size = len(data)
        is_line = not self._begun and data.find(b"\n") == size - 1  # one whole line, as servers send them
        if is_line and size <= self._max_line_bytes and not (self._joiner and self._joiner.is_waiting):
            value = _decode_quickly(data)
            if value is not None:
                return (value,)
        return self._feed_lines(data)

    def _feed_lines(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = self._joined(line) if self._begun else line
            if len(whole) > self._max_line_bytes:
                raise self._too_long(whole)
            if whole and not whole.isspace():
                joins = self._joiner is not None and (self._joiner.is_waiting or may_contain_surrogates(whole))
                yield _decode_exactly(whole, self._joiner.join) if self._joiner and joins else decode_object(whole)
        if rest:
            self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        self._begun += piece
        if len(self._begun) > self._max_line_bytes:
            beginning = bytes(self._begun[:_EXCERPT])
            self._begun.clear()
            raise self._too_long(beginning)

    def _too_long(self, line: bytes) -> NdjsonError:
        beginning = _quote(line[:_EXCERPT])
        return NdjsonError(f"a line is longer than {self._max_line_bytes:,} bytes; it begins {beginning}")

    def _joined(self, end: bytes) -> bytes:
        self._keep(end)
        whole = bytes(self._begun)
        self._begun.clear()
        return whole


def decode_object(line: bytes) -> dict[str, Any]:
    """Decode one JSON object; lone halves of surrogate pairs in it become U+FFFD.

    Raises:
        NdjsonError: The bytes are not UTF-8, not JSON, nested too deeply, or JSON that is not an object.
    """
    value = _decode_quickly(line)
    if value is not None:
        return value
    return _decode_exactly(line, replace_surrogates_in if may_contain_surrogates(line) else None)


def _decode_quickly(line: bytes) -> dict[str, Any] | None:
    """Decode one JSON object as `json` would; None if only `json` can tell."""
    if not line.startswith(b"{") and not line[:_EXCERPT].lstrip().startswith(b"{"):
        return None
    # orjson reserves twelve times the size, also for megabytes that cannot be one object.
    if len(line) > _LARGE_BYTES and not line[-_EXCERPT:].rstrip().endswith(b"}"):
        return None
    try:
        value = orjson.loads(line)
    except ValueError:
        return None
    if type(value) is not dict or _LONG_INTEGER in line.translate(_ALIKE):
        return None
    return value  # pyright: ignore[reportUnknownVariableType] # JSON objects have string keys and any values


def _decode_exactly(line: bytes, mend: Callable[[dict[str, Any]], dict[str, Any]] | None) -> dict[str, Any]:
    try:
        text = _to_text(line)
        value, end = _decode_text(text)
        if not isinstance(value, dict) or _BLANKS_TO_END.match(text, end) is None:
            raise ValueError("not one object")  # noqa: TRY301 # quoted as every other line that cannot be read
        return cast("dict[str, Any]", value) if mend is None else mend(cast("dict[str, Any]", value))
    except (ValueError, RecursionError) as error:
        raise NdjsonError(f"expected a JSON object, got {_quote(line[:_EXCERPT])}") from error


def _decode_text(text: str) -> tuple[Any, int]:
    """Return the value that a text begins with, and where it ends."""
    start = len(text) - len(text.lstrip())
    try:
        return _decode_json(text, start)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python reads
        return _decode_any_number(text, start)


def _to_text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "surrogatepass")


def _quote(beginning: bytes) -> str:
    return repr(beginning.decode(errors="replace"))
