"""JSON schemas as text for a model: their whole meaning in few tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

Schema = dict[str, Any]

# What means nothing for an answer: pydantic makes titles of the names.
_LEFT_OUT = frozenset({"title", "$schema", "$id", "$comment"})
_SCHEMA_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_SCHEMA_LISTS = frozenset({"anyOf", "allOf", "oneOf", "prefixItems"})
_SCHEMAS = frozenset(
    {"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else", "unevaluatedProperties"}
)
_DEFINITIONS = "#/$defs/"


def abridged_schema(schema: Mapping[str, Any]) -> Schema:
    """Return a schema without what means nothing for an answer, and each definition that is used once in its place.

    Args:
        schema: A JSON schema. It is not changed.
    """
    brief = _without_noise(dict(schema))
    definitions = brief.pop("$defs", None)
    if not isinstance(definitions, dict):
        return brief
    known = cast("dict[str, Any]", definitions)
    if not {name for part in (brief, *known.values()) for name in _references(part)} <= {*known}:
        return {**brief, "$defs": known}  # something refers into the inside of a definition
    while True:
        uses = Counter(name for part in (brief, *known.values()) for name in _references(part))
        once = next((name for name in known if uses[name] <= 1 and name not in _references(known[name])), None)
        if once is None:
            return {**brief, "$defs": known} if known else brief
        body = known.pop(once)
        for part in (brief, *known.values()):
            _inline(part, once, body)


def _without_noise(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    brief: Schema = {}
    for key, value in cast("Schema", schema).items():
        if key in _LEFT_OUT and isinstance(value, str):
            continue
        if key in _SCHEMA_MAPS and isinstance(value, dict):
            brief[key] = {name: _without_noise(each) for name, each in cast("Schema", value).items()}
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            brief[key] = [_without_noise(each) for each in cast("list[Any]", value)]
        elif key in _SCHEMAS:
            brief[key] = _without_noise(value)
        else:
            brief[key] = value
    return brief


def _schemas_in(schema: Any) -> Iterator[Schema]:
    if not isinstance(schema, dict):
        return
    whole = cast("Schema", schema)
    yield whole
    for key, value in whole.items():
        if key in _SCHEMA_MAPS and isinstance(value, dict):
            for each in cast("Schema", value).values():
                yield from _schemas_in(each)
        elif key in _SCHEMA_LISTS and isinstance(value, list):
            for each in cast("list[Any]", value):
                yield from _schemas_in(each)
        elif key in _SCHEMAS:
            yield from _schemas_in(value)


def _references(schema: Any) -> Iterator[str]:
    for each in _schemas_in(schema):
        ref = each.get("$ref")
        if isinstance(ref, str):
            yield ref.removeprefix(_DEFINITIONS)


def _inline(schema: Any, name: str, body: Any) -> None:
    """Replace the reference to a definition by it; keywords beside the reference are more exact."""
    for each in list(_schemas_in(schema)):
        if each.get("$ref") == _DEFINITIONS + name:
            beside = {key: value for key, value in each.items() if key != "$ref"}
            each.clear()
            each.update({**(cast("Schema", body) if isinstance(body, dict) else {}), **beside})
