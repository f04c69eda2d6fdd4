"""Features of texts and messages, and their cache."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.tokens.features import (
    TEXT_FEATURES,
    MessageParts,
    RecentCache,
    count_features,
    parts_of,
    to_json,
)

ANY_TEXT = st.text(st.characters(codec=None))


def counted(text):
    return {name: number for name, number in zip(TEXT_FEATURES, count_features(text), strict=False) if number}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("cat", {"words": 1, "letters": 3}),
        ("two cats", {"words": 2, "letters": 7, "blanks": 1}),
        ("encyclopaedias", {"words": 1, "letters": 14, "long_words": 2}),
        ("getName", {"words": 1, "letters": 7, "long_words": 1, "case_changes": 1}),
        ("NASA", {"words": 1, "letters": 4, "capitals": 2}),
        ('"cat"', {"words": 1, "letters": 3, "joined_words": 1, "punctuation": 2, "punctuation_runs": 2}),
        ("a.cat_b", {"words": 3, "letters": 5, "punctuation": 2, "punctuation_runs": 2}),
        ("1234567", {"digit_groups": 2, "more_digits": 5}),
        ("1 22", {"digit_groups": 2, "more_digits": 1, "blanks": 1, "lone_blanks": 1}),
        ("...", {"punctuation": 3, "punctuation_runs": 1}),
        ("-" * 17, {"punctuation": 1, "rules": 2, "punctuation_runs": 1}),
        ("a\nb", {"words": 2, "letters": 2, "line_breaks": 1}),
        ("a;\nb", {"words": 2, "letters": 2, "punctuation": 1, "punctuation_runs": 1, "line_ends": 1}),
        ("    x", {"words": 1, "letters": 1, "wide_blanks": 1, "blanks": 1}),
        ("\x00\x1b", {"controls": 2}),
        ("\u00e9t\u00e9", {"words": 1, "letters": 3, "accents": 2}),
        ("\u0434\u0430", {"alphabets": 2}),
        ("\u05e9\u0645", {"abjads": 2}),
        ("\u0915\u0e01", {"abugidas": 2}),
        ("\u2014\u2192", {"symbols": 2}),
        ("\u3042\u3002", {"kana": 2}),
        ("\u4f60\u597d", {"ideographs": 2}),
        ("\ud55c", {"hangul": 1}),
        ("\uff0c", {"wide": 1}),
        ("\U0001f600", {"astral": 1}),
    ],
)
def test_characters_are_classified(text, expected):
    assert counted(text) == expected


def test_a_lone_surrogate_counts_as_a_character_of_three_bytes():
    assert counted("\ud800") == {"hangul": 1}


@given(ANY_TEXT)
def test_nothing_is_counted_below_zero_or_more_often_than_there_are_characters(text):
    assert all(0 <= number <= len(text) for number in count_features(text))


@given(ANY_TEXT)
def test_a_text_that_is_not_empty_counts_as_something(text):
    assert any(count_features(text)) == bool(text)


def test_a_text_of_many_pieces_counts_like_its_parts():
    text = "The pump ran for 9 hours; the cause is unknown.\n" * 5_000

    whole, part = counted(text), counted(text[: len(text) // 100])

    assert whole.keys() == part.keys()
    assert all(whole[name] == pytest.approx(100 * part[name], rel=0.05) for name in whole)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "hi"}, MessageParts(("hi",), 0, 0)),
        ({"role": "user"}, MessageParts((), 0, 0)),
        ({"role": "user", "content": None, "images": None, "tool_calls": None}, MessageParts((), 0, 0)),
        ({"role": "user", "content": "hi", "images": ["aGk=", "aGk="]}, MessageParts(("hi",), 2, 0)),
        ({"role": "assistant", "content": "4", "thinking": "2+2"}, MessageParts(("4", "2+2"), 0, 0)),
        ({"role": "tool", "content": "done", "tool_name": "x"}, MessageParts(("done",), 0, 1)),
        ({"role": "user", "content": ["a", 1]}, MessageParts(('["a", 1]',), 0, 0)),
        ({"role": "user", "content": "hi", "images": "aGk="}, MessageParts(("hi",), 1, 0)),
        ({"role": "assistant", "tool_calls": ["odd"]}, MessageParts(('["odd"]',), 0, 1)),
    ],
)
def test_everything_that_has_tokens_is_found(message, expected):
    assert parts_of(message) == expected


def test_a_call_counts_by_its_name_and_arguments_alone():
    call = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}

    assert parts_of({"role": "assistant", "tool_calls": [call]}) == (
        ('[{"name": "add", "arguments": {"a": 1}}]',),
        0,
        1,
    )


def test_a_value_that_json_cannot_write_counts_as_python_writes_it():
    circle = []
    circle.append(circle)

    assert to_json(circle) == "[[...]]"
    assert to_json({1: {2}}) == '{"1": "{2}"}'


def test_a_cached_value_is_returned():
    cache = RecentCache(4)

    cache.put("a", 1)

    assert cache.get("a") == 1
    assert cache.get("b") is None


def test_the_cache_keeps_as_many_as_its_size_and_at_most_twice_as_many():
    cache = RecentCache(10)

    for number in range(1_000):
        cache.put(number, number)
        assert len(cache) <= 20
    assert [cache.get(each) for each in range(990, 1_000)] == list(range(990, 1_000))


def test_a_value_that_is_asked_for_again_and_again_stays_cached():
    cache = RecentCache(10)
    cache.put("often", 1)

    for number in range(100):
        assert cache.get("often") == 1
        cache.put(number, number)


def test_a_cleared_cache_is_empty():
    cache = RecentCache(2)
    for number in range(4):
        cache.put(number, number)
    cache.clear()
    assert len(cache) == 0
    assert cache.get(3) is None
