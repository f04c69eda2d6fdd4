r"""Regular expressions, rewritten into those that the server's grammar takes.

The grammar of a string is made of the pattern as it stands, not of its JSON form (llama.cpp of server 0.33): where the
pattern lets a quote, a backslash or a control character through, the reply is no JSON any more. None of them is let
through here, so that `.` is "any character that JSON writes as itself".
"""

from __future__ import annotations

import re
from typing import Any

_Range = tuple[int, int]

_CLASSES: dict[str, list[_Range]] = {
    "d": [(0x30, 0x39)],
    "w": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    "s": [(0x20, 0x20)],
}
_ESCAPED_BY_JSON: list[_Range] = [(0x00, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F)]
_NOT_ESCAPED = r'[^"\\\x00-\x1F\x7F]'
_LITERAL_WITH_BACKSLASH = frozenset("^$.[]()|{}*+?")
_LITERAL_WITHOUT = frozenset("/-:,;=<>!@#%&~`' _")
_GROUP = re.compile(r"\(\?(?::|P?<[A-Za-z]\w*>)")
_SURROGATES = range(0xD800, 0xE000)
_MAX_COUNT = 2000
_HEX = re.compile(r"\\x([0-9A-Fa-f]{2})|\\u([0-9A-Fa-f]{4})")


class _UnsupportedPatternError(Exception):
    """The grammar cannot express this."""


def to_grammar_pattern(pattern: Any) -> str | None:
    r"""Rewrite a pattern into the form `^...$` that the grammar takes.

    A pattern of a JSON schema may match anywhere in the text; what is not anchored gets "any characters" on that side.
    `\d`, `\w` and `\s` become sets of ASCII characters, groups lose their names.

    Returns:
        The pattern; None if the grammar cannot express it: lookaround, references, word boundaries, lazy
        quantifiers, characters that JSON escapes, anchors inside.
    """
    if not isinstance(pattern, str):
        return None
    starts = pattern.startswith("^")
    ends = pattern.endswith("$") and not _is_escaped(pattern, len(pattern) - 1)
    translator = _Translator(pattern[1 if starts else 0 : -1 if ends else None])
    try:
        body = translator.translate()
    except _UnsupportedPatternError:
        return None
    if translator.has_choice:
        if starts or ends:
            return None  # the anchors belong to the first and the last alternative only
        body = f"({body})"
    return f"^{'' if starts else _NOT_ESCAPED + '*'}{body}{'' if ends else _NOT_ESCAPED + '*'}$"


