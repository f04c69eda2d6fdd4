"""A turn of the model with calls that needs more than Griptape keeps of it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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
class Turn:
    """What a model said beside the calls that Griptape ran.

    Attributes:
        thinking: What it thought before them.
        rejected: Calls that had to be corrected.
    """

    thinking: str = ""
    rejected: Sequence[RejectedCall] = ()


def to_tool_call(tag: str, name: str, arguments: Mapping[str, Any], index: int) -> dict[str, Any]:
    """Give a call as it stands in the history."""
    return {"id": tag, "function": {"index": index, "name": name, "arguments": dict(arguments)}}


def to_tool_result(tag: str, name: str, content: str) -> dict[str, Any]:
    """Give the message that answers a call."""
    return {"role": "tool", "content": content, "tool_name": name, "tool_call_id": tag}


def to_corrected_turn(text: str, turn: Turn) -> list[dict[str, Any]]:
    """Give the messages of a turn whose calls all had to be corrected."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    return complete_turn(message, turn)


def complete_turn(message: dict[str, Any], turn: Turn) -> list[dict[str, Any]]:
    """Put back into the message of a turn what Griptape did not keep, and add the corrections behind it."""
    if turn.thinking:
        message["thinking"] = turn.thinking
    calls = message.setdefault("tool_calls", [])
    calls += [to_tool_call(each.tag, each.name, each.arguments, len(calls) + i) for i, each in enumerate(turn.rejected)]
    return [message, *(to_tool_result(each.tag, each.name, each.correction) for each in turn.rejected)]


MAX_TURNS = 1000
"""Turns that are remembered per driver; a task has 20 of them at most, unless it is told otherwise."""


class TurnMemory:
    """Finds a turn again by the tag of one of its calls: all that survives from a call to the next turn."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, Turn] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, tags: Iterable[str], turn: Turn) -> None:
        """Remember a turn under the tags of its calls."""
        with self._lock:
            for tag in tags:
                self._turns[tag] = turn
                self._turns.move_to_end(tag)
            while len(self._turns) > MAX_TURNS:
                self._turns.popitem(last=False)

    def find(self, tag: str) -> Turn | None:
        """Give the turn of a call; None where it is not known (any more)."""
        with self._lock:
            return self._turns.get(tag)
