"""Compiled schemas: what the server keeps, what is lost, and that nothing becomes stricter."""

import json
import string
import time
from enum import Enum
from typing import Annotated, Literal, Optional, Union

import pytest
import schema as schema_library
from hypothesis import assume, example, given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field

from griptape_ollama.protocol.schema_compiler import (
    MAX_NODES,
    MAX_RECURSION,
    compile_format,
    compile_parameters,
)

# What the server drops from a property without a word, and what its grammar refuses or ignores.
_DROPPED_FROM_TOOLS = {"$ref", "$defs", "const", "default", "format", "pattern", "minimum", "maximum", "oneOf", "allOf"}
_REFUSED_IN_FORMATS = {"$ref", "$defs", "const", "oneOf", "allOf", "not", "if"}


def _keywords(schema):
    """All keywords in a schema; names of properties are none."""
    if not isinstance(schema, dict):
        return
    yield from schema
    for key, value in schema.items():
        if key == "properties":
            inner = value.values()
        elif key in ("anyOf", "prefixItems"):
            inner = value
        elif key in ("items", "additionalProperties"):
            inner = [value]
        else:
            continue
        for each in inner:
            yield from _keywords(each)


def _property(schema, *, compiler=compile_parameters, **root):
    compiled = compiler({"type": "object", "properties": {"p": schema}, **root})
    return compiled.schema["properties"]["p"], compiled.lost


# References


def test_a_reference_is_replaced_by_what_it_names():
    place = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    for where in ("$defs", "definitions"):
        found, lost = _property({"$ref": f"#/{where}/Place"}, **{where: {"Place": place}})
        assert (found, lost) == (place, ())


def test_what_stands_beside_a_reference_counts_too():
    found, _ = _property(
        {"$ref": "#/$defs/Age", "description": "In years", "maximum": 150},
        compiler=compile_format,
        **{"$defs": {"Age": {"type": "integer", "minimum": 0, "description": "Any"}}},
    )
    assert found == {"type": "integer", "minimum": 0, "maximum": 150, "description": "In years"}


@pytest.mark.parametrize(
    ("ref", "found"),
    [
        ("#/$defs/a~1b", {"type": "integer"}),
        ("#/$defs/with%20space", {"type": "string"}),
        ("#/$defs/list/prefixItems/1", {"type": "null"}),
        ("#/$defs/list/prefixItems/7", {}),
        ("#/$defs/missing", {}),
        ("#anchor", {}),
        ("https://example.com/schema.json", {}),
    ],
)
def test_references_are_paths_within_the_schema(ref, found):
    definitions = {
        "a/b": {"type": "integer"},
        "with space": {"type": "string"},
        "list": {"prefixItems": [{"type": "string"}, {"type": "null"}]},
    }
    compiled, lost = _property({"$ref": ref}, **{"$defs": definitions})
    assert compiled == found
    assert lost == (() if found else (f"/p: $ref {ref}",))


def _depth(schema, name):
    depth = 0
    while isinstance(schema, dict) and name in schema.get("properties", {}):
        schema = schema["properties"][name]
        depth += 1
    return depth


@pytest.mark.parametrize("compiler", [compile_parameters, compile_format])
def test_a_definition_that_contains_itself_is_followed_so_often_and_then_open(compiler):
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": {"type": "integer"}}}
    compiled = compiler({**node, "$defs": {"Node": node}})
    assert _depth(compiled.schema, "next") == MAX_RECURSION + 1
    assert compiled.lost == ("/next/next/next/next: recursion of #/$defs/Node",)
    deepest = compiled.schema
    for _ in range(MAX_RECURSION + 1):
        deepest = deepest["properties"]["next"]
    assert deepest == {"type": "object", "properties": {"value": {"type": "integer"}}}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"type": "array", "items": {"$ref": "#"}},
        {"properties": {name: {"$ref": "#"} for name in "abcdefgh"}},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}], "properties": {"a": {"$ref": "#"}}},
        {
            "$ref": "#/$defs/0",
            "$defs": {
                str(i): {"properties": {f"p{j}": {"$ref": f"#/$defs/{j}"} for j in range(12)}} for i in range(12)
            },
        },
    ],
    ids=lambda schema: json.dumps(schema)[:40],
)
@pytest.mark.parametrize("compiler", [compile_parameters, compile_format])
def test_definitions_that_use_each_other_come_to_an_end(compiler, schema):
    started = time.thread_time()
    compiled = compiler(schema)
    assert time.thread_time() - started < 5
    assert sum(1 for _ in _keywords(compiled.schema)) < 10 * MAX_NODES


