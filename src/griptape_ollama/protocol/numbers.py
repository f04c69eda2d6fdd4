"""Numbers: those that users pass, those that servers report, and sizes in bytes as text.

Users may pass numbers of other libraries (numpy, Decimal, Fraction). No such library is imported: their scalars are
found by what they can do. A server, or a gateway that rewrites replies, may report any JSON number, and to calculate
with one of 400 digits, an infinity or a text is an error: what no server can mean counts as not reported.
"""

from __future__ import annotations

import math
import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any, SupportsFloat, SupportsIndex

from griptape_ollama.errors import OllamaContentError

MAX_INT64 = 2**63 - 1
"""Largest number that is read from a server, which counts in 64 bits."""

_NANOSECONDS = 1_000_000_000


# Numbers that users pass


def to_python(value: Any) -> Any:
    """Return the Python value of a scalar of an array library: `numpy.bool_(True)`, or an array without dimensions.

    Any other value is returned as it is; arrays of one dimension and more are no scalars.
    """
    if getattr(value, "shape", None) != () or not callable(getattr(value, "item", None)):
        return value
    try:
        return value.item()
    except (TypeError, ValueError, RuntimeError):  # what has no data, such as a tensor on the device "meta"
        return value


def to_number(value: Any) -> int | float | None:
    """Return a value as a finite number, exact if a float can hold it; None if the value is not a number.

    Booleans are no numbers, nor are texts, nor arrays with a dimension. Whole decimals and fractions become integers.
    """
    number = to_real(value)
    return number if isinstance(number, int) or (number is not None and math.isfinite(number)) else None


def to_real(value: Any) -> int | float | None:
    """Return a number as `to_number` does; or an infinite one, as a limit that limits nothing."""
    if value is None:
        return None
    value = to_python(value)
    if isinstance(value, (bool, str, bytes, bytearray)) or getattr(value, "shape", ()) != ():
        return None
    try:
        if isinstance(value, SupportsIndex):
            return operator.index(value)
        number = float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError, ArithmeticError):
        return None
    if isinstance(value, (Decimal, Fraction)) and number.is_integer() and (whole := int(value)) == value:
        return whole
    return None if math.isnan(number) else number


def to_whole(value: Any) -> int | None:
    """Return a value as a whole number; None for anything else, floats without a fraction included."""
    number = to_number(value)
    return number if isinstance(number, int) else None


def to_boolean(value: Any) -> bool | None:
    """Return a value as a boolean; None if it is not one."""
    value = to_python(value)
    return value if isinstance(value, bool) else None


def to_plain_scalar(value: Any) -> Any:
    """Return the plain number or boolean that a value is; any other value as it is."""
    number = to_number(value)
    return to_python(value) if number is None else number


def to_plain(value: Any) -> Any:
    """Return what JSON can carry in place of a value of another library: a number, a boolean, or the list of an array.

    Raises:
        TypeError: JSON has nothing like it.
    """
    plain = to_python(value)
    if isinstance(plain, (bool, str)):
        return plain
    if (number := to_number(plain)) is not None:
        return number
    to_list = getattr(value, "tolist", None)
    if callable(to_list) and getattr(value, "shape", None):
        return to_list()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def check_whole(value: Any, *, least: int = 1, name: str = "", hint: str = "", unit: str = "whole number") -> int:
    """Return a setting that is a whole number, as a plain integer.

    Args:
        value: What the user passed.
        least: Smallest number that is allowed.
        name: Name of the setting, for the error.
        hint: What else the setting may be, for the error.
        unit: What it counts, for the error.

    Raises:
        OllamaContentError: It is no whole number, or too small.
    """
    number = to_whole(value)
    if number is None or number < least:
        raise OllamaContentError(f"{_shown(name, value)} must be a {unit} from {least}{hint}")
    return number


def check_seconds(value: Any, *, name: str = "", hint: str = "", longest: float = math.inf) -> float:
    """Return a setting that is a number of seconds from 0, perhaps infinite.

    Args:
        value: What the user passed.
        name: Name of the setting, for the error.
        hint: What else the setting may be, for the error.
        longest: Largest number that is allowed.

    Raises:
        OllamaContentError: It is no such number.
    """
    seconds = to_real(value)
    if seconds is None or not 0 <= seconds <= longest:
        raise OllamaContentError(f"{_shown(name, value)} must be a number of seconds from 0{hint}")
    return seconds


def _shown(name: str, value: Any) -> str:
    return f"{name}={value!r}" if name else repr(value)


# Numbers that a server reports


def reported_number(value: Any, *, least: float = 0, most: float = MAX_INT64) -> int | float | None:
    """Return a number within bounds, a whole one as an int in any notation; None if the value is not a number.

    Args:
        value: What JSON made of it. Booleans and texts are no numbers.
        least: Smallest number that is read.
        most: Largest number that is read.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def reported_count(value: Any, *, least: int = 0, most: int = MAX_INT64) -> int | None:
    """Return a whole number within bounds; None if the value is not a number."""
    number = reported_number(value, least=least, most=most)
    return number if isinstance(number, int) else None


def reported_seconds(nanoseconds: Any) -> float | None:
    """Return a duration of the server, which counts nanoseconds, in seconds; None if the value is not a number."""
    number = reported_number(nanoseconds)
    return None if number is None else number / _NANOSECONDS


# Sizes


def format_bytes(size: float) -> str:
    """Return a number of bytes as text for people, in powers of 1000, as Ollama writes it: `4.7 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:  # more is rounded up to 1000, which has a unit of its own
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"
