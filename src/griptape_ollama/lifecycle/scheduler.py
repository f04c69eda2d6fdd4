"""Unloads, evicts and preloads models while a structure runs, in the threads that run its tasks."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from griptape.artifacts import ErrorArtifact
from griptape.structures import Structure
from griptape.tasks import BaseTask

from griptape_ollama.lifecycle.eviction import MemoryLimits, Step, next_use_distances, step_distances
from griptape_ollama.lifecycle.graph import MEMORY_STEP, ModelGraph, PlannedModel
from griptape_ollama.lifecycle.keep_alive_replay import RecordedUse
from griptape_ollama.lifecycle.model_pool import ModelDemand, ModelPool
from griptape_ollama.lifecycle.report import LifecycleReport
from griptape_ollama.lifecycle.structure_hooks import ModelResponse, StructureHooks
from griptape_ollama.lifecycle.usage import UsageRecorder
from griptape_ollama.models.validators import checked
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.model_name import is_same_model

POLL_SECONDS = 0.1
"""How often a preload checks whether the model of the running task is loaded, which is loaded first."""

_logger = logging.getLogger("griptape_ollama.lifecycle")


class Preloader:
    """Runs preloads in threads, until it is stopped."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    def start(self, is_time: Callable[[], bool], load: Callable[[], None]) -> None:
        """Call `load` as soon as `is_time()` is true; an exception of it ends the wait."""

        def run() -> None:
            while not is_time():
                if self._stopped.wait(POLL_SECONDS):
                    return
            if not self._stopped.is_set():
                load()

        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            # The context has the cancel scope of the structure: a load is cancelled with it.
            context = contextvars.copy_context()
            thread = threading.Thread(target=context.run, args=(run,), name="ollama-lifecycle-preload", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self, cancel: Callable[[], None]) -> None:
        """Stop, and wait for the end of all threads; `cancel` cancels loads that are under way."""
        self._stopped.set()
        for thread in self._threads:
            # A load may begin after the first cancel: cancel until the thread ends.
            while thread.is_alive():
                cancel()
                thread.join(POLL_SECONDS)


class RunProgress:
    """Which steps have begun, which run, and which models are still to be used.

    Args:
        runs: How often all steps are going to run; None for any number of times.
    """

    def __init__(self, runs: int | None = 1) -> None:
        self._runs_left = runs
        self._begun: set[str] = set()
        self._running: Counter[str] = Counter()
        self._is_over = True  # before the first run, all uses belong to the runs that are left

    def begin_run(self) -> None:
        """Begin a run at its first step."""
        self._begun.clear()
        self._is_over = False
        if self._runs_left is not None:
            self._runs_left = max(self._runs_left - 1, 0)

    def end_run(self) -> None:
        """End a run: no step of it begins any more."""
        self._is_over = True

    def begin(self, step: str) -> None:
        """Begin a step."""
        self._begun.add(step)
        self._running[step] += 1

    def end(self, step: str) -> None:
        """End a step, with success or not."""
        self._running[step] -= 1

    @property
    def running(self) -> set[str]:
        """Steps that run now."""
        return {step for step, count in self._running.items() if count > 0}

    def next_uses(self, steps: Sequence[Step]) -> dict[str, int]:
        """Return the distance of the next use of each model that is used again."""
        again = self._runs_left is None or self._runs_left > 0
        return next_use_distances(steps, self._passed(steps), again=again)

    def next_steps(self, steps: Sequence[Step]) -> dict[str, int]:
        """Return the distances of the steps that have not begun in this run."""
        return step_distances(steps, self._passed(steps))

    def _passed(self, steps: Sequence[Step]) -> set[str]:
        return {step.id for step in steps} if self._is_over else self._begun


