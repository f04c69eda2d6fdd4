"""The linear model behind estimates."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.tokens.regression import Calibration, Prior

WORDS = Prior("words", 1.0, 0.5, 4.0)
SIGNS = Prior("signs", 0.5, 0.5, 2.0)


def _chance(seed):
    return random.Random(seed)  # noqa: S311 - the same counts in every run


def learned(counts):
    calibration = Calibration((WORDS, SIGNS))
    for row, tokens in counts:
        calibration.learn(row, tokens)
    return calibration


def counts_of(words, signs, number, seed=1):
    chance = _chance(seed)
    rows = [(chance.randrange(50, 500), chance.randrange(10, 200)) for _ in range(number)]
    return [(row, row[0] * words + row[1] * signs) for row in rows]


def test_it_begins_with_what_is_known_before_any_count():
    assert learned(()).weights == (1.0, 0.5)


def test_it_finds_the_weights_that_counts_come_from():
    assert learned(counts_of(1.6, 0.2, 20)).weights == pytest.approx((1.6, 0.2), abs=0.1)


def test_it_is_surer_with_each_count():
    deviations = [learned(counts_of(1.6, 0.2, number)).deviation((100, 20)) for number in (0, 1, 4, 16)]

    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] < deviations[0] / 5


def test_one_count_in_ten_that_is_wild_does_not_wreck_it():
    chance = _chance(3)
    counts = [
        (row, tokens * chance.choice((10, 0.1)) if place % 10 == 5 else tokens)
        for place, (row, tokens) in enumerate(counts_of(1.6, 0.2, 60))
    ]

    assert learned(counts).expected((100, 20)) == pytest.approx(164, rel=0.08)


def test_what_was_off_all_along_is_believed():
    assert learned(counts_of(3.9, 1.9, 12)).expected((100, 20)) == pytest.approx(428, rel=0.08)


def test_a_model_that_was_replaced_is_learned_anew():
    counts = counts_of(1.0, 0.5, 200) + counts_of(2.0, 0.5, 30, seed=2)

    assert learned(counts).expected((100, 20)) == pytest.approx(210, rel=0.08)


def test_a_count_of_one_class_teaches_about_its_kin():
    kin = [Prior(name, 1.0, 0.1, 4.0, kin="script", with_kin=0.5) for name in ("common", "rare")]
    calibration = Calibration((*kin, SIGNS))

    calibration.learn((1_000,), 1_500)

    common, rare, signs = calibration.weights
    assert common == pytest.approx(1.5, abs=0.05)
    assert rare == pytest.approx(1.5, abs=0.1)
    assert signs == 0.5


@given(st.lists(st.tuples(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), st.integers(0, 10**9)), max_size=30))
def test_no_counts_give_weights_beyond_their_bounds(counts):
    calibration = learned(counts)

    assert all(0 <= weight <= prior.most for weight, prior in zip(calibration.weights, (WORDS, SIGNS), strict=True))
    assert calibration.deviation((100, 20)) >= 0
