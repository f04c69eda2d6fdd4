"""What the next turn needs of a turn with tool calls, beyond what Griptape keeps of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache


@dataclass(frozen=True)
class RejectedCall:
    """A call that Griptape cannot run.

    Attributes:
        tag: Its id.
        name: Name of the function, as the model has it.
        arguments: Its arguments; empty where they are not an object.
        correction: What is wrong with it, for the model to read.
    """

    tag: str
    name: str
    arguments: Mapping[str, Any]
    correction: str


@dataclass(frozen=True)
class ToolTurn:
    """What a model produced beside the calls that Griptape ran.

    Attributes:
        thinking: The thinking before them.
        rejected: Calls that had to be corrected.
    """

    thinking: str = ""
    rejected: Sequence[RejectedCall] = ()


def to_tool_call(tag: str, name: str, arguments: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Return a call as it is sent in the history."""
    return {"id": tag, "function": {"index": index, "name": name, "arguments": dict(arguments)}}


def to_tool_result(tag: str, name: str, content: str) -> dict[str, Any]:
    """Return the message with the result of a call."""
    return {"role": "tool", "content": content, "tool_name": name, "tool_call_id": tag}


def to_corrected_messages(text: str, turn: ToolTurn) -> list[dict[str, Any]]:
    """Return the messages of a turn whose calls all had to be corrected."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    return complete_turn(message, turn)


def complete_turn(message: dict[str, Any], turn: ToolTurn) -> list[dict[str, Any]]:
    """Add to the message of a turn what Griptape did not keep, and the corrections after it."""
    if turn.thinking:
        message["thinking"] = turn.thinking
    calls = message.setdefault("tool_calls", [])
    calls += [to_tool_call(each.tag, each.name, each.arguments, len(calls) + i) for i, each in enumerate(turn.rejected)]
    return [message, *(to_tool_result(each.tag, each.name, each.correction) for each in turn.rejected)]


MAX_TURNS = 1000
"""Calls whose turns a driver keeps; a task has 20 turns at most by default."""


class ToolHistory:
    """Finds a turn by the tag of one of its calls, which is all that Griptape keeps until the next turn."""

    def __init__(self) -> None:
        self._turns: LRUCache[str, ToolTurn] = LRUCache(MAX_TURNS)
        self._lock = threading.Lock()

    def record(self, tags: Iterable[str], turn: ToolTurn) -> None:
        """Record a turn under the tags of its calls."""
        with self._lock:
            for tag in tags:
                self._turns[tag] = turn

    def find(self, tag: str) -> ToolTurn | None:
        """Return the turn of a call; None if it is not known (any more)."""
        with self._lock:
            return self._turns.get(tag)
