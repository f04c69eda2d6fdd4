"""What a reference inside a JSON schema names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote


def look_up(root: Any, ref: str) -> Mapping[str, Any] | None:
    """Return the schema that a reference names.

    Args:
        root: The whole schema.
        ref: The reference, such as `#/$defs/Node`; one into another document names nothing.
    """
    if not ref.startswith("#"):
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
    return cast("Mapping[str, Any]", place) if isinstance(place, Mapping) else None