def test_the_deepest_level_says_what_it_can_without_going_deeper():
    link = {"$ref": "#/$defs/Node"}
    node = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "up": link, "down": {"type": "array", "items": link}},
        "required": ["name", "up"],
        "additionalProperties": False,
    }
    found = compile_format({"$ref": "#/$defs/Node", "$defs": {"Node": node}}).schema
    for _ in range(MAX_RECURSION):
        assert list(found["properties"]) == ["name", "up", "down"]
        found = found["properties"]["up"]
    assert found == {"type": "object", "properties": {"name": {"type": "string"}, "up": {}}, "required": ["name", "up"]}


# Combinations


def test_all_of_becomes_one_schema():
    found, lost = _property(
        {
            "allOf": [
                {"type": ["string", "integer"], "minLength": 1, "maxLength": 9},
                {"type": "string", "minLength": 2, "maxLength": 20},
            ]
        },
        compiler=compile_format,
    )
    assert (found, lost) == ({"type": "string", "minLength": 2, "maxLength": 9}, ())


def test_objects_in_all_of_have_the_properties_of_all():
    found, _ = _property(
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]},
                {"properties": {"a": {"enum": [1, 2]}, "b": {"type": "string"}}, "required": ["b", "a"]},
            ]
        }
    )
    assert found == {
        "type": "object",
        "properties": {"a": {"type": "number", "enum": [1, 2]}, "b": {"type": "string"}},
        "required": ["a", "b"],
    }


@pytest.mark.parametrize("keyword", ["anyOf", "oneOf"])
def test_alternatives_become_any_of(keyword):
    found, lost = _property({keyword: [{"type": "string"}, {"type": "integer"}]})
    assert (found, lost) == ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, ())


def test_two_kinds_of_alternatives_at_once_are_one_and_a_loss():
    found, lost = _property({"anyOf": [{"type": "string"}, {"type": "integer"}], "oneOf": [{"minLength": 2}]})
    assert found == {"anyOf": [{"type": "string"}, {"type": "integer"}]}
    assert lost == ("/p: oneOf",)


def test_what_stands_beside_alternatives_goes_into_each():
    found, _ = _property(
        {"type": "integer", "anyOf": [{"minimum": 10}, {"maximum": 1}], "description": "d"}, compiler=compile_format
    )
    assert found == {
        "anyOf": [{"minimum": 10, "type": "integer"}, {"maximum": 1, "type": "integer"}],
        "description": "d",
    }


def test_alternatives_inside_alternatives_are_one_list_without_repetition():
    found, _ = _property({"anyOf": [{"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}]})
    assert found == {"anyOf": [{"type": "string"}, {"type": "integer"}]}


def test_true_and_one_are_two_alternatives():
    found, _ = _property({"anyOf": [{"const": True}, {"const": 1}]})
    assert json.dumps(found) == '{"anyOf": [{"enum": [true]}, {"enum": [1]}]}'


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, {"type": ["string", "null"]}),
        ({"oneOf": [{"type": "null"}, {"type": "integer"}]}, {"type": ["integer", "null"]}),
        ({"anyOf": [{"type": ["string", "null"]}, {"type": "null"}]}, {"type": ["string", "null"]}),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, {"enum": ["a", "b", None]}),
        (
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}], "description": "d"},
            {"type": ["string", "null"], "enum": ["a", None], "description": "d"},
        ),
        (
            {"anyOf": [{"type": "object", "properties": {"a": {"type": "string"}}}, {"type": "null"}]},
            {"type": ["object", "null"], "properties": {"a": {"type": "string"}}},
        ),
        ({"anyOf": [{}, {"type": "null"}]}, {"anyOf": [{}, {"type": "null"}]}),
    ],
)
def test_a_choice_between_something_and_null_is_a_list_of_types(schema, found):
    assert _property(schema)[0] == found


