"""JSON in what a model wrapped it in, whole or not at all."""

import json
import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from griptape_ollama.conversion.json_answers import find_answer, load_json, to_repair_request, to_schema_request

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(max_size=3), _JSON, min_size=1, max_size=3)
_NESTED = st.dictionaries(st.text(max_size=3), _OBJECTS | st.lists(_OBJECTS, min_size=1, max_size=3), min_size=1)
_CHATTER = st.text(st.sampled_from("abc .,:!\n"), max_size=20)
_PROSE = st.text(st.sampled_from("ab .,:'()\n"), max_size=20)


def found(text, *, is_cut=False):
    """The first document, where any fits."""
    return find_answer(text, lambda _: None, is_cut=is_cut).document


def all_of(text):
    """Every document that is tried where none fits."""
    tried = []
    find_answer(text, lambda document: tried.append(document) or "no")
    return tried[:-1] if tried and tried[-1] == text.strip() and not _is_json(text) else tried


def _is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "document"),
    [
        (' {"a": 1} ', '{"a": 1}'),
        ('\ufeff{"a": 1}', '{"a": 1}'),
        ("7", "7"),
        ('"text"', '"text"'),
        ("{}", "{}"),
        ("[1]", "[1]"),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("```JSON\n[1]\n```", "[1]"),
        ('```\n{"a": "``"}\n```', '{"a": "``"}'),
        ('~~~json5 title="x"\n{"a": 1}\n~~~', '{"a": 1}'),
        ('````\n{"a": "```"}\n````', '{"a": "```"}'),
        ('```json {"a": 1}```', '{"a": 1}'),
        ("```\n{}\n```", "{}"),
        ('```json\n{"a": 1}', '{"a": 1}'),
        ('```python\nprint({"b": 2})\n```\n```json\n{"a": 1}\n```', '{"a": 1}'),
        ('```json\n{"a": 1}\n```\nthen\n```json\n{"a": 2}\n```', '{"a": 2}'),
        ('{"a": 1}\n```\n{"b": 2}\n```\n{"c": 3}', '{"b": 2}'),
        ('First {"a": 1}, rather {"a": 2}.', '{"a": 2}'),
        ('Sure: {"a": {"b": "}"}} Bye {', '{"a": {"b": "}"}}'),
        ('Sure: {"code": "```json\\n{}\\n```"} Bye', '{"code": "```json\\n{}\\n```"}'),
        ('A code block ``` and {"a": 1}', '{"a": 1}'),
    ],
)
def test_a_whole_document_is_found(text, document):
    assert found(text) == document


@pytest.mark.parametrize(
    "prose",
    [
        "As JSON ({} would be empty)",
        "See [1]",
        "By [1, 2]",
        "Dear {name}",
        "The set {a, b}",
        "Of the form {city: string}",
        "{no}",
        "{{braces}}",
        "At [12:30]",
        "[x] done, [ ] open",
        "[link](https://example.com)",
        "It begins with {",
        'Use {" for it.',
        'It starts with {" and',
        '{"',
        "{",
        "{{",
        'An "[" opens',
        "It's {here's",
        "\\frac{a}{b}",
        "`}` closes",
        "Smile :]",
        "```",
    ],
)
@pytest.mark.parametrize("document", ['{"a": {"b": "{"}, "c": [1]}', '[{"a": 1}, {"a": 2}]'])
def test_brackets_in_prose_are_no_answer_and_do_no_harm(prose, document):
    assert found(prose) is None
    assert found(f"{prose}: {document}") == document
    assert found(f"{prose}\n\n{document}\n") == document
    assert found(f"{prose}\n```json\n{document}\n```\n") == document


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": 1}, "c": 2,}',
        '{"a": {"b": 1},, "c": 2}',
        '{"a": {"b": 1} "c": 2}',
        '{"a": {"b": 1}, c: 2}',
        '{"a" {"b": 1}}',
        "{'a': {\"b\": 1}}",
        "{'a': '}', 'c': {\"b\": 1}}",
        '{a: {"b": 1}}',
        '{a": {"b": 1}}',
        '{"a: {"b": 1}}',
        '{"a": "x" y", "c": {"b": 1}}',
        '{"a": "x} y", "c": {"b": 1}}}',
        '{"a": "x"} y", "c": {"b": 1}}',
        '{ // first\n "a": {"b": 1}}',
        '{"a": [{"b": 1}, {"b": 2},]}',
        '[{"b": 1}, {"b": 2},]',
        '[{"b": 1} {"b": 2}]',
        '[1, {"b": 1}, ]',
        '["a", {"b": 1}',
        '{"a": [{"b": 1}, {"b": 2}}',
        '{"a": {"b": 1}, "c": 2',
        '{"a": {"b": 1}, "c": "x',
        '{"a": {"b": 1}',
        '[{"b": 1}',
        '[[{"b": 1}]',
        '"a": {"b": 1}, "c": 2}',
        'a": {"b": 1}, "c": 2',
        '{\u201ca\u201d: \u201cx\u201d, \u201cc\u201d: {"b": 1}',
        '{\u2018a\u2019: {"b": 1}',
        '{\u00aba b\u00bb: {"b": 1}',
        '{`a`: 1, `c`: {"b": 1}',
        '{"b": 1}, {"b": 2}]',
        'Here: {"a": {"b": 1},}. Its a is {"b": 1}.',
        '```json\n{"a": {"b": 1},}\n```\nIts a is {"b": 1}.',
        '```json\n{"b": 1}\n```\n```json\n{"a": {"b": 1},}\n```',
        '```json\n{"a": {"b": 1}, "c": 2',
        '{"a": "```{}```", "c": ',
    ],
)
def test_no_part_of_a_broken_document_is_found(text):
    assert found(text) is None


