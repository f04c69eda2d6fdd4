"""JSON in what a model wrapped it in."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.answers import json_candidates, to_repair_request, to_schema_request

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_DOCUMENTS = st.lists(_JSON, max_size=3) | st.dictionaries(st.text(max_size=3), _JSON, max_size=3)
_CHATTER = st.text(st.sampled_from("abc .,:!\n"), max_size=20)


def first_json(text):
    return next(json_candidates(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (' {"a": 1} ', '{"a": 1}'),
        ("7", "7"),
        ('"text"', '"text"'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ("```JSON\n[1]\n```", "[1]"),
        ('```\n{"a": "``"}\n```', '{"a": "``"}'),
        ('```python\nprint()\n```\n```json\n{"a": 1}\n```', '{"a": 1}'),
        ('Sure: {"a": {"b": "}"}} Bye {', '{"a": {"b": "}"}}'),
        ('{no} and {"a": 1}', '{"a": 1}'),
        ('Cut: {"a": ', 'Cut: {"a": '),
        ("nothing", "nothing"),
        ("", ""),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_document_is_found_or_the_text_left_as_it_is(text, found):
    assert first_json(text) == found


@given(_DOCUMENTS, _CHATTER, _CHATTER)
def test_a_document_in_chatter_is_found(document, before, after):
    assert json.loads(first_json(f"{before}{json.dumps(document)}{after}")) == document


@given(_DOCUMENTS, _CHATTER, _CHATTER)
def test_a_document_in_a_fence_is_found(document, before, after):
    text = f"{before}\n```json\n{json.dumps(document, indent=1)}\n```\n{after}"
    assert json.loads(first_json(text)) == document


@given(st.text(st.sampled_from('[]{}"`,:1a \n'), max_size=30))
def test_what_is_found_stands_in_the_text(text):
    assert first_json(text) in text


def test_requests_for_a_better_answer_say_what_is_wanted():
    assert '{"type": "object"}' in to_schema_request({"type": "object"})["content"]
    assert "a: too small" in to_repair_request("a: too small")["content"]


def test_every_document_in_chatter_is_a_candidate_in_order():
    text = 'See [1]: {"city": "Oslo"} and {}'
    assert list(json_candidates(text)) == ["[1]", '{"city": "Oslo"}', "{}"]
