"""Loads models ahead, beside the tasks that run."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from griptape.artifacts import ErrorArtifact
from griptape.structures import Structure
from griptape.tasks import BaseTask

from griptape_ollama.lifecycle.eviction import Room
from griptape_ollama.lifecycle.graph import MEMORY_STEP
from griptape_ollama.lifecycle.keep_alive_replay import Use
from griptape_ollama.lifecycle.model_pool import Residence, Wanted
from griptape_ollama.lifecycle.progress import Progress
from griptape_ollama.lifecycle.report import LifecycleReport
from griptape_ollama.lifecycle.steps import KnownModel, KnownSteps
from griptape_ollama.lifecycle.structure_hooks import Answer, Watch
from griptape_ollama.lifecycle.usage import Ledger
from griptape_ollama.models.validators import checked
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.model_name import is_same_model

POLL_SECONDS = 0.1
"""How often it is looked whether the model of the running task is there, so that it is loaded first."""


class Warmer:
    """Runs the loading in threads of its own, until it is stopped."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, is_time: Callable[[], bool], work: Callable[[], None]) -> None:
        """Do something as soon as it is time.

        Args:
            is_time: Asked again and again; whatever it raises ends the waiting.
            work: What is done then.
        """

        def run() -> None:
            while not is_time():
                if self._stopped.wait(POLL_SECONDS):
                    return
            if not self._stopped.is_set():
                work()

        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            # A load is stopped with the structure that it is for.
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(run,), name="ollama-lifecycle-warmer", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, cancel: Callable[[], None]) -> None:
        """Stop, and wait for the end.

        Args:
            cancel: Stops work that is under way.
        """
        self._stopped.set()
        for thread in self._threads:
            # What was about to begin when the others were stopped needs to be stopped, too.
            while thread.is_alive():
                cancel()
                thread.join(POLL_SECONDS)


_logger = logging.getLogger("griptape_ollama.lifecycle")


class Planner:
    """Plans for a structure from `begin` to `end`, in the threads that run its tasks.

    Args:
        structure: The structure.
        room: What fits into the memory of each server.
        warm_ahead: Whether the next task's model is loaded while the current one runs.
        unload_foreign: Whether models that somebody else loaded may be unloaded.
        runs: How often the structure is going to run; None for any number of times.
        keep_alive: What requests have meanwhile.
        uses: Drivers that cannot be seen from outside, or what has them, by id of the task.

    Raises:
        OllamaContentError: `keep_alive` is not a duration.
    """

    def __init__(
        self,
        structure: Structure,
        room: Room,
        *,
        warm_ahead: bool,
        unload_foreign: bool,
        runs: int | None,
        keep_alive: Any,
        uses: Mapping[str, tuple[Any, ...]],
    ) -> None:
        self._structure = structure
        self._room = room
        self._warm_ahead = warm_ahead
        self._lock = threading.RLock()
        self._ledger = Ledger()
        self._progress = Progress(runs)
        self._warmer = Warmer()
        self._keep_alive = checked(lambda: normalize_keep_alive(keep_alive))
        self._steps = KnownSteps(structure, room, self._ledger, unload_foreign=unload_foreign, declared=uses)
        self._watch = Watch(structure, self, self._keep_alive_of)

    @property
    def report(self) -> LifecycleReport:
        """What happened so far."""
        return self._ledger.report(self._room)

    def begin(self) -> None:
        """Look what is there, and follow the structure from now on.

        Raises:
            OllamaContentError: A model does not fit into the memory.
        """
        with self._ledger.working():
            try:
                steps = self._steps.read()
            except Exception:
                # If the structure is at fault, it will say so itself when it runs.
                _logger.exception("The structure runs without a plan, since it cannot be read.")
                return
            self._steps.check_memory(steps, self._room.memory)
            self._watch.begin()

    def end(self) -> None:
        """Unload what is left, and put everything back as it was."""
        with contextlib.ExitStack() as stack:
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
            self._need(each for each in models if is_same_model(each.name, model))

    def tools_begin(self, task: BaseTask[Any] | None, names: list[str]) -> None:
        """Make room for the models of tools that are about to run."""
        if task is None:
            return
        with self._ledger.working():
            with self._lock:
                tools = self._steps.of(task).tools
            self._need(model for name in dict.fromkeys(names) for model in tools.get(name, ()))

    def answered(self, event: Answer) -> None:
        """Note a reply, and that its model was loaded for it, if so."""
        with self._ledger.working():
            model = self._steps.find(event.host, event.model)
            if model is None:
                return
            end = time.monotonic()
            begin = end - (event.total_seconds or 0.0)
            use = Use(model=model.key, begin=begin, end=end, load_seconds=event.load_seconds or 0.0)
            self._ledger.used(event.host, use)
            model.residence.answered(use, model.name)

    def _follow(self) -> None:
        """Take in tasks that were added since."""
        self._watch.follow()
        self._steps.read()

    def _keep_alive_of(self, host: str, model: str) -> Any:
        """Give what is sent in place of a driver's own keep_alive, which would work against the plan."""
        return self._keep_alive if self._steps.find(host, model) is not None else None

    def _need(self, models: Iterable[KnownModel]) -> None:
        for model in models:
            model.residence.need(model.key, model.options, lambda model=model: self._wanted(model.residence))

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
                residence.warm(model.key, model.name, self._keep_alive, model.options)
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
