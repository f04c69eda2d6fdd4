"""Thinking in tags at the beginning of a text."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.reasoning import (
    DEFAULT_MARKS,
    ThinkTagSplitter,
    leaves_thinking_open,
    separate_unopened,
    to_think_marks,
)


def _split(pieces, setting=True, *, awaits_closing=False):
    splitter = ThinkTagSplitter(to_think_marks(setting), awaits_closing=awaits_closing)
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


def test_text_between_tags_is_thinking_and_the_rest_the_answer():
    assert _split(["<think>Hm.</think>\n\nYes."]) == ("Hm.", "Yes.")
    assert _split(["\n <think>Hm.</think>Yes."]) == ("Hm.", "Yes.")
    assert _split(["<think></think>Yes."]) == ("", "Yes.")
    assert _split(["<think>\n</think>"]) == ("\n", "")


def test_a_tag_that_is_not_at_the_beginning_is_part_of_the_answer():
    for text in ("Use <think>x</think>.", "a<think>", "</think>a", "<thoughts>a</thoughts>", "< think>"):
        assert _split([text]) == ("", text)


def test_a_second_pair_of_tags_is_part_of_the_answer():
    assert _split(["<think>a</think>b<think>c</think>"]) == ("a", "b<think>c</think>")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a</think>\n\n<think>b</think>\nc", ("ab", "c")),
        ("[THINK]a[/THINK][THINK]b[/THINK]c", ("ab", "c")),
        ("<think>a</think><think>b", ("ab", "")),
        ("<think>a</think><thi", ("a", "<thi")),
    ],
)
def test_blocks_that_follow_each_other_are_thinking(text, parts):
    assert _split([text]) == parts
    assert _split(text) == parts


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>a<think>{}</think>b</think>c", ("a<think>{}b", "c")),
        ("<think>a<think>b</think>c", ("a<think>b", "c")),
        ("<think>a `<think>` b</think>c</think>", ("a `<think>` b", "c</think>")),
    ],
)
def test_thinking_goes_on_behind_thinking_inside_of_it(text, parts):
    assert _split([text]) == parts
    assert _split(text) == parts


def test_thinking_inside_of_thinking_is_not_recorded_as_unopened():
    splitter = ThinkTagSplitter()
    assert splitter.feed("<think>a<think>b</think>c</think>d") == ("a<think>bc", "d")
    assert not splitter.was_unopened
    splitter = ThinkTagSplitter()
    splitter.feed("<think>a<think>b</think>c")
    assert splitter.finish(was_cut=True) == ("", "c")
    assert not splitter.was_unopened


def test_thinking_that_never_ends_is_thinking():
    assert _split(["<think>Hm", ", well</thi"]) == ("Hm, well</thi", "")


def test_the_beginning_of_a_tag_that_never_comes_is_part_of_the_answer():
    assert _split(["  <thi"]) == ("", "  <thi")
    assert _split(["<thi", "s is it"]) == ("", "<this is it")


def test_thinking_is_returned_as_it_arrives():
    splitter = ThinkTagSplitter()
    assert splitter.feed("<think>Hm, </") == ("Hm, ", "")
    assert splitter.feed("well") == ("</well", "")
    assert splitter.feed("</think>A") == ("", "A")
    assert splitter.is_done


@given(_pieces_of(st.tuples(_WORDS, _WORDS).map(lambda pair: f"<think>{pair[0]}</think>{pair[1]}")))
def test_it_does_not_matter_where_a_tagged_text_is_cut(case):
    text, pieces = case
    thinking, _, answer = text.removeprefix("<think>").partition("</think>")
    is_single = text.count("<think>") == 1
    assert _split(pieces) == ((thinking, answer.lstrip()) if is_single else _split([text]))


@given(_pieces_of(_WORDS))
def test_it_does_not_matter_where_any_text_is_cut(case):
    text, pieces = case
    thinking, answer = _split(pieces)
    assert (thinking, answer) == _split([text])
    if not text.lstrip().startswith("<think>"):
        assert (thinking, answer) == ("", text)


# Other marks


_HARMONY = (
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>analysis<|message|> Well.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>Yes <|x|>.<|return|>"
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<thinking>Hm.</thinking>Yes.", ("Hm.", "Yes.")),
        ("<thought>\nHm.\n</thought>\nYes.", ("\nHm.\n", "Yes.")),
        ("[THINK]Hm.[/THINK]Yes.", ("Hm.", "Yes.")),
        (_HARMONY, ("Hm. Well.", "Yes <|x|>.")),
        ("<|start|>assistant<|channel|>final<|message|>Yes.<|return|>", ("", "Yes.")),
        ("<|channel|>analysis<|message|>Hm.<|end|>Yes.<|end|> No.<|return|>\n", ("Hm.", "Yes.<|end|> No.")),
        ("<|channel|>final<|message|>Yes.<|ret", ("", "Yes.<|ret")),
        ("<|channel|>final <|constrain|>json<|message|>{}<|return|>", ("", "{}")),
        ("<|start|>assistant<|channel|>final<|constrain|>json<|message|>{}", ("", "{}")),
        ("<|channel|>commentary<|message|>Hm.<|end|>", ("", "<|channel|>commentary<|message|>Hm.<|end|>")),
        ("<|channel|>analysis<|message|>Hm", ("Hm", "")),
    ],
)
def test_every_known_mark_separates_wherever_it_is_cut(text, parts):
    assert _split([text]) == parts
    assert _split(text) == parts
    assert _split([text[:30], text[30:]]) == parts


def test_a_setting_names_the_marks():
    assert to_think_marks(True) == DEFAULT_MARKS
    assert to_think_marks(False) == ()
    assert _split(["<think>a</think>b"], ["[THINK]"]) == ("", "<think>a</think>b")
    assert _split(["[THINK]a[/THINK]b"], ["<think>", "[THINK]"]) == ("a", "b")
    assert _split(["<plan>a</plan>b"], ("<plan>",)) == ("a", "b")
    assert _split(["◁think▷a◁/think▷b"], [("◁think▷", "◁/think▷")]) == ("a", "b")
    assert _split([_HARMONY], ["harmony"])[0] == "Hm. Well."


@pytest.mark.parametrize(
    "setting", [None, 1, "<think>", ["think"], ["</think>"], [("a", "a")], [("a",)], [("", "b")], {}]
)
def test_what_names_no_marks_is_refused(setting):
    with pytest.raises(ValueError, match="separate_think_tags="):
        to_think_marks(setting)


# Closing marks without opening ones


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hm.\n</think>\n\nYes.", ("Hm.\n", "Yes.")),
        ("Hm. </think> Yes.", ("Hm. ", "Yes.")),
        ("</think>\n\nYes.", ("", "Yes.")),
        ("Hm.</think>", ("Hm.", "")),
        ("a</think>b</think>c", ("a", "b</think>c")),
        ("Hm.[/THINK]Yes.", ("Hm.", "Yes.")),
        ("Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>", ("Hm.", "Yes.")),
        ("Say `</think>` or '</think>' or \"</think>\".", None),
        ("First <think>a</think> b", None),
        ("Write:\n```html\nx </think>\n```\nDone.", None),
        ('```json\n{"a": "x</think>y"}\n```', None),
        ("```json\n{</think>\n```json\n{}\n```", ("```json\n{", "```json\n{}\n```")),
        ("```\n{}\n```</think>Yes.", ("```\n{}\n```", "Yes.")),
        ("'Hm.'</think>", ("'Hm.'", "")),
        ("Yes.<|end|>", None),
        ("Yes.", None),
    ],
)
def test_everything_before_a_lone_closing_mark_is_thinking(text, parts):
    assert separate_unopened(text, DEFAULT_MARKS) == parts
    if parts is not None:
        assert _split([text], awaits_closing=True) == parts
        assert _split(text, awaits_closing=True) == parts
    else:
        assert _split(text, awaits_closing=True) == ("", text)


def test_text_is_held_back_until_the_mark_that_is_awaited():
    splitter = ThinkTagSplitter(awaits_closing=True)
    assert [splitter.feed(piece) for piece in ("Hm", ". </th", "ink>\n", "Yes", ".")] == [
        *(("", ""), ("", ""), ("Hm. ", ""), ("", "Yes"), ("", ".")),
    ]
    assert splitter.was_unopened


def test_what_was_cut_before_the_mark_that_is_awaited_is_thinking():
    splitter = ThinkTagSplitter(awaits_closing=True)
    assert splitter.feed("Hm. {}") == ("", "")
    assert splitter.finish(was_cut=True) == ("Hm. {}", "")


def test_an_opening_mark_does_not_keep_one_waiting():
    splitter = ThinkTagSplitter(awaits_closing=True)
    assert splitter.feed("<think>Hm.</think>Yes.") == ("Hm.", "Yes.")
    assert not splitter.was_unopened


@pytest.mark.parametrize(
    ("template", "is_open"),
    [
        ("{{ .Prompt }}<|Assistant|><think>\n", True),
        ("{{- range .Messages }}{{ .Content }}{{ end }}<|im_start|>assistant\n<think>\n{{ end }}", True),
        ("{{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}assistant\n", False),
        ("{{ .Prompt }}", False),
        (None, False),
    ],
)
def test_a_template_that_opens_the_thinking_is_detected(template, is_open):
    assert leaves_thinking_open(template, DEFAULT_MARKS) is is_open
    assert not leaves_thinking_open(template, ())