class _Translator:
    """Goes through a pattern once, from left to right."""

    def __init__(self, body: str) -> None:
        self._body = body
        self._at = 0
        self._depth = 0
        self._may_repeat = False
        self.has_choice = False

    def translate(self) -> str:
        out: list[str] = []
        while self._at < len(self._body):
            out.append(self._next())
        if self._depth:
            raise _UnsupportedPatternError
        return "".join(out)

    def _next(self) -> str:
        char = self._body[self._at]
        if char in "*+?{":
            return self._quantifier()
        self._may_repeat = char not in "(|"
        if char == "\\":
            return self._escape()
        if char == "[":
            return self._set()
        if char == "(":
            return self._open()
        self._at += 1
        if char == ")":
            self._depth -= 1
        if char in "^$]}" or self._depth < 0:
            raise _UnsupportedPatternError
        if char == "|":
            self.has_choice = self.has_choice or not self._depth
        return _NOT_ESCAPED if char == "." else char if char in ")|" else _literal(char)

    def _quantifier(self) -> str:
        match = re.compile(r"[*+?]|\{\d+(?:,\d*)?\}").match(self._body, self._at)
        if match is None or not self._may_repeat:
            raise _UnsupportedPatternError  # lazy, possessive, or nothing to repeat
        counts = [int(count) for count in re.findall(r"\d+", match[0])]
        # A server that gets {3,1} stops answering all requests; thousands it refuses (seen with 0.33.0-rc2).
        if counts != sorted(counts) or any(count > _MAX_COUNT for count in counts):
            raise _UnsupportedPatternError
        self._at = match.end()
        self._may_repeat = False
        return match[0]

    def _open(self) -> str:
        group = _GROUP.match(self._body, self._at)
        if group is None and self._body.startswith("(?", self._at):
            raise _UnsupportedPatternError
        self._at = group.end() if group else self._at + 1
        self._depth += 1
        return "("

    def _escape(self) -> str:
        char = self._body[self._at + 1 : self._at + 2]
        if code := _HEX.match(self._body, self._at):
            self._at = code.end()
            return _literal(chr(int(code[1] or code[2], 16)))
        self._at += 2
        if char in _CLASSES:
            return _written(_CLASSES[char])
        if char and char in _LITERAL_WITH_BACKSLASH | _LITERAL_WITHOUT:
            return _literal(char)
        raise _UnsupportedPatternError

    def _set(self) -> str:
        self._at += 1
        is_negated = self._body.startswith("^", self._at)
        self._at += is_negated
        ranges: list[_Range] = []
        while (char := self._body[self._at : self._at + 1]) != "]" or not ranges:
            if not char:
                raise _UnsupportedPatternError
            ranges += self._set_item()
        self._at += 1
        if is_negated:
            return _written([*ranges, *_ESCAPED_BY_JSON], "^")
        safe = [part for each in ranges for part in _without_escaped(each)]
        if not safe:
            raise _UnsupportedPatternError
        return _written(safe)

    def _set_item(self) -> list[_Range]:
        low = self._set_char()
        if isinstance(low, list):
            return low
        follows = self._body[self._at : self._at + 2]
        if not follows.startswith("-") or follows in ("-", "-]"):
            return [(low, low)]
        self._at += 1
        high = self._set_char()
        if isinstance(high, list) or high < low:
            raise _UnsupportedPatternError
        return [(low, high)]

    def _set_char(self) -> int | list[_Range]:
        """Parse one character of a set, or one of its classes."""
        char = self._body[self._at]
        if char != "\\":
            self._at += 1
            return ord(char)
        if code := _HEX.match(self._body, self._at):
            self._at = code.end()
            if (found := int(code[1] or code[2], 16)) in _SURROGATES:
                raise _UnsupportedPatternError
            return found
        escaped = self._body[self._at + 1 : self._at + 2]
        self._at += 2
        if escaped in _CLASSES:
            return _CLASSES[escaped]
        if not escaped or escaped.isalnum():
            control = {"t": 9, "n": 10, "v": 11, "f": 12, "r": 13}.get(escaped)
            if control is None:
                raise _UnsupportedPatternError
            return control
        return ord(escaped)


def _literal(char: str) -> str:
    if ord(char) in _SURROGATES or any(low <= ord(char) <= high for low, high in _ESCAPED_BY_JSON):
        raise _UnsupportedPatternError
    if char in _LITERAL_WITH_BACKSLASH:
        return f"\\{char}"
    # A quantifier would hold for the last byte of a longer character only.
    return char if char.isascii() else f"[{char}]"


def _without_escaped(span: _Range) -> list[_Range]:
    parts = [span]
    for low, high in _ESCAPED_BY_JSON:
        parts = [
            part
            for start, end in parts
            for part in ((start, min(end, low - 1)), (max(start, high + 1), end))
            if part[0] <= part[1]
        ]
        parts = list(dict.fromkeys(parts))
    return parts


def _written(ranges: list[_Range], negation: str = "") -> str:
    spans = (_in_set(low) if low == high else f"{_in_set(low)}-{_in_set(high)}" for low, high in ranges)
    return f"[{negation}{''.join(spans)}]"


def _in_set(code: int) -> str:
    is_plain = chr(code).isalnum() or (code > 0x7F and chr(code).isprintable())
    if is_plain or chr(code) in "_ .,:;/@#%+*=<>!?(){}$":
        return chr(code)
    return f"\\x{code:02X}" if code <= 0xFF else f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _is_escaped(text: str, index: int) -> bool:
    before = len(text[:index]) - len(text[:index].rstrip("\\"))
    return before % 2 == 1
