"""What a sequence of uses would have cost with a plain keep_alive, replayed without a server.

The rules are those of Ollama's scheduler (server 0.33, `server/sched.go`): a model leaves when it was idle for its
keep_alive; where room is short, an idle one is evicted, the shortest keep_alive first and then by the path of its
weights; when it was used last plays no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from griptape_ollama.lifecycle.eviction import Room

POLICIES: Mapping[str, float] = {"keep_alive default (5 min)": 300.0, "keep_alive=0": 0.0, "keep_alive=-1": math.inf}
"""The policies that a report compares with: seconds that a model stays by its name."""


@dataclass(frozen=True, kw_only=True)
class Use:
    """One request that a model answered.

    Attributes:
        model: What the model is known by.
        begin: When the request was sent, in seconds on any clock.
        end: When its reply was complete.
        load_seconds: How much of that was loading.
    """

    model: str
    begin: float
    end: float
    load_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a policy costs.

    Attributes:
        policy: Its name.
        loads: How often a model is loaded.
        load_seconds: How long that takes in all.
    """

    policy: str
    loads: int
    load_seconds: float


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of the models.

    Attributes:
        load_seconds: How long loading takes, by model.
        sizes: Bytes in memory, by model.
        present: Models that were loaded before the first use.
    """

    load_seconds: Mapping[str, float]
    sizes: Mapping[str, int]
    present: Sequence[str] = ()


def replay(uses: Iterable[Use], keep_alive: float, room: Room, known: Known, *, policy: str = "") -> Cost:
    """Let the uses pass by under a policy, one after the other, in the order in which they ended.

    The pauses between them, in which tools and other code run, stay as they were observed.

    Args:
        uses: What was observed.
        keep_alive: Seconds that a model stays after a reply; infinite for good.
        room: What fits into memory.
        known: What is known of the models.
        policy: Name of the policy.
    """
    clock = 0.0
    observed_end: float | None = None
    loads: list[float] = []
    idle_since = dict.fromkeys(known.present, 0.0)
    for use in sorted(uses, key=lambda each: each.end):
        if observed_end is not None:
            clock += max(use.begin - observed_end, 0.0)
        observed_end = max(use.end, observed_end or use.end)
        idle_since = {model: since for model, since in idle_since.items() if clock < since + keep_alive}
        if use.model not in idle_since:
            _evict(idle_since, room, use.model, known.sizes)
            loads.append(known.load_seconds.get(use.model, 0.0))
            clock += loads[-1]
        clock += max(use.end - use.begin - use.load_seconds, 0.0)
        idle_since[use.model] = clock
    return Cost(policy=policy, loads=len(loads), load_seconds=sum(loads))


def _evict(idle_since: dict[str, float], room: Room, wanted: str, sizes: Mapping[str, int]) -> None:
    while idle_since and not room.holds([sizes.get(model, 0) for model in (*idle_since, wanted)]):
        del idle_since[min(idle_since)]
