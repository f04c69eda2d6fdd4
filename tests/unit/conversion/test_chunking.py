"""How long texts are measured and cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.chunking import least_tokens, likely_tokens, split_text


@pytest.mark.parametrize(("text", "least"), [("", 0), ("a", 1), ("  two\nwords ", 2), ("x" * 5000, 1), ("犬" * 300, 1)])
def test_a_text_has_at_least_as_many_tokens_as_words(text, least):
    assert least_tokens(text) == least


def test_long_words_and_texts_without_blanks_count_by_their_characters():
    assert likely_tokens("word " * 100) == 167
    assert likely_tokens("a " * 100) == 140
    assert likely_tokens("x" * 300) == 100


def test_chunks_end_between_words():
    assert split_text("the quick brown fox jumps over the lazy dog", 2) == [
        "the quick brown fox",
        "jumps over the lazy dog",
    ]


def test_a_word_that_is_too_long_is_cut():
    assert split_text("x" * 10, 3) == ["xxx", "xxx", "xxxx"]


def test_two_pieces_are_the_least():
    assert split_text("ab", 1) == ["a", "b"]


def test_there_are_no_more_pieces_than_letters():
    assert split_text("abc", 100) == ["a", "b", "c"]


def test_blank_pieces_are_left_out():
    assert split_text("a" + " " * 98 + "b", 5) == ["a", "b"]
    assert split_text("  ", 2) == ["  "]


@given(st.text(min_size=2), st.integers(1, 20))
def test_chunks_are_the_whole_text_and_none_is_blank(text, count):
    pieces = split_text(text, count)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if text.strip():
        assert all(piece.strip() for piece in pieces)
    assert 1 <= len(pieces) <= max(2, count)


@given(st.integers(2, 50), st.integers(2, 40))
def test_chunks_have_about_the_same_length(words, count):
    pieces = split_text("four " * words * 10, count)
    ideal = 50 * words / len(pieces)
    assert max(map(len, pieces)) <= ideal * 1.3 + 2
