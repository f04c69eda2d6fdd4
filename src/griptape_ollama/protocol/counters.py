"""Numbers that a server counts: tokens, bytes, nanoseconds."""

from __future__ import annotations

from typing import Any

_TOO_MUCH = 2**63


def is_counted(value: Any) -> bool:
    """Whether a value may come from the server's counters, which are 64 bits wide.

    JSON knows no such bound, and whoever calculates with a number of 400 digits gets an OverflowError.
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < _TOO_MUCH


def to_count(value: Any) -> int | None:
    """Give a whole number that a server counted; None where the value is none."""
    return value if isinstance(value, int) and is_counted(value) else None
