"""Records what happens to the models of a structure: uses, loads, unloads, and the time that scheduling takes."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field

from griptape_ollama.lifecycle.eviction import MemoryLimits
from griptape_ollama.lifecycle.keep_alive_replay import (
    KEEP_ALIVE_POLICIES,
    ModelFigures,
    PolicyCost,
    RecordedUse,
    replay_keep_alive,
)
from griptape_ollama.lifecycle.report import LifecycleReport, ModelReport


@dataclass
class _RequestTime:
    """Seconds, and CPU seconds, that requests took within scheduling work that is being measured."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0


_request_time: contextvars.ContextVar[_RequestTime | None] = contextvars.ContextVar("request_time", default=None)


@dataclass
class ModelLoad:
    """One load of a model.

    Attributes:
        seconds: How long it took; None if that was not measured.
        is_ahead: Whether other tasks ran meanwhile.
    """

    seconds: float | None = None
    is_ahead: bool = False


@dataclass
class _ModelUsage:
    name: str
    uses: list[RecordedUse] = field(default_factory=list[RecordedUse])
    loads: list[ModelLoad] = field(default_factory=list[ModelLoad])
    unloads: int = 0
    evictions: int = 0
    size: int = 0
    was_present: bool = False


class UsageRecorder:
    """Counts for all servers, from any thread. A model is identified by the address of its server and its key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[tuple[str, str], _ModelUsage] = {}
        self._peak_bytes = 0
        self._tasks = 0
        self._scheduling_seconds = 0.0
        self._request_seconds = 0.0
        self._problems: dict[str, None] = {}

    def add_model(self, host: str, model: str, name: str) -> None:
        """Add a model of the structure, unless it is there."""
        with self._lock:
            self._models.setdefault((host, model), _ModelUsage(name))

    def record_use(self, host: str, use: RecordedUse) -> None:
        """Record a reply of a model."""
        with self._lock:
            self._models[host, use.model].uses.append(use)

    def record_load(self, host: str, model: str, load: ModelLoad) -> None:
        """Record a load of a model."""
        with self._lock:
            self._models[host, model].loads.append(load)

    def record_unload(self, host: str, model: str, *, is_eviction: bool) -> None:
        """Record that the scheduler unloaded a model."""
        with self._lock:
            usage = self._models.get((host, model))
            if usage is not None:
                usage.unloads += 1
                usage.evictions += is_eviction

    def record_memory(self, host: str, sizes: Mapping[str, int]) -> None:
        """Record what is loaded on a server: bytes by model, foreign models included."""
        with self._lock:
            self._peak_bytes = max(self._peak_bytes, sum(sizes.values()))
            for model, size in sizes.items():
                if (host, model) in self._models:
                    self._models[host, model].size = size

    def record_present(self, host: str, model: str) -> None:
        """Record that a model of the structure was loaded by another client before."""
        with self._lock:
            self._models[host, model].was_present = True

    def record_task(self) -> None:
        """Record that a task ran."""
        with self._lock:
            self._tasks += 1

    def record_problem(self, text: str) -> bool:
        """Record what went wrong; return whether it is new."""
        with self._lock:
            is_new = text not in self._problems
            self._problems[text] = None
            return is_new

    @contextlib.contextmanager
    def measuring_schedule(self) -> Generator[None, None, None]:
        """Measure scheduling work, apart from the requests in it."""
        if _request_time.get() is not None:
            yield
            return
        requests = _RequestTime()
        token = _request_time.set(requests)
        began = time.thread_time()
        try:
            yield
        finally:
            cpu_seconds = time.thread_time() - began
            _request_time.reset(token)
            with self._lock:
                self._scheduling_seconds += cpu_seconds - requests.cpu_seconds
                self._request_seconds += requests.seconds

    @contextlib.contextmanager
    def measuring_request(self) -> Generator[None, None, None]:
        """Measure a request within scheduling work, or a wait for one."""
        requests = _request_time.get()
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            if requests is not None:
                requests.seconds += time.perf_counter() - began
                requests.cpu_seconds += time.thread_time() - cpu_began

    def report(self, limits: MemoryLimits) -> LifecycleReport:
        """Return everything so far.

        Args:
            limits: What fits into the memory of each server.
        """
        with self._lock:
            models = dict(self._models)
            return LifecycleReport(
                models=tuple(_model_report(host, usage) for (host, _), usage in models.items()),
                policies=tuple(
                    _policy_cost(policy, keep_alive, models, limits)
                    for policy, keep_alive in KEEP_ALIVE_POLICIES.items()
                ),
                peak_bytes=self._peak_bytes,
                ahead_seconds=sum(
                    load.seconds or 0.0 for usage in models.values() for load in usage.loads if load.is_ahead
                ),
                tasks=self._tasks,
                planner_seconds=self._scheduling_seconds,
                request_seconds=self._request_seconds,
                problems=tuple(self._problems),
            )


def _model_report(host: str, usage: _ModelUsage) -> ModelReport:
    return ModelReport(
        model=usage.name,
        host=host,
        uses=len(usage.uses),
        loads=len(usage.loads),
        load_seconds=sum(load.seconds or 0.0 for load in usage.loads),
        unloads=usage.unloads,
        evictions=usage.evictions,
        bytes=usage.size,
        was_loaded_before=usage.was_present,
    )


def _policy_cost(
    policy: str, keep_alive: float, models: Mapping[tuple[str, str], _ModelUsage], limits: MemoryLimits
) -> PolicyCost:
    """Replay a policy on each server, and return the sums."""
    costs: list[PolicyCost] = []
    for host in dict.fromkeys(host for host, _ in models):
        own = {model: usage for (each, model), usage in models.items() if each == host}
        measured = {
            model: [load.seconds for load in usage.loads if load.seconds is not None] for model, usage in own.items()
        }
        figures = ModelFigures(
            load_seconds={model: sum(seconds) / len(seconds) for model, seconds in measured.items() if seconds},
            sizes={model: usage.size for model, usage in own.items()},
            present=[model for model, usage in own.items() if usage.was_present],
        )
        uses = [use for usage in own.values() for use in usage.uses]
        costs.append(replay_keep_alive(uses, keep_alive, limits, figures))
    loads, load_seconds = sum(cost.loads for cost in costs), sum(cost.load_seconds for cost in costs)
    return PolicyCost(policy=policy, loads=loads, load_seconds=load_seconds)
