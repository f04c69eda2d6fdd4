"""Halves of surrogate pairs: joined, or replaced; never left in a text."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.protocol.ndjson import NdjsonDecoder, NdjsonError, decode_object
from griptape_ollama.protocol.stream_kinds import CHAT
from griptape_ollama.protocol.surrogates import (
    may_contain_surrogates,
    replace_surrogates,
    replace_surrogates_in,
)

_END = {"done": True, "message": {"role": "assistant", "content": ""}}


def _said(*messages, end=_END):
    """Decode a chat of these messages, and give what they add up to: texts by field."""
    wire = b"".join(json.dumps(line).encode() + b"\n" for line in [*({"message": each} for each in messages), end])
    lines = list(NdjsonDecoder(kind=CHAT).feed(wire))
    assert json.dumps(lines, ensure_ascii=False).encode()
    messages = [line["message"] for line in lines]
    return {
        name: "".join(message.get(name) or "" for message in messages)
        for name in ("content", "thinking")
        if any(message.get(name) for message in messages)
    }


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("", ""),
        ("é 😀", "é 😀"),
        ("\ud83d\ude00", "😀"),
        ("\ud83d", "\ufffd"),
        ("a\ude00b\ud83d", "a\ufffdb\ufffd"),
        ("\ud83d\ud83d\ude00", "\ufffd😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83dé", "\ufffdé"),
        ("\ufeff\ud83d", "\ufeff\ufffd"),
    ],
)
def test_halves_are_joined_or_replaced(text, whole):
    assert replace_surrogates(text) == whole


@given(st.text(st.characters(exclude_categories=())))
def test_any_text_can_be_encoded_and_keeps_its_other_characters(text):
    whole = replace_surrogates(text)
    assert whole.encode().decode() == whole
    assert [c for c in whole if c < "\ud800"] == [c for c in text if c < "\ud800"]


def test_names_of_fields_and_values_at_any_depth_are_mended():
    assert replace_surrogates_in({"\ud83d": [{"a": "\ude00"}, 1, None]}) == {"\ufffd": [{"a": "\ufffd"}, 1, None]}


@pytest.mark.parametrize("document", [b'{"a":"\\ud83d"}', b'{"a":"\\uDE00"}', b'{"a":"\xed\xa0\xbd"}'])
def test_a_document_has_none(document):
    assert may_contain_surrogates(document)
    assert decode_object(document) == {"a": "\ufffd"}


@pytest.mark.parametrize("line", [b'{"a":"\\u003ca"}', '{"a":"한국"}'.encode(), b"{}"])
def test_lines_without_surrogates_are_not_searched(line):
    assert not may_contain_surrogates(line)


def test_an_escaped_backslash_is_no_escape():
    assert decode_object(rb'{"a":"\\ud83d"}') == {"a": r"\ud83d"}


@pytest.mark.parametrize("name", ["content", "thinking"])
def test_halves_in_two_lines_are_joined(name):
    assert _said({name: "hi \ud83d"}, {name: "\ude00 bye"}) == {name: "hi 😀 bye"}


def test_halves_are_joined_over_lines_without_text():
    assert _said({"content": "\ud83d"}, {"content": ""}, {}, {"content": None}, {"content": "\ude00"}) == {
        "content": "😀"
    }


def test_thinking_in_between_does_not_matter():
    first, second = {"content": "\ud83d"}, {"content": "\ude00"}
    assert _said(first, {"content": "", "thinking": "Hm \ud83d"}, {"thinking": "\ude00."}, second) == {
        "content": "😀",
        "thinking": "Hm 😀.",
    }


def test_a_pair_that_is_cut_between_thinking_and_answer_is_joined_in_the_answer():
    assert _said({"thinking": "Hm \ud83d"}, {"content": "\ude00 yes"}) == {"thinking": "Hm ", "content": "😀 yes"}


def test_each_of_many_halves_finds_its_own():
    halves = "😀👍🏽".encode("utf-16-le")
    units = [halves[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(halves), 2)]
    assert _said(*({"content": unit} for unit in units)) == {"content": "😀👍🏽"}


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["\ud83d", "a"], "\ufffda"),
        (["a", "\ude00"], "a\ufffd"),
        (["\ud83d", "\ud83d", "\ude00"], "\ufffd😀"),
        (["\ude00", "\ud83d"], "\ufffd\ufffd"),
        (["a\ud83d"], "a\ufffd"),
    ],
)
def test_a_half_that_stays_alone_is_replaced(pieces, whole):
    assert _said(*({"content": piece} for piece in pieces)) == {"content": whole}


@pytest.mark.parametrize("end", [_END, {"done": True}, {"done": True, "message": None}, {"done": True, "message": {}}])
def test_a_half_that_is_held_back_comes_with_the_last_line(end):
    assert _said({"content": "a\ud83d"}, end=end | {"message": end.get("message") or {}})["content"] == "a\ufffd"
    wire = json.dumps({"message": {"content": "\ud83d"}}).encode() + b"\n" + json.dumps(end).encode() + b"\n"
    *_, last = NdjsonDecoder(kind=CHAT).feed(wire)
    assert last["message"]["content"] == "\ufffd"


def test_the_last_line_may_end_the_pair():
    end = {"done": True, "message": {"content": "\ude00"}}
    assert _said({"content": "\ud83d"}, end=end) == {"content": "😀"}


@given(st.text(min_size=1, max_size=12), st.lists(st.integers(0, 24), max_size=6))
def test_a_text_that_is_cut_anywhere_in_utf_16_comes_out_whole(text, cuts):
    units = text.encode("utf-16-le")
    edges = sorted({0, len(units), *(min(2 * cut, len(units)) for cut in cuts)})
    pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(edges)]
    assert _said(*({"content": piece} for piece in pieces)) == {"content": text}


def test_a_line_that_is_nested_too_deeply_is_refused_as_any_other():
    line = b'{"a":"\\ud83d","b":' + b"[" * 800 + b"]" * 800 + b"}\n"
    try:
        (decoded,) = NdjsonDecoder(kind=CHAT).feed(line)
    except NdjsonError:
        return
    assert decoded["a"] == "\ufffd"


@pytest.mark.parametrize("line", [{"message": "\ud83d"}, {"message": {"content": ["\ud83d"]}}, {"error": "\ud83d"}])
def test_an_odd_line_is_mended_too(line):
    (mended,) = NdjsonDecoder(kind=CHAT).feed(json.dumps(line).encode() + b"\n")
    assert json.dumps(mended, ensure_ascii=False).encode()