class ModelScheduler:
    """Schedules the models of a structure from `start` to `stop`, with the settings of ModelLifecycle.

    Raises:
        OllamaContentError: `keep_alive` is not a duration.
    """

    def __init__(
        self,
        structure: Structure,
        limits: MemoryLimits,
        *,
        warm_ahead: bool,
        unload_foreign: bool,
        runs: int | None,
        keep_alive: Any,
        uses: Mapping[str, tuple[Any, ...]],
    ) -> None:
        self._structure = structure
        self._limits = limits
        self._warm_ahead = warm_ahead
        self._lock = threading.RLock()
        self._usage = UsageRecorder()
        self._progress = RunProgress(runs)
        self._preloader = Preloader()
        self._keep_alive = checked(lambda: normalize_keep_alive(keep_alive))
        self._graph = ModelGraph(structure, limits, self._usage, unload_foreign=unload_foreign, declared=uses)
        self._hooks = StructureHooks(structure, self, self._keep_alive_of)

    @property
    def report(self) -> LifecycleReport:
        """What happened so far."""
        return self._usage.report(self._limits)

    def start(self) -> None:
        """Request what is loaded, and follow the structure from now on.

        Raises:
            OllamaContentError: A model does not fit into the memory.
        """
        with self._usage.measuring_schedule():
            try:
                steps = self._graph.read()
            except Exception:
                # If the structure is at fault, it raises that itself when it runs.
                _logger.exception("The structure runs without a plan, since it cannot be read.")
                return
            self._graph.check_memory(steps, self._limits.memory)
            self._hooks.install()

    def stop(self) -> None:
        """Unload what is left, and remove the hooks."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._unload_all)
            stack.callback(self._preloader.stop, self._graph.cancel)
            stack.callback(self._hooks.uninstall)

    def on_run_start(self) -> None:
        """Begin a run, with the tasks as they are now."""
        with self._usage.measuring_schedule(), self._lock:
            self._graph.invalidate()
            self._progress.begin_run()
            self._read_new_tasks()

    def on_run_end(self) -> None:
        """Unload what no further run needs."""
        with self._usage.measuring_schedule():
            with self._lock:
                if MEMORY_STEP in self._progress.running:
                    self._progress.end(MEMORY_STEP)
                self._progress.end_run()
            self._release()

    def on_task_start(self, task: BaseTask[Any]) -> None:
        """Evict what does not fit beside the models that a task uses in any case, and preload the next."""
        with self._usage.measuring_schedule():
            with self._lock:
                self._graph.invalidate_task(task)
                self._progress.begin(task.id)
                self._read_new_tasks()
                step = self._graph.step_of(task)
            self._reserve(step.own)
            self._preload_next()

    def on_task_end(self, task: BaseTask[Any]) -> None:
        """Unload what no coming step needs, and preload the next."""
        with self._usage.measuring_schedule():
            self._usage.record_task()
            with self._lock:
                step = self._graph.step_of(task)
                self._progress.end(task.id)
                if self._structure.fail_fast and isinstance(task.output, ErrorArtifact):
                    self._progress.end_run()
                self._read_new_tasks()
            for pool in {model.pool for model in step.models}:
                pool.refresh_if_pending(model.key for model in step.models if model.pool is pool)
            self._release()
            self._preload_next()

    def on_prompt(self, task: BaseTask[Any] | None, model: str) -> None:
        """Evict what does not fit beside the model of a prompt."""
        with self._usage.measuring_schedule():
            with self._lock:
                step = self._graph.step_of(task) if task is not None else self._graph.memory_step()
                if task is None and step.models and MEMORY_STEP not in self._progress.running:
                    self._progress.begin(MEMORY_STEP)
            self._reserve(each for each in step.models if is_same_model(each.name, model))

    def on_tools(self, task: BaseTask[Any] | None, names: list[str]) -> None:
        """Evict what does not fit beside the models of tools."""
        if task is None:
            return
        with self._usage.measuring_schedule():
            with self._lock:
                tools = self._graph.step_of(task).tools
            self._reserve(model for name in dict.fromkeys(names) for model in tools.get(name, ()))

    def on_response(self, event: ModelResponse) -> None:
        """Record a reply, and the load of its model if it was loaded for it."""
        with self._usage.measuring_schedule():
            model = self._graph.find_model(event.host, event.model)
            if model is None:
                return
            end = time.monotonic()
            begin = end - (event.total_seconds or 0.0)
            use = RecordedUse(model=model.key, begin=begin, end=end, load_seconds=event.load_seconds or 0.0)
            self._usage.record_use(event.host, use)
            model.pool.record_use(use, model.name)

    def _read_new_tasks(self) -> None:
        self._hooks.wrap_new_tasks()
        self._graph.read()

    def _keep_alive_of(self, host: str, model: str) -> Any:
        """Return the keep_alive that replaces one which works against the plan; None to keep the driver's."""
        return self._keep_alive if self._graph.find_model(host, model) is not None else None

    def _reserve(self, models: Iterable[PlannedModel]) -> None:
        for model in models:
            model.pool.reserve(model.key, model.options, lambda model=model: self._demand(model.pool))

    def _release(self) -> None:
        for pool in self._graph.pools:
            pool.release(lambda pool=pool: self._demand(pool))

    def _demand(self, pool: ModelPool) -> ModelDemand:
        with self._lock:
            return ModelDemand(
                next_uses=self._progress.next_uses(self._graph.steps_on(pool)),
                in_use=self._graph.models_of(pool, self._progress.running),
            )

    def _preload_next(self) -> None:
        if not self._warm_ahead:
            return
        for pool in self._graph.pools:
            with self._lock:
                running = self._progress.running
                in_use = self._graph.models_of(pool, running)
                ahead = self._progress.next_steps(self._graph.steps_on(pool))
                current = self._graph.first_models(pool, running)
                models = self._graph.first_models(pool, ahead)
            first_uses: dict[str, int] = {}
            for step, model in models.items():
                first_uses[model.key] = min(ahead[step], first_uses.get(model.key, ahead[step]))
            chosen = pool.reserve_preload(first_uses, in_use) if running else None
            if chosen is not None:
                self._preload(next(model for model in models.values() if model.key == chosen), current)

    def _preload(self, wanted: PlannedModel, current: Mapping[str, PlannedModel]) -> None:
        """Load a model beside the running tasks, once the models of `current`, by step, are loaded."""
        pool = wanted.pool

        def is_time() -> bool:
            with self._lock:
                running = self._progress.running
            waiting = [model.key for step, model in current.items() if step in running]
            pool.refresh_if_pending(waiting)
            return all(pool.is_loaded(key) for key in waiting)

        def load() -> None:
            demand = self._demand(pool)
            if wanted.key in demand.next_uses or wanted.key in demand.in_use:
                pool.preload(wanted.key, wanted.name, self._keep_alive, wanted.options)
            else:
                pool.cancel_preload(wanted.key)

        self._preloader.start(is_time, load)

    def _unload_all(self) -> None:
        try:
            with self._usage.measuring_schedule():
                for pool in self._graph.pools:
                    pool.release(lambda: ModelDemand(next_uses={}, in_use=()))
        except Exception:
            # The output of the structure must not be lost for this.
            _logger.exception("Models may still be loaded, since the planner failed.")
