"""What of a schema a server's grammar takes, keyword by keyword (llama.cpp of server 0.33)."""

from __future__ import annotations

from typing import Any, cast

Schema = dict[str, Any]

MAX_LENGTH = 2000
"""Longest length, or count of items, that a grammar is asked for; 3,000 was taken and 10,000 was not (server 0.33)."""

_NO_BOUND = 2**62  # the grammar reads the limits of 64 bits as "no limit", and then misses one
_TYPE_NAMES = ("string", "number", "integer", "boolean", "array", "object", "null")
_LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")


def is_taken(key: str, value: Any) -> bool:
    """Whether the value of a keyword is of the shape that all else here, and the server, rely on."""
    if key == "type":
        names = cast("list[Any]", value if isinstance(value, list) else [value])
        return bool(names) and all(name in _TYPE_NAMES for name in names)
    if key == "required":
        return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[Any]", value))
    if key in _LENGTHS:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_LENGTH
    if key in _BOUNDS:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _NO_BOUND
    if key in ("format", "description"):
        return isinstance(value, str)
    return bool(value) and isinstance(value, list) if key == "enum" else key != "properties"


def drop_crossed(compiled: Schema) -> list[str]:
    """Take out lower bounds that lie above their upper ones, and name them.

    A server that is given such lengths does not answer anybody any more (seen with 0.33.0-rc2).
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
