"""Text of servers and models, escaped for logs, errors and terminals."""

from __future__ import annotations

import re

# Control characters end lines, and colour or steer terminals; marks of direction show a text in another order than it
# has; halves of surrogate pairs cannot be encoded, so that writing them to a file fails.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


_UNREADABLE = re.compile(_UNPRINTABLE.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))


def readable(text: str) -> str:
    r"""Return a text for people, with escapes in place of what is not printable; it keeps its lines and tabs."""
    return text if text.isascii() and text.isprintable() else _escaped(_UNREADABLE, text)


def printable(text: str) -> str:
    r"""Return a text as one line, with escapes in place of what is not printable: ``\n``, ``\x1b``, ``\u202e``.

    A server, or a model, could otherwise write lines of its own into a log.
    """
    return text if text.isascii() and text.isprintable() else _escaped(_UNPRINTABLE, text)


def _escaped(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
