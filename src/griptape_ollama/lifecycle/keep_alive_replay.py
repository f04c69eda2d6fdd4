"""What a sequence of uses would have cost with a plain keep_alive, replayed without a server.

The rules are those of Ollama's scheduler (server 0.33, `server/sched.go`): a model is unloaded when it was idle for its
keep_alive; where memory is short, an idle one is evicted, the one with the shortest keep_alive first and then by the
path of its weights; the time of the last use does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from griptape_ollama.lifecycle.eviction import MemoryLimits

KEEP_ALIVE_POLICIES: Mapping[str, float] = {
    "keep_alive default (5 min)": 300.0,
    "keep_alive=0": 0.0,
    "keep_alive=-1": math.inf,
}
"""The policies that a report compares with: name, and seconds that a model stays."""


@dataclass(frozen=True, kw_only=True)
class RecordedUse:
    """One request that a model answered.

    Attributes:
        model: Key of the model.
        begin: When the request was sent, in seconds on any clock.
        end: When its reply was complete.
        load_seconds: How much of that was loading.
    """

    model: str
    begin: float
    end: float
    load_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PolicyCost:
    """What a policy costs.

    Attributes:
        policy: Its name.
        loads: Number of loads.
        load_seconds: Seconds that they take in all.
    """

    policy: str
    loads: int
    load_seconds: float


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """What was measured of the models.

    Attributes:
        load_seconds: How long loading takes, by model.
        sizes: Bytes in memory, by model.
        present: Models that were loaded before the first use.
    """

    load_seconds: Mapping[str, float]
    sizes: Mapping[str, int]
    present: Sequence[str] = ()


def replay_keep_alive(
    uses: Iterable[RecordedUse], keep_alive: float, limits: MemoryLimits, figures: ModelFigures, *, policy: str = ""
) -> PolicyCost:
    """Replay the uses under a policy, one after the other, in the order in which they ended.

    The pauses between them, in which tools and other code run, stay as they were observed.

    Args:
        uses: What was observed.
        keep_alive: Seconds that a model stays after a reply; infinite for good.
        limits: What fits into memory.
        figures: What was measured of the models.
        policy: Name of the policy.
    """
    clock = 0.0
    observed_end: float | None = None
    loads: list[float] = []
    idle_since = dict.fromkeys(figures.present, 0.0)
    for use in sorted(uses, key=lambda each: each.end):
        if observed_end is not None:
            clock += max(use.begin - observed_end, 0.0)
        observed_end = max(use.end, observed_end or use.end)
        idle_since = {model: since for model, since in idle_since.items() if clock < since + keep_alive}
        if use.model not in idle_since:
            _evict(idle_since, limits, use.model, figures.sizes)
            loads.append(figures.load_seconds.get(use.model, 0.0))
            clock += loads[-1]
        clock += max(use.end - use.begin - use.load_seconds, 0.0)
        idle_since[use.model] = clock
    return PolicyCost(policy=policy, loads=len(loads), load_seconds=sum(loads))


def _evict(idle_since: dict[str, float], limits: MemoryLimits, wanted: str, sizes: Mapping[str, int]) -> None:
    while idle_since and not limits.allow([sizes.get(model, 0) for model in (*idle_since, wanted)]):
        del idle_since[min(idle_since)]
