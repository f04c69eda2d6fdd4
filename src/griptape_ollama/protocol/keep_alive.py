"""How long a model stays loaded: one value from what users write."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from typing import Any

from griptape_ollama.protocol.numbers import to_number, to_python

_GO_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_GO_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}

MAX_SECONDS = 2**63 / 1e9
"""The server keeps durations in an int64 of nanoseconds, which is 292 years; more would wrap round to "unload now"."""


def normalize_keep_alive(value: Any) -> int | float | str:
    """Check a keep_alive value and return what goes over the wire.

    Args:
        value: Seconds, a Go duration such as `"10m"` or `"1h30m"`, a timedelta, 0 (unload now) or a negative number
            (for good), also one that is written as text: `"-1"` is how environments have it.

    Returns:
        Seconds as a plain number, or the duration string without blanks around it.

    Raises:
        ValueError: The server would refuse the value, or misread it. The text names what would be right.
    """
    value = to_python(value)
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
        value = int(seconds) if seconds.is_integer() else seconds
    if isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 # a wrong setting, whatever is wrong with it
            f"keep_alive={value!r} is not a duration: use 0 to unload the model now, -1 to keep it for good"
        )
    if isinstance(value, str):
        return _check_text(value)
    number = to_number(value)
    if number is None:
        raise ValueError(
            f"keep_alive={value!r} is not a duration: use seconds, a text such as '10m', a timedelta, "
            "0 (unload now) or -1 (keep for good)"
        )
    _check_length(abs(number), value)
    return number


def keep_alive_seconds(value: float | str) -> float:
    """Seconds of a value that the server accepts; infinite for negative ones, which mean "for good".

    Raises:
        ValueError: The value is neither a number nor a Go duration.
    """
    seconds = _text_seconds(value) if isinstance(value, str) else float(value)
    return math.inf if seconds < 0 else seconds


def _check_text(given: str) -> int | float | str:
    text = given.strip()
    if _GO_DURATION.fullmatch(text):
        _check_length(abs(_text_seconds(text)), text)
        return text
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isfinite(number) and number < 0:
        return int(number) if number.is_integer() else number
    if math.isfinite(number):
        raise ValueError(f"keep_alive={given!r} has no unit: write {number:g} (seconds) or '{number:g}s'")
    raise ValueError(f"keep_alive={given!r} is not a duration: write one such as '30s', '10m' or '1h30m'")


def _text_seconds(text: str) -> float:
    if not _GO_DURATION.fullmatch(text):
        raise ValueError(f"invalid duration {text!r}")
    seconds = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in _GO_PART.findall(text))
    return -seconds if text.startswith("-") else seconds


def _check_length(seconds: float, given: float | str) -> None:
    if seconds >= MAX_SECONDS:
        raise ValueError(f"keep_alive={given!r} is longer than the server can count: use -1 to keep the model for good")