def test_a_constant_is_an_enum_of_one():
    assert _property({"const": "cat"})[0] == {"enum": ["cat"]}
    assert _property({"const": None})[0] == {"enum": [None]}
    assert _property({"type": "string", "const": "cat"}, compiler=compile_format)[0] == {
        "type": "string",
        "enum": ["cat"],
    }


# Tools


def test_what_a_tool_parameter_cannot_hold_goes_into_its_description():
    found, lost = _property(
        {
            "type": "integer",
            "description": "How many days.",
            "default": 3,
            "minimum": 1,
            "exclusiveMaximum": 15,
            "multipleOf": 2,
            "examples": [2, 4],
        }
    )
    assert found == {
        "type": "integer",
        "description": "How many days. Default: 3. At least: 1. Less than: 15. Multiple of: 2. Examples: [2, 4].",
    }
    assert lost == ("/p: default", "/p: minimum", "/p: exclusiveMaximum", "/p: multipleOf", "/p: examples")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "format": "date"}, "Format: date."),
        ({"type": "string", "pattern": "^[A-Z]{2}$"}, "Pattern: ^[A-Z]{2}$."),
        ({"type": "string", "minLength": 1, "maxLength": 3}, "Shortest length: 1. Longest length: 3."),
        ({"type": "array", "uniqueItems": True, "minItems": 1, "maxItems": 3}, "Fewest items: 1. Most items: 3. Items"),
        ({"type": "string", "default": "Zürich"}, "Default: Zürich."),
        ({"type": "boolean", "default": False}, "Default: false."),
        ({"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}], "default": "x"}, "Default: x."),
    ],
)
def test_defaults_bounds_formats_and_patterns_go_into_the_description(schema, words):
    assert words in _property(schema)[0]["description"]


def test_a_default_of_null_is_not_described():
    assert _property({"type": "string", "default": None}) == ({"type": "string"}, ())


@pytest.mark.parametrize(
    "schema", [{"type": "string"}, {}, {"type": "array", "items": {"type": "integer"}}, {"enum": [1]}, {"type": "null"}]
)
def test_parameters_are_an_object_whatever_the_schema_says(schema):
    assert compile_parameters(schema).schema == {"type": "object", "properties": {}}


def test_parameters_that_are_one_of_several_objects_become_one():
    point = {"type": "object", "properties": {"x": {"type": "integer"}, "k": {"const": "p"}}, "required": ["k", "x"]}
    name = {"type": "object", "properties": {"name": {"type": "string"}, "k": {"const": "n"}}, "required": ["k"]}
    assert compile_parameters({"oneOf": [point, name]}).schema == {
        "type": "object",
        "properties": {
            "x": {"type": "integer"},
            "k": {"anyOf": [{"enum": ["p"]}, {"enum": ["n"]}]},
            "name": {"type": "string"},
        },
        "required": ["k"],
    }


def test_a_tuple_of_a_tool_is_a_list_of_anything_and_a_loss():
    pair = {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "null"}}
    assert _property(pair) == ({"type": "array"}, ("/p: prefixItems",))


# Formats


