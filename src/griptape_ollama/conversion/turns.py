"""A turn of the model with calls that needs more than Griptape keeps of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
