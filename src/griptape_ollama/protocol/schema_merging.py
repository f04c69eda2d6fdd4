"""Two demands on the same value, put into one: for each keyword, what both of them allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def as_types(value: Any) -> list[str]:
    """Read `type`, which is a name or a list of names."""
    return [value] if isinstance(value, str) else list(value)


def _both_types(one: Any, other: Any) -> Any:
    """Types that both allow; an integer is a number."""
    left, right = as_types(one), as_types(other)
    both = [each for each in left if each in right or (each == "integer" and "number" in right)]
    both += [each for each in right if each == "integer" and "number" in left and each not in both]
    return both[0] if len(both) == 1 else both or one


def _both_enums(one: Any, other: Any) -> Any:
    return [each for each in one if any(_same(each, value) for value in other)] or one


def _same(one: Any, other: Any) -> bool:
    # In Python True equals 1; in JSON it does not.
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _both_required(one: Any, other: Any) -> Any:
    return list(dict.fromkeys([*one, *other]))


def _both_properties(one: Any, other: Any) -> Any:
    return {**one, **{name: {"allOf": [one[name], each]} if name in one else each for name, each in {**other}.items()}}


MERGES: Mapping[str, Callable[[Any, Any], Any]] = {
    "type": _both_types,
    "enum": _both_enums,
    "required": _both_required,
    **dict.fromkeys(("properties", "patternProperties"), _both_properties),
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), max),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), min),
}
"""What becomes of two values of a keyword; a TypeError means that one of them is not what a schema has there."""
