"""What others wrote, as one line that can stand in a log, in an error and on a terminal."""

from __future__ import annotations

import re

# Control characters end lines, and colour or steer terminals; marks of direction show a text in another order than it
# has; halves of surrogate pairs cannot be encoded, so that whoever writes them to a file fails.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Give a text with what is not to be printed as escapes: ``\n``, ``\x1b``, ``\u202e``.

    A server, or a model, could otherwise write lines of its own into a log.
    """
    if text.isascii() and text.isprintable():
        return text
    return _UNFIT.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
