"""Texts in a value, read as what the schema wants, without guessing."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from griptape_ollama.protocol.schema_coercion import NotFiniteError, coerce
from griptape_ollama.protocol.schema_validation import LenientValidator

_NUMBER, _WHOLE, _FLAG, _TEXT = ({"type": kind} for kind in ("number", "integer", "boolean", "string"))
_LIST = {"type": "array", "items": _WHOLE}
_PERSON = {"type": "object", "properties": {"name": _TEXT, "age": _WHOLE}, "required": ["name"]}
_TREE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {
            "type": "object",
            "properties": {"size": _WHOLE, "kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        (_WHOLE, "10", 10),
        (_WHOLE, "-3", -3),
        (_WHOLE, "123456789012345678901234567890", 123456789012345678901234567890),
        (_NUMBER, "10", 10),
        (_NUMBER, "1.5", 1.5),
        (_NUMBER, "-0.25", -0.25),
        (_FLAG, "true", True),
        (_FLAG, "false", False),
        ({"type": ["integer", "null"]}, "null", None),
        ({"type": "integer", "nullable": True}, "null", None),
        ({"type": ["boolean", "integer"]}, "true", True),
        ({"type": ["boolean", "integer"]}, "1", 1),
        ({"enum": [1, 2, None]}, "2", 2),
        ({"const": 5}, "5", 5),
        (_LIST, "[1, 2]", [1, 2]),
        (_LIST, " [ 1,\n2 ] ", [1, 2]),
        (_LIST, '["1", 2]', [1, 2]),
        (_LIST, "```json\n[1]\n```", [1]),
        (_LIST, "```json\r\n[1]\r\n```", [1]),
        ({"not": {"type": "string"}}, "2", 2),
        ({"not": {"type": ["string", "null"]}}, "[2]", [2]),
        (_LIST, '"[1]"', [1]),
        (_PERSON, '{"name": "Bo", "age": "9"}', {"name": "Bo", "age": 9}),
        ({"anyOf": [_LIST, {"type": "null"}]}, "[3]", [3]),
        ({"oneOf": [_WHOLE, _FLAG]}, "false", False),
        ({"allOf": [_WHOLE, {"minimum": 3}]}, "4", 4),
        (_TREE, '{"size": "1", "kids": "[{\\"size\\": \\"2\\"}]"}', {"size": 1, "kids": [{"size": 2}]}),
    ],
)
def test_a_text_is_read_where_the_schema_allows_none(schema, text, value):
    read = coerce(text, schema)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        *((_WHOLE, text) for text in ("ten", "", " 10", "10 ", "010", "+1", "1.0", "1e3", "-0", "1_0", "0x1")),
        *((_NUMBER, text) for text in ("1.50", "1e3", ".5", "1.", "1,5", "true")),
        *((_FLAG, text) for text in ("True", "TRUE", "yes", "1", "0", "null", "true ")),
        *((_LIST, text) for text in ("1, 2", "[1, 2", "{}", "null", "[1,]", '""', "9" * 5000)),
        *((_PERSON, text) for text in ("name: Bo", "[]", "{'name': 'Bo'}", '{"name": "A", "name": "B"}')),
        (_WHOLE, '"10"'),
        (_TEXT, "10"),
        (_TEXT, "[1]"),
        ({}, "10"),
        ({"type": ["integer", "string"]}, "10"),
        ({"anyOf": [_WHOLE, _TEXT]}, "10"),
        ({"anyOf": [_LIST, {}]}, "[1]"),
        ({"enum": ["1", 1]}, "1"),
        ({"$ref": "elsewhere.json"}, "1"),
        (True, "1"),
        (None, "1"),
    ],
)
def test_nothing_is_guessed(schema, text):
    assert coerce(text, schema) == text


@pytest.mark.parametrize(
    ("schema", "value", "read"),
    [
        ({"properties": {"a": {"properties": {"b": _LIST}}}}, {"a": {"b": '["1"]'}}, {"a": {"b": [1]}}),
        ({"additionalProperties": _WHOLE}, {"x": "1", "y": 2}, {"x": 1, "y": 2}),
        ({"properties": {"x": _TEXT}, "additionalProperties": _WHOLE}, {"x": "1", "y": "2"}, {"x": "1", "y": 2}),
        ({"patternProperties": {"^n_": _WHOLE}}, {"n_a": "1", "a": "1"}, {"n_a": 1, "a": "1"}),
        ({"prefixItems": [_TEXT, _WHOLE], "items": _FLAG}, ["1", "1", "true"], ["1", 1, True]),
        ({"items": [_WHOLE], "additionalItems": _FLAG}, ["1", "true"], [1, True]),
        (
            {"items": {"anyOf": [_PERSON, {"type": "object", "properties": {"id": _WHOLE}, "required": ["id"]}]}},
            [{"id": "7"}, {"name": "Bo", "age": "9"}],
            [{"id": 7}, {"name": "Bo", "age": 9}],
        ),
        # One of the choices takes it as it is.
        ({"items": {"anyOf": [_LIST, {"type": "array", "items": _TEXT}]}}, [["1"]], [["1"]]),
        # None of them fits, and only one is of its type.
        ({"anyOf": [_PERSON, {"type": "null"}]}, {"age": "9"}, {"age": 9}),
    ],
)
def test_texts_are_read_at_any_depth(schema, value, read):
    before = copy.deepcopy(value)
    assert coerce(value, schema) == read
    assert value == before


@pytest.mark.parametrize("text", ["NaN", "nan", "Infinity", "-Infinity", "inf", "1e999", "-1e999"])
def test_a_number_that_json_does_not_know_is_an_error_where_a_number_is_wanted(text):
    with pytest.raises(NotFiniteError):
        coerce({"a": [text]}, {"properties": {"a": {"items": _NUMBER}}})
    assert coerce({"a": text}, {"properties": {"a": {"type": ["number", "string"]}}}) == {"a": text}


def test_references_that_lead_nowhere_but_to_themselves_come_to_an_end():
    loop = {"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"allOf": [{"$ref": "#/$defs/A"}]}}, "$ref": "#/$defs/A"}
    assert coerce({"a": "1"}, loop) == {"a": "1"}
    itself = {"anyOf": [{"$ref": "#"}, _LIST]}
    assert coerce(["1"], itself) == [1]


def test_choices_within_choices_take_no_exponential_time():
    choices = [{"$ref": f"#/$defs/{name}"} for name in "AB"]
    node = {"properties": {"a": _WHOLE, "kids": {"items": {"anyOf": choices}}}, "additionalProperties": False}
    strict = {**node, "required": ["never"]}
    value: dict = {"a": "1"}
    for _ in range(25):
        value = {"a": "1", "kids": [value]}
    read = coerce(value, {"$defs": {"A": strict, "B": node}, "$ref": "#/$defs/B"})
    assert read["kids"][0]["kids"][0]["a"] == 1


def _composed(inner):
    return (
        st.builds(lambda each: {"type": "array", "items": each}, inner)
        | st.builds(lambda a, b: {"type": "object", "properties": {"a": a, "b": b}, "required": ["a"]}, inner, inner)
        | st.builds(lambda each: {"type": "object", "additionalProperties": each}, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner)
        | st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner)
    )


def _nested(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)


_SCHEMAS = st.recursive(
    st.sampled_from([{}, _WHOLE, _NUMBER, _FLAG, _TEXT, {"type": ["integer", "null"]}, {"enum": [1, "1", True]}]),
    _composed,
    max_leaves=6,
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from(["", "1", "true", "x", "[1]", '{"a": "1"}', 1.5, 2.0]),
    _nested,
    max_leaves=8,
)


@given(_VALUES, _SCHEMAS)
def test_what_fits_is_what_a_validator_says(value, schema):
    assert LenientValidator(schema).fits(value, schema) == Draft202012Validator(schema).is_valid(value)


@given(_VALUES, _SCHEMAS)
def test_what_fits_is_never_touched_and_reading_twice_changes_nothing_more(value, schema):
    read = coerce(value, schema)
    if Draft202012Validator(schema).is_valid(value) and not isinstance(value, str):
        assert read is value
    assert coerce(read, schema) == read


@given(_VALUES)
def test_what_was_read_can_be_written_as_it_was(value):
    schema = {"items": {"type": ["integer", "number", "boolean", "null"]}}
    read = coerce([value], schema)[0]
    assert read is value or json.dumps(read) == value


# Keys and types


def test_bounds_lengths_and_values_count():
    reader = LenientValidator({})
    assert reader.fits(3, {"minimum": 3, "exclusiveMaximum": 4})
    assert not reader.fits(4, {"minimum": 3, "exclusiveMaximum": 4})
    assert not reader.fits("abc", {"maxLength": 2})
    assert not reader.fits([1], {"minItems": 2})
    assert not reader.fits(1, {"enum": [True]})
    assert not reader.fits([1], {"const": [True]})
    assert not reader.fits(1, {"not": {"type": "integer"}})
    assert reader.fits(None, {"type": "string", "nullable": True})
    assert not reader.fits({"a": 1}, {"properties": {"a": False}})
