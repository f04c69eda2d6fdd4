"""Which models to unload, to evict and to preload on one server: pure decisions without I/O.

A distance counts the steps that have to begin before a model is used again; 1 is the very next step. Among the models
that a new one may replace, the one whose next use is farthest away is evicted (Belady, "A study of replacement
algorithms for a virtual-storage computer", 1966): with models of equal size and steps in sequence no other choice loads
less often.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter


@dataclass(frozen=True, kw_only=True)
class Step:
    """A task, or the conversation memory, that uses models while it runs.

    Attributes:
        id: Its id.
        models: Keys of the models that it may use.
        after: Ids of the steps that have to end before it begins.
    """

    id: str
    models: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class EvictionCandidate:
    """A model that is in memory or about to be loaded, whether or not it may be evicted.

    Attributes:
        model: Its key.
        size: Bytes in memory; 0 where unknown.
        is_busy: Whether a running step may use it.
        is_evictable: Whether it may be unloaded.
    """

    model: str
    size: int = 0
    is_busy: bool = False
    is_evictable: bool = True


@dataclass(frozen=True, kw_only=True)
class MemoryLimits:
    """How much fits into the memory of one server.

    Attributes:
        max_models: Number of models; None for no limit.
        memory: Bytes of all models together; None for no limit.
    """

    max_models: int | None = None
    memory: int | None = None

    def allow(self, sizes: Collection[int]) -> bool:
        """Whether models of these sizes fit together."""
        return (self.max_models is None or len(sizes) <= self.max_models) and (
            self.memory is None or sum(sizes) <= self.memory
        )


@dataclass(frozen=True, kw_only=True)
class EvictionPlan:
    """What to unload before a model is loaded.

    Attributes:
        models: Models to unload, the one with the farthest next use first.
        is_enough: Whether the new model fits then. If not, the remaining models are busy or must not be unloaded, and
            the server decides.
    """

    models: tuple[str, ...] = ()
    is_enough: bool = True


def step_distances(steps: Iterable[Step], begun: Collection[str] = ()) -> dict[str, int]:
    """Return the distance of each step that has not begun.

    Args:
        steps: All steps, in any order.
        begun: Ids of the steps that have begun; no step waits for them any more.
    """
    waiting = {step.id: step for step in steps if step.id not in begun}
    parents = {step.id: [each for each in step.after if each in waiting] for step in waiting.values()}
    distances: dict[str, int] = {}
    for step_id in TopologicalSorter(parents).static_order():
        distances[step_id] = 1 + max((distances[parent] for parent in parents[step_id]), default=0)
    return distances


def next_use_distances(steps: Sequence[Step], begun: Collection[str] = (), *, again: bool = False) -> dict[str, int]:
    """Return the distance of the next use of each model that is used again.

    Args:
        steps: All steps, in any order.
        begun: Ids of the steps that have begun.
        again: Whether all steps run once more after this run.
    """
    ahead = step_distances(steps, begun)
    uses = [(ahead[step.id], step) for step in steps if step.id in ahead]
    if again:
        offset = max(ahead.values(), default=0)
        next_run = step_distances(steps)
        uses += [(offset + next_run[step.id], step) for step in steps]
    distances: dict[str, int] = {}
    for distance, step in uses:
        for model in step.models:
            distances[model] = min(distance, distances.get(model, distance))
    return distances


def choose_unloads(candidates: Iterable[EvictionCandidate], next_uses: Mapping[str, int]) -> tuple[str, ...]:
    """Return the models whose last use is over.

    Args:
        candidates: Models in memory.
        next_uses: Distances of the next uses, by model.
    """
    return tuple(
        each.model for each in candidates if each.is_evictable and not each.is_busy and each.model not in next_uses
    )


def choose_evictions(
    candidates: Iterable[EvictionCandidate],
    next_uses: Mapping[str, int],
    limits: MemoryLimits,
    wanted: str,
    size: int = 0,
) -> EvictionPlan:
    """Choose the idle models with the farthest next uses to unload before a model is loaded, and no more than needed.

    Args:
        candidates: Models in memory.
        next_uses: Distances of the next uses, by model.
        limits: What fits.
        wanted: The model to load.
        size: Bytes that it takes; 0 where unknown.
    """
    staying = {each.model: each.size for each in candidates if each.model != wanted}
    idle = [each for each in candidates if each.is_evictable and not each.is_busy and each.model != wanted]
    idle.sort(key=lambda each: (next_uses.get(each.model, math.inf), each.size, each.model), reverse=True)
    evicted: list[EvictionCandidate] = []
    for each in idle:
        if limits.allow([*staying.values(), size]):
            break
        evicted.append(each)
        del staying[each.model]
    # With models of several sizes, one that was evicted early may fit beside a larger one that was evicted later.
    for each in reversed(evicted[:-1]):
        if limits.allow([*staying.values(), each.size, size]):
            evicted.remove(each)
            staying[each.model] = each.size
    is_enough = limits.allow([*staying.values(), size])
    return EvictionPlan(models=tuple(each.model for each in evicted), is_enough=is_enough)


def choose_preload(
    candidates: Iterable[EvictionCandidate],
    first_uses: Mapping[str, int],
    limits: MemoryLimits,
    sizes: Mapping[str, int],
) -> str | None:
    """Choose a model to load while other tasks run: one that a very next step uses first, if it fits as things are.

    Nothing is evicted for it: what the running steps leave behind may be the better choice.

    Args:
        candidates: Models in memory.
        first_uses: Distances of the next steps that use a model first of all, by model.
        limits: What fits.
        sizes: Bytes that models take, as far as known.
    """
    present = {each.model: each.size for each in candidates}
    nearest = sorted(model for model, distance in first_uses.items() if distance == 1 and model not in present)
    return next((model for model in nearest if limits.allow([*present.values(), sizes.get(model, 0)])), None)
