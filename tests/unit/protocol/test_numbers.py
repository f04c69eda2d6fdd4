"""Numbers of other libraries become the plain ones of JSON, exactly."""

import json
import math
import subprocess
import sys
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import numpy as np
import pytest

from griptape_ollama.protocol.numbers import simplified, to_boolean, to_number, to_plain, to_real, to_whole


class _Size(IntEnum):
    LARGE = 7


class _NoData:
    """A scalar that has no value at hand, as tensors of some devices are."""

    shape = ()

    def item(self):
        raise RuntimeError("no data")


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (7, 7),
        (7.0, 7.0),
        (_Size.LARGE, 7),
        (np.int8(-7), -7),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.array(7), 7),
        (np.array(0.25), 0.25),
        (Decimal("0.1"), 0.1),
        (Decimal("7.00"), 7),
        (Decimal(9_007_199_254_740_993), 9_007_199_254_740_993),
        (Decimal("-0.5"), -0.5),
        (Fraction(1, 3), 1 / 3),
        (Fraction(14, 2), 7),
    ],
)
def test_a_number_is_converted_exactly_to_a_plain_one(value, number):
    found = to_number(value)
    assert (found, type(found)) == (number, type(number))
    assert json.loads(json.dumps(to_plain(value))) == number


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), np.array(True), "7", b"7", bytearray(b"7"), np.str_("7"), None, [7], np.array([7]),
     np.array([]), 1j, np.complex64(1), Decimal("NaN"), Decimal("sNaN"), math.nan, np.float32("nan"),
     object(), _NoData()],
)  # fmt: skip
def test_what_is_no_number_is_none(value):
    assert to_number(value) is None
    assert to_real(value) is None


@pytest.mark.parametrize("value", [math.inf, np.float32("-inf"), Decimal("Infinity"), Decimal("1e999999999")])
def test_an_infinite_number_is_real_and_no_number_that_json_has(value):
    assert to_number(value) is None
    assert math.isinf(to_real(value))


@pytest.mark.parametrize("value", [7.0, np.float64(7), np.array(7.0), 0.5])
def test_a_float_is_no_whole_number(value):
    assert to_whole(value) is None


def test_booleans_of_other_libraries_are_booleans():
    assert to_boolean(np.bool_(False)) is False
    assert to_boolean(np.array(True)) is True
    assert to_boolean(1) is None
    assert simplified(np.bool_(True)) is True


def test_an_array_becomes_a_list_and_anything_else_is_named():
    assert to_plain(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        to_plain(object())


def test_no_array_library_is_imported_for_it():
    code = "import sys, griptape_ollama.protocol.numbers as n; n.to_number(1); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
