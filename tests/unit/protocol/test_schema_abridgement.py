"""Schemas as they are told in words: all that they mean, in few tokens."""

import copy
import json

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from griptape_ollama.protocol.schema_abridgement import abridged_schema


class _Leaf(BaseModel):
    title: str = Field(description="Its title")


class _Twice(BaseModel):
    one: _Leaf = Field(description="The first")
    other: list[_Leaf] = []


class _Chain(BaseModel):
    middle: "_Middle"


class _Middle(BaseModel):
    leaf: _Leaf


class _Tree(BaseModel):
    name: str
    kids: list["_Tree"] = []


def test_titles_go_and_properties_of_that_name_stay():
    brief = abridged_schema(_Leaf.model_json_schema())
    assert brief == {
        "properties": {"title": {"description": "Its title", "type": "string"}},
        "required": ["title"],
        "type": "object",
    }


def test_a_definition_that_is_used_once_stands_in_its_place():
    brief = abridged_schema(_Chain.model_json_schema())
    assert "$ref" not in json.dumps(brief)
    assert "$defs" not in brief
    assert brief["properties"]["middle"]["properties"]["leaf"]["properties"]["title"]["description"] == "Its title"


def test_a_definition_that_is_used_twice_stays_a_definition():
    brief = abridged_schema(_Twice.model_json_schema())
    assert json.dumps(brief).count("Its title") == 1
    assert brief["properties"]["one"] == {"$ref": "#/$defs/_Leaf", "description": "The first"}


def test_a_definition_that_contains_itself_stays_one():
    brief = abridged_schema(_Tree.model_json_schema())
    assert brief["$ref"] == "#/$defs/_Tree"
    assert list(brief["$defs"]) == ["_Tree"]


def test_definitions_that_contain_each_other_come_to_an_end():
    one, other = {"properties": {"b": {"$ref": "#/$defs/B"}}}, {"properties": {"a": {"$ref": "#/$defs/A"}}}
    brief = abridged_schema({"$ref": "#/$defs/A", "$defs": {"A": one, "B": other}})
    assert brief == {
        "$ref": "#/$defs/A",
        "$defs": {"A": {"properties": {"b": {"properties": {"a": {"$ref": "#/$defs/A"}}}}}},
    }


def test_a_reference_into_the_inside_of_a_definition_keeps_them_all():
    schema = {"$ref": "#/$defs/A/properties/b", "$defs": {"A": {"properties": {"b": {"type": "string"}}}}}
    assert abridged_schema(schema) == schema


_SCHEMAS = st.recursive(
    st.just({"type": "string", "title": "T"}) | st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in "AB"]),
    lambda inner: (
        st.fixed_dictionaries({"properties": st.dictionaries(st.sampled_from(["title", "x"]), inner)})
        | st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=5,
)


@given(_SCHEMAS, _SCHEMAS, _SCHEMAS)
def test_every_reference_still_leads_somewhere_and_nothing_is_changed_in_place(root, one, other):
    schema = {**root, "$defs": {"A": one, "B": other}}
    before = copy.deepcopy(schema)
    brief = abridged_schema(schema)
    assert schema == before
    text = json.dumps(brief)
    for name in "AB":
        if f"#/$defs/{name}" in text:
            assert name in brief["$defs"]
