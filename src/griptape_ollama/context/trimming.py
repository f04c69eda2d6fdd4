"""Chat messages grouped into what may be dropped whole."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
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


SLACK = 0.25
"""Slack where none is given, as a share of the budget."""

_MOST_SLACK = 0.5  # of what could stay of a group: a large system prompt must not cost all of the memory
_LEAST_KEPT = 1 / 3  # of what could stay: a cut that leaves less, made for a smaller window, is not used again

_HASHED = 300  # characters of each message that the place of the cut depends on


@dataclass(frozen=True)
class Trimmed:
    """What is left of a conversation.

    Attributes:
        messages: Messages that stay, in order.
        dropped: Messages that went, in order.
        dropped_tokens: Tokens of these.
        tokens: Tokens of what stays; more than the budget where no more may go.
        cuts: Hashes of the turns or exchanges that it was cut before. A group that went whole has none.
    """

    messages: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    dropped_tokens: int
    tokens: float
    cuts: tuple[bytes, ...] = ()


def trim(
    messages: Sequence[dict[str, Any]],
    sizes: Sequence[float],
    *,
    budget: float,
    slack: float | None = None,
    own: range | None = None,
    is_react: bool = False,
    drops_exchanges: bool = False,
    is_cut: Callable[[bytes], object] = lambda _: False,
) -> Trimmed:
    """Drop what must go for the rest to fit: the oldest turns, then a summary, then finished exchanges of the task.

    System messages, the task's input and its last exchange always stay; no turn and no exchange is ever halved.

    Args:
        messages: Chat messages, oldest first.
        sizes: Tokens of each.
        budget: Tokens that they may have together.
        slack: Tokens that a new cut drops beyond what it must, for the turns that follow; at most half of what could
            stay. None for a quarter of the budget.
        own: Which of them belong to the task itself (its input and what followed it); None where that is not known:
            then it is the last turn.
        is_react: Whether tools are called in words.
        drops_exchanges: Whether exchanges of the task itself may go where nothing else is left.
        is_cut: Whether a conversation was cut before a turn or an exchange, which is given by its hash (`cuts`).
    """
    total = sum(sizes)
    if total <= budget:
        return Trimmed(list(messages), [], 0, total)
    turns = to_turns(messages, own=own, is_react=is_react)
    slack = max(0.0, budget) * SLACK if slack is None else slack
    gone: set[int] = set()
    cuts: list[bytes] = []
    groups = [turns.remembered, [turns.pinned] if turns.pinned else []]
    if drops_exchanges:
        groups.append(turns.exchanges[:-1])
    for group in groups:
        excess = total - budget
        if excess <= 0:
            break
        hash_of = functools.partial(_hash, messages, group)
        count = _cut(hash_of, [sum(sizes[index] for index in indices) for indices in group], excess, slack, is_cut)
        cuts += [hash_of(count)] if count < len(group) else []
        went = set(chain.from_iterable(group[:count]))
        total -= sum(sizes[index] for index in went)
        gone |= went
    return _without(messages, sizes, gone, tuple(cuts))


def _cut(
    hash_of: Callable[[int], bytes],
    sizes: Sequence[float],
    excess: float,
    slack: float,
    is_cut: Callable[[bytes], object],
) -> int:
    """Return how many of the oldest go: as many as at the last cut, if that still fits, else some more than must."""
    could_stay = max(0.0, sum(sizes) - excess)
    wanted = excess + min(slack, could_stay * _MOST_SLACK)
    most = excess + could_stay * (1 - _LEAST_KEPT)
    dropped = 0.0
    new = len(sizes)
    for place, size in enumerate(sizes):
        if dropped >= excess:
            if new < len(sizes) and dropped > most:
                break
            if is_cut(hash_of(place)):
                return place
            # The first place behind what is wanted; one turn that is very long does not take the rest with it.
            if new == len(sizes) or dropped - sizes[place - 1] < wanted:
                new = place
        dropped += size
    return new


def _hash(messages: Sequence[Mapping[str, Any]], group: Sequence[Indices], place: int) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for index in group[place]:
        content = str(messages[index].get("content"))
        digest.update(f"{len(content)} {content[:_HASHED]}".encode("utf-8", "surrogatepass"))
    return digest.digest()


def _without(
    messages: Sequence[dict[str, Any]], sizes: Sequence[float], gone: set[int], cuts: tuple[bytes, ...]
) -> Trimmed:
    return Trimmed(
        messages=[message for index, message in enumerate(messages) if index not in gone],
        dropped=[messages[index] for index in sorted(gone)],
        dropped_tokens=round(sum(sizes[index] for index in gone)),
        tokens=sum(size for index, size in enumerate(sizes) if index not in gone),
        cuts=cuts,
    )
