"""JSON schemas as the server takes them."""

from __future__ import annotations

from typing import Any

from griptape.common import PromptStack

_NAMES = ("$id", "$schema")


def to_format(stack: PromptStack) -> dict[str, Any]:
    """Give the schema that the answer must fit."""
    untyped: Any = stack
    return without_names(untyped.to_output_json_schema())


def without_names(schema: dict[str, Any]) -> dict[str, Any]:
    """Give the schema without its own names, which mean nothing to the server."""
    return {key: value for key, value in schema.items() if key not in _NAMES}
