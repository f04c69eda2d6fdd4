"""Whether a JSON value fits a JSON schema: a strict check, and a lenient one.

The strict check (`check_fits`) accepts an answer only if every keyword of the schema is known here and satisfied. The
lenient one (`LenientValidator`) judges calls of tools: a keyword that is not read counts as satisfied, and `oneOf` as
`anyOf`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, cast

from griptape_ollama.protocol.schema_keywords import (
    TYPES,
    find_reference,
    has_type,
    is_equal,
    is_number,
    resolve_reference,
    type_of,
)

ALL_TYPES = frozenset(TYPES)

_IGNORED = frozenset(
    {
        *("$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "title", "description", "default"),
        *("examples", "deprecated", "readOnly", "writeOnly", "nullable", "items", "additionalProperties"),
    }
)
_MAX_DEPTH = 100
_CHOICES = ("anyOf", "oneOf")

_Schema = Mapping[str, Any]
_Keyword = Callable[[Any, Any], bool]

_BOUNDS: Mapping[str, _Keyword] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}
_SIZES: Mapping[str, tuple[type[Sized], _Keyword]] = {
    "minLength": (str, _BOUNDS["minimum"]),
    "maxLength": (str, _BOUNDS["maximum"]),
    "minItems": (list, _BOUNDS["minimum"]),
    "maxItems": (list, _BOUNDS["maximum"]),
    "minProperties": (dict, _BOUNDS["minimum"]),
    "maxProperties": (dict, _BOUNDS["maximum"]),
}


# Strict


class MisfitError(ValueError):
    """A value does not fit a schema, or a keyword of the schema cannot be checked."""


def check_fits(schema: Any, value: Any) -> None:
    """Check that a value fits a schema.

    Args:
        schema: A JSON schema.
        value: What `json.loads` made of a document.

    Raises:
        MisfitError: It does not, or the schema has keywords that are not known here; the text names the place.
    """
    try:
        _StrictValidator(cast("_Schema", schema) if isinstance(schema, Mapping) else {}).check(schema, value, "", 0)
    except (TypeError, AttributeError, RecursionError) as error:
        raise MisfitError(f"the schema cannot be checked: {error}") from error


class _StrictValidator:
    def __init__(self, root: _Schema) -> None:
        self._root = root
        self._structures: dict[str, Callable[[Any, Any, str, int], None]] = {
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "allOf": self._all_of,
            "properties": self._properties,
            "prefixItems": self._prefix_items,
            "$ref": self._reference,
        }

    def check(self, schema: Any, value: Any, path: str, depth: int) -> None:
        """Check one value against one part of the schema."""
        if schema is True:
            return
        if not isinstance(schema, Mapping):
            raise _misfit(path, "nothing is allowed here")
        if depth > _MAX_DEPTH:
            raise _misfit(path, "it is nested too deeply")
        whole = cast("_Schema", schema)
        if value is None and whole.get("nullable") is True:
            return
        for key, expected in whole.items():
            if key in _IGNORED:
                continue
            if (structure := self._structures.get(key)) is not None:
                structure(expected, value, path, depth)
            elif key not in _STRICT_KEYWORDS:
                raise _misfit(path, f"{key} cannot be checked")
            elif not _STRICT_KEYWORDS[key](value, expected):
                raise _misfit(path, f"{key} must be {json.dumps(expected, default=str):.100}")
        self._unnamed(whole, value, path, depth)

    def _misfits(self, choices: Any, value: Any, path: str, depth: int) -> list[MisfitError]:
        return [misfit for each in choices if (misfit := self._misfit(each, value, path, depth + 1)) is not None]

    def _misfit(self, schema: Any, value: Any, path: str, depth: int) -> MisfitError | None:
        try:
            self.check(schema, value, path, depth)
        except MisfitError as misfit:
            return misfit
        return None

    def _any_of(self, choices: Any, value: Any, path: str, depth: int) -> None:
        misfits = self._misfits(choices, value, path, depth)
        if len(misfits) == len(choices):
            raise misfits[0] if misfits else _misfit(path, "there is nothing to choose from")

    def _one_of(self, choices: Any, value: Any, path: str, depth: int) -> None:
        self._any_of(choices, value, path, depth)
        if len(self._misfits(choices, value, path, depth)) < len(choices) - 1:
            raise _misfit(path, "it fits more than one of oneOf")

    def _all_of(self, parts: Any, value: Any, path: str, depth: int) -> None:
        for each in parts:
            self.check(each, value, path, depth + 1)

    def _properties(self, properties: Any, value: Any, path: str, depth: int) -> None:
        if isinstance(value, dict):
            for name in cast("dict[str, Any]", value):
                if name in properties:
                    self.check(properties[name], value[name], f"{path}/{name}", depth + 1)

    def _prefix_items(self, schemas: Any, value: Any, path: str, depth: int) -> None:
        if isinstance(value, list):
            for number, (schema, each) in enumerate(zip(schemas, cast("list[Any]", value), strict=False)):
                self.check(schema, each, f"{path}/{number}", depth + 1)

    def _reference(self, ref: Any, value: Any, path: str, depth: int) -> None:
        target = find_reference(self._root, ref)
        if target is None:
            raise _misfit(path, f"$ref {ref} cannot be found")
        self.check(target, value, path, depth + 1)

    def _unnamed(self, schema: _Schema, value: Any, path: str, depth: int) -> None:
        """Check items and properties that the schema does not name one by one."""
        if isinstance(value, dict) and "additionalProperties" in schema:
            for name, each in cast("dict[str, Any]", value).items():
                if name not in schema.get("properties", {}):
                    self.check(schema["additionalProperties"], each, f"{path}/{name}", depth + 1)
        if isinstance(value, list) and "items" in schema:
            items = schema["items"]
            rest = cast("list[Any]", value)[len(schema.get("prefixItems", ())) :]
            self._prefix_items(items if isinstance(items, list) else [items] * len(rest), rest, path, depth)


def _misfit(path: str, reason: str) -> MisfitError:
    return MisfitError(f"{path or 'the whole'}: {reason}")


def _is_finite(value: Any) -> bool:
    return is_number(value) and math.isfinite(value)


def _matches_strictly(text: str, pattern: Any) -> bool:
    try:
        return re.search(pattern, text) is not None
    except (re.error, TypeError):
        return False


def _bound_of_number(holds: _Keyword) -> _Keyword:
    return lambda value, expected: not _is_finite(value) or holds(value, expected)


def _bound_of_size(kind: type[Sized], holds: _Keyword) -> _Keyword:
    return lambda value, expected: not isinstance(value, kind) or holds(len(value), expected)


_STRICT_KEYWORDS: Mapping[str, _Keyword] = {
    "type": lambda value, expected: has_type(value, expected) and (not is_number(value) or _is_finite(value)),
    "enum": lambda value, expected: any(is_equal(value, each) for each in expected),
    "const": is_equal,
    "required": lambda value, expected: not isinstance(value, dict) or {*expected} <= {*cast("_Schema", value)},
    "pattern": lambda value, expected: not isinstance(value, str) or _matches_strictly(value, expected),
    **{name: _bound_of_number(holds) for name, holds in _BOUNDS.items()},
    **{name: _bound_of_size(kind, holds) for name, (kind, holds) in _SIZES.items()},
}


# Lenient


def schemas_in(value: Any) -> list[Any]:
    """Return the schemas of a keyword that has a list of them; none for anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


