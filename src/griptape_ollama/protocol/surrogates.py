"""Halves of surrogate pairs: a character beyond U+FFFF is two of them in UTF-16, and a JSON text may hold one alone.

What cuts or writes text in units of UTF-16 (proxies in JavaScript, old JSON encoders) makes such halves. UTF-8 has
none: a text with one cannot be printed, stored or sent. Ollama's own JSON reader puts U+FFFD in their place (0.33).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from griptape_ollama.protocol.stream_kinds import StreamKind

_HALF = re.compile("[\ud800-\udfff]")
# Escaped in JSON, or as bytes that are not UTF-8, which some encoders write all the same.
_HALF_IN_JSON = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")

# Escapes of a JSON text, each whole: a pair, half a pair, or another one.
_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)"
)


def may_contain_surrogates(line: bytes) -> bool:
    """Return whether a JSON text may hold halves of pairs; those of a pair that is whole count, too."""
    # One byte is found many times faster than two: megabytes of numbers have no backslash.
    has_escape = b"\\" in line and b"\\u" in line
    return (has_escape or b"\xed" in line) and _HALF_IN_JSON.search(line) is not None


def replace_surrogates(text: str) -> str:
    """Return a text with the halves of pairs joined, and U+FFFD in place of each one that is alone."""
    if text.isascii() or _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def replace_escaped_surrogates(text: str) -> str:
    """Return a JSON text with U+FFFD in place of each escape of half a pair: strict readers refuse the whole text."""
    if r"\ud" not in text.lower():
        return text
    return _ESCAPE.sub(lambda escape: r"\ufffd" if escape[1] else escape[0], text)


def replace_surrogates_in(value: Any) -> Any:
    """Return a JSON value with `replace_surrogates` of all its texts, names of fields included."""
    if isinstance(value, str):
        return replace_surrogates(value)
    if isinstance(value, list):
        return [replace_surrogates_in(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        fields = cast("dict[Any, Any]", value)  # a user's own message may have names that JSON has yet to make texts
        return {replace_surrogates_in(name): replace_surrogates_in(each) for name, each in fields.items()}
    return value


class SurrogateJoiner:
    """Joins halves of pairs that stand in different lines of a reply.

    Args:
        kind: Kind of the stream: names the texts that continue from line to line.

    Attributes:
        is_waiting: Whether the first half of a pair was held back.
    """

    def __init__(self, kind: StreamKind) -> None:
        self._kind = kind
        self._held: dict[tuple[str, ...], str] = {}
        self.is_waiting = False

    def join(self, line: dict[str, Any]) -> dict[str, Any]:
        """Return a line whose texts have no halves; a first half at the end of a text waits for the next line."""
        is_last = self._kind.is_last(line)
        for path in self._kind.texts:
            self._join_text(line, path, is_last=is_last)
        self.is_waiting = bool(self._held)
        return replace_surrogates_in(line)

    def _join_text(self, line: dict[str, Any], path: tuple[str, ...], *, is_last: bool) -> None:
        fields = _fields_at(line, path[:-1], make=is_last and path in self._held)
        given = fields.get(path[-1]) if fields is not None else None
        if fields is None or not (isinstance(given, str) or (given is None and is_last and path in self._held)):
            return
        text = given or ""
        if text and _is_second(text[0]) and path not in self._held and self._held:
            path_of_first = next(iter(self._held))  # between thinking and answer
            text = self._held.pop(path_of_first) + text
        text = self._held.pop(path, "") + text
        if text and _is_first(text[-1]) and not is_last:
            text, self._held[path] = text[:-1], text[-1]
        fields[path[-1]] = text


def _fields_at(line: dict[str, Any], path: tuple[str, ...], *, make: bool) -> dict[str, Any] | None:
    fields: Any = line
    for name in path:
        if make and isinstance(fields, dict) and cast("Mapping[str, Any]", fields).get(name) is None:
            fields[name] = {}
        fields = cast("Mapping[str, Any]", fields).get(name) if isinstance(fields, dict) else None
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else None


def _is_first(character: str) -> bool:
    return "\ud800" <= character <= "\udbff"


def _is_second(character: str) -> bool:
    return "\udc00" <= character <= "\udfff"
