"""Griptape tools as functions."""

import json
from typing import Any

import pytest
from griptape.artifacts import TextArtifact
from griptape.tools import BaseTool, CalculatorTool, DateTimeTool, StructuredOutputTool
from griptape.utils.decorators import activity
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from schema import Literal, Optional, Or, Schema

from griptape_ollama.conversion.tools import OfferedTools, to_chat_tools

_AS_IT_IS = {"install_dependencies_on_init": False}  # a test installs nothing


class _Place(BaseModel):
    city: str = Field(description="Name of the city")
    zip_code: str | None = None


class _Trip(BaseModel):
    places: list[_Place]
    days: int = 3


class WeatherTool(BaseTool):
    @activity(
        config={
            "description": "Tells the weather",
            "schema": Schema({Literal("city", description="Name of the city"): str, Optional("days"): int}),
        }
    )
    def look_up(self, values: dict):
        return TextArtifact("12 degrees")

    @activity(config={"description": "Plans a trip", "schema": _Trip})
    def plan(self, values: dict):
        return TextArtifact("planned")

    @activity(config={"description": "Says {{ _self.name }}"})
    def hello(self):
        return TextArtifact("hello")

    @activity(config={"description": "Takes either", "schema": Schema({"amount": Or(int, str), "units": [str]})})
    def either(self, values: dict):
        return TextArtifact("either")


@pytest.fixture
def functions():
    return {tool["function"]["name"]: tool["function"] for tool in to_chat_tools([WeatherTool()]).functions}


def test_each_activity_is_one_function_with_its_native_name():
    tools = to_chat_tools([WeatherTool(), CalculatorTool(**_AS_IT_IS)]).functions
    assert {tool["type"] for tool in tools} == {"function"}
    assert {tool["function"]["name"] for tool in tools} == {
        "WeatherTool_look_up",
        "WeatherTool_plan",
        "WeatherTool_hello",
        "WeatherTool_either",
        "CalculatorTool_calculate",
    }


def test_no_tools_are_no_functions():
    assert to_chat_tools([]).functions == []


def test_a_renamed_tool_has_functions_of_that_name():
    [tool] = to_chat_tools([CalculatorTool(name="Abacus", **_AS_IT_IS)]).functions
    assert tool["function"]["name"] == "Abacus_calculate"


