"""Drops the oldest turns of a conversation that is too long, in one pass.

The cut must not move with every turn: all that comes behind it is then new to the server's prompt cache. So more is
dropped than must be, by up to a quarter of the budget, and a conversation is cut before the turn that it was cut before
last, as long as that is within this quarter. The turn is known by a hash of its text, so that a conversation that is
counted a little differently, or loses a turn at its front (`max_runs`), keeps its cut.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from griptape_ollama.context.turns import Indices, to_turns

STEP = 0.25
"""Share of the budget by which more may be dropped than must be."""

_AT_FIRST = 0.875  # of that share: the rest is for counts that go down again

_HASHED = 300  # characters of each message that the place of the cut depends on


@dataclass(frozen=True)
class Trimmed:
    """What is left of a conversation.

    Attributes:
        messages: Messages that stay, in order.
        dropped: Messages that went, in order.
        dropped_tokens: Tokens of these.
        tokens: Tokens of what stays; more than the budget where no more may go.
        cuts: Hashes of the turns or exchanges before which it was cut.
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
    own: range | None = None,
    is_react: bool = False,
    drops_exchanges: bool = False,
    expects_more: bool = False,
    is_cut: Callable[[bytes], object] = lambda _: False,
) -> Trimmed:
    """Drop what must go for the rest to fit: the oldest turns, then a summary, then finished exchanges of the task.

    System messages, the task's input and its last exchange always stay; no turn and no exchange is ever halved.

    Args:
        messages: Chat messages, oldest first.
        sizes: Tokens of each.
        budget: Tokens that they may have together.
        own: Which of them belong to the task itself (its input and what followed it); None where that is not known:
            then it is the last turn.
        is_react: Whether tools are called in words.
        drops_exchanges: Whether exchanges of the task itself may go where nothing else is left.
        expects_more: Whether the task may go on with further exchanges. What is remembered then makes room for them
            ahead, a quarter of the budget at a time, so that the requests of a task begin alike.
        is_cut: Whether a conversation was cut before a turn or an exchange, which is given by its hash (`cuts`).
    """
    total = sum(sizes)
    if total <= budget:
        return Trimmed(list(messages), [], 0, total)
    turns = to_turns(messages, own=own, is_react=is_react)
    step = max(0.0, budget) * STEP
    gone: set[int] = set()
    cuts: list[bytes] = []
    groups = [turns.remembered, [turns.pinned] if turns.pinned else []]
    if drops_exchanges:
        groups.append(turns.exchanges[:-1])
    room = step - sum(sizes[index] for index in chain(*turns.exchanges)) % step if expects_more and step else 0.0
    for group in groups:
        excess = total - budget
        if excess <= 0:
            break
        if group is turns.remembered:
            excess += room
        hash_of = functools.partial(_hash, messages, group)
        count = _cut(hash_of, [sum(sizes[index] for index in indices) for indices in group], excess, step, is_cut)
        cuts += [hash_of(count)] if count < len(group) else []
        went = set(chain.from_iterable(group[:count]))
        total -= sum(sizes[index] for index in went)
        gone |= went
    return _without(messages, sizes, gone, tuple(cuts))


def _cut(
    hash_of: Callable[[int], bytes],
    sizes: Sequence[float],
    excess: float,
    step: float,
    is_cut: Callable[[bytes], object],
) -> int:
    """Choose how many of the oldest go: as many as must, and some more for the cut to stay where it was, or is now."""
    dropped = 0.0
    best = len(sizes)
    for place, size in enumerate(sizes):
        if dropped >= excess:
            if best < len(sizes) and dropped > excess + step:
                break
            if is_cut(hash_of(place)):
                return place
            if best == len(sizes) or dropped <= excess + step * _AT_FIRST:
                best = place
        dropped += size
    return best


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