def test_a_fence_behind_a_broken_document_corrects_it():
    assert found('{"a": {"b": 1},} Again:\n```json\n{"a": {"b": 1}}\n```') == '{"a": {"b": 1}}'
    assert found('{"a": {"b": 1}, "c\n\n```json\n{"a": {"b": 1}}\n```') == '{"a": {"b": 1}}'
    assert found('```\n{"a": 1,}\n```\n```\n{"a": 1}\n```') == '{"a": 1}'


@given(_NESTED, st.data(), st.sampled_from([None, 1]))
def test_the_beginning_of_a_document_has_no_answer(document, data, indent):
    text = json.dumps(document, indent=indent)
    end = data.draw(st.integers(0, len(text) - 1))
    assert found(text[:end]) is None
    assert found(text[:end], is_cut=True) is None
    assert found(f"Sure:\n```json\n{text[:end]}") is None


@given(_NESTED, st.sampled_from([None, 1]), _CHATTER)
def test_a_document_with_a_comma_too_many_has_no_answer(document, indent, after):
    assert found(f"{json.dumps(document, indent=indent)[:-1]},}}{after}") is None


@given(_NESTED, st.data())
def test_a_document_without_its_beginning_has_no_answer(document, data):
    text = json.dumps(document)
    # Without the beginning, a bracket or quote inside of a text may as well stand in prose around another document.
    texts = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    assume(not any(mark in each for each in texts for mark in '{}[]"'))
    start = data.draw(st.integers(1, text.index("{", 1)))
    assert found(text[start:]) is None


@given(_NESTED, st.data())
def test_a_document_that_lost_a_character_is_not_replaced_by_a_part(document, data):
    text = json.dumps(document)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + text[at + 1 :]
    if not _is_json(damaged):
        assert found(damaged) is None


@given(_OBJECTS, _PROSE, _CHATTER)
def test_a_document_in_chatter_is_found(document, before, after):
    assert json.loads(found(f"{before}{json.dumps(document)}{after}")) == document


@given(_JSON, _CHATTER, _CHATTER, st.sampled_from(["```json", "```", "~~~", "````JSON5"]))
def test_a_document_in_a_fence_is_found(document, before, after, fence):
    text = f"{before}\n{fence}\n{json.dumps(document, indent=1)}\n{fence.rstrip('jsonJSON5')}\n{after}"
    assert json.loads(found(text)) == document


@given(st.text(st.sampled_from("[]{}\"'`~,:1a \n\\"), max_size=40))
def test_an_answer_is_always_a_document_of_the_text(text):
    document = found(text)
    if document is not None:
        assert document in text
        json.loads(document)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 100_000, "{" * 100_000, '{"' * 50_000, '{"a":' * 50_000, "```\n" * 30_000, "```json\n{" * 10_000),
        *("{'" * 40_000, "/*{" * 30_000, '{"a" ' * 30_000, "[a, " * 25_000, "} " * 50_000, "~~~~ [" * 20_000),
    ],
    ids=lambda text: text[:9],
)
def test_hostile_text_is_read_in_little_time(text):
    began = time.process_time()
    assert found(text) is None
    assert time.process_time() - began < 10


# Which of several


def test_documents_are_tried_from_the_last_one_fences_first():
    text = '{"a": 1}\n```\n{"b": 2}\n```\n[{"c": 3}]\n```\n{"d": 4}\n```'
    assert all_of(text) == ['{"d": 4}', '{"b": 2}', '[{"c": 3}]', '{"a": 1}']


def test_a_draft_does_not_stand_in_for_a_later_version_that_does_not_fit():
    text = 'Draft: {"city": "Oslo", "degrees": 1}. Final: {"city": "Oslo", "degrees": "twelve"}'
    result = find_answer(text, lambda document: "degrees: a number" if "twelve" in document else None)
    assert (result.document, result.error) == (None, "degrees: a number")


def test_a_document_of_another_kind_behind_it_does_no_harm():
    text = '{"city": "Oslo"} (source: {"url": "x"}, [{"page": 1}])'
    assert find_answer(text, lambda document: None if "city" in document else "no").document == '{"city": "Oslo"}'


@pytest.mark.parametrize("text", ["Cities: [1, 2].", "The list:\n\n[1, 2]\n\nAnything else?"])
def test_a_list_of_plain_values_that_stands_apart_is_found(text):
    assert found(text) == "[1, 2]"


# Replies that were cut


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('Sure:\n```json\n{"a": 1}\n```\nI hope th', '{"a": 1}'),
        ('Sure: {"a": 1} I hope th', None),
        ('```json\n{"a": 1}\n```\nor\n```json\n{"a": ', None),
        ('```json\n{"a": 1}\n```\nor {"a": 2', None),
        ("12", None),
        ("-1.5", None),
        ("[12]", "[12]"),
        ('"12"', '"12"'),
        ("true", "true"),
    ],
)
def test_of_a_cut_reply_only_the_whole_counts(text, document):
    assert found(text, is_cut=True) == document


# JSON that means one thing


@pytest.mark.parametrize("text", ["NaN", '{"a": Infinity}', "[-Infinity]", '{"a": 1, "a": 2}', '[{"a": 1, "a": "1"}]'])
def test_json_with_two_meanings_or_none_is_refused(text):
    with pytest.raises(ValueError, match=r"not a value of JSON|stands there twice"):
        load_json(text)


def test_a_key_twice_with_one_value_is_harmless():
    assert load_json('{"a": [1], "a": [1]}') == {"a": [1]}


def test_requests_for_a_better_answer_say_what_is_wanted():
    assert '{"type":"object"}' in to_schema_request({"type": "object"})["content"]
    assert "schema" not in to_schema_request("json")["content"]
    assert "a: too small" in to_repair_request("a: too small")["content"]
