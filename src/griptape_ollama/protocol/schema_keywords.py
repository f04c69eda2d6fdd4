"""Parts of a JSON schema: references, types, and the keywords that combine two schemas or that a server accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard, cast
from urllib.parse import unquote

Schema = dict[str, Any]

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
"""Names of the types of JSON schema."""

MAX_LENGTH = 2000
"""Longest length, or count of items, that a grammar is sent; 3,000 was accepted and 10,000 was not (server 0.33)."""

_KINDS: tuple[tuple[type, str], ...] = (
    (type(None), "null"),
    (bool, "boolean"),  # before int, its base class
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)
_NO_BOUND = 2**62  # the grammar reads the limits of 64 bits as "no limit", and then misses one
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


# References


def find_reference(root: Any, ref: Any) -> Any:
    """Return what a reference names inside a schema; None if it names nothing there.

    Args:
        root: The whole schema.
        ref: The reference, such as `#/$defs/Node`; one into another document names nothing.
    """
    if not isinstance(ref, str) or not ref.startswith("#"):
        return None
    place: Any = root
    for part in filter(None, ref[1:].split("/")):
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping):
            place = cast("Mapping[str, Any]", place).get(key)
        elif isinstance(place, Sequence) and not isinstance(place, str) and key.isdecimal():
            items = cast("Sequence[Any]", place)
            place = items[int(key)] if int(key) < len(items) else None
        else:
            return None
    return place


def resolve_reference(root: Any, ref: Any) -> Mapping[str, Any] | None:
    """Return the schema that a reference names, as `find_reference` does; None if that is no mapping."""
    found = find_reference(root, ref)
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else None


# Types and values


def type_of(value: Any) -> str:
    """Return the JSON type of a value."""
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "object")


def has_type(value: Any, names: Any) -> bool:
    """Return whether a value is of one of some types: a name or a list of names. A whole float is an integer too."""
    kind, allowed = type_of(value), as_types(names)
    is_whole = kind == "integer" or (isinstance(value, float) and value.is_integer())
    return kind in allowed or (kind == "integer" and "number" in allowed) or (is_whole and "integer" in allowed)


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a JSON number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; in Python, unlike in JSON, True equals 1."""
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(cast("list[Any]", one), cast("list[Any]", other), strict=False)
        return one == other and all(is_equal(left, right) for left, right in pairs)
    if isinstance(one, dict) and isinstance(other, dict):
        return one == other and all(is_equal(each, other[key]) for key, each in cast("dict[str, Any]", one).items())
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def as_types(value: Any) -> list[Any]:
    """Return `type`, which is a name or a list of names, as a list."""
    return [value] if isinstance(value, str) else list(value)


# What a server's grammar accepts (llama.cpp of server 0.33)


def is_accepted(key: str, value: Any) -> bool:
    """Return whether the value of a keyword has the form that the server relies on."""
    if key == "type":
        names = cast("list[Any]", value if isinstance(value, list) else [value])
        return bool(names) and all(name in TYPES for name in names)
    if key == "required":
        return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[Any]", value))
    if key in _LENGTHS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_LENGTH
    if key in _BOUNDS:
        return is_number(value) and abs(value) < _NO_BOUND
    if key in ("format", "description"):
        return isinstance(value, str)
    return bool(value) and isinstance(value, list) if key == "enum" else key != "properties"


def drop_contradictory_bounds(compiled: Schema) -> list[str]:
    """Remove lower bounds that lie above their upper ones, and return their keywords.

    A server that gets such lengths stops answering all requests (seen with 0.33.0-rc2).
    """
    dropped: list[str] = []
    for low, high in (("minLength", "maxLength"), ("minItems", "maxItems")):
        if compiled.get(low, 0) > compiled.get(high, MAX_LENGTH):
            dropped += [low, high]
    lows = [compiled[key] for key in ("minimum", "exclusiveMinimum") if key in compiled]
    highs = [compiled[key] for key in ("maximum", "exclusiveMaximum") if key in compiled]
    is_open = "exclusiveMinimum" in compiled or "exclusiveMaximum" in compiled
    if lows and highs and (max(lows) > min(highs) or (is_open and max(lows) >= min(highs))):
        dropped += _BOUNDS
    dropped = [key for key in dropped if key in compiled]
    for key in dropped:
        del compiled[key]
    return dropped


# Merging two schemas for the same value


def _merge_types(one: Any, other: Any) -> Any:
    """Return the types that both allow; an integer is a number."""
    left, right = as_types(one), as_types(other)
    both = [each for each in left if each in right or (each == "integer" and "number" in right)]
    both += [each for each in right if each == "integer" and "number" in left and each not in both]
    return both[0] if len(both) == 1 else both or one


def _merge_enums(one: Any, other: Any) -> Any:
    return [each for each in one if any(is_equal(each, value) for value in other)] or one


def _merge_required(one: Any, other: Any) -> Any:
    return list(dict.fromkeys([*one, *other]))


def _merge_properties(one: Any, other: Any) -> Any:
    return {**one, **{name: {"allOf": [one[name], each]} if name in one else each for name, each in {**other}.items()}}


MERGES: Mapping[str, Callable[[Any, Any], Any]] = {
    "type": _merge_types,
    "enum": _merge_enums,
    "required": _merge_required,
    **dict.fromkeys(("properties", "patternProperties"), _merge_properties),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
"""Merge two values of a keyword into one that allows what both allow; a TypeError means that one is malformed."""
