"""Facts in words for people: times, shares, and texts that come from a server."""

from __future__ import annotations

import re
from datetime import datetime, timezone

_UNITS = (("year", 365 * 86400), ("month", 30 * 86400), ("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
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
    seconds = (time - (now or datetime.now(timezone.utc))).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


def duration(seconds: float) -> str:
    """Say how long something takes, in its largest unit, rounded down: "3 days", "1 minute", "0.4 seconds"."""
    seconds = round(seconds, 1) if seconds < _WHOLE_SECONDS_FROM else int(seconds)
    name, length = next(((name, length) for name, length in _UNITS if seconds >= length), _UNITS[-1])
    count = seconds if name == "second" else seconds // length
    return f"{count:g} {name}{'' if count == 1 else 's'}"


def gpu_share(share: float) -> str:
    """Say how much of a model is on GPUs: "100%", "48%", "none" for one that runs on processors alone."""
    return f"{share:.0%}" if share > 0 else "none"


def plain(text: str) -> str:
    """Give a text without what would steer the terminal: control characters are written as escapes."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Give a text as one line that is safe for the terminal."""
    return plain(" ".join(text.split()))
