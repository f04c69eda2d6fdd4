"""Which models to unload, which to evict, which to load ahead: decisions only, about one server, without any I/O.

A distance is how many steps have to begin before a model is used again; 1 is the very next step. Between models that a
new one may replace, the one whose next use is farthest away goes (Belady, "A study of replacement algorithms for a
virtual-storage computer", 1966): with models of equal size and steps in sequence no other choice loads less often.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that is going to run, and uses models while it does.

    Attributes:
        id: What it is known by.
        models: Models that it may use.
        after: Steps that have to end before it begins.
    """

    id: str
    models: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Resident:
    """A model in memory, or on its way there.

    Attributes:
        model: What it is known by.
        size: Bytes that it takes; 0 where unknown.
        is_busy: Whether a step that runs may use it.
        is_movable: Whether it may be unloaded.
    """

    model: str
    size: int = 0
    is_busy: bool = False
    is_movable: bool = True


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much fits into memory.

    Attributes:
        max_models: Number of models; None for any.
        memory: Bytes of all models; None for any.
    """

    max_models: int | None = None
    memory: int | None = None

    def holds(self, sizes: Collection[int]) -> bool:
        """Whether models of these sizes fit together."""
        return (self.max_models is None or len(sizes) <= self.max_models) and (
            self.memory is None or sum(sizes) <= self.memory
        )


@dataclass(frozen=True, kw_only=True)
class Eviction:
    """What has to go before a model comes.

    Attributes:
        models: Models to unload, the one that is needed last first.
        is_enough: Whether there is room then. Where not, the rest is in use or not ours, and the server has to see.
    """

    models: tuple[str, ...] = ()
    is_enough: bool = True


def distances(steps: Iterable[Step], begun: Collection[str] = ()) -> dict[str, int]:
    """Give how far away each step is that has not begun.

    Args:
        steps: All steps, in any order.
        begun: Those that have begun; they are no longer in the way of others.
    """
    waiting = {step.id: step for step in steps if step.id not in begun}
    parents = {step.id: [each for each in step.after if each in waiting] for step in waiting.values()}
    found: dict[str, int] = {}
    for step_id in TopologicalSorter(parents).static_order():
        found[step_id] = 1 + max((found[parent] for parent in parents[step_id]), default=0)
    return found


def next_uses(steps: Sequence[Step], begun: Collection[str] = (), *, again: bool = False) -> dict[str, int]:
    """Give the distance of the next use of each model; models that nobody needs any more are not in it.

    Args:
        steps: All steps, in any order.
        begun: Those that have begun.
        again: Whether all of them come once more when they are done.
    """
    ahead = distances(steps, begun)
    uses = [(ahead[step.id], step) for step in steps if step.id in ahead]
    if again:
        offset = max(ahead.values(), default=0)
        once_more = distances(steps)
        uses += [(offset + once_more[step.id], step) for step in steps]
    found: dict[str, int] = {}
    for distance, step in uses:
        for model in step.models:
            found[model] = min(distance, found.get(model, distance))
    return found


def no_longer_needed(residents: Iterable[Resident], coming: Mapping[str, int]) -> tuple[str, ...]:
    """Name the models whose last use is over.

    Args:
        residents: What is in memory.
        coming: Distances of the next uses.
    """
    return tuple(each.model for each in residents if each.is_movable and not each.is_busy and each.model not in coming)


def make_room(
    residents: Iterable[Resident], coming: Mapping[str, int], room: Room, wanted: str, size: int = 0
) -> Eviction:
    """Choose what has to go before a model comes: what is idle and needed last, and no more than has to.

    Args:
        residents: What is in memory.
        coming: Distances of the next uses.
        room: What fits.
        wanted: The model that comes.
        size: Bytes that it takes; 0 where unknown.
    """
    staying = {each.model: each.size for each in residents if each.model != wanted}
    idle = [each for each in residents if each.is_movable and not each.is_busy and each.model != wanted]
    idle.sort(key=lambda each: (coming.get(each.model, math.inf), each.size, each.model), reverse=True)
    evicted: list[Resident] = []
    for each in idle:
        if room.holds([*staying.values(), size]):
            break
        evicted.append(each)
        del staying[each.model]
    # With models of several sizes, one that went early may fit beside a larger one that had to go later.
    for each in reversed(evicted[:-1]):
        if room.holds([*staying.values(), each.size, size]):
            evicted.remove(each)
            staying[each.model] = each.size
    return Eviction(models=tuple(each.model for each in evicted), is_enough=room.holds([*staying.values(), size]))


def next_to_warm(
    residents: Iterable[Resident], openings: Mapping[str, int], room: Room, sizes: Mapping[str, int]
) -> str | None:
    """Choose the model to load while others work: one that the very next steps open with, if there is room as it is.

    Nothing is evicted for it: what the steps that run now leave behind may be the better choice.

    Args:
        residents: What is in memory.
        openings: Distances of the next steps that ask a model first of all, by model.
        room: What fits.
        sizes: Bytes that models take, as far as known.
    """
    present = {each.model: each.size for each in residents}
    nearest = sorted(model for model, distance in openings.items() if distance == 1 and model not in present)
    return next((model for model in nearest if room.holds([*present.values(), sizes.get(model, 0)])), None)
