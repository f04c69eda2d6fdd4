"""Whether a value fits a JSON schema, as far as that can be told: what is not known here is never taken for a fit."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from griptape_ollama.protocol.schema_merging import as_types

_IGNORED = frozenset(
    {
        *("$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "title", "description", "default"),
        *("examples", "deprecated", "readOnly", "writeOnly", "nullable", "items", "additionalProperties"),
    }
)
_MAX_DEPTH = 100

Schema = Mapping[str, Any]


class MisfitError(ValueError):
    """A value does not fit a schema, or it cannot be told whether it does."""


def check_fits(schema: Any, value: Any) -> None:
    """Check that a value fits a schema.

    Args:
        schema: A JSON schema.
        value: What `json.loads` made of a document.

    Raises:
        MisfitError: It does not, or the schema has keywords that are not known here; the text says where.
    """
    try:
        _Check(cast("Schema", schema) if isinstance(schema, Mapping) else {}).fits(schema, value, "", 0)
    except (TypeError, AttributeError, RecursionError) as error:
        raise MisfitError(f"the schema cannot be checked: {error}") from error


class _Check:
    """Checks values against the parts of one schema."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._structures: dict[str, Callable[[Any, Any, str, int], None]] = {
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "allOf": self._all_of,
            "properties": self._properties,
            "prefixItems": self._prefix,
            "$ref": lambda ref, value, path, depth: self.fits(self._look_up(ref, path), value, path, depth + 1),
        }

    def fits(self, schema: Any, value: Any, path: str, depth: int) -> None:
        """Check one value against one part."""
        if schema is True:
            return
        if not isinstance(schema, Mapping):
            raise _error(path, "nothing is allowed here")
        if depth > _MAX_DEPTH:
            raise _error(path, "it is nested too deeply")
        whole = cast("Schema", schema)
        if value is None and whole.get("nullable") is True:
            return
        for key, expected in whole.items():
            if key in _IGNORED:
                continue
            if (structure := self._structures.get(key)) is not None:
                structure(expected, value, path, depth)
            elif key not in _CHECKS:
                raise _error(path, f"{key} cannot be checked")
            elif not _CHECKS[key](value, expected):
                raise _error(path, f"{key} must be {json.dumps(expected, default=str):.100}")
        self._rest(whole, value, path, depth)

    def _misfits(self, choices: Any, value: Any, path: str, depth: int) -> list[MisfitError]:
        return [misfit for each in choices if (misfit := _caught(self.fits, each, value, path, depth + 1)) is not None]

    def _any_of(self, choices: Any, value: Any, path: str, depth: int) -> None:
        misfits = self._misfits(choices, value, path, depth)
        if len(misfits) == len(choices):
            raise misfits[0] if misfits else _error(path, "there is nothing to choose from")

    def _one_of(self, choices: Any, value: Any, path: str, depth: int) -> None:
        self._any_of(choices, value, path, depth)
        if len(self._misfits(choices, value, path, depth)) < len(choices) - 1:
            raise _error(path, "it fits more than one of oneOf")

    def _all_of(self, parts: Any, value: Any, path: str, depth: int) -> None:
        for each in parts:
            self.fits(each, value, path, depth + 1)

    def _properties(self, properties: Any, value: Any, path: str, depth: int) -> None:
        if isinstance(value, dict):
            for name in cast("dict[str, Any]", value):
                if name in properties:
                    self.fits(properties[name], value[name], f"{path}/{name}", depth + 1)

    def _prefix(self, schemas: Any, value: Any, path: str, depth: int) -> None:
        if isinstance(value, list):
            for number, (schema, each) in enumerate(zip(schemas, cast("list[Any]", value), strict=False)):
                self.fits(schema, each, f"{path}/{number}", depth + 1)

    def _rest(self, schema: Schema, value: Any, path: str, depth: int) -> None:
        """Check items and properties that are not named one by one."""
        if isinstance(value, dict) and "additionalProperties" in schema:
            for name, each in cast("dict[str, Any]", value).items():
                if name not in schema.get("properties", {}):
                    self.fits(schema["additionalProperties"], each, f"{path}/{name}", depth + 1)
        if isinstance(value, list) and "items" in schema:
            items = schema["items"]
            rest = cast("list[Any]", value)[len(schema.get("prefixItems", ())) :]
            self._prefix(items if isinstance(items, list) else [items] * len(rest), rest, path, depth)

    def _look_up(self, ref: Any, path: str) -> Any:
        place: Any = self._root
        for part in filter(None, str(ref).removeprefix("#").split("/")):
            if not isinstance(place, Mapping) or part not in place:
                raise _error(path, f"$ref {ref} cannot be found")
            place = cast("Schema", place)[part]
        return place


def _caught(check: Callable[..., None], *args: Any) -> MisfitError | None:
    try:
        check(*args)
    except MisfitError as misfit:
        return misfit
    return None


def _error(path: str, reason: str) -> MisfitError:
    return MisfitError(f"{path or 'the whole'}: {reason}")


def _is_of_type(value: Any, expected: Any) -> bool:
    kinds: dict[str, bool] = {
        "null": value is None,
        "boolean": isinstance(value, bool),
        "string": isinstance(value, str),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
        "number": _is_number(value),
        "integer": _is_number(value) and (isinstance(value, int) or value.is_integer()),
    }
    return any(kinds.get(each, False) for each in as_types(expected))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True, default=str) == json.dumps(other, sort_keys=True, default=str)


def _of(kind: Callable[[Any], bool], holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Return a check that speaks of one kind of values only."""
    return lambda value, expected: not kind(value) or holds(value, expected)


def _is(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


def _matches(text: str, pattern: Any) -> bool:
    try:
        return re.search(pattern, text) is not None
    except (re.error, TypeError):
        return False


_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "type": _is_of_type,
    "enum": lambda value, expected: any(_same(value, each) for each in expected),
    "const": _same,
    "required": _of(_is(dict), lambda value, expected: set(expected) <= set(value)),
    "minimum": _of(_is_number, lambda value, expected: value >= expected),
    "maximum": _of(_is_number, lambda value, expected: value <= expected),
    "exclusiveMinimum": _of(_is_number, lambda value, expected: value > expected),
    "exclusiveMaximum": _of(_is_number, lambda value, expected: value < expected),
    "minLength": _of(_is(str), lambda value, expected: len(value) >= expected),
    "maxLength": _of(_is(str), lambda value, expected: len(value) <= expected),
    "pattern": _of(_is(str), _matches),
    "minItems": _of(_is(list), lambda value, expected: len(value) >= expected),
    "maxItems": _of(_is(list), lambda value, expected: len(value) <= expected),
    "minProperties": _of(_is(dict), lambda value, expected: len(value) >= expected),
    "maxProperties": _of(_is(dict), lambda value, expected: len(value) <= expected),
}
