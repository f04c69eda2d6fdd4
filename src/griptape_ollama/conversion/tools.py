"""Griptape tools as the functions that a model may call, and the model's calls as Griptape's actions."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from griptape.mixins.activity_mixin import ActivityMixin
from griptape.tools import BaseTool
from schema import Schema

from griptape_ollama.conversion.schemas import compiled_parameters, to_json_schema
from griptape_ollama.escaping import printable
from griptape_ollama.protocol.schema_coercion import coerce, without_fence
from griptape_ollama.protocol.schema_validation import LenientValidator

_SHOWN = 120
_SCHEMA_METHOD = "to_activity_json_schema"
_MAX_KNOWN = 1000
_NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
_known: dict[tuple[int, ...], tuple[Any, Any, str, Any]] = {}


class ChatTools(NamedTuple):
    """Griptape's tools as a request carries them.

    Attributes:
        functions: One per activity that can be described.
        schemas: The schema of each function as its tool declares it, by name; what the server keeps of it is less.
        failures: Why activities are left out, each with the name of its tool.
    """

    functions: list[dict[str, Any]]
    schemas: dict[str, Any]
    failures: list[str]


def to_chat_tools(tools: Iterable[BaseTool]) -> ChatTools:
    """Describe each activity of each tool as a function; one that cannot be described is left out, and named."""
    described = ChatTools([], {}, [])
    # Griptape's activities are untyped functions.
    for tool in cast("Iterable[Any]", tools):
        try:
            activities: list[Any] = tool.activities()
        except Exception as error:  # noqa: BLE001 # a broken tool does not stop the rest
            described.failures.append(f"Tool {_name_of(tool)!r} is left out: {_reason(error)}")
            continue
        for activity in activities:
            try:
                function, schema = _described(tool, activity)
            except Exception as error:  # noqa: BLE001, PERF203 # likewise
                name = f"{_name_of(activity)!r} of tool {_name_of(tool)!r}"
                described.failures.append(f"Activity {name} is left out: {_reason(error)}")
            else:
                described.functions.append({"type": "function", "function": function})
                described.schemas[function["name"]] = schema
    return described


def _described(tool: Any, activity: Any) -> tuple[dict[str, Any], Any]:
    """Return the function of an activity, and its schema as the tool declares it."""
    name, description = tool.to_native_tool_name(activity), tool.activity_description(activity)
    parameters, schema = _parameters(tool, activity)
    return {"name": name, "description": description, "parameters": parameters}, schema


def _parameters(tool: Any, activity: Any) -> tuple[dict[str, Any], Any]:
    """Return the parameters of an activity and its schema, compiled once for all turns where the schema is fixed."""
    if getattr(tool.__class__, _SCHEMA_METHOD) is not getattr(ActivityMixin, _SCHEMA_METHOD):
        # The tool's own way may lead to Griptape's, which does not end for a schema that contains itself.
        with contextlib.suppress(RecursionError):
            schema = tool.to_activity_json_schema(activity, "Parameters Schema")
            return compiled_parameters(schema), schema
    declared = activity.config["schema"]
    if declared is None:
        return dict(_NO_PARAMETERS, properties={}), _NO_PARAMETERS
    if callable(declared) and not isinstance(declared, (type, Schema)):
        schema = to_json_schema(tool.activity_schema(activity))  # made anew for each call
        return compiled_parameters(schema), schema
    extra: Mapping[str, Any] = tool.extra_schema_properties or {}
    more: dict[Any, Any] = dict(extra.get(activity.name) or {})
    key = (id(declared), *map(id, (*more, *more.values())))
    known = _known.get(key)
    if known is None:
        # Kept with the schemas, so that their ids are not used again; as text, so that each caller gets a copy.
        schema = to_json_schema(tool.activity_schema(activity))
        known = (declared, more, json.dumps(compiled_parameters(schema)), schema)
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = known
    return json.loads(known[2]), known[3]


def _name_of(tool_or_activity: Any) -> str:
    return str(getattr(tool_or_activity, "name", None) or type(tool_or_activity).__name__)


def _reason(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}"[:_SHOWN])


class OfferedTools:
    """The functions of one request, and checks of the model's calls against them.

    Args:
        functions: The functions as the request carries them.
        schemas: Their schemas by name, where they say more than the request.
    """

    def __init__(
        self, functions: Iterable[Mapping[str, Any]], schemas: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        parameters = {
            each["function"]["name"]: each["function"].get("parameters", {}) for each in functions if "function" in each
        }
        self._schemas: dict[str, Any] = {name: schemas.get(name, known) for name, known in parameters.items()}

    def __bool__(self) -> bool:
        """Return whether any function was offered."""
        return bool(self._schemas)

    @property
    def names(self) -> Collection[str]:
        """Names of the functions."""
        return self._schemas.keys()

    def correction(self, name: str) -> str | None:
        """Return what is wrong with the name of a call, for the model to read; None if it is right."""
        if name in self._schemas:
            return None
        if not self._schemas:
            return f"There is no tool {name!r}, and no other. Answer in words."
        return f"There is no tool {name!r}. The tools are: {', '.join(self._schemas)}. Call one of these, or answer."

    def arguments(self, name: str, given: Any) -> dict[str, Any]:
        """Return the arguments of a call as an object, repaired where that needs no guessing.

        JSON in a string is parsed, also in a fence, and an object that repeats the call around its arguments is
        unpacked: `{"name": ..., "arguments": {...}}`, or the whole under the name of the function. Texts inside are
        parsed where the schema allows no text (`schema_coercion`).

        Raises:
            ValueError: They are no object, or have a number that JSON does not know. The text is for the model
                to read.
        """
        value = _object(given)
        if value is None:
            shown = given if isinstance(given, str) else json.dumps(given, default=str)
            raise ValueError(f"The arguments of {name!r} must be a JSON object, not: {shown[:_SHOWN]}")
        schema = self._schemas.get(name, {})
        value = _without_echo(name, value, LenientValidator(schema))
        try:
            with contextlib.suppress(RecursionError):  # nested too deeply to be read: it stays as it is
                value = cast("dict[str, Any]", coerce(value, schema))
            json.dumps(value, allow_nan=False)
        except ValueError:
            raise ValueError(
                f"The arguments of {name!r} hold NaN or Infinity, which JSON does not know: use finite numbers."
            ) from None
        except RecursionError:
            raise ValueError(f"The arguments of {name!r} are nested too deeply.") from None
        return value

    def fitting_arguments(self, name: str, given: Any) -> dict[str, Any] | None:
        """Return the arguments of a call, as `arguments` does; None if they do not fit the schema."""
        try:
            value, schema = self.arguments(name, given), self._schemas[name]
            return value if LenientValidator(schema).fits(value, schema) else None
        except (KeyError, ValueError, RecursionError):
            return None


def finite(value: Any) -> Any:
    """Return a JSON value with text in place of numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [finite(each) for each in cast("list[Any]", value)]
    return json.dumps(value) if isinstance(value, float) and not math.isfinite(value) else value


def _object(given: Any) -> dict[str, Any] | None:
    if given is None:
        return {}
    for _ in range(2):  # JSON in a string may be in a string again
        if not isinstance(given, str):
            break
        try:
            given = json.loads(without_fence(given) or "{}")
        except (ValueError, RecursionError):
            return None
    return cast("dict[str, Any]", given) if isinstance(given, dict) else None


def _without_echo(name: str, value: dict[str, Any], reader: LenientValidator) -> dict[str, Any]:
    """Unpack arguments that repeat their call, unless the function itself may have any of these keys."""
    for wrapper, beside in (("arguments", {"name"}), ("parameters", {"name"}), (name, set[str]())):
        inner = value.get(wrapper)
        if not isinstance(inner, dict) or not set(value) <= {wrapper, *beside}:
            continue
        if not any(reader.allows_key(reader.root, key) for key in value):
            return cast("dict[str, Any]", inner)
    return value
