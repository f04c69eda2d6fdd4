"""Drops the oldest turns of a conversation that does not fit into its context window."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from griptape_ollama.conversion.text_calls import is_react_call

Indices = list[int]

# Griptape's output_schema loop (user_output_schema_validation_subtask.j2).
_CORRECTION = "Validation Errors:"


@dataclass(frozen=True)
class ConversationTurns:
    """A conversation as indices of its messages. System messages are in none of the groups: they always stay.

    Attributes:
        history: Turns before the task, oldest first: a user message and everything up to the next one.
        summary: A message at the front of the history without an answer, such as the summary of
            SummaryConversationMemory; empty if there is none.
        task: The turn of the task itself.
        rounds: What `task` has after its input, oldest first: what the model wrote, and the results of its calls.
    """

    history: list[Indices]
    summary: Indices
    task: Indices
    rounds: list[Indices]


def to_turns(
    messages: Sequence[Mapping[str, Any]], *, task_range: range | None = None, is_react: bool = False
) -> ConversationTurns:
    """Group the messages of a conversation.

    Args:
        messages: Chat messages, oldest first.
        task_range: Which of them belong to the task itself; system messages need not be among them. None if that is
            not known: then it is the last turn.
        is_react: Whether tools are called in text, so that their results come as user messages.
    """
    turns: list[Indices] = []
    task: Indices = []
    before: Mapping[str, Any] = {}
    for index, message in enumerate(messages):
        if message.get("role") == "system":
            continue
        if task_range is not None and index in task_range:
            task.append(index)
            continue
        if not turns or (message.get("role") == "user" and not _continues(before, message, is_react)):
            turns.append([index])
        else:
            turns[-1].append(index)
        before = message
    if not task and turns:
        task = turns.pop()
    has_summary = bool(turns) and all(messages[index].get("role") == "user" for index in turns[0])
    summary = turns.pop(0) if has_summary else []
    return ConversationTurns(turns, summary, task, _rounds_of(messages, task))


def _continues(before: Mapping[str, Any], message: Mapping[str, Any], is_react: bool) -> bool:
    """Return whether a user message belongs to the turn of the message before it."""
    if before.get("role") == "tool":
        return True  # what Griptape adds to results ("Please keep going") follows them as a user message
    if before.get("role") != "assistant":
        return False
    if is_react and is_react_call(_text(before)):
        return True
    return _text(message).startswith(_CORRECTION)


def _rounds_of(messages: Sequence[Mapping[str, Any]], task: Indices) -> list[Indices]:
    rounds: list[Indices] = []
    was_assistant = False
    for index in task:
        is_assistant = messages[index].get("role") == "assistant"
        if is_assistant and not was_assistant:
            rounds.append([index])
        elif rounds:
            rounds[-1].append(index)
        was_assistant = is_assistant
    return rounds


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else ""


DEFAULT_SLACK = 0.25
"""Slack of `trim` by default, as a share of the budget."""

_MOST_SLACK = 0.5  # of what could stay of a group: a large system prompt must not cost all of the history
_LEAST_KEPT = 1 / 3  # of what could stay: a cut that leaves less, made for a smaller window, is not used again

_HASHED = 300  # characters of each message that the place of the cut depends on


@dataclass(frozen=True)
class TrimResult:
    """What is left of a conversation.

    Attributes:
        messages: Messages that stay, in order.
        dropped: Messages that were dropped, in order.
        dropped_tokens: Tokens of these.
        tokens: Tokens of what stays; more than the budget where no more may be dropped.
        cuts: Hashes of the turns or rounds that it was cut before. A group that was dropped whole has none.
    """

    messages: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    dropped_tokens: int
    tokens: float
    cuts: tuple[bytes, ...] = ()


def message_budget(limit: int, fixed: float, uncertainty: float) -> float:
    """Return how many tokens all messages may have together by the estimate, so that the prompt certainly fits.

    Args:
        limit: Tokens that the prompt may have.
        fixed: Tokens of the template and the tools.
        uncertainty: How far the estimate may be off, as a share of it.
    """
    return max(0.0, limit / (1 + uncertainty) - fixed)


def trim(
    messages: Sequence[dict[str, Any]],
    sizes: Sequence[float],
    *,
    budget: float,
    slack: float | None = None,
    task_range: range | None = None,
    is_react: bool = False,
    drops_rounds: bool = False,
    was_cut_before: Callable[[bytes], object] = lambda _: False,
) -> TrimResult:
    """Drop what must go for the rest to fit: the oldest turns, then a summary, then finished rounds of the task.

    System messages, the task's input and its last round always stay; turns and rounds are dropped whole.

    Args:
        messages: Chat messages, oldest first.
        sizes: Tokens of each.
        budget: Tokens that they may have together.
        slack: Tokens that a new cut drops beyond what it must, so that the next turns fit too; at most half of what
            could stay. By default a quarter of the budget.
        task_range: Which of them belong to the task itself (its input and what followed it); None if that is not
            known: then it is the last turn.
        is_react: Whether tools are called in text.
        drops_rounds: Whether rounds of the task itself may be dropped where nothing else is left.
        was_cut_before: Whether a conversation was cut before a turn or a round, by its hash (`cuts`).
    """
    total = sum(sizes)
    if total <= budget:
        return TrimResult(list(messages), [], 0, total)
    turns = to_turns(messages, task_range=task_range, is_react=is_react)
    slack = max(0.0, budget) * DEFAULT_SLACK if slack is None else slack
    dropped: set[int] = set()
    cuts: list[bytes] = []
    groups = [turns.history, [turns.summary] if turns.summary else []]
    if drops_rounds:
        groups.append(turns.rounds[:-1])
    for group in groups:
        excess = total - budget
        if excess <= 0:
            break
        hash_of = functools.partial(_hash, messages, group)
        group_sizes = [sum(sizes[index] for index in indices) for indices in group]
        count = _cut(hash_of, group_sizes, excess, slack, was_cut_before)
        cuts += [hash_of(count)] if count < len(group) else []
        more = set(chain.from_iterable(group[:count]))
        total -= sum(sizes[index] for index in more)
        dropped |= more
    return TrimResult(
        messages=[message for index, message in enumerate(messages) if index not in dropped],
        dropped=[messages[index] for index in sorted(dropped)],
        dropped_tokens=round(sum(sizes[index] for index in dropped)),
        tokens=sum(size for index, size in enumerate(sizes) if index not in dropped),
        cuts=tuple(cuts),
    )


def _cut(
    hash_of: Callable[[int], bytes],
    sizes: Sequence[float],
    excess: float,
    slack: float,
    was_cut_before: Callable[[bytes], object],
) -> int:
    """Return how many of the oldest to drop: as many as at the last cut, if the rest still fits, else some more."""
    could_stay = max(0.0, sum(sizes) - excess)
    wanted = excess + min(slack, could_stay * _MOST_SLACK)
    most = excess + could_stay * (1 - _LEAST_KEPT)
    dropped = 0.0
    new = len(sizes)
    for place, size in enumerate(sizes):
        if dropped >= excess:
            if new < len(sizes) and dropped > most:
                break
            if was_cut_before(hash_of(place)):
                return place
            # The first place after what is wanted; a very long turn does not take the rest with it.
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
