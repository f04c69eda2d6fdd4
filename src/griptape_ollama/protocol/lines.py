"""What the lines of a reply mean, for the kinds of replies that come in lines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from griptape_ollama.protocol.chat import carries_output, is_load_reply


@dataclass(frozen=True)
class LineKind:
    """One kind of reply.

    Attributes:
        last_field: Field by which the last line is known.
        last_value: What that field says in the last line.
        unit: What a line is called in an error.
        carries_output: Whether a line holds something that a listener is told at once. Up to the first of these, a
            request can be made again unnoticed.
        is_empty: Whether a line ends a reply that answers something else than what was asked.
        texts: Where the texts stand that go on from line to line: names of fields, from the outside in.
    """

    last_field: str
    last_value: Any
    unit: str
    carries_output: Callable[[Mapping[str, Any]], bool]
    is_empty: Callable[[Mapping[str, Any]], bool]
    texts: tuple[tuple[str, ...], ...] = ()

    def is_last(self, line: Mapping[str, Any]) -> bool:
        """Whether the reply is complete with this line."""
        return line.get(self.last_field) == self.last_value


_CHAT_TEXTS = (("message", "thinking"), ("message", "content"))

CHAT = LineKind("done", True, "token", carries_output, is_load_reply, _CHAT_TEXTS)
"""Replies of `/api/chat`: tokens, and a last line with `done: true`."""

STATUS = LineKind("status", "success", "line", lambda _: True, lambda _: False)
"""Replies of `/api/pull`, `/api/push` and `/api/create`: what is under way, and a last line with `status: success`."""
