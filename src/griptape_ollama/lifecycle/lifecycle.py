"""The planner, as users have it: a context in which a structure's models are in memory when they are needed."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from griptape.artifacts import ErrorArtifact
from griptape.structures import Structure
from griptape.tasks import BaseTask
from typing_extensions import Self

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.events import OllamaResponseEvent
from griptape_ollama.lifecycle.graph import MEMORY_STEP
from griptape_ollama.lifecycle.holding import HeldDrivers
from griptape_ollama.lifecycle.ledger import Ledger
from griptape_ollama.lifecycle.plan import Room
from griptape_ollama.lifecycle.policies import Use
from griptape_ollama.lifecycle.progress import Progress
from griptape_ollama.lifecycle.report import LifecycleReport
from griptape_ollama.lifecycle.residence import Residence, Wanted
from griptape_ollama.lifecycle.steps import KnownModel, KnownSteps
from griptape_ollama.lifecycle.warming import Warmer
from griptape_ollama.lifecycle.watching import Watch
from griptape_ollama.models.server import OllamaServerMixin

_logger = logging.getLogger("griptape_ollama.lifecycle")


class ModelLifecycle:
    """Keeps each model of a structure loaded for exactly as long as a coming task needs it.

    A model is unloaded right after its last use. Where room is short, the idle model whose next use is farthest away
    makes room, never one that a running task uses. Models that somebody else had loaded stay. Whatever is wrong with
    the planning, the structure runs on without it.

    ```python
    with ModelLifecycle(pipeline, max_models=1) as lifecycle:
        pipeline.run("...")
    print(lifecycle.report)
    ```

    Meanwhile the structure's drivers send `keep_alive` in place of their own, which would work against the plan; it is
    put back at the end.

    Args:
        structure: An Agent, a Pipeline, a Workflow or another Griptape Structure.
        max_models: How many models fit into the memory of each server at a time (`OLLAMA_MAX_LOADED_MODELS` of the
            server); None for any number.
        memory: Bytes that models may take on each server; None for any number.
        warm_ahead: Whether the model that the next task opens with is loaded while the current task runs, if there is
            room for both.
        unload_foreign: Whether models that somebody else loaded are treated like the structure's own.
        runs: How often the structure is going to run in the context; None for any number of times, so that nothing is
            unloaded before the end but to make room.
        keep_alive: What the drivers send meanwhile. Not "for good", so that models leave some time if the process is
            killed.
        uses: Drivers that cannot be seen from outside, by id of the task that uses them: those in functions, and in
            structures that functions make.

    Attributes:
        report: What happened so far.

    Raises:
        OllamaContentError: A setting is wrong; or, when the context is entered, `memory` is less than one of the models
            needs.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        max_models: int | None = None,
        memory: int | None = None,
        warm_ahead: bool = False,
        unload_foreign: bool = False,
        runs: int | None = 1,
        keep_alive: Any = "1h",
        uses: Mapping[str, Iterable[OllamaServerMixin]] | None = None,
    ) -> None:
        if not isinstance(structure, Structure):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OllamaContentError(f"structure must be an Agent, a Pipeline or a Workflow, got {structure!r}")
        for name, value in (("max_models", max_models), ("memory", memory), ("runs", runs)):
            _check_count(name, value)
        self._structure = structure
        self._room = Room(max_models=max_models, memory=memory)
        self._warm_ahead = warm_ahead
        self._unload_foreign = unload_foreign
        self._runs = runs
        self._held = HeldDrivers(keep_alive)
        self._uses = {task: tuple(drivers) for task, drivers in (uses or {}).items()}
        self._lock = threading.RLock()
        self._is_entered = False
        self._start_afresh()

    @property
    def report(self) -> LifecycleReport:
        """What happened so far, as data that also prints as a table."""
        return self._ledger.report(self._room)

    def __enter__(self) -> Self:
        if self._is_entered:
            raise OllamaContentError("This ModelLifecycle is in use already: make another one for another run.")
        self._start_afresh()
        with self._ledger.working():
            steps = self._steps.read()
            self._steps.check_memory(self._room.memory)
            self._is_entered = True
            self._held.hold(driver for step in steps for driver in step.drivers)
            self._watch.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(setattr, self, "_is_entered", False)
            stack.callback(self._held.release)
            stack.callback(self._unload_all)
            stack.callback(self._warmer.stop, self._steps.cancel)
            stack.callback(self._watch.end)

    def run_begins(self) -> None:
        """Note that the structure begins to run."""
        with self._ledger.working(), self._lock:
            self._steps.forget_tasks()
            self._progress.begin_run()
            self._follow()

    def run_ends(self) -> None:
        """Note that the structure has run; nothing of this run is still to come."""
        with self._ledger.working():
            with self._lock:
                if MEMORY_STEP in self._progress.running:
                    self._progress.end(MEMORY_STEP)
                self._progress.end_run()
            self._release()

    def task_begins(self, task: BaseTask[Any]) -> None:
        """Make room for the models that a task asks in any case, and load ahead what comes next."""
        with self._ledger.working():
            with self._lock:
                self._steps.forget_task(task)
                self._progress.begin(task.id)
                self._follow()
                step = self._steps.of(task)
            self._need(step.own)
            self._load_ahead()

    def task_ends(self, task: BaseTask[Any]) -> None:
        """Unload what nobody needs any more."""
        with self._ledger.working():
            self._ledger.ran()
            with self._lock:
                step = self._steps.of(task)
                self._progress.end(task.id)
                if self._structure.fail_fast and isinstance(task.output, ErrorArtifact):
                    self._progress.end_run()
                self._follow()
            for residence in {model.residence for model in step.models}:
                residence.look_for(model.key for model in step.models if model.residence is residence)
            self._release()
            self._load_ahead()

    def prompt_begins(self, task: BaseTask[Any] | None, model: str) -> None:
        """Make room for a model that is about to be asked."""
        with self._ledger.working():
            with self._lock:
                if task is not None:
                    models = self._steps.of(task).models
                else:
                    models = self._steps.of_memory()
                    if models and MEMORY_STEP not in self._progress.running:
                        self._progress.begin(MEMORY_STEP)
            self._need(each for each in models if each.name == model)

    def tools_begin(self, task: BaseTask[Any] | None, names: list[str]) -> None:
        """Make room for the models of tools that are about to run."""
        if task is None:
            return
        with self._ledger.working():
            with self._lock:
                tools = self._steps.of(task).tools
            self._need(model for name in dict.fromkeys(names) for model in tools.get(name, ()))

    def answered(self, event: OllamaResponseEvent) -> None:
        """Note a reply, and that its model was loaded for it, if so."""
        with self._ledger.working():
            model = self._steps.find(event.host, event.model)
            if model is None:
                return
            end = time.monotonic()
            load_seconds = event.load_seconds or 0.0
            begin = end - (event.total_seconds or 0.0)
            self._ledger.used(event.host, Use(model=model.key, begin=begin, end=end, load_seconds=load_seconds))
            model.residence.answered(model.key, model.name, event.load_seconds)

    def _start_afresh(self) -> None:
        self._ledger = Ledger()
        self._progress = Progress(self._runs)
        self._warmer = Warmer()
        self._steps = KnownSteps(
            self._structure, self._room, self._ledger, unload_foreign=self._unload_foreign, declared=self._uses
        )
        self._watch = Watch(self._structure, self)

    def _follow(self) -> None:
        """Take in tasks that were added since."""
        self._watch.follow()
        self._held.hold(driver for step in self._steps.read() for driver in step.drivers)

    def _need(self, models: Iterable[KnownModel]) -> None:
        for model in models:
            model.residence.need(model.key, lambda model=model: self._wanted(model.residence))

    def _release(self) -> None:
        for residence in self._steps.residences:
            residence.release(lambda residence=residence: self._wanted(residence))

    def _wanted(self, residence: Residence) -> Wanted:
        with self._lock:
            return Wanted(
                coming=self._progress.coming(self._steps.plan(residence)),
                busy=self._steps.models_of(residence, self._progress.running),
            )

    def _load_ahead(self) -> None:
        if not self._warm_ahead:
            return
        for residence in self._steps.residences:
            with self._lock:
                running = self._progress.running
                busy = self._steps.models_of(residence, running)
                ahead = self._progress.next_steps(self._steps.plan(residence))
                first = self._steps.openings(residence, running)
                openings: dict[str, int] = {}
                models = self._steps.openings(residence, ahead)
                for step, model in models.items():
                    openings[model.key] = min(ahead[step], openings.get(model.key, ahead[step]))
            chosen = residence.next_to_warm(openings, busy) if running else None
            if chosen is not None:
                model = next(model for model in models.values() if model.key == chosen)
                self._warm(model, first)

    def _warm(self, model: KnownModel, first: Mapping[str, KnownModel]) -> None:
        """Load a model beside the running tasks, once their own models are there."""
        residence = model.residence

        def is_time() -> bool:
            with self._lock:
                running = self._progress.running
            waiting = [each.key for step, each in first.items() if step in running]
            residence.look_for(waiting)
            return all(residence.is_there(key) for key in waiting)

        def load() -> None:
            wanted = self._wanted(residence)
            if model.key in wanted.coming or model.key in wanted.busy:
                residence.warm(model.key, model.name, self._held.keep_alive, model.options)
            else:
                residence.give_up(model.key)

        self._warmer.start(is_time, load)

    def _unload_all(self) -> None:
        try:
            with self._ledger.working():
                for residence in self._steps.residences:
                    residence.release(lambda: Wanted(coming={}, busy=()))
        except Exception:
            # What the structure answered must not be lost for this.
            _logger.exception("Models may still be loaded, since the planner failed.")


def _check_count(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise OllamaContentError(f"{name}={value!r} must be a whole number from 1, or None for any")
