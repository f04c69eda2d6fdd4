"""Whether a JSON value fits a JSON schema, and which types and keys a schema allows.

It reads what calls of tools are judged by: types, values, properties, items, bounds, lengths, references, combinations.
What it does not read (patterns, formats, conditions) counts as satisfied, and `oneOf` as `anyOf`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard, cast

from griptape_ollama.protocol.schema_references import look_up

ALL_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})

_TYPES: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)
_CHOICES = ("anyOf", "oneOf")
_BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda value, bound: value >= bound,
    "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
}
_SIZES: Mapping[type, tuple[str, str]] = {
    str: ("minLength", "maxLength"),
    list: ("minItems", "maxItems"),
    dict: ("minProperties", "maxProperties"),
}


def type_of(value: Any) -> str:
    """Return the JSON type of a value."""
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "object")


def schemas_in(value: Any) -> list[Any]:
    """Return the schemas of a keyword that has a list of them; none for anything else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


class SchemaReader:
    """Answers questions about one schema.

    Args:
        root: The whole schema, in which references are looked up. It must not change.
    """

    def __init__(self, root: Any) -> None:
        self.root = root
        # Kept with what the answers are about, so that nothing else gets its id.
        self._fitting: dict[tuple[int, int], tuple[bool, Any, Any]] = {}
        self._types: dict[int, tuple[frozenset[str], Any]] = {}

    def target(self, schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what the reference of a schema names; None where it has none, or names nothing."""
        ref = schema.get("$ref")
        return look_up(self.root, ref) if isinstance(ref, str) else None

    def types(self, schema: Any) -> frozenset[str]:
        """Return the types that a schema allows; all where it does not say."""
        if not isinstance(schema, Mapping):
            return ALL_TYPES
        schema = cast("Mapping[str, Any]", schema)
        if id(schema) not in self._types:
            self._types[id(schema)] = ALL_TYPES, schema  # for a schema that contains nothing but itself
            self._types[id(schema)] = self._allowed(schema), schema
        return self._types[id(schema)][0]

    def allows_key(self, schema: Any, key: str) -> bool:
        """Whether an object that fits the schema may have a key, as far as the schema says anything about keys."""
        return self._allows_key(schema, key, frozenset())

    def fits(self, value: Any, schema: Any) -> bool:
        """Whether a value fits a schema of the whole one; what contains nothing but itself fits nothing."""
        if not isinstance(schema, Mapping):
            return schema is not False
        schema = cast("Mapping[str, Any]", schema)
        key = (id(value), id(schema))
        if key not in self._fitting:
            self._fitting[key] = False, value, schema
            self._fitting[key] = self._fits(value, schema), value, schema
        return self._fitting[key][0]

    def inner(self, schema: Mapping[str, Any], value: Any) -> Iterable[tuple[Any, Any]]:
        """Return each key or index of an object or a list with its schema, for each schema that speaks of it."""
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
                named += [each for pattern, each in patterns.items() if _matches(pattern, key)]
                if not named and "additionalProperties" in schema:
                    named = [schema["additionalProperties"]]
                yield from ((key, each) for each in named)

    def _allowed(self, schema: Mapping[str, Any]) -> frozenset[str]:
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
        schema = cast("Mapping[str, Any]", schema)
        if id(schema) in seen or "object" not in self.types(schema):
            return False
        parts = [part for name in (*_CHOICES, "allOf") for part in schemas_in(schema.get(name))]
        if "$ref" in schema:
            parts.append(self.target(schema))  # None, which allows everything, where it names nothing
        if any(self._allows_key(part, key, seen | {id(schema)}) for part in parts):
            return True
        more: Any = schema.get("additionalProperties", schema.get("unevaluatedProperties"))
        says_nothing = not parts and "properties" not in schema and more is not False
        is_named = key in _mapping(schema.get("properties"))
        matches = any(_matches(pattern, key) for pattern in _mapping(schema.get("patternProperties")))
        return says_nothing or is_named or matches or (more is not None and more is not False)

    def _fits(self, value: Any, schema: Mapping[str, Any]) -> bool:
        return (
            _is_of_type(value, schema)
            and _is_among(value, schema)
            and _is_within(value, schema)
            and self._fits_parts(value, schema)
            and all(self.fits(value[place], each) for place, each in self.inner(schema, value))
        )

    def _fits_parts(self, value: Any, schema: Mapping[str, Any]) -> bool:
        parts = [self.target(schema), *schemas_in(schema.get("allOf"))]
        if not all(self.fits(value, part) for part in parts):
            return False
        for name in _CHOICES:
            choices = schemas_in(schema.get(name))
            if choices and not any(self.fits(value, choice) for choice in choices):
                return False
        return "not" not in schema or not self.fits(value, schema["not"])


def _is_of_type(value: Any, schema: Mapping[str, Any]) -> bool:
    named: Any = schema.get("type")
    if named is None or (value is None and schema.get("nullable") is True):
        return True
    names, kind = schemas_in(named) or [named], type_of(value)
    is_whole = isinstance(value, float) and value.is_integer()
    return kind in names or (kind == "integer" and "number" in names) or (is_whole and "integer" in names)


def _is_among(value: Any, schema: Mapping[str, Any]) -> bool:
    allowed = schemas_in(schema.get("enum"))
    if "const" in schema:
        allowed = [schema["const"]]
    return not allowed or any(_is_same(value, each) for each in allowed)


def _is_same(one: Any, other: Any) -> bool:
    # In Python True equals 1; in JSON it does not.
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(cast("list[Any]", one), cast("list[Any]", other), strict=False)
        return one == other and all(_is_same(left, right) for left, right in pairs)
    if isinstance(one, dict) and isinstance(other, dict):
        return one == other and all(_is_same(each, other[key]) for key, each in cast("dict[str, Any]", one).items())
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _is_within(value: Any, schema: Mapping[str, Any]) -> bool:
    if _is_number(value):
        bounds = ((holds, schema.get(name)) for name, holds in _BOUNDS.items())
        return all(holds(value, bound) for holds, bound in bounds if _is_number(bound))
    names = next((names for kind, names in _SIZES.items() if isinstance(value, kind)), None)
    if names is None:
        return True
    low, high = (schema.get(name) for name in names)
    if (_is_number(low) and len(value) < low) or (_is_number(high) and len(value) > high):
        return False
    required = schemas_in(schema.get("required")) if isinstance(value, dict) else ()
    return all(name in value for name in required)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _matches(pattern: str, key: str) -> bool:
    try:
        return re.search(pattern, key) is not None
    except (re.error, TypeError):  # of another dialect: it may match
        return True
