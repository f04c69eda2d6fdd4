"""JSON values that a model wrote as texts, read as what the schema wants.

A text is read only where the schema allows no text, and only if nothing is guessed: JSON of an array or an object, or a
number, a boolean or null in the very spelling that JSON would write it in (`10` and `true`, but not `1e3`, `010` or
`True`). What fits its schema is never touched.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any, cast

from griptape_ollama.protocol.schema_keywords import type_of
from griptape_ollama.protocol.schema_validation import LenientValidator, schemas_in

_FENCED = re.compile(r"\s*```(?:json)?[ \t]*\r?\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)
_NOT_FINITE = re.compile(r"\s*[+-]?(nan|inf(inity)?)\s*", re.IGNORECASE)
_MAX_LAYERS = 2  # a text of JSON may stand in a text again


class NotFiniteError(ValueError):
    """A number is NaN or infinite, which JSON cannot express."""


def without_fence(text: str) -> str:
    """Return a text without the fence around it."""
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced else text


def coerce(value: Any, schema: Any) -> Any:
    """Return a value with texts read as what the schema wants; parts that are as they should be are the same objects.

    Args:
        value: A JSON value.
        schema: A JSON schema.

    Raises:
        NotFiniteError: A text names a number that is not finite, where the schema wants a number.
    """
    return _Coercion(LenientValidator(schema)).coerce(value, schema)


class _Coercion:
    def __init__(self, reader: LenientValidator) -> None:
        self._reader = reader
        # Kept with the value, so that nothing else gets its id.
        self._known: dict[tuple[int, int], tuple[Any, Any]] = {}

    def coerce(self, value: Any, schema: Any) -> Any:
        if not isinstance(schema, Mapping):
            return value
        schema = cast("Mapping[str, Any]", schema)
        types = self._reader.types(schema)
        if isinstance(value, str) and "string" not in types:
            value = _read(value, types)
        if not isinstance(value, (list, dict)) or self._reader.fits(value, schema):
            return cast("object", value)
        key = (id(cast("object", value)), id(schema))
        if key not in self._known:
            self._known[key] = (value, value)  # for a schema that contains nothing but itself
            self._known[key] = (value, self._inside(value, schema))
        return self._known[key][1]

    def _inside(self, value: Any, schema: Mapping[str, Any]) -> Any:
        for part in (self._reader.target(schema), *schemas_in(schema.get("allOf"))):
            value = self.coerce(value, part)
        for name in ("anyOf", "oneOf"):
            value = self._as_one_of(value, schemas_in(schema.get(name)))
        changed: Any = None
        for place, each in self._reader.inner(schema, value):
            inner = (value if changed is None else changed)[place]
            read = self.coerce(inner, each)
            if read is not inner:
                changed = value.copy() if changed is None else changed
                changed[place] = read
        return value if changed is None else changed

    def _as_one_of(self, value: Any, choices: list[Any]) -> Any:
        """Coerce a value to the first choice that it then fits, or to the only one of its type."""
        for choice in choices:
            with contextlib.suppress(NotFiniteError):
                read = self.coerce(value, choice)
                if self._reader.fits(read, choice):
                    return read
        alike = [choice for choice in choices if type_of(value) in self._reader.types(choice)]
        return self.coerce(value, alike[0]) if len(alike) == 1 else value


def _read(text: str, types: frozenset[str], layers: int = _MAX_LAYERS) -> Any:
    """Parse a text as a value of one of several types; return the text unchanged if it fits none of them."""
    if {"number", "integer"} & types and _NOT_FINITE.fullmatch(text):
        raise NotFiniteError(text)
    try:
        value = json.loads(without_fence(text), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, (list, dict)):
        return cast("object", value) if type_of(value) in types else text
    if isinstance(value, str):
        inner = _read(value, types, layers - 1) if layers > 1 else value
        return cast("object", inner) if isinstance(inner, (list, dict)) else text
    if isinstance(value, float) and not math.isfinite(value) and "number" in types:
        raise NotFiniteError(text)
    return value if type_of(value) in types and json.dumps(value) == text else text


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands there twice")
    return found
