"""Calls written as text: which texts are calls, and how soon the rest is published."""

import itertools
import json
import re
import time

import pytest
from griptape.tasks import ActionsSubtask
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.text_calls import TextCallBuffer, TextCallParser, is_react_call
from griptape_ollama.conversion.tools import OfferedTools

_NAMES = ("Shop_buy", "Clock_now")
_A = {"item": 'apple {red} [ripe] \\ "big" </tool_call>'}
_CALL = json.dumps({"name": "Shop_buy", "arguments": _A})
_BUY = [("Shop_buy", _A)]
_HARMONY = f"<|channel|>commentary to=functions.Shop_buy <|constrain|>json<|message|>{json.dumps(_A)}<|call|>"
_FORMS = {
    "arguments": (_CALL, _BUY),
    "parameters": (json.dumps({"name": "Shop_buy", "parameters": _A}), _BUY),
    "arguments first": (json.dumps({"parameters": _A, "name": "Shop_buy"}), _BUY),
    "typed": (json.dumps({"type": "function", "name": "Shop_buy", "parameters": _A}), _BUY),
    "as OpenAI has it": (
        json.dumps({"id": "1", "type": "function", "function": {"name": "Shop_buy", "arguments": json.dumps(_A)}}),
        [("Shop_buy", json.dumps(_A))],
    ),
    "spaced": (f" \n{json.dumps(json.loads(_CALL), indent=2)}\n\n", _BUY),
    "list": (f"[{_CALL}, {_CALL}]", _BUY * 2),
    "lines": (f"{_CALL}\n{_CALL}", _BUY * 2),
    "fence": (f"```json\n{_CALL}\n```", _BUY),
    "plain fence": (f"```\n{_CALL}\n```\n", _BUY),
    "fence with line ends of Windows": (f"```json\r\n{_CALL}\r\n```\r\n", _BUY),
    "fence in capitals": (f"```JSON\n{_CALL}\n```", _BUY),
    "fence of calls": (f"```tool_call\n{_CALL}\n```", _BUY),
    "tags": (f"<tool_call>\n{_CALL}\n</tool_call>", _BUY),
    "several tags": (f"<tool_call>{_CALL}</tool_call>\n<tool_call>{_CALL}</tool_call>", _BUY * 2),
    "tag that stays open": (f"<tool_call>\n{_CALL}", _BUY),
    "tags without arguments": ('<tool_call>{"name": "Clock_now"}</tool_call>', [("Clock_now", {})]),
    "other tags": (f"<function_call>{_CALL}</function_call>", _BUY),
    "python tag": (f"<|python_tag|>{_CALL}<|eom_id|>", _BUY),
    "list in a mark": (f"<|tool_call|>[{_CALL}]", _BUY),
    "function": (f"<function=Shop_buy>{json.dumps(_A)}</function>", _BUY),
    "parameters in tags": (
        "<function=Shop_buy>\n<parameter=item>\n a\n{b}\n</parameter>\n<parameter=n>2</parameter>\n</function>",
        [("Shop_buy", {"item": " a\n{b}", "n": "2"})],
    ),
    "no parameters in tags": ("<function=Clock_now></function>", [("Clock_now", {})]),
    "mistral": (f"[TOOL_CALLS] [{_CALL}]", _BUY),
    "newer mistral": (f"[TOOL_CALLS]Shop_buy[ARGS]{json.dumps(_A)}", _BUY),
    "newer mistral with ids": (f"[TOOL_CALLS]Shop_buy[CALL_ID]abc1[ARGS]{json.dumps(_A)}</s>", _BUY),
    "harmony": (_HARMONY, _BUY),
    "harmony from its start": (
        f"<|start|>assistant<|channel|>commentary to=functions.Shop_buy<|message|>{json.dumps(_A)}",
        _BUY,
    ),
    "harmony with the name first": (
        f"<|start|>assistant to=functions.Shop_buy<|channel|>commentary json<|message|>{json.dumps(_A)}<|call|>",
        _BUY,
    ),
    "harmony without its start": (
        f"to=functions.Shop_buy<|channel|>analysis code<|message|>{json.dumps(_A)}<|call|>",
        _BUY,
    ),
    "harmony twice": (
        f"{_HARMONY}<|start|>assistant<|channel|>commentary to=functions.Clock_now json<|message|>{{}}<|call|>",
        [*_BUY, ("Clock_now", {})],
    ),
}
_NONE = {
    "words": "Let me look that up.",
    "a call of something else": '{"name": "Shop_sell", "arguments": {}}',
    "a longer name": '{"name": "Shop_buyer", "arguments": {}}',
    "words behind it": f"{_CALL}\nThat is the call.",
    "words before it": f"Sure: {_CALL}",
    "words between": f"{_CALL} and {_CALL}",
    "words in tags": f"<tool_call>Now: {_CALL}</tool_call>",
    "more keys": '{"name": "Shop_buy", "arguments": {}, "comment": "x"}',
    "both kinds of arguments": '{"name": "Shop_buy", "arguments": {}, "parameters": {}}',
    "no arguments": '{"name": "Clock_now"}',
    "a name that is none": '{"name": ["Shop_buy"], "arguments": {}}',
    "another type": '{"type": "object", "name": "Shop_buy", "arguments": {}}',
    "cut": _CALL[:-3],
    "cut in tags": f"<tool_call>{_CALL[:-1]}",
    "empty list": "[]",
    "list of something else": '[{"name": "Shop_buy", "arguments": {}}, 1]',
    "nothing": "",
    "white space": " \n ",
    "marks alone": "<tool_call></tool_call>",
    "a person": '{"name": "Shop", "arguments": {}}',
    "another language": "```python\nprint(1)\n```",
    "inline code": "`x`",
    "link": "[text](https://example.com)",
    "harmony without a function": "<|channel|>commentary<|message|>{}",
    "harmony of another function": "<|channel|>commentary to=functions.nope<|message|>{}",
    "harmony's answer": "<|channel|>final<|message|>Hello",
    "harmony with words": "<|channel|>commentary to=functions.Clock_now please<|message|>{}",
    "a list as arguments": "<|channel|>commentary to=functions.Clock_now<|message|>[]",
    "an argument twice": '{"name": "Shop_buy", "arguments": {"item": "apple", "item": "pear"}}',
    "an argument twice behind a header": "[TOOL_CALLS]Shop_buy[ARGS]" + '{"item": "apple", "item": "pear"}',
    "a parameter twice": "<function=Shop_buy><parameter=a>1</parameter><parameter=a>2</parameter></function>",
    "words beside parameters": "<function=Shop_buy>x<parameter=a>1</parameter></function>",
    "a parameter that stays open": "<function=Shop_buy><parameter=a>1</function>",
    "broken": '{"name": "Shop_buy", "arguments": {,}}',
    "brackets of two kinds": '{"name": "Shop_buy", "arguments": {]}',
}


