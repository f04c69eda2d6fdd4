"""Thinking in tags at the beginning of a text."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.reasoning import ThinkTagSplitter


def _split(pieces):
    splitter = ThinkTagSplitter()
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.finish()]
    return "".join(thinking for thinking, _ in parts), "".join(answer for _, answer in parts)


def _cut(text, places):
    edges = [0, *sorted(places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


_WORDS = st.text(st.sampled_from("ab <>/think\n"), max_size=20)


@st.composite
def _pieces_of(draw, texts):
    text = draw(texts)
    return text, _cut(text, draw(st.lists(st.integers(0, len(text)), max_size=8)))


def test_what_stands_in_tags_is_thinking_and_the_rest_the_answer():
    assert _split(["<think>Hm.</think>\n\nYes."]) == ("Hm.", "Yes.")
    assert _split(["\n <think>Hm.</think>Yes."]) == ("Hm.", "Yes.")
    assert _split(["<think></think>Yes."]) == ("", "Yes.")
    assert _split(["<think>\n</think>"]) == ("\n", "")


def test_a_tag_that_is_not_at_the_beginning_is_part_of_the_answer():
    for text in ("Use <think>x</think>.", "a<think>", "</think>a", "<thinking>a</thinking>", "< think>"):
        assert _split([text]) == ("", text)


def test_a_second_pair_of_tags_is_part_of_the_answer():
    assert _split(["<think>a</think>b<think>c</think>"]) == ("a", "b<think>c</think>")


def test_thinking_that_never_ends_is_thinking():
    assert _split(["<think>Hm", ", well</thi"]) == ("Hm, well</thi", "")


def test_the_beginning_of_a_tag_that_never_comes_is_part_of_the_answer():
    assert _split(["  <thi"]) == ("", "  <thi")
    assert _split(["<thi", "s is it"]) == ("", "<this is it")


def test_thinking_is_given_as_it_arrives():
    splitter = ThinkTagSplitter()
    assert splitter.feed("<think>Hm, </") == ("Hm, ", "")
    assert splitter.feed("well") == ("</well", "")
    assert splitter.feed("</think>A") == ("", "A")
    assert splitter.is_done


@given(_pieces_of(st.tuples(_WORDS, _WORDS).map(lambda pair: f"<think>{pair[0]}</think>{pair[1]}")))
def test_it_does_not_matter_where_a_tagged_text_is_cut(case):
    text, pieces = case
    thinking, _, answer = text.removeprefix("<think>").partition("</think>")
    assert _split(pieces) == (thinking, answer.lstrip())


@given(_pieces_of(_WORDS))
def test_it_does_not_matter_where_any_text_is_cut(case):
    text, pieces = case
    thinking, answer = _split(pieces)
    assert (thinking, answer) == _split([text])
    if not text.lstrip().startswith("<think>"):
        assert (thinking, answer) == ("", text)
