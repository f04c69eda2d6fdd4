"""Griptape tools as the functions that a model may call, and the model's calls as Griptape's actions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from griptape.mixins.activity_mixin import ActivityMixin
from griptape.tools import BaseTool
from schema import Schema

from griptape_ollama.conversion.schemas import compiled_parameters, to_json_schema

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_SHOWN = 120
_SCHEMA_METHOD = "to_activity_json_schema"
_MAX_KNOWN = 1000
_known: dict[tuple[int, ...], tuple[Any, Any, str]] = {}


def to_chat_tools(tools: Iterable[BaseTool]) -> list[dict[str, Any]]:
    """Give one function per activity of each tool."""
    # Griptape's activities are untyped functions.
    activities: list[tuple[Any, Any]] = [
        (tool, activity) for tool in cast("Iterable[Any]", tools) for activity in tool.activities()
    ]
    return [
        {
            "type": "function",
            "function": {
                "name": tool.to_native_tool_name(activity),
                "description": tool.activity_description(activity),
                "parameters": _parameters(tool, activity),
            },
        }
        for tool, activity in activities
    ]


def _parameters(tool: Any, activity: Any) -> dict[str, Any]:
    """Give the parameters of an activity, compiled once for all turns where its schema is a fixed one."""
    if getattr(tool.__class__, _SCHEMA_METHOD) is not getattr(ActivityMixin, _SCHEMA_METHOD):
        return compiled_parameters(tool.to_activity_json_schema(activity, "Parameters Schema"))  # the tool's own way
    declared = activity.config["schema"]
    if declared is None:
        return {"type": "object", "properties": {}}
    if callable(declared) and not isinstance(declared, (type, Schema)):
        return compiled_parameters(to_json_schema(tool.activity_schema(activity)))  # made anew for each call
    extra: Mapping[str, Any] = tool.extra_schema_properties or {}
    more: dict[Any, Any] = dict(extra.get(activity.name) or {})
    key = (id(declared), *map(id, (*more, *more.values())))
    known = _known.get(key)
    if known is None:
        # Kept with the schemas, so that nothing else gets their ids; as text, so that nobody changes what others get.
        parameters = compiled_parameters(to_json_schema(tool.activity_schema(activity)))
        known = (declared, more, json.dumps(parameters))
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        _known[key] = known
    return json.loads(known[2])


class OfferedTools:
    """The functions of one request, to hold the model's calls against.

    Args:
        functions: As `to_chat_tools` gives them.
    """

    def __init__(self, functions: Iterable[Mapping[str, Any]]) -> None:
        self._parameters: dict[str, Mapping[str, Any]] = {
            each["function"]["name"]: each["function"].get("parameters", {}) for each in functions if "function" in each
        }

    def __bool__(self) -> bool:
        """Whether any function was offered."""
        return bool(self._parameters)

    def correction(self, name: str) -> str | None:
        """Say what is wrong with the name of a call, for the model to read; None where nothing is."""
        if name in self._parameters:
            return None
        if not self._parameters:
            return f"There is no tool {name!r}, and no other. Answer in words."
        return f"There is no tool {name!r}. The tools are: {', '.join(self._parameters)}. Call one of these, or answer."

    def arguments(self, name: str, given: Any) -> dict[str, Any]:
        """Give the arguments of a call as an object, repaired where that needs no guessing.

        Taken are JSON in a string, also in a fence, and an object that repeats the call around its arguments:
        `{"name": ..., "arguments": {...}}`, or the whole under the name of the function.

        Raises:
            ValueError: They are nothing of the kind. The text is for the model to read.
        """
        value = _object(given)
        if value is None:
            shown = given if isinstance(given, str) else json.dumps(given, default=str)
            raise ValueError(f"The arguments of {name!r} must be a JSON object, not: {shown[:_SHOWN]}")
        known = set(cast("Mapping[str, Any]", self._parameters.get(name, {}).get("properties", {})))
        return _without_echo(name, value, known)


def _object(given: Any) -> dict[str, Any] | None:
    if given is None:
        return {}
    for _ in range(2):  # JSON in a string may be in a string again
        if not isinstance(given, str):
            break
        fenced = _FENCED.fullmatch(given)
        try:
            given = json.loads((fenced[1] if fenced else given) or "{}")
        except (ValueError, RecursionError):
            return None
    return cast("dict[str, Any]", given) if isinstance(given, dict) else None


def _without_echo(name: str, value: dict[str, Any], known: set[str]) -> dict[str, Any]:
    for wrapper, beside in (("arguments", {"name"}), ("parameters", {"name"}), (name, set[str]())):
        inner = value.get(wrapper)
        # Never where the function itself has such a parameter.
        if isinstance(inner, dict) and wrapper not in known and set(value) <= {wrapper, *beside} - (known - {wrapper}):
            return cast("dict[str, Any]", inner)
    return value
