"""Facts in words for people: times, and texts that come from a server."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone

# Name, length in seconds, and how many of it are said before the next one is.
_UNITS = (
    ("second", 1, 100),
    ("minute", 60, 100),
    ("hour", 3600, 48),
    ("day", 86400, 60),
    ("month", 30 * 86400, 24),
    ("year", 365 * 86400, math.inf),
)
_WHOLE_SECONDS_FROM = 10
# A text of a server must not move the cursor or colour the terminal; line ends and tabs are harmless.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def relative_time(time: datetime | None, now: datetime | None = None) -> str:
    """Say how far away a time is: "3 days ago", "in 4 minutes", "now"; a dash where it is not known.

    Args:
        time: The time, with its zone.
        now: What it is compared with; by default the present.
    """
    if time is None:
        return "-"
    seconds = round((time - (now or datetime.now(timezone.utc))).total_seconds())
    if seconds == 0:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


def duration(seconds: float) -> str:
    """Say how long something takes, in one rounded unit: "3 days", "90 minutes", "0.4 seconds"."""
    if seconds < _WHOLE_SECONDS_FROM:
        return _counted(round(seconds, 1), "second")
    counts = ((round(seconds / length), name, most) for name, length, most in _UNITS)
    return next(_counted(count, name) for count, name, most in counts if count < most)


def plain(text: str) -> str:
    """Give a text without what would steer the terminal: control characters are written as escapes."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Give a text as one line that is safe for the terminal."""
    return plain(" ".join(text.split()))


def _counted(count: float, name: str) -> str:
    return f"{count:g} {name}{'' if count == 1 else 's'}"
