"""Percentiles from buckets."""

import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.observability.histogram import LONGEST, RELATIVE_ERROR, SHORTEST, Histogram

_seconds = st.floats(min_value=SHORTEST, max_value=LONGEST)


def _filled(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


def _exact(values, share):
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def test_without_values_there_are_no_quantiles():
    assert Histogram().quantile(0.5) is None


@given(st.lists(_seconds, min_size=1, max_size=200), st.sampled_from([0, 0.5, 0.95, 0.99, 1]))
def test_a_quantile_is_as_near_as_promised(values, share):
    found = _filled(values).quantile(share)
    exact = _exact(values, share)
    assert abs(found - exact) <= RELATIVE_ERROR * exact * 1.001


@given(st.lists(_seconds, max_size=50), st.lists(_seconds, max_size=50))
def test_adding_histograms_up_is_the_same_as_adding_the_values(one, other):
    together, apart = _filled([*one, *other]), _filled(one)
    apart.add_all(_filled(other))
    assert [apart.quantile(share) for share in (0.5, 0.95, 0.99)] == [
        together.quantile(share) for share in (0.5, 0.95, 0.99)
    ]
    assert (apart.count, apart.least, apart.most) == (together.count, together.least, together.most)
    assert apart.total == pytest.approx(together.total)


def test_what_is_too_short_or_too_long_to_tell_apart_stays_within_what_was_seen():
    assert _filled([0.0, 1e-6, 2e-6]).quantile(0.5) <= SHORTEST
    assert _filled([0.0]).quantile(0.99) == 0
    assert _filled([1e6, 2e6]).quantile(0.99) == pytest.approx(1e6)


def test_memory_is_bounded_however_many_values_come():
    seed = random.Random(7)  # noqa: S311 # nothing secret
    histogram = _filled(10 ** seed.uniform(-5, 6) for _ in range(50_000))
    assert len(histogram._buckets) <= 1050
    assert sys.getsizeof(histogram._buckets) + 64 * len(histogram._buckets) < 120_000