def test_a_format_keeps_all_that_the_grammar_enforces():
    schema = {
        "type": "object",
        "properties": {
            "code": {"type": "string", "minLength": 2, "maxLength": 4, "format": "date"},
            "count": {"type": "integer", "minimum": 1, "maximum": 9, "exclusiveMinimum": 0, "exclusiveMaximum": 10},
            "items": {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 3},
            "more": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["code"],
        "additionalProperties": False,
    }
    assert compile_format(schema) == compile_format(schema)
    assert compile_format(schema).schema == schema
    assert compile_format(schema).lost == ()


def test_a_tuple_of_a_format_is_kept_also_in_its_old_spelling():
    places = [{"type": "string"}, {"type": "integer"}]
    for keyword in ("items", "prefixItems"):
        found, _ = _property({"type": "array", keyword: places}, compiler=compile_format)
        assert found == {"type": "array", "prefixItems": places}


def test_patterns_get_the_form_that_the_grammar_takes():
    assert _property({"type": "string", "pattern": r"^\d{4}$"}, compiler=compile_format)[0]["pattern"] == "^[0-9]{4}$"
    found, lost = _property({"type": "string", "pattern": r"^(?=a)b$"}, compiler=compile_format)
    assert (found, lost) == ({"type": "string"}, ("/p: pattern",))


def test_names_that_follow_a_pattern_are_allowed():
    schema = {"type": "object", "patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False}
    compiled = compile_format(schema)
    assert compiled.schema == {"type": "object"}
    assert compiled.lost == ("/: additionalProperties", "/: patternProperties")


def test_keys_keep_their_order():
    names = ["zebra", "ant", "mouse", "bee"]
    schema = {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}
    for compiled in (compile_format(schema).schema, compile_parameters(schema).schema):
        assert list(compiled["properties"]) == compiled["required"] == names


def test_what_is_lost_is_reported_with_its_place():
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"not": {"type": "string"}}},
            "b": {"if": {"type": "string"}, "then": {"minLength": 2}},
        },
        "dependentRequired": {"a": ["b"]},
    }
    assert compile_format(schema).lost == ("/a/*: not", "/b: if", "/b: then", "/: dependentRequired")


def test_the_original_is_left_as_it_is():
    schema = {"$defs": {"A": {"const": 1}}, "anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}], "title": "T"}
    before = json.dumps(schema)
    compile_format(schema)
    compile_parameters(schema)
    assert json.dumps(schema) == before


# Schemas as they are met


class _Mood(Enum):
    HAPPY = "happy"
    SAD = "sad"


class _Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(default=9, ge=0, le=9, description="How many are left")


class _Dog(BaseModel):
    kind: Literal["dog"]
    name: Annotated[str, Field(pattern=r"^[A-Z][a-z]+$")]


class _Tree(BaseModel):
    value: int
    children: list["_Tree"] = []
    parent: Optional["_Tree"] = None


class _Everything(BaseModel):
    pet: Union[_Cat, _Dog] = Field(discriminator="kind")  # noqa: UP007  what is under test is the old spelling, too
    mood: _Mood | None = None
    pair: tuple[int, str]
    sizes: dict[str, float]
    nested: dict[str, list[_Cat]] = {}
    level: Literal[1, 2, 3]
    tree: _Tree | None = None


_PYDANTIC = [
    _Cat(kind="cat"),
    _Tree(value=1, children=[_Tree(value=2, children=[_Tree(value=3, children=[_Tree(value=4)])])]),
    _Everything(
        pet=_Dog(kind="dog", name="Rex"),
        mood=_Mood.SAD,
        pair=(1, "a"),
        sizes={"a": 1.5},
        nested={"x": [_Cat(kind="cat")]},
        level=2,
        tree=_Tree(value=1, parent=_Tree(value=0)),
    ),
    _Everything(pet=_Cat(kind="cat"), pair=(1, "a"), sizes={}, level=3),
]


@pytest.mark.parametrize("compiler", [compile_parameters, compile_format])
@pytest.mark.parametrize("value", _PYDANTIC, ids=lambda value: type(value).__name__)
def test_schemas_of_pydantic_say_what_the_server_keeps(compiler, value):
    compiled = compiler(type(value).model_json_schema()).schema
    Draft202012Validator.check_schema(compiled)
    Draft202012Validator(compiled).validate(value.model_dump(mode="json"))
    refused = _DROPPED_FROM_TOOLS if compiler is compile_parameters else _REFUSED_IN_FORMATS
    assert not refused & set(_keywords(compiled))
    if compiler is compile_format:
        with pytest.raises(Exception, match="is not"):
            Draft202012Validator(compiled).validate(
                {**value.model_dump(mode="json"), "value": "x", "pair": 1, "kind": 1}
            )


def test_schemas_of_the_schema_library():
    of = schema_library
    inner = of.Schema({"city": str, of.Optional("zip"): of.Or(str, None)}, name="Place", as_reference=True)
    original = of.Schema(
        {
            of.Literal("places", description="Where"): [inner],
            "mood": of.Or("happy", "sad"),
            "n": of.Or(int, float),
            of.Optional("days", default=3): int,
            "code": of.Regex(r"^[a-z]+$"),
            "fixed": "x",
            of.Optional(str): object,
        }
    ).json_schema("id")
    valid = {"places": [{"city": "Oslo", "zip": None}], "mood": "sad", "n": 1.5, "code": "abc", "fixed": "x"}
    compiled = compile_parameters(original).schema
    assert not {"$schema", "$id", *_DROPPED_FROM_TOOLS} & set(_keywords(compiled))
    assert compiled["properties"]["places"] == {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": ["string", "null"]}},
            "required": ["city"],
        },
        "description": "Where",
    }
    for each in (compiled, compile_format(original).schema):
        Draft202012Validator(each).validate(valid)


