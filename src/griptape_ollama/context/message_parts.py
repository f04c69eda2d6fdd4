"""What a chat message puts into a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast


class MessageParts(NamedTuple):
    """What of a message has tokens.

    Attributes:
        texts: Content, thinking, and the calls as JSON.
        images: How many images it has.
        calls: How many calls it asks for; 1 for the result of one.
    """

    texts: tuple[str, ...]
    images: int
    calls: int


def parts_of(message: Mapping[str, Any]) -> MessageParts:
    """Give what of a message has tokens.

    Args:
        message: A message as it goes over the wire. Fields of a wrong kind count as what they look like as text.
    """
    texts = [_to_text(message[name]) for name in ("content", "thinking") if message.get(name)]
    calls = to_list(message.get("tool_calls"))
    if calls:
        texts.append(to_json([_to_call(call) for call in calls]))
    images = to_list(message.get("images"))
    return MessageParts(tuple(texts), len(images), len(calls) + (message.get("role") == "tool"))


def to_json(value: Any) -> str:
    """Write a value as templates do; what JSON does not know is written as Python does."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _to_call(call: Any) -> object:
    """Give what a template shows of a call: neither the id nor the index."""
    function = cast("Mapping[str, Any]", call).get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return cast("object", call)
    function = cast("Mapping[str, Any]", function)
    return {name: function.get(name) for name in ("name", "arguments")}


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def to_list(value: Any) -> Sequence[Any]:
    """Give what should be a list; what is none is the only one of its kind."""
    if not value:
        return ()
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else (value,)
