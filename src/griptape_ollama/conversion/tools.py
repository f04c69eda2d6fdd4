"""Griptape tools as the functions that a model may call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from griptape.tools import BaseTool

from griptape_ollama.conversion.schemas import without_names


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
    if tool.activity_schema(activity) is None:
        return {"type": "object", "properties": {}}
    return without_names(tool.to_activity_json_schema(activity, "Parameters Schema"))