def test_a_schema_becomes_parameters_with_descriptions_and_what_is_required(functions):
    assert functions["WeatherTool_look_up"]["parameters"] == {
        "type": "object",
        "properties": {"city": {"description": "Name of the city", "type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    }


def test_a_pydantic_model_becomes_parameters_with_its_nesting_whole(functions):
    place = {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "Name of the city"},
            "zip_code": {"type": ["string", "null"]},
        },
        "required": ["city"],
    }
    assert functions["WeatherTool_plan"]["parameters"] == {
        "type": "object",
        "properties": {
            "places": {"type": "array", "items": place},
            "days": {"type": "integer", "description": "Default: 3."},
        },
        "required": ["places"],
    }


def test_alternatives_and_lists_are_kept(functions):
    properties = functions["WeatherTool_either"]["parameters"]["properties"]
    assert properties["amount"] == {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    assert properties["units"] == {"type": "array", "items": {"type": "string"}}


def test_an_activity_without_schema_accepts_an_empty_object(functions):
    assert functions["WeatherTool_hello"]["parameters"] == {"type": "object", "properties": {}}


def test_descriptions_are_rendered_as_the_framework_renders_them(functions):
    assert functions["WeatherTool_hello"]["description"] == "Says WeatherTool"
    assert functions["WeatherTool_look_up"]["description"] == "Tells the weather"


@pytest.mark.parametrize(
    "tool", [CalculatorTool(**_AS_IT_IS), DateTimeTool(**_AS_IT_IS), WeatherTool()], ids=lambda tool: tool.name
)
def test_schemas_do_not_carry_names_of_their_own(tool):
    for each in to_chat_tools([tool]).functions:
        assert not {"$id", "$schema"} & each["function"]["parameters"].keys()


def test_the_calculator_asks_for_an_expression():
    [tool] = to_chat_tools([CalculatorTool(**_AS_IT_IS)]).functions
    parameters = tool["function"]["parameters"]
    assert parameters["required"] == ["expression"]
    assert parameters["properties"]["expression"]["type"] == "string"
    assert "Arithmetic expression" in parameters["properties"]["expression"]["description"]


def test_all_activities_of_the_clock_are_offered():
    names = {tool["function"]["name"] for tool in to_chat_tools([DateTimeTool(**_AS_IT_IS)]).functions}
    assert "DateTimeTool_get_current_datetime" in names
    assert len(names) == len(DateTimeTool(**_AS_IT_IS).activities())


def test_an_activity_on_the_deny_list_is_not_offered():
    tools = to_chat_tools([WeatherTool(denylist=["plan", "either"])]).functions
    assert {tool["function"]["name"] for tool in tools} == {"WeatherTool_look_up", "WeatherTool_hello"}


def test_the_tool_of_the_structured_output_strategy_carries_the_schema():
    [tool] = to_chat_tools([StructuredOutputTool(output_schema=Schema({"answer": str}))]).functions
    assert tool["function"]["name"] == "StructuredOutputTool_provide_output"
    assert "answer" in json.dumps(tool["function"]["parameters"])


def test_functions_can_be_written_as_json():
    tools = to_chat_tools([CalculatorTool(**_AS_IT_IS), DateTimeTool(**_AS_IT_IS), WeatherTool()]).functions
    assert json.loads(json.dumps(tools, allow_nan=False)) == tools


def test_converting_twice_has_the_same_result_and_changes_nothing():
    tools = [CalculatorTool(**_AS_IT_IS), WeatherTool()]
    first = to_chat_tools(tools).functions
    first[0]["function"]["parameters"]["properties"].clear()
    assert to_chat_tools(tools).functions == to_chat_tools([CalculatorTool(**_AS_IT_IS), WeatherTool()]).functions
    hello = next(tool for tool in first if tool["function"]["name"].endswith("hello"))
    hello["function"]["parameters"]["properties"]["changed"] = {}
    again = next(tool for tool in to_chat_tools(tools).functions if tool["function"]["name"].endswith("hello"))
    assert again["function"]["parameters"] == {"type": "object", "properties": {}}


class LateTool(BaseTool):
    names = ("a",)

    @activity(config={"description": "Late", "schema": lambda tool: Schema(dict.fromkeys(tool.names, str))})
    def late(self, values: dict):
        return TextArtifact("late")


def test_a_schema_that_is_made_for_each_call_is_made_anew(monkeypatch):
    tool = LateTool()
    assert list(to_chat_tools([tool]).functions[0]["function"]["parameters"]["properties"]) == ["a"]
    monkeypatch.setattr(LateTool, "names", ("a", "b"))
    assert list(to_chat_tools([tool]).functions[0]["function"]["parameters"]["properties"]) == ["a", "b"]


def test_properties_that_a_tool_adds_to_a_schema_count():
    tool = WeatherTool(extra_schema_properties={"look_up": {Literal("unit", description="Unit"): str}})
    parameters = next(
        each["function"] for each in to_chat_tools([tool]).functions if each["function"]["name"].endswith("look_up")
    )
    assert list(parameters["parameters"]["properties"]) == ["city", "days", "unit"]
    plain = next(
        e["function"] for e in to_chat_tools([WeatherTool()]).functions if e["function"]["name"].endswith("look_up")
    )
    assert list(plain["parameters"]["properties"]) == ["city", "days"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "arguments", "parameters", "f", "a"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def _offered(*properties):
    parameters = {"type": "object", "properties": {name: {} for name in properties}}
    return OfferedTools([{"type": "function", "function": {"name": "f", "parameters": parameters}}])


def _parts(value):
    yield value
    if isinstance(value, dict):
        for each in value.values():
            yield from _parts(each)


@given(_JSON, st.sets(st.sampled_from(["a", "name", "arguments", "f"])), st.integers(0, 2))
def test_a_repair_never_invents_anything(value, properties, layers):
    given = value
    for _ in range(layers):
        given = json.dumps(given)
    try:
        found = _offered(*properties).arguments("f", given)
    except ValueError:
        return
    # It is the whole, or an object within it that the model wrote itself.
    assert found in list(_parts(value)) or (found == {} and value in (None, ""))


@given(st.dictionaries(st.sampled_from(["a", "name", "arguments", "parameters", "f"]), _JSON, max_size=4))
def test_arguments_that_the_function_has_are_left_alone(value):
    assert _offered(*value).arguments("f", value) == value


def test_a_function_that_echoes_with_more_beside_it_is_left_alone():
    value = {"arguments": {"a": 1}, "b": 2}
    assert _offered("a").arguments("f", value) == value


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "additionalProperties": {"type": "object"}},
        {"type": "object"},
        {},
        {"patternProperties": {"^(arg|par)": {}}, "additionalProperties": False},
        {"properties": {"a": {}}, "unevaluatedProperties": True},
        {"$ref": "#/$defs/Open", "$defs": {"Open": {"type": "object"}}},
        {"$ref": "other.json"},
        {"anyOf": [{"properties": {"a": {}}}, {"type": "object", "additionalProperties": {}}]},
        {"allOf": [{"properties": {"a": {}}}, {"properties": {"arguments": {}, "parameters": {}}}]},
    ],
)
@pytest.mark.parametrize("wrapper", ["arguments", "parameters"])
def test_an_object_that_may_have_further_keys_is_never_unpacked(schema, wrapper):
    offered = OfferedTools([{"function": {"name": "f", "parameters": {"properties": {}}}}], {"f": schema})
    value = {"name": "f", wrapper: {"a": 1}}
    assert offered.arguments("f", value) == value
    assert offered.arguments("f", json.dumps(value)) == value


