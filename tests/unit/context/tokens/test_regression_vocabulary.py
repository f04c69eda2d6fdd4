"""Vocabularies of another kind, with hardly more than single characters."""

import random

import pytest

from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.context.tokens.regression import VocabularyCheck

WORDS = 'the keeper of a lighthouse wrote down 17 times, before noon: "nothing" [at all] (or so) he said'.split()  # noqa: SIM905
OVERHEAD = 30


def prompt(words, seed=0):
    chance = random.Random(seed)  # noqa: S311 - the same texts in every run
    return [{"role": "user", "content": " ".join(chance.choices(WORDS, k=words))}]


def in_bytes(messages):
    """Count as a vocabulary of single bytes does."""
    return OVERHEAD + sum(len(message["content"].encode()) for message in messages)


def taught(*sizes, count=in_bytes):
    estimator = PromptEstimator()
    for seed, size in enumerate(sizes):
        estimator.learn(prompt(size, seed), (), count(prompt(size, seed)))
    return estimator


def test_two_replies_are_enough_to_know_a_vocabulary_of_single_characters():
    estimator, other = taught(40, 120), prompt(300, 9)

    estimate = estimator.estimate(other)

    assert estimate.tokens == pytest.approx(in_bytes(other), rel=0.05)
    assert estimate.low <= in_bytes(other) <= estimate.high


@pytest.mark.parametrize(
    "text", ["x" * 2000, "1234567890 " * 200, "Lighthouse\n" * 200, "灯塔今天没有船。" * 100, '{"a": [1, 2]}' * 100]
)
def test_a_known_vocabulary_fits_other_texts(text):
    estimator, messages = taught(40, 120, 200), [{"role": "user", "content": text}]

    assert estimator.estimate(messages).tokens == pytest.approx(in_bytes(messages), rel=0.25)


def test_turns_of_a_conversation_are_enough_too():
    estimator, messages = PromptEstimator(), []
    for turn in range(4):
        messages = [*messages, *prompt(30, turn), {"role": "assistant", "content": "Yes, nothing at all was seen."}]
        estimator.learn(messages, (), in_bytes(messages))

    assert estimator.estimate(messages).tokens == pytest.approx(in_bytes(messages), rel=0.1)


def test_one_reply_is_not_enough():
    estimate = taught(120).estimate(prompt(120, 9))

    assert estimate.tokens < in_bytes(prompt(120, 9)) / 2


def test_a_long_system_prompt_of_the_model_is_not_taken_for_single_characters():
    estimator = taught(40, 40, 42, count=lambda messages: 170 + in_bytes(messages) // 4)
    long = prompt(1000, 9)

    assert estimator.estimate(long).tokens < 0.7 * in_bytes(long)


def test_a_vocabulary_of_words_under_the_same_name_is_known_again():
    estimator = taught(40, 120, 200)
    for seed in (20, 21, 22):
        messages = prompt(100 * (seed - 19), seed)
        estimator.learn(messages, (), OVERHEAD + in_bytes(messages) // 4)

    other = prompt(300, 9)
    assert estimator.estimate(other).tokens == pytest.approx(in_bytes(other) / 4, rel=0.3)


@pytest.mark.parametrize(
    ("counts", "is_detected"),
    [
        ([(1000, 250, 1000)], False),
        ([(1000, 250, 1000), (2000, 500, 2000)], True),
        ([(1000, 250, 1000), (1010, 252, 1010)], False),  # both may have the same unknown part
        ([(5000, 1250, 5000), (5010, 1252, 5010)], True),  # too large for that
        ([(1000, 250, 1000), (400, 250, 1000), (2000, 500, 2000)], False),  # one in between fits what was assumed
        ([(1000, 250, 3000), (2000, 500, 9000)], False),  # the other kind does not fit either
        ([(30, 8, 30), (50, 12, 50)], False),  # too few tokens
    ],
)
def test_two_counts_in_a_row_have_to_fit_the_other_kind_alone(counts, is_detected):
    check = VocabularyCheck()

    found = [check.add(tokens, assumed, assumed, other, is_whole=True) for tokens, assumed, other in counts]

    assert found == [*[False] * (len(counts) - 1), is_detected]


def test_counts_of_what_was_added_have_nothing_unknown_in_them():
    check = VocabularyCheck()

    assert not check.add(100, 25, 25, 100, is_whole=False)
    assert check.add(104, 26, 26, 104, is_whole=False)


def test_a_count_that_was_expected_is_no_evidence():
    check = VocabularyCheck()

    assert not check.add(1000, 250, 980, 1000, is_whole=True)
    assert not check.add(2000, 500, 1990, 2000, is_whole=True)
