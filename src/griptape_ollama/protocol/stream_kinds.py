"""What the lines of a streamed reply mean, for each kind of stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

LOAD_REASONS = ("load", "unload")
"""`done_reason` of a reply that only reports that the model was loaded or unloaded (server 0.33)."""


def has_output(line: Mapping[str, Any]) -> bool:
    """Return whether the line has output: text, thinking or calls."""
    message = line.get("message")
    if not isinstance(message, Mapping):
        return False
    message = cast("Mapping[str, Any]", message)
    return bool(message.get("content") or message.get("thinking") or message.get("tool_calls"))


def is_load_reply(line: Mapping[str, Any]) -> bool:
    """Return whether the line ends a reply that was about loading, not about the prompt."""
    return line.get("done") is True and line.get("done_reason") in LOAD_REASONS and not has_output(line)


@dataclass(frozen=True)
class StreamKind:
    """One kind of streamed reply.

    Attributes:
        last_field: Field by which the last line is known.
        last_value: Value of that field in the last line.
        unit: What a line is called in an error.
        has_output: Whether a line has output that is published at once. Up to the first of these, a
            request can be made again unnoticed.
        is_empty: Whether a line ends a reply that answers something else than what was asked.
        texts: Where the texts stand that go on from line to line: names of fields, from the outside in.
    """

    last_field: str
    last_value: Any
    unit: str
    has_output: Callable[[Mapping[str, Any]], bool]
    is_empty: Callable[[Mapping[str, Any]], bool]
    texts: tuple[tuple[str, ...], ...] = ()

    def is_last(self, line: Mapping[str, Any]) -> bool:
        """Whether the reply is complete with this line."""
        return line.get(self.last_field) == self.last_value


_CHAT_TEXTS = (("message", "thinking"), ("message", "content"))

CHAT = StreamKind("done", True, "token", has_output, is_load_reply, _CHAT_TEXTS)
"""Replies of `/api/chat`: tokens, and a last line with `done: true`."""

STATUS = StreamKind("status", "success", "line", lambda _: True, lambda _: False)
"""Replies of `/api/pull`, `/api/push` and `/api/create`: progress, and a last line with `status: success`."""
