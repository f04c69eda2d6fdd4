"""Lines of JSON from bytes that arrive in any pieces."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from griptape_ollama.protocol.stream_kinds import StreamKind
from griptape_ollama.protocol.surrogates import (
    SurrogateJoiner,
    may_contain_surrogates,
    replace_surrogates_in,
)

try:
    from orjson import loads as _loads  # a fifth of the time
except ImportError:  # PyPy has none
    from json import loads as _loads

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longest line that is taken. Replies are a few hundred bytes a line; a batch of 1,000 vectors of 1,024 numbers, the
longest thing asked for, arrives as one document of about 12 MB."""

_EXCERPT = 120

# Whole numbers of fewer digits fit into 64 bits. Longer ones are exact with `json` only.
_MAX_EXACT_DIGITS = 18
_AS_ZEROS = bytes(ord("0") if chr(byte).isdigit() else byte for byte in range(0x80)) + bytes(range(0x80, 0x100))
_ZEROS = b"0" * (_MAX_EXACT_DIGITS + 1)
_PIECE = 1 << 16

_decode_json = json.JSONDecoder().raw_decode
_BLANKS_TO_END = re.compile(r"\s*\Z")

# Takes a whole number of any length for what no counter can hold.
_decode_any_number = json.JSONDecoder(
    parse_int=lambda digits: int(digits) if len(digits) < 20 else float(digits)
).raw_decode


class NdjsonError(ValueError):
    """A line that is not one JSON object, or that is longer than the limit. The text quotes its beginning."""


class NdjsonDecoder:
    r"""Splits bytes at ``\n`` and decodes each line as one JSON object.

    Only ``\n`` ends a line: text may hold U+0085 or U+2028, at which `str.splitlines` would cut. The bytes are split
    before they are decoded, so that a piece may end inside a multi-byte character. Halves of surrogate pairs in two
    lines are joined where the kind says which texts go on from line to line; one that is alone becomes U+FFFD.

    Args:
        max_line_bytes: Longest line that is taken, in bytes.
        kind: Kind of the reply; None for lines that have nothing to do with each other.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES, *, kind: StreamKind | None = None) -> None:
        self._max_line_bytes = max_line_bytes
        self._short = min(max_line_bytes, _PIECE)
        self._joiner = None if kind is None else SurrogateJoiner(kind)
        # One buffer, not a list: pieces of two bytes would take twenty times their size.
        self._begun = bytearray()

    def feed(self, data: bytes) -> Iterable[dict[str, Any]]:
        """Return the objects whose lines end within the data. At the end of a reply, feed the end of line it may lack.

        Raises:
            NdjsonError: A line is too long or not a JSON object. The objects before it were yielded.
        """
        # Nearly all data are one whole line, as servers send them: it takes no calls but those of C.
        if not self._begun and len(data) <= self._short and data.find(b"\n") == len(data) - 1:
            is_plain = b"\\u" not in data and b"\xed" not in data and _ZEROS not in data.translate(_AS_ZEROS)
            if is_plain and not (self._joiner is not None and self._joiner.is_waiting):
                try:
                    value = _loads(data)
                except ValueError:
                    value = None
                if type(value) is dict:
                    return (value,)  # pyright: ignore[reportUnknownVariableType] # JSON objects have string keys
        return self._feed_any(data)

    def _feed_any(self, data: bytes) -> Iterator[dict[str, Any]]:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = self._joined(line) if self._begun else line
            if len(whole) > self._max_line_bytes:
                raise self._too_long(whole)
            if whole and not whole.isspace():
                yield self._mended(whole) if self._may_need_mending(whole) else _decode(whole)
        if rest:
            self._keep(rest)

    def _may_need_mending(self, line: bytes) -> bool:
        return b"\\u" in line or b"\xed" in line or (self._joiner is not None and self._joiner.is_waiting)

    def _mended(self, line: bytes) -> dict[str, Any]:
        joiner = self._joiner
        if joiner is None or not (joiner.is_waiting or may_contain_surrogates(line)):
            return decode_object(line)
        return _decode(line, joiner.join)

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
    """Decode one JSON object; halves of surrogate pairs in it that are alone become U+FFFD.

    Raises:
        NdjsonError: The bytes are not UTF-8, not JSON, nested too deeply, or JSON that is not an object.
    """
    return _decode(line, replace_surrogates_in if may_contain_surrogates(line) else None)


def _decode(line: bytes, mend: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> dict[str, Any]:
    value: Any = None
    try:
        value = _loads(line)
        is_exact = not _has_long_number(line)
    except (ValueError, RecursionError):
        is_exact = False
    if not is_exact:
        value = None  # a line may have megabytes: it is not held twice
        value = _decode_oddly(line)
    if not isinstance(value, dict):
        raise _no_object(line)
    if mend is None:
        return value  # pyright: ignore[reportUnknownVariableType] # JSON objects have string keys and any values
    try:
        return mend(cast("dict[str, Any]", value))
    except RecursionError as error:
        raise _no_object(line) from error


def _has_long_number(line: bytes) -> bool:
    if len(line) <= _PIECE:
        return _ZEROS in line.translate(_AS_ZEROS)
    pieces = (line[start : start + _PIECE + _MAX_EXACT_DIGITS] for start in range(0, len(line), _PIECE))
    return any(_ZEROS in piece.translate(_AS_ZEROS) for piece in pieces)


def _decode_oddly(line: bytes) -> Any:
    """Decode one JSON value with halves of surrogate pairs, numbers without bounds, NaN or Infinity."""
    try:
        text = _to_text(line)
        value, end = _decode_text(text)
        if _BLANKS_TO_END.match(text, end) is None:
            raise ValueError("more than one value")  # noqa: TRY301 # quoted as every other line that cannot be read
    except (ValueError, RecursionError) as error:
        raise _no_object(line) from error
    return value


def _no_object(line: bytes) -> NdjsonError:
    return NdjsonError(f"expected a JSON object, got {_quote(line[:_EXCERPT])}")


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
