"""Chat messages grouped into what may be dropped whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from griptape_ollama.conversion.react import is_react_call

Indices = list[int]

# Griptape's output_schema loop (user_output_schema_validation_subtask.j2).
_CORRECTION = "Validation Errors:"


@dataclass(frozen=True)
class Turns:
    """A conversation as indices of its messages. System messages are in none of the groups: they always stay.

    Attributes:
        remembered: Turns before the task's own, oldest first: a user message and everything up to the next one.
        pinned: A remembered message at the front that nobody answered, such as the summary of
            SummaryConversationMemory; empty where there is none.
        own: The turn of the task itself.
        exchanges: What `own` holds behind its input, oldest first: what the model said, and the results of its calls.
    """

    remembered: list[Indices]
    pinned: Indices
    own: Indices
    exchanges: list[Indices]


def to_turns(messages: Sequence[Mapping[str, Any]], *, own: range | None = None, is_react: bool = False) -> Turns:
    """Group the messages of a conversation.

    Args:
        messages: Chat messages, oldest first.
        own: Which of them belong to the task itself; system messages need not be among them. None where that is not
            known: then it is the last turn.
        is_react: Whether tools are called in words, so that their results come as user messages.
    """
    turns: list[Indices] = []
    owned: Indices = []
    before: Mapping[str, Any] = {}
    for index, message in enumerate(messages):
        if message.get("role") == "system":
            continue
        if own is not None and index in own:
            owned.append(index)
            continue
        if not turns or (message.get("role") == "user" and not _continues(before, message, is_react)):
            turns.append([index])
        else:
            turns[-1].append(index)
        before = message
    if not owned and turns:
        owned = turns.pop()
    is_pinned = bool(turns) and all(messages[index].get("role") == "user" for index in turns[0])
    pinned = turns.pop(0) if is_pinned else []
    return Turns(turns, pinned, owned, _exchanges(messages, owned))


def _continues(before: Mapping[str, Any], message: Mapping[str, Any], is_react: bool) -> bool:
    """Whether a user message goes on with the turn of the message before it."""
    if before.get("role") == "tool":
        return True  # what Griptape adds to results ("Please keep going") follows them as a user message
    if before.get("role") != "assistant":
        return False
    if is_react and is_react_call(_text(before)):
        return True
    return _text(message).startswith(_CORRECTION)


def _exchanges(messages: Sequence[Mapping[str, Any]], own: Indices) -> list[Indices]:
    exchanges: list[Indices] = []
    was_said = False
    for index in own:
        is_said = messages[index].get("role") == "assistant"
        if is_said and not was_said:
            exchanges.append([index])
        elif exchanges:
            exchanges[-1].append(index)
        was_said = is_said
    return exchanges


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""
