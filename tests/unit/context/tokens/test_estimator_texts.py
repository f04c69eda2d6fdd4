"""Tokens of texts that are embedded: estimated, and learned from what the server counted."""

import threading
from concurrent.futures import ThreadPoolExecutor

from griptape_ollama.context.tokens.estimator import TextEstimator, text_estimator_of
from griptape_ollama.shared_state import reset_shared_state

_PROSE = "The ferry runs until noon on most days of the year, and the keeper writes down who was on board. "
_CODE = "for (i = 0; i < n; ++i) { total[i] += rows[i][j] * 0.5; }\n"


def test_without_replies_an_estimate_is_wide():
    estimate = TextEstimator().estimate(_PROSE * 10)
    assert estimate.low < 200 < estimate.high
    assert estimate.uncertainty > 0.25


def test_replies_make_it_narrow_and_right():
    estimator = TextEstimator()
    for number in range(1, 9):
        estimator.learn([_PROSE * number, _PROSE * 2], 27 * (number + 2) + 4)
    estimate = estimator.estimate(_PROSE * 10)
    assert abs(estimate.tokens - 272) < 15
    assert estimate.high < 1.15 * 272
    assert estimator.most_tokens(_PROSE * 10) == estimate.high


def test_dense_texts_have_more_tokens_per_character():
    estimator = TextEstimator()
    for number in range(1, 9):
        estimator.learn([_PROSE * number], 20 * number + 2)
        estimator.learn([_CODE * number], 38 * number + 2)
    per_character = [estimator.estimate(text * 5).tokens / len(text * 5) for text in (_PROSE, _CODE)]
    assert per_character[1] > 1.5 * per_character[0]


def test_an_impossible_count_is_ignored():
    estimator = TextEstimator()
    before = estimator.estimate(_PROSE)
    for tokens in (0, -1, 10**18):
        estimator.learn([_PROSE], tokens)
    assert estimator.estimate(_PROSE) == before


def test_drivers_of_a_model_share_one_and_other_models_have_their_own():
    one = text_estimator_of("http://gpu:11434", "m")
    assert text_estimator_of("http://gpu:11434", "m") is one
    assert text_estimator_of("http://gpu:11434", "n") is not one
    reset_shared_state()
    assert text_estimator_of("http://gpu:11434", "m") is not one


def test_threads_may_share_it():
    estimator, start = TextEstimator(), threading.Barrier(8)

    def work(number):
        start.wait(30)
        for times in range(1, 20):
            estimator.learn([_PROSE * times], 25 * times + 2)
            assert estimator.estimate(_PROSE * number).high > 0

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    assert abs(estimator.estimate(_PROSE * 10).tokens - 252) < 25
