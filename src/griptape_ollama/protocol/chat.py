"""What the lines of a chat reply mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

LOAD_REASONS = ("load", "unload")
"""`done_reason` of a reply that only says that the model was loaded or unloaded (server 0.33)."""


def carries_output(line: Mapping[str, Any]) -> bool:
    """Whether the line holds something that a listener would be told: text, thinking or calls."""
    message = line.get("message")
    if not isinstance(message, Mapping):
        return False
    message = cast("Mapping[str, Any]", message)
    return bool(message.get("content") or message.get("thinking") or message.get("tool_calls"))


def is_load_reply(line: Mapping[str, Any]) -> bool:
    """Whether the line ends a reply that was about loading, not about the prompt."""
    return line.get("done") is True and line.get("done_reason") in LOAD_REASONS and not carries_output(line)