def test_a_schema_as_servers_of_mcp_give_them():
    original = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {
            "filter": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {
                            "field": {"type": "string"},
                            "op": {"type": "string", "enum": ["eq", "lt"], "default": "eq"},
                            "value": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
                        },
                        "required": ["field"],
                        "additionalProperties": False,
                    },
                    {"type": "array", "items": {"$ref": "#/properties/filter/anyOf/0"}},
                    {"type": "null"},
                ],
                "title": "Filter",
            },
            "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
        },
    }
    one = {
        "type": "object",
        "properties": {
            "field": {"type": "string"},
            "op": {"type": "string", "enum": ["eq", "lt"], "description": "Default: eq."},
            "value": {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]},
        },
        "required": ["field"],
    }
    assert compile_parameters(original).schema == {
        "type": "object",
        "properties": {
            "filter": {"anyOf": [one, {"type": "array", "items": one}, {"type": "null"}]},
            "limit": {"type": "integer", "description": "Default: 10. At least: 1. At most: 100."},
        },
    }


# Whatever the schema

_NAMES = ["a", "b", "c"]
_TEXTS = st.text(string.ascii_letters + string.digits + " _-äß", max_size=5)
_ATOMS = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-9, 9).map(lambda x: round(x, 1)), _TEXTS, st.just("aa1")
)
_VALUES = st.recursive(
    _ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3),
    max_leaves=5,
)
_PATTERNS = ["^a", "a$", "^[a-c]+[0-9]?$", "^(foo|bar)$", r"\d", "", "^.{1,3}$", r"^\w+ \w+$", "[^a]"]


def _some(**keywords):
    """A schema with some of these keywords."""
    return st.fixed_dictionaries({}, optional=keywords)


_SMALL = st.integers(0, 3)
_NUMBERS = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "number"])},
    optional={
        "minimum": st.integers(-5, 2),
        "maximum": st.integers(2, 5),
        "exclusiveMinimum": st.integers(-6, 1),
        "exclusiveMaximum": st.integers(3, 6),
        "default": st.integers(),
    },
)
_STRINGS = st.fixed_dictionaries(
    {"type": st.just("string")},
    optional={
        "minLength": _SMALL,
        "maxLength": st.integers(3, 6),
        "pattern": st.sampled_from(_PATTERNS),
        "format": st.just("date"),
        "description": _TEXTS,
    },
)
_LEAVES = st.one_of(
    st.just({}),
    st.just(True),
    _NUMBERS,
    _STRINGS,
    st.sampled_from(["null", "boolean", "string", "object", "array"]).map(lambda name: {"type": name}),
    st.lists(st.sampled_from(["null", "integer", "string", "number"]), min_size=1, max_size=3, unique=True).map(
        lambda names: {"type": names}
    ),
    st.lists(_ATOMS, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    _ATOMS.map(lambda value: {"const": value}),
    st.sampled_from(["#/$defs/A", "#/$defs/B", "#"]).map(lambda ref: {"$ref": ref}),
    st.fixed_dictionaries({"$ref": st.just("#/$defs/A"), "minLength": _SMALL, "description": _TEXTS}),
)


def _composed(inner):
    several = st.lists(inner, min_size=1, max_size=3)
    properties = st.dictionaries(st.sampled_from(_NAMES), inner, max_size=3)
    objects = st.fixed_dictionaries(
        {"type": st.just("object")},
        optional={
            "properties": properties,
            "required": st.lists(st.sampled_from(_NAMES), max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), inner, max_size=1),
            "minProperties": st.integers(0, 1),
        },
    )
    arrays = st.fixed_dictionaries(
        {"type": st.just("array")},
        optional={
            "items": inner,
            "prefixItems": several,
            "minItems": st.integers(0, 1),
            "maxItems": st.integers(1, 3),
            "uniqueItems": st.booleans(),
        },
    )
    combined = _some(
        anyOf=several, oneOf=several, allOf=several, properties=properties, type=st.just("object"), minLength=_SMALL
    )
    return st.one_of(objects, arrays, combined, st.fixed_dictionaries({"allOf": several}))


