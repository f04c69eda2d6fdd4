"""Numbers of a server: tokens, bytes, nanoseconds, seconds. All of them are read here, so that none is out of bounds.

JSON knows no bounds, nor do gateways that rewrite replies, and to calculate with a number of 400 digits, an infinity or
a text is an error. A number that no server can mean counts as one that the server did not tell.
"""

from __future__ import annotations

from typing import Any

MOST = 2**63 - 1
"""Largest number that is read: the server counts in 64 bits."""

_NANOSECONDS = 1_000_000_000


def to_number(value: Any, *, least: float = 0, most: float = MOST) -> int | float | None:
    """Return a number within bounds; a whole one as an int, however it is written. None where the value is none.

    Args:
        value: What JSON made of it. Booleans and texts are no numbers.
        least: Smallest number that is read.
        most: Largest number that is read.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def to_count(value: Any, *, least: int = 0, most: int = MOST) -> int | None:
    """Return a whole number within bounds; None where the value is none."""
    number = to_number(value, least=least, most=most)
    return number if isinstance(number, int) else None


def to_seconds(nanoseconds: Any) -> float | None:
    """Return a duration of the server, which counts nanoseconds, in seconds; None where the value is none."""
    number = to_number(nanoseconds)
    return None if number is None else number / _NANOSECONDS