def _read(pieces):
    reader = TextCallParser(_NAMES)
    for piece in pieces:
        if not reader.feed(piece):
            return []
    return reader.calls


@pytest.mark.parametrize("form", _FORMS)
def test_each_form_is_read_whole_and_character_by_character(form):
    text, calls = _FORMS[form]
    assert _read([text]) == calls
    assert _read(text) == calls


@pytest.mark.parametrize("form", _NONE)
def test_everything_else_is_no_call(form):
    assert _read([_NONE[form]]) == []
    assert _read(_NONE[form]) == []


_CUTS = st.lists(st.integers(0, 400), max_size=8)


@given(st.sampled_from([*(text for text, _ in _FORMS.values()), *_NONE.values()]), _CUTS)
def test_it_does_not_matter_where_a_text_is_cut(text, cuts):
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    assert _read(pieces) == _read([text])


@given(st.text(alphabet='{}[]"\\:,<>|/`\n ato=namecl_', max_size=60), _CUTS)
def test_any_text_is_published_or_held_back_and_never_lost(text, cuts):
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    buffer = TextCallBuffer(OfferedTools([]))
    shown = "".join(buffer.feed(text[start:end]) for start, end in itertools.pairwise(places))
    assert shown + buffer.held == text
    assert buffer.calls() == []


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("Hello", ""),
        ("The answer", ""),
        ("  Hello", "  "),
        ("<b>bold", "<"),
        ('{\n  "city": 1', '{\n  "'),
        ('{"name": "Alice"', '{"name": "'),
        ('{"name": 5', '{"name": '),
        ("[1, 2]", "["),
        ("[link](x)", "["),
        ("```python\nx", "```python"),
        ("<think>", "<t"),
        ("to be", "to"),
        ("<|channel|>final<|message|>x", "<|channel|>"),
        (f"{_CALL} Done", f"{_CALL} "),
    ],
)
def test_text_is_held_back_only_while_it_may_be_a_call(text, held):
    buffer = TextCallBuffer(OfferedTools([{"function": {"name": name}} for name in _NAMES]))
    kept = ""
    for character in text:
        if buffer.feed(character):
            break
        kept += character
    assert kept == held


