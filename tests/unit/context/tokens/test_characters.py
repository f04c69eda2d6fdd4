"""What texts are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.tokens.characters import CLASSES, count_classes

ANY_TEXT = st.text(st.characters(codec=None))


def counted(text):
    return {name: number for name, number in zip(CLASSES, count_classes(text), strict=False) if number}


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
        ("\u4f60\u9a86\u9a7c", {"ideographs": 1, "rare_ideographs": 2}),
        ("\ud55c", {"hangul": 1}),
        ("\uff0c", {"wide": 1}),
        ("\U0001f600", {"astral": 1}),
    ],
)
def test_characters_are_told_apart(text, expected):
    assert counted(text) == expected


def test_a_lone_surrogate_counts_as_a_character_of_three_bytes():
    assert counted("\ud800") == {"hangul": 1}


@given(ANY_TEXT)
def test_nothing_is_counted_below_zero_or_more_often_than_there_are_characters(text):
    assert all(0 <= number <= len(text) for number in count_classes(text))


@given(ANY_TEXT)
def test_a_text_that_is_not_empty_counts_as_something(text):
    assert any(count_classes(text)) == bool(text)


def test_a_long_text_has_about_as_many_rare_ideographs_as_its_parts_together():
    sentence = "\u5546\u4eba\u4eec\u9a91\u7740\u9a86\u9a7c\u7a7f\u8fc7\u6c99\u6f20\u3002"
    rare = counted(sentence)["rare_ideographs"]

    found = counted(sentence * 2_000)

    assert 0 < rare < 11
    assert found["rare_ideographs"] == pytest.approx(2_000 * rare, rel=0.02)
    assert found["ideographs"] + found["rare_ideographs"] == 2_000 * 11


def test_a_text_of_many_pieces_counts_like_its_parts():
    text = "The pump ran for 9 hours; nobody knows why.\n" * 5_000

    whole, part = counted(text), counted(text[: len(text) // 100])

    assert whole.keys() == part.keys()
    assert all(whole[name] == pytest.approx(100 * part[name], rel=0.05) for name in whole)