@pytest.mark.parametrize("more", [{}, {"additionalProperties": False}], ids=["unsaid", "closed"])
def test_an_object_that_repeats_the_call_is_unpacked_where_its_keys_are_not_allowed(more):
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, **more}
    offered = OfferedTools([{"function": {"name": "f", "parameters": schema}}])
    for value in ({"name": "f", "arguments": {"a": 1}}, {"parameters": {"a": 1}}, {"f": {"a": 1}}):
        assert offered.arguments("f", value) == {"a": 1}


@pytest.mark.parametrize(
    "given",
    [
        {"a": float("nan")},
        {"a": [{"b": float("inf")}]},
        '{"a": -Infinity}',
        '{"a": 1e999}',
        {"a": "NaN"},
        {"a": " -inf"},
        {"a": "1e999"},
        {"b": '{"c": NaN}'},
    ],
)
def test_numbers_that_json_does_not_know_are_rejected_for_correction(given):
    schema = {"properties": {"a": {"type": "number"}, "b": {"type": "object"}}}
    with pytest.raises(ValueError, match="hold NaN or Infinity, which JSON does not know"):
        OfferedTools([{"function": {"name": "f", "parameters": schema}}]).arguments("f", given)


def test_texts_of_numbers_stay_texts_where_a_text_is_allowed():
    schema = {"properties": {"a": {"type": ["number", "string"]}}}
    offered = OfferedTools([{"function": {"name": "f", "parameters": schema}}])
    assert offered.arguments("f", {"a": "NaN"}) == {"a": "NaN"}


def test_arguments_that_are_nested_too_deeply_are_not_changed():
    value = {}
    for _ in range(300):
        value = {"a": value, "b": "1"}
    schema = {
        "$ref": "#/$defs/N",
        "$defs": {"N": {"properties": {"a": {"$ref": "#/$defs/N"}, "b": {"type": "integer"}}}},
    }
    assert OfferedTools([{"function": {"name": "f", "parameters": schema}}]).arguments("f", value) is value


# Tools that cannot be described


class _Node(BaseModel):
    name: str
    children: list["_Node"] = []


