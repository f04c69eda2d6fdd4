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
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.protocol.numbers import (
    MAX_INT64,
    reported_count,
    reported_number,
    reported_seconds,
    to_boolean,
    to_number,
    to_plain,
    to_plain_scalar,
    to_real,
    to_whole,
)


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
    assert to_plain_scalar(np.bool_(True)) is True


def test_an_array_becomes_a_list_and_anything_else_is_named():
    assert to_plain(np.array([[1, 2], [3, 4]])) == [[1, 2], [3, 4]]
    with pytest.raises(TypeError, match="object cannot be written as JSON"):
        to_plain(object())


def test_no_array_library_is_imported_for_it():
    code = "import sys, griptape_ollama.protocol.numbers as n; n.to_number(1); assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


NO_NUMBERS = [
    *(None, True, False, "12", "", "1e3", [], [1], {}, math.inf, -math.inf, math.nan),
    *(-1, -0.5, 10**400, -(10**400), 10**4299, 2**63, 1e300, float(2**63)),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("read", [reported_number, reported_count, reported_seconds])
def test_what_no_server_can_mean_is_nothing(read, value):
    assert read(value) is None


@pytest.mark.parametrize(
    ("value", "number"), [(0, 0), (-0.0, 0), (12, 12), (12.0, 12), (1e9, 10**9), (MAX_INT64, MAX_INT64)]
)
def test_a_whole_number_is_an_int_however_it_is_written(value, number):
    assert reported_number(value) == reported_count(value) == number
    assert type(reported_number(value)) is type(reported_count(value)) is int


def test_part_of_one_is_a_number_and_no_count():
    assert reported_number(1.5) == 1.5
    assert reported_count(1.5) is None
    assert reported_seconds(1.5e9) == 1.5
    assert reported_seconds(2_000_000_000) == 2.0


def test_bounds_can_be_set():
    assert reported_count(0, least=1) is None
    assert reported_count(-1, least=-5) == -1
    assert reported_count(2**31, most=2**31 - 1) is None


@given(st.one_of(st.integers(), st.floats(), st.integers(-(10**500), 10**500), st.booleans(), st.text()))
def test_whatever_is_read_can_be_calculated_with(value):
    for read in (reported_number, reported_count, reported_seconds):
        number = read(value)
        assert number is None or (math.isfinite(float(number)) and number >= 0 and number / 1e-9 >= 0)
