"""The linear model behind estimates."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.tokens.regression import Prior, TokenEstimate, TokenRegression

WORDS = Prior("words", 1.0, 0.5, 4.0)
SIGNS = Prior("signs", 0.5, 0.5, 2.0)


def _chance(seed):
    return random.Random(seed)  # noqa: S311 - the same counts in every run


def learned(counts):
    regression = TokenRegression((WORDS, SIGNS))
    for row, tokens in counts:
        regression.learn(row, tokens)
    return regression


def counts_of(words, signs, number, seed=1):
    chance = _chance(seed)
    rows = [(chance.randrange(50, 500), chance.randrange(10, 200)) for _ in range(number)]
    return [(row, row[0] * words + row[1] * signs) for row in rows]


def test_the_weights_begin_with_the_priors():
    assert learned(()).weights == (1.0, 0.5)


def test_the_regression_finds_the_weights_that_counts_come_from():
    assert learned(counts_of(1.6, 0.2, 20)).weights == pytest.approx((1.6, 0.2), abs=0.1)


def test_each_count_makes_the_deviation_smaller():
    deviations = [learned(counts_of(1.6, 0.2, number)).deviation((100, 20)) for number in (0, 1, 4, 16)]

    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] < deviations[0] / 5


def test_one_wrong_count_in_ten_does_not_move_the_weights():
    chance = _chance(3)
    counts = [
        (row, tokens * chance.choice((10, 0.1)) if place % 10 == 5 else tokens)
        for place, (row, tokens) in enumerate(counts_of(1.6, 0.2, 60))
    ]

    assert learned(counts).expected((100, 20)) == pytest.approx(164, rel=0.08)


def test_counts_that_are_all_off_are_believed():
    assert learned(counts_of(3.9, 1.9, 12)).expected((100, 20)) == pytest.approx(428, rel=0.08)


def test_a_model_that_was_replaced_is_learned_anew():
    counts = counts_of(1.0, 0.5, 200) + counts_of(2.0, 0.5, 30, seed=2)

    assert learned(counts).expected((100, 20)) == pytest.approx(210, rel=0.08)


def test_a_count_of_one_feature_teaches_about_all_that_have_something_in_common():
    related = [Prior(name, 1.0, 0.1, 4.0, common=0.5) for name in ("words", "letters")]
    regression = TokenRegression((*related, SIGNS))

    regression.learn((1_000,), 1_500)

    words, letters, signs = regression.weights
    assert words == pytest.approx(1.5, abs=0.05)
    assert letters == pytest.approx(1.5, abs=0.1)
    assert signs == 0.5


@given(st.lists(st.tuples(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), st.integers(0, 10**9)), max_size=30))
def test_no_counts_give_weights_beyond_their_bounds(counts):
    regression = learned(counts)

    assert all(0 <= weight <= prior.most for weight, prior in zip(regression.weights, (WORDS, SIGNS), strict=True))
    assert regression.deviation((100, 20)) >= 0


@pytest.mark.parametrize(("estimate", "share"), [((100, 70, 130), 0.3), ((10, 10, 10), 0.0), ((0, 0, 0), 0.0)])
def test_the_uncertainty_is_half_of_the_span_as_a_share(estimate, share):
    assert TokenEstimate(*estimate).uncertainty == pytest.approx(share)
