"""The server's clock, as the `Date` of a reply shows it: what times of the server mean on the clock of this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

from griptape_ollama.protocol.numbers import MAX_INT64, reported_number

_TOLERANCE = 2.0
"""Difference of `Date` and this clock, in seconds, that is no offset: it has whole seconds, and travels."""

# A clock that is further away was never set, as that of a device without a battery: it tells nothing about Ollama's.
_LARGEST_OFFSET = 366 * 86_400.0
_HALF = 0.5
_LONGEST_DATE = 100
_LONGEST_WAIT = 366 * 86_400  # seconds; a lock cannot wait for all that a header may ask for


def clock_offset(headers: Mapping[str, str], *, now: float | None = None) -> float:
    """Return by how many seconds the server's clock is ahead of this one; 0 where both agree, or it does not tell.

    Args:
        headers: Headers of a reply that has just come.
        now: When it came, in seconds since 1970; by default now.
    """
    date = _parse_date(headers.get("date", ""))
    if date is None:
        return 0.0
    offset = date + _HALF - (time.time() if now is None else now)
    return offset if _TOLERANCE < abs(offset) <= _LARGEST_OFFSET else 0.0


def retry_after(headers: Mapping[str, str], *, now: float | None = None) -> float | None:
    """Return the seconds of a Retry-After header, which is a number or a date (RFC 9110, 10.2.3).

    None for neither, and for what nothing can wait for: more than a year, infinity.

    Args:
        headers: Headers of a reply that has just come.
        now: As for `clock_offset`.
    """
    value = headers.get("retry-after", "")
    try:
        seconds = float(value)
    except ValueError:
        date = _parse_date(value)
        if date is None:
            return None
        now = time.time() if now is None else now
        offset = clock_offset(headers, now=now)
        # Date leaves out parts of a second: what was asked for may be all of what is between the two dates.
        seconds = date - now - (offset - _HALF if offset else 0.0)
    bounded = reported_number(seconds, least=-MAX_INT64, most=_LONGEST_WAIT)
    return None if bounded is None else max(0.0, bounded)


def _parse_date(value: str) -> float | None:
    try:
        date: datetime | None = parsedate_to_datetime(value[:_LONGEST_DATE])
        date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
        return date.timestamp()
    # What is no date, or one in a year that no calendar has; some Pythons fail otherwise at odd ones.
    except (ValueError, OverflowError, TypeError, IndexError, AttributeError):
        return None
