"""Numbers of a server: within bounds, or not there."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.protocol.counters import MOST, to_count, to_number, to_seconds

NO_NUMBERS = [
    *(None, True, False, "12", "", "1e3", [], [1], {}, math.inf, -math.inf, math.nan),
    *(-1, -0.5, 10**400, -(10**400), 10**4299, 2**63, 1e300, float(2**63)),
]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("read", [to_number, to_count, to_seconds])
def test_what_no_server_can_mean_is_nothing(read, value):
    assert read(value) is None


@pytest.mark.parametrize(("value", "number"), [(0, 0), (-0.0, 0), (12, 12), (12.0, 12), (1e9, 10**9), (MOST, MOST)])
def test_a_whole_number_is_an_int_however_it_is_written(value, number):
    assert to_number(value) == to_count(value) == number
    assert type(to_number(value)) is type(to_count(value)) is int


def test_part_of_one_is_a_number_and_no_count():
    assert to_number(1.5) == 1.5
    assert to_count(1.5) is None
    assert to_seconds(1.5e9) == 1.5
    assert to_seconds(2_000_000_000) == 2.0


def test_bounds_may_be_others():
    assert to_count(0, least=1) is None
    assert to_count(-1, least=-5) == -1
    assert to_count(2**31, most=2**31 - 1) is None


@given(st.one_of(st.integers(), st.floats(), st.integers(-(10**500), 10**500), st.booleans(), st.text()))
def test_whatever_is_read_can_be_calculated_with(value):
    for read in (to_number, to_count, to_seconds):
        number = read(value)
        assert number is None or (math.isfinite(float(number)) and number >= 0 and number / 1e-9 >= 0)
