"""What happened while models were kept in memory: uses, loads, unloads, and the time that planning took."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field

from griptape_ollama.lifecycle.eviction import Room
from griptape_ollama.lifecycle.keep_alive_replay import POLICIES, Cost, Known, Use, replay
from griptape_ollama.lifecycle.report import LifecycleReport, ModelReport


@dataclass
class _Spent:
    """What requests took, of work that is under way: seconds, and seconds of the processor."""

    seconds: float = 0.0
    cpu: float = 0.0


_asked: contextvars.ContextVar[_Spent | None] = contextvars.ContextVar("asked", default=None)


@dataclass
class Load:
    """One time that a model was loaded.

    Attributes:
        seconds: How long it took; None where nobody measured it.
        is_ahead: Whether other tasks ran meanwhile.
    """

    seconds: float | None = None
    is_ahead: bool = False


@dataclass
class _Entry:
    name: str
    uses: list[Use] = field(default_factory=list[Use])
    loads: list[Load] = field(default_factory=list[Load])
    unloads: int = 0
    evictions: int = 0
    size: int = 0
    was_present: bool = False


class Ledger:
    """Keeps count, for all servers and from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._peak = 0
        self._tasks = 0
        self._planning = 0.0
        self._asking = 0.0
        self._problems: dict[str, None] = {}

    def know(self, host: str, model: str, name: str) -> None:
        """Open an entry for a model of a structure."""
        with self._lock:
            self._entries.setdefault((host, model), _Entry(name))

    def used(self, host: str, use: Use) -> None:
        """Note a reply."""
        with self._lock:
            self._entries[host, use.model].uses.append(use)

    def loaded(self, host: str, model: str, load: Load) -> None:
        """Note that a model was loaded."""
        with self._lock:
            self._entries[host, model].loads.append(load)

    def unloaded(self, host: str, model: str, *, to_make_room: bool) -> None:
        """Note that a model was unloaded."""
        with self._lock:
            entry = self._entries.get((host, model))
            if entry is not None:
                entry.unloads += 1
                entry.evictions += to_make_room

    def saw(self, host: str, sizes: Mapping[str, int]) -> None:
        """Note what is in memory of a server: bytes by model, those of others included."""
        with self._lock:
            self._peak = max(self._peak, sum(sizes.values()))
            for model, size in sizes.items():
                if (host, model) in self._entries:
                    self._entries[host, model].size = size

    def was_present(self, host: str, models: Iterable[str]) -> None:
        """Note what was loaded before."""
        with self._lock:
            for model in models:
                if (host, model) in self._entries:
                    self._entries[host, model].was_present = True

    def ran(self) -> None:
        """Note that a task ran."""
        with self._lock:
            self._tasks += 1

    def problem(self, text: str) -> bool:
        """Note what went wrong; give whether it is news."""
        with self._lock:
            is_new = text not in self._problems
            self._problems[text] = None
            return is_new

    @contextlib.contextmanager
    def working(self) -> Generator[None, None, None]:
        """Measure work of the planner, apart from the requests in it."""
        if _asked.get() is not None:
            yield
            return
        spent = _Spent()
        token = _asked.set(spent)
        began = time.thread_time()
        try:
            yield
        finally:
            seconds = time.thread_time() - began
            _asked.reset(token)
            with self._lock:
                self._planning += seconds - spent.cpu
                self._asking += spent.seconds

    @contextlib.contextmanager
    def asking(self) -> Generator[None, None, None]:
        """Measure a request of the planner, or a wait for one."""
        spent = _asked.get()
        began, cpu_began = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            if spent is not None:
                spent.seconds += time.perf_counter() - began
                spent.cpu += time.thread_time() - cpu_began

    def report(self, room: Room) -> LifecycleReport:
        """Add everything up.

        Args:
            room: What fits into the memory of each server.
        """
        with self._lock:
            entries = dict(self._entries)
            return LifecycleReport(
                models=tuple(_model_report(host, entry) for (host, _), entry in entries.items()),
                policies=tuple(_cost(policy, keep_alive, entries, room) for policy, keep_alive in POLICIES.items()),
                peak_bytes=self._peak,
                ahead_seconds=sum(
                    load.seconds or 0.0 for entry in entries.values() for load in entry.loads if load.is_ahead
                ),
                tasks=self._tasks,
                planner_seconds=self._planning,
                request_seconds=self._asking,
                problems=tuple(self._problems),
            )


def _model_report(host: str, entry: _Entry) -> ModelReport:
    return ModelReport(
        model=entry.name,
        host=host,
        uses=len(entry.uses),
        loads=len(entry.loads),
        load_seconds=sum(load.seconds or 0.0 for load in entry.loads),
        unloads=entry.unloads,
        evictions=entry.evictions,
        bytes=entry.size,
        was_loaded_before=entry.was_present,
    )


def _cost(policy: str, keep_alive: float, entries: Mapping[tuple[str, str], _Entry], room: Room) -> Cost:
    """Replay a policy on each server, and add it up."""
    costs = [_cost_of_host(host, keep_alive, entries, room) for host in dict.fromkeys(host for host, _ in entries)]
    return Cost(
        policy=policy, loads=sum(cost.loads for cost in costs), load_seconds=sum(cost.load_seconds for cost in costs)
    )


def _cost_of_host(host: str, keep_alive: float, entries: Mapping[tuple[str, str], _Entry], room: Room) -> Cost:
    own = {model: entry for (each, model), entry in entries.items() if each == host}
    measured = {
        model: [load.seconds for load in entry.loads if load.seconds is not None] for model, entry in own.items()
    }
    known = Known(
        load_seconds={model: sum(seconds) / len(seconds) for model, seconds in measured.items() if seconds},
        sizes={model: entry.size for model, entry in own.items()},
        present=[model for model, entry in own.items() if entry.was_present],
    )
    return replay([use for entry in own.values() for use in entry.uses], keep_alive, room, known)