class ExpandingTool(BaseTool):
    """Describes itself in a way of its own, which leads to the framework's, as MCPTool does."""

    @activity(config={"description": "Saves a tree", "schema": _Node})
    def save(self, values: dict):
        return TextArtifact("saved")

    def to_activity_json_schema(self, activity, schema_id):
        return {**super().to_activity_json_schema(activity, schema_id), "title": "own"}


def test_a_schema_that_contains_itself_is_described_where_the_tool_expands_it_without_end():
    tools = to_chat_tools([ExpandingTool()])
    assert tools.failures == []
    [function] = tools.functions
    assert function["function"]["parameters"]["properties"]["children"]["items"]["properties"]["name"] == {
        "type": "string"
    }


class _Thing:
    """What no schema can tell."""


class _Odd(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    thing: _Thing


class _WithDefault(BaseModel):
    thing: Any = _Thing()
    number: float = float("nan")


def _raise(_):
    raise ZeroDivisionError("no schema today")


def _tool_with(schema, name="Bad", **more):
    class SomeTool(BaseTool):
        @activity(config={"description": "Bad", "schema": schema, **more})
        def bad(self, values: dict):
            return TextArtifact("bad")

        @activity(config={"description": "Good", "schema": Schema({"a": int})})
        def good(self, values: dict):
            return TextArtifact("good")

    return SomeTool(name=name)


@pytest.mark.parametrize(
    ("tool", "reason"),
    [
        (_tool_with(_Odd), "PydanticInvalidForJsonSchema"),
        (_tool_with(_raise), "ZeroDivisionError: no schema today"),
        (_tool_with(lambda _: 42), "PydanticSchemaGenerationError"),
        (_tool_with(Schema({"a": Or(1, float("nan"))})), "ValueError"),
        (_tool_with(Schema({}), description="{{ 1 // 0 }}"), "ZeroDivisionError"),
        (_tool_with(Schema({}), description="{% if %}"), "TemplateSyntaxError"),
        (_tool_with(Schema({}), name="no-go"), "Tool name can only contain letters and numbers"),
    ],
    ids=lambda each: "" if isinstance(each, str) else each.name,
)
def test_an_activity_that_cannot_be_described_is_left_out_and_named(tool, reason):
    tools = to_chat_tools([tool, WeatherTool()])
    names = [each["function"]["name"] for each in tools.functions]
    assert ("Bad_good" in names) == (tool.name == "Bad")
    assert names[-1] == "WeatherTool_plan"
    assert len(tools.failures) == (1 if tool.name == "Bad" else 2)
    assert f"of tool {tool.name!r} is left out" in tools.failures[0]
    assert reason in tools.failures[0]


def test_a_tool_that_cannot_list_its_activities_is_left_out_and_named():
    class ListlessTool(WeatherTool):
        def activities(self):
            raise KeyError("list")

    tools = to_chat_tools([ListlessTool(), CalculatorTool(**_AS_IT_IS)])
    assert [each["function"]["name"] for each in tools.functions] == ["CalculatorTool_calculate"]
    assert tools.failures == ["Tool 'ListlessTool' is left out: KeyError: 'list'"]


@pytest.mark.parametrize("shape", [[], "text", None, {1: 2, ("a", "b"): 3}])
def test_a_schema_that_a_tool_returns_is_checked(shape):
    class ShapelessTool(WeatherTool):
        def to_activity_json_schema(self, activity, schema_id):
            return shape

    tools = to_chat_tools([ShapelessTool()])
    assert tools.functions == []
    assert len(tools.failures) == 4


def test_defaults_that_are_no_json_are_no_obstacle():
    tools = to_chat_tools(
        [_tool_with(_WithDefault), _tool_with(Schema({Optional("a", default=_Thing()): str}), "More")]
    )
    assert tools.failures == []
    assert len(tools.functions) == 4


def test_a_call_without_offered_tools_is_corrected():
    assert OfferedTools([]).correction("x") == "There is no tool 'x', and no other. Answer in words."
    assert not OfferedTools([])