class LenientValidator:
    """Answers questions about one schema; what it does not read (patterns, formats, conditions) counts as satisfied.

    Args:
        root: The whole schema, to which references point. It must not change.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        # Each answer is kept with its subjects, so that their ids stay theirs.
        self._fitting: dict[tuple[int, int], tuple[bool, Any, Any]] = {}
        self._types: dict[int, tuple[frozenset[str], Any]] = {}

    def target(self, schema: _Schema) -> _Schema | None:
        """Return what the reference of a schema names; None if it has none, or names nothing."""
        return resolve_reference(self.root, schema.get("$ref"))

    def types(self, schema: Any) -> frozenset[str]:
        """Return the types that a schema allows; all where it names none."""
        if not isinstance(schema, Mapping):
            return ALL_TYPES
        schema = cast("_Schema", schema)
        if id(schema) not in self._types:
            self._types[id(schema)] = ALL_TYPES, schema  # for a schema that contains nothing but itself
            self._types[id(schema)] = self._allowed_types(schema), schema
        return self._types[id(schema)][0]

    def allows_key(self, schema: Any, key: str) -> bool:
        """Return whether an object that fits the schema may have a key, as far as the schema restricts keys."""
        return self._allows_key(schema, key, frozenset())

    def fits(self, value: Any, schema: Any) -> bool:
        """Return whether a value fits a part of the schema; a part that contains nothing but itself fits nothing."""
        if not isinstance(schema, Mapping):
            return schema is not False
        schema = cast("_Schema", schema)
        key = (id(value), id(schema))
        if key not in self._fitting:
            self._fitting[key] = False, value, schema
            self._fitting[key] = self._fits(value, schema), value, schema
        return self._fitting[key][0]

    def inner(self, schema: _Schema, value: Any) -> Iterable[tuple[Any, Any]]:
        """Yield each key or index of an object or a list with each schema that applies to it."""
        if isinstance(value, list):
            count = len(cast("list[Any]", value))
            items: Any = schema.get("items")
            first = schemas_in(schema.get("prefixItems")) or schemas_in(items)
            rest: Any = schema.get("additionalItems", True) if isinstance(items, list) else items
            yield from enumerate(first[:count])
            if rest is not None:
                yield from ((index, rest) for index in range(len(first), count))
        elif isinstance(value, dict):
            for key in cast("dict[str, Any]", value):
                named = [each for name, each in _mapping(schema.get("properties")).items() if name == key]
                patterns = _mapping(schema.get("patternProperties"))
                named += [each for pattern, each in patterns.items() if _may_match(pattern, key)]
                if not named and "additionalProperties" in schema:
                    named = [schema["additionalProperties"]]
                yield from ((key, each) for each in named)

    def _allowed_types(self, schema: _Schema) -> frozenset[str]:
        allowed = ALL_TYPES
        if names := [each for each in schemas_in(schema.get("type")) or [schema.get("type")] if isinstance(each, str)]:
            more = {"integer"} if "number" in names else set[str]()
            allowed &= {*names, *more, *(["null"] if schema.get("nullable") is True else [])}
        if isinstance(values := schema.get("enum"), list):
            allowed &= {type_of(each) for each in cast("list[Any]", values)}
        if "const" in schema:
            allowed &= {type_of(schema["const"])}
        excluded = _mapping(schema.get("not"))
        if list(excluded) == ["type"]:
            names = schemas_in(excluded["type"]) or [excluded["type"]]
            allowed -= {each for each in names if isinstance(each, str)}
        for part in (self.target(schema), *schemas_in(schema.get("allOf"))):
            allowed &= self.types(part)
        for name in _CHOICES:
            if choices := schemas_in(schema.get(name)):
                allowed &= frozenset[str]().union(*map(self.types, choices))
        return allowed

    def _allows_key(self, schema: Any, key: str, seen: frozenset[int]) -> bool:
        if not isinstance(schema, Mapping):
            return schema is not False
        schema = cast("_Schema", schema)
        if id(schema) in seen or "object" not in self.types(schema):
            return False
        parts = [part for name in (*_CHOICES, "allOf") for part in schemas_in(schema.get(name))]
        if "$ref" in schema:
            parts.append(self.target(schema))  # None, which allows everything, where it names nothing
        if any(self._allows_key(part, key, seen | {id(schema)}) for part in parts):
            return True
        more: Any = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
        is_open = not parts and "properties" not in schema and more is not False
        is_named = key in _mapping(schema.get("properties"))
        matches = any(_may_match(pattern, key) for pattern in _mapping(schema.get("patternProperties")))
        return is_open or is_named or matches or (more is not None and more is not False)

    def _fits(self, value: Any, schema: _Schema) -> bool:
        return (
            _is_of_type(value, schema)
            and _is_allowed_value(value, schema)
            and _is_within_bounds(value, schema)
            and self._fits_parts(value, schema)
            and all(self.fits(value[place], each) for place, each in self.inner(schema, value))
        )

    def _fits_parts(self, value: Any, schema: _Schema) -> bool:
        parts = [self.target(schema), *schemas_in(schema.get("allOf"))]
        if not all(self.fits(value, part) for part in parts):
            return False
        for name in _CHOICES:
            choices = schemas_in(schema.get(name))
            if choices and not any(self.fits(value, choice) for choice in choices):
                return False
        return "not" not in schema or not self.fits(value, schema["not"])


def _is_of_type(value: Any, schema: _Schema) -> bool:
    named: Any = schema.get("type")
    if named is None or (value is None and schema.get("nullable") is True):
        return True
    return has_type(value, named if isinstance(named, (str, list)) else ())


def _is_allowed_value(value: Any, schema: _Schema) -> bool:
    allowed = schemas_in(schema.get("enum"))
    if "const" in schema:
        allowed = [schema["const"]]
    return not allowed or any(is_equal(value, each) for each in allowed)


def _is_within_bounds(value: Any, schema: _Schema) -> bool:
    if is_number(value):
        bounds = ((holds, schema.get(name)) for name, holds in _BOUNDS.items())
        return all(holds(value, bound) for holds, bound in bounds if is_number(bound))
    for name, (kind, holds) in _SIZES.items():
        if isinstance(value, kind) and is_number(bound := schema.get(name)) and not holds(len(value), bound):
            return False
    return not isinstance(value, dict) or all(name in value for name in schemas_in(schema.get("required")))


def _mapping(value: Any) -> _Schema:
    return cast("_Schema", value) if isinstance(value, Mapping) else {}


def _may_match(pattern: str, key: str) -> bool:
    try:
        return re.search(pattern, key) is not None
    except (re.error, TypeError):  # of another dialect
        return True