_SCHEMAS = st.recursive(_LEAVES, _composed, max_leaves=8)


@st.composite
def _schemas(draw):
    root = draw(_SCHEMAS.filter(lambda schema: isinstance(schema, dict)))
    return {**root, "$defs": {"A": draw(_SCHEMAS), "B": draw(_SCHEMAS)}}


def _resolved(draw, schema, root):
    """The schema without references and combinations: one of its alternatives, with what stands beside it."""
    for _ in range(8):
        keyword = next((each for each in ("anyOf", "oneOf", "allOf") if each in schema), None)
        if "$ref" in schema:
            schema = root if schema["$ref"] == "#" else root["$defs"][schema["$ref"].rpartition("/")[2]]
        elif keyword is not None:
            chosen = draw(st.sampled_from(schema[keyword]))
            beside = {key: value for key, value in schema.items() if key != keyword}
            schema = {**beside, **chosen} if isinstance(chosen, dict) else beside
            if both := {**beside.get("properties", {}), **schema.get("properties", {})}:
                schema["properties"] = both
        if not isinstance(schema, dict):
            return {}
    return schema


@st.composite
def _instances(draw, schema, root, depth=0):
    """Something that probably fits the schema."""
    schema = _resolved(draw, schema, root) if isinstance(schema, dict) and depth <= 8 else {}
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    kind = schema.get("type", "object" if "properties" in schema else None)
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    if kind == "object":
        return _object(draw, schema, root, depth + 1)
    if kind == "array":
        first = [draw(_instances(each, root, depth + 1)) for each in schema.get("prefixItems", ())]
        rest = draw(st.integers(schema.get("minItems", 0), 2))
        return first + [draw(_instances(schema.get("items", True), root, depth + 1)) for _ in range(rest)]
    return draw(_scalars(kind, schema))


def _object(draw, schema, root, depth):
    properties = schema.get("properties", {})
    names = {*schema.get("required", ()), *draw(st.sets(st.sampled_from([*properties, *_NAMES, "ab"]), max_size=3))}
    more = schema.get("additionalProperties", True)
    return {name: draw(_instances(properties.get(name, more), root, depth)) for name in sorted(names)}


def _scalars(kind, schema):
    if kind == "string":
        pattern = schema.get("pattern")
        return _TEXTS if pattern is None else st.from_regex(pattern, fullmatch=True, alphabet=_PRINTABLE)
    low = max(schema.get("minimum", -9), schema.get("exclusiveMinimum", -9))
    high = min(schema.get("maximum", 9), schema.get("exclusiveMaximum", 9))
    if kind in ("integer", "number"):
        return st.integers(low, high) if kind == "integer" else st.floats(low, high)
    return {"null": st.none(), "boolean": st.booleans()}.get(kind, _VALUES)


# Characters that JSON writes as themselves: patterns are for these, see protocol/schema_patterns.py.
_PRINTABLE = st.sampled_from("".join(chr(code) for code in range(32, 127) if chr(code) not in '"\\') + "äß日")