def _buffer(is_answer=lambda _: False):
    schema = {
        "type": "object",
        "properties": {"item": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["item"],
    }
    functions = [{"function": {"name": "Shop_buy", "parameters": schema}}, {"function": {"name": "Clock_now"}}]
    return TextCallBuffer(OfferedTools(functions), is_answer)


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ({"item": "apple"}, {"item": "apple"}),
        ({"item": "apple", "n": "2"}, {"item": "apple", "n": 2}),
        ('{"item": "apple"}', {"item": "apple"}),
        ({"item": 5}, None),
        ({"n": 2}, None),
        ({"item": "apple", "n": "two"}, None),
        ({"item": "apple", "n": "NaN"}, None),
        ([], None),
    ],
)
def test_a_call_must_fit_its_function(arguments, read):
    buffer = _buffer()
    buffer.feed(json.dumps({"name": "Shop_buy", "arguments": arguments}))
    assert buffer.calls() == ([("Shop_buy", read)] if read is not None else [])


def test_one_call_that_does_not_fit_makes_a_text_of_all():
    buffer = _buffer()
    buffer.feed('[{"name": "Clock_now", "arguments": {}}, {"name": "Shop_buy", "arguments": {}}]')
    assert buffer.calls() == []


def test_the_answer_that_was_asked_for_is_no_call():
    text = '{"name": "Shop_buy", "arguments": {"item": "apple"}}'
    buffer = _buffer(lambda answer: answer == text)
    buffer.feed(text)
    assert buffer.calls() == []
    assert buffer.release() == text


def test_a_text_of_brackets_is_parsed_in_linear_time():
    for text in (
        "[" * 100_000,
        "{" * 100_000,
        "<function=Clock_now>" + "<parameter=" * 50_000,
        "<|channel|>" + " " * 100_000,
    ):
        assert _read([text]) == []


@pytest.mark.parametrize(
    "text",
    [
        'Actions: [{"name": "A"}]',
        "Thought: x\nActions:\n\n[]",
        "Actions: none. Actions: [1]",
        'Actions: as JSON: ["a"]',
    ],
)
def test_an_answer_that_griptape_runs_is_a_react_call(text):
    assert re.findall(ActionsSubtask.ACTIONS_PATTERN, text, re.DOTALL)
    assert is_react_call(text)


@pytest.mark.parametrize("text", ["", "[1] Actions:", "Actions: none", "actions: [1]", "Answer: [1]"])
def test_other_answers_are_no_react_calls(text):
    assert not re.findall(ActionsSubtask.ACTIONS_PATTERN, text, re.DOTALL)
    assert not is_react_call(text)


def test_a_react_call_may_lack_its_end():
    assert is_react_call('Actions: [{"name":')


def test_a_hostile_answer_is_checked_in_linear_time():
    start = time.thread_time()
    assert not is_react_call("Actions:" * 100_000)
    assert time.thread_time() - start < 1
