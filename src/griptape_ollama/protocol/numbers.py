"""Numbers of other libraries as the plain ones that JSON has: numpy, Decimal, Fraction and the like.

No such library is imported: their scalars are found by what they can do.
"""

from __future__ import annotations

import math
import operator
from decimal import Decimal
from fractions import Fraction
from typing import Any, SupportsFloat, SupportsIndex


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
    """Return the finite number that a value is, exactly where a float can hold it; None where it is no number.

    Booleans are no numbers, nor are texts, nor arrays with a dimension. Whole decimals and fractions become integers.
    """
    number = to_real(value)
    return number if isinstance(number, int) or (number is not None and math.isfinite(number)) else None


def to_real(value: Any) -> int | float | None:
    """Return a number as `to_number` does; or an infinite one, as limits are that limit nothing."""
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
    """Return the whole number that a value is; None where it is none. A float is none, whatever its value."""
    number = to_number(value)
    return number if isinstance(number, int) else None


def to_boolean(value: Any) -> bool | None:
    """Return the boolean that a value is; None where it is none."""
    value = to_python(value)
    return value if isinstance(value, bool) else None


def simplified(value: Any) -> Any:
    """Return the plain number or boolean that a value is; any other value as it is."""
    number = to_number(value)
    return to_python(value) if number is None else number


def to_plain(value: Any) -> Any:
    """Return what JSON can carry in place of a value of another library: a number, a boolean, or the list of an array.

    Raises:
        TypeError: There is nothing like it in JSON.
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