def _is_valid(schema, instance):
    try:
        return Draft202012Validator(schema).is_valid(instance)
    except RecursionError:  # a definition that is nothing but itself fits nothing
        return False


@given(st.data(), _schemas())
def test_what_fits_the_original_fits_the_compiled_format(data, original):
    instance = data.draw(_instances(original, original))
    assume(_is_valid(original, instance))
    compiled = compile_format(original).schema
    Draft202012Validator(compiled).validate(instance)


@given(st.data(), _schemas())
def test_arguments_that_fit_the_original_fit_the_compiled_parameters(data, original):
    # One property, whose schema is anything: the root of parameters is an object by itself.
    root = {"type": "object", "properties": {"p": original}, "$defs": original["$defs"]}
    instance = {"p": data.draw(_instances(original, original))}
    assume("#" not in json.dumps(original).replace("#/", ""))
    assume(_is_valid(root, instance))
    Draft202012Validator(compile_parameters(root).schema).validate(instance)


@given(_schemas())
def test_compiled_schemas_are_plain_bounded_and_always_the_same(original):
    for compiler, refused in ((compile_format, _REFUSED_IN_FORMATS), (compile_parameters, _DROPPED_FROM_TOOLS)):
        compiled = compiler(original)
        Draft202012Validator.check_schema(compiled.schema)
        assert not refused & set(_keywords(compiled.schema))
        assert compiler(original) == compiled
        assert len(json.dumps(compiled.schema)) < 1_000_000


_KEYWORDS = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "properties",
        "required",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "$defs",
        "minimum",
        "maxLength",
        "pattern",
        "description",
        "default",
        "additionalProperties",
        "patternProperties",
        "format",
        "a",
    ]
)
_NONSENSE = st.recursive(
    _ATOMS | st.sampled_from(["object", "string", "#", "#/$defs/a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYWORDS, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_KEYWORDS, _NONSENSE, max_size=5))
@example({"anyOf": [{"enum": 1}, {"type": "null"}]})
@example({"anyOf": [{"required": 1}, {"properties": 2}]})
def test_what_is_no_schema_at_all_is_compiled_to_something_and_not_a_crash(schema):
    for compiler in (compile_format, compile_parameters):
        json.dumps(compiler(schema).schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "array", "items": {}, "minItems": 3, "maxItems": 1},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"type": "number", "exclusiveMinimum": 3, "maximum": 3},
        {"allOf": [{"type": "string", "minLength": 5}, {"type": "string", "maxLength": 2}]},
    ],
)
def test_contradictory_bounds_that_would_block_a_server_are_dropped(schema):
    compiled = compile_format(schema)
    assert not set(compiled.schema) & {"minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum"}
    assert compiled.lost


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        {"type": "string", "maxLength": 2**31},
        {"type": "string", "maxLength": None},
        {"type": "string", "minLength": "5"},
        {"type": "number", "minimum": 1, "exclusiveMinimum": True},
        {"type": "string", "format": 5},
        {"type": [], "enum": []},
        {"type": "any"},
        {"type": "string", "pattern": "^[a-z]{10000}$"},
        {"type": "string", "pattern": "^a{3,1}$"},
    ],
)
def test_what_the_grammar_refuses_is_dropped_and_reported(schema):
    compiled = compile_format(schema)
    assert set(compiled.schema) <= {"type", "minimum"}
    assert compiled.schema.get("minimum") in (None, 1)
    assert compiled.lost


@pytest.mark.parametrize("compile_schema", [compile_format, compile_parameters])
def test_nullable_of_openapi_lets_null_be(compile_schema):
    schema = {"type": "object", "properties": {"x": {"type": "string", "enum": ["a"], "nullable": True}}}
    x = compile_schema(schema).schema["properties"]["x"]
    assert x == {"type": ["string", "null"], "enum": ["a", None]}


def test_an_endlessly_nested_schema_is_refused():
    schema = {}
    for _ in range(5000):
        schema = {"type": "array", "items": schema}
    compiled = compile_format(schema)
    assert compiled.schema == {}
    assert compiled.lost == ("/: depth",)
