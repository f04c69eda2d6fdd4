"""ModelLifecycle: a context in which a structure's models are in memory exactly when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from griptape.structures import Structure
from typing_extensions import Self

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.numbers import check_whole
from griptape_ollama.transport.cancel_scope import outside_scopes

if TYPE_CHECKING:
    from griptape_ollama.lifecycle.report import LifecycleReport
    from griptape_ollama.lifecycle.scheduler import ModelScheduler


class ModelLifecycle:
    """Keeps each model of a structure loaded for exactly as long as a coming task needs it.

    A model is unloaded right after its last use. Where memory is short, the idle model whose next use is farthest away
    is evicted, never one that a running task uses. Models that other clients had loaded stay. Whatever fails in the
    planning, the structure runs on without it.

    ```python
    with ModelLifecycle(pipeline, max_models=1) as lifecycle:
        pipeline.run("...")
    print(lifecycle.report)
    ```

    Requests of the structure meanwhile have `keep_alive` in place of that of their drivers, which would work against
    the plan. The drivers themselves are not changed, so that other users of them are not affected.

    Args:
        structure: An Agent, a Pipeline, a Workflow or another Griptape Structure.
        max_models: How many models fit into the memory of each server at a time (`OLLAMA_MAX_LOADED_MODELS` of the
            server); None for any number.
        memory: Bytes that models may take on each server; None for any number.
        warm_ahead: Whether the model that the next task uses first is loaded while the current task runs, if both fit.
        unload_foreign: Whether models that other clients loaded are treated like the structure's own.
        runs: How often the structure is going to run in the context; None for any number of times, so that before the
            end models are unloaded only for other models.
        keep_alive: What requests of the structure have meanwhile. Not "for good", so that models are unloaded some
            time after the process was killed.
        uses: Drivers that cannot be found from outside, or objects that have them, such as a vector store, by id of the
            task that uses them: drivers in functions, and in structures that functions create.

    Attributes:
        report: What happened since the context was entered: data that also prints as a table.

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
        uses: Mapping[str, Iterable[Any]] | None = None,
    ) -> None:
        # Imported when it is used, since it takes time.
        from griptape_ollama.lifecycle.eviction import MemoryLimits  # noqa: PLC0415
        from griptape_ollama.lifecycle.scheduler import ModelScheduler  # noqa: PLC0415

        if not isinstance(structure, Structure):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OllamaContentError(f"structure must be an Agent, a Pipeline or a Workflow, got {structure!r}")
        limits = MemoryLimits(
            max_models=_checked_count("max_models", max_models), memory=_checked_count("memory", memory)
        )
        counted_runs = _checked_count("runs", runs)
        declared = {task: tuple(drivers) for task, drivers in (uses or {}).items()}
        self._new_scheduler: Callable[[], ModelScheduler] = lambda: ModelScheduler(
            structure,
            limits,
            warm_ahead=warm_ahead,
            unload_foreign=unload_foreign,
            runs=counted_runs,
            keep_alive=keep_alive,
            uses=declared,
        )
        self._scheduler = self._new_scheduler()
        self._is_entered = False

    @property
    def report(self) -> LifecycleReport:
        """What happened since the context was entered, as data that also prints as a table."""
        return self._scheduler.report

    def __enter__(self) -> Self:
        if self._is_entered:
            raise OllamaContentError("This ModelLifecycle is in use already: make another one for another run.")
        self._scheduler = self._new_scheduler()
        self._scheduler.start()
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_entered = False
        # Models are unloaded after a run that was cancelled, too.
        with outside_scopes():
            self._scheduler.stop()


def _checked_count(name: str, value: Any) -> int | None:
    return None if value is None else check_whole(value, name=name, hint=", or None for any")
