import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from griptape_ollama.testing.models.entity_extraction import TextEntities
from griptape_ollama.testing.models.json_filler import JsonFiller


def fill(schema, text="", *, fills_optional=True):
    return JsonFiller(schema, TextEntities(text), fills_optional=fills_optional).fill()


def fits(value, schema, root):
    """A small validator, for the keywords that the tests use."""
    if "$ref" in schema:
        return fits(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root)
    if "anyOf" in schema:
        return any(fits(value, option, root) for option in schema["anyOf"])
    if "const" in schema:
        return value == schema["const"]
    if "enum" in schema:
        return value in schema["enum"]
    checks = {
        "object": lambda: isinstance(value, dict) and object_fits(value, schema, root),
        "array": lambda: isinstance(value, list) and array_fits(value, schema, root),
        "string": lambda: isinstance(value, str) and len(value) >= schema.get("minLength", 0)
        and len(value) <= schema.get("maxLength", 10**6),
        "integer": lambda: isinstance(value, int) and not isinstance(value, bool) and number_fits(value, schema),
        "number": lambda: isinstance(value, (int, float))
        and not isinstance(value, bool)
        and number_fits(value, schema),
        "boolean": lambda: isinstance(value, bool),
        "null": lambda: value is None,
    }  # fmt: skip
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(checks[kind]() for kind in kinds)


def object_fits(value, schema, root):
    properties = schema.get("properties", {})
    has_required = all(name in value for name in schema.get("required", []))
    return has_required and all(
        fits(child, properties[name], root) for name, child in value.items() if name in properties
    )


def array_fits(value, schema, root):
    in_bounds = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 10**6)
    is_unique = not schema.get("uniqueItems") or len({json.dumps(item) for item in value}) == len(value)
    return in_bounds and is_unique and all(fits(item, schema["items"], root) for item in value if "items" in schema)


def number_fits(value, schema):
    return schema.get("minimum", value) <= value <= schema.get("maximum", value)


def between(kind, low_name, high_name, lowest, highest):
    return st.builds(
        lambda low, more: {"type": kind, low_name: low, high_name: low + more},
        st.integers(lowest, highest),
        st.integers(0, 9),
    )


leaves = st.one_of(
    between("string", "minLength", "maxLength", 0, 9),
    between("integer", "minimum", "maximum", -99, 99),
    between("number", "minimum", "maximum", -99, 99),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}]),
    st.sampled_from([{"const": 5}, {"enum": ["a", None, 3]}]),
)
names = st.sampled_from(["name", "city", "age", "tags", "x", "date", "expression", "url", "ok"])
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(
            lambda properties, required: {"type": "object", "properties": properties, "required": sorted(required)},
            st.dictionaries(names, inner, max_size=3),
            st.sets(names, max_size=2),
        ),
        st.builds(
            lambda items, low, more: {"type": "array", "items": items, "minItems": low, "maxItems": low + more},
            inner, st.integers(0, 3), st.integers(0, 2),
        ),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)  # fmt: skip
texts = st.sampled_from(
    ["", "hi", "Ada, 36, lives in Oslo (ada@example.com) since 2020-01-02", "1 2 3 -4.5 'a' \"b\"", "ß" * 300]
)


@settings(deadline=None)
@given(schemas, texts, st.booleans())
def test_the_filled_value_fits_the_schema(schema, text, fills_optional):
    value = fill(schema, text, fills_optional=fills_optional)
    assert fits(value, schema, schema), value


def test_fields_are_filled_from_the_text():
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "age": {"type": "integer"},
            "city": {"type": "string"},
            "mood": {"enum": ["happy", "sad"]},
            "is_student": {"type": "boolean"},
            "email": {"type": "string", "format": "email"},
            "born": {"type": "string", "format": "date"},
        },
        "required": ["name", "age"],
    }
    text = "Ada is 36, lives in Oslo, and is sad. Born 1990-02-03, mail ada@example.com. Not student."
    assert fill(schema, text) == {
        "name": "Ada",
        "age": 36,
        "city": "Oslo",
        "mood": "sad",
        "is_student": True,
        "email": "ada@example.com",
        "born": "1990-02-03",
    }


def test_optional_properties_are_omitted_unless_the_text_mentions_them():
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    }
    assert fill(schema, "weather in Oslo", fills_optional=False) == {"city": "Oslo"}
    assert fill(schema, "weather in Oslo for 3 days", fills_optional=False) == {"city": "Oslo", "days": 3}


def test_lists_have_an_item_for_each_entity():
    schema = {"type": "object", "properties": {"numbers": {"type": "array", "items": {"type": "number"}}}}
    assert fill(schema, "Add the numbers 1, 2.5 and 3") == {"numbers": [1, 2.5, 3]}
    schema = {"type": "object", "properties": {"cities": {"type": "array", "items": {"type": "string"}}}}
    assert fill(schema, "Compare Oslo and Rome") == {"cities": ["Oslo", "Rome"]}


def test_references_are_resolved_also_recursive_ones():
    person = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "child": {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]},
            "friends": {"type": "array", "items": {"$ref": "#/$defs/Person"}},
        },
        "required": ["name", "child", "friends"],
    }
    schema = {"$ref": "#/$defs/Person", "$defs": {"Person": person}}
    value = fill(schema, "Ada knows Bob")
    assert fits(value, schema, schema)
    assert value["name"] == "Ada"


def test_all_parts_of_all_of_are_merged():
    schema = {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
        ]
    }
    assert set(fill(schema, "")) == {"a", "b"}


@pytest.mark.parametrize(
    "pattern", [r"^[A-Z]{2}\d{3}$", r"^(red|green)$", r"^\w+@\w+$", r"^a?b*c+$", r"^[^x]\.$", r"^[\d]{4}-\d\d$"]
)
def test_simple_patterns_are_matched(pattern):
    assert re.fullmatch(pattern, fill({"type": "string", "pattern": pattern}))


def test_a_word_of_the_text_that_matches_the_pattern_is_used():
    assert fill({"type": "string", "pattern": r"^[A-Z]{2}\d+$"}, "My order is AB1234, please.") == "AB1234"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "exclusiveMaximum": 0}, -1),
        ({"type": "number", "minimum": 0.5, "maximum": 0.75}, 0.75),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True}, ["a", "b", "c"]),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"const": "x"}], "minItems": 2}, [1, "x"]),
        ({"properties": {"a": {"const": 1}}}, {"a": 1}),
        ({"type": "string", "format": "uuid"}, "00000000-0000-4000-8000-000000000000"),
        ({"type": "boolean", "default": False}, False),
        ({"type": "integer", "default": 12}, 12),
        ({"$ref": "#/$defs/nowhere"}, "text"),
    ],
)
def test_numbers_and_lengths_stay_within_limits(schema, value):
    assert fill(schema) == value
