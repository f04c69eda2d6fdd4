"""The planner, as users have it: a context in which a structure's models are in memory when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from griptape.structures import Structure
from typing_extensions import Self

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.numbers import to_whole
from griptape_ollama.transport.cancel_scope import outside_scopes

if TYPE_CHECKING:
    from griptape_ollama.lifecycle.report import LifecycleReport
    from griptape_ollama.lifecycle.scheduler import Planner


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

    What the structure asks meanwhile has `keep_alive` in place of that of its drivers, which would work against the
    plan. The drivers themselves stay as they are, also for who else uses them at the same time.

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
        keep_alive: What requests of the structure have meanwhile. Not "for good", so that models leave some time if
            the process is killed.
        uses: Drivers that cannot be seen from outside, or what has them, such as a vector store, by id of the task that
            uses them: those in functions, and in structures that functions make.

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
        # Only who plans pays for importing it.
        from griptape_ollama.lifecycle.eviction import Room  # noqa: PLC0415
        from griptape_ollama.lifecycle.scheduler import Planner  # noqa: PLC0415

        if not isinstance(structure, Structure):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OllamaContentError(f"structure must be an Agent, a Pipeline or a Workflow, got {structure!r}")
        room = Room(max_models=_checked_count("max_models", max_models), memory=_checked_count("memory", memory))
        counted_runs = _checked_count("runs", runs)
        declared = {task: tuple(drivers) for task, drivers in (uses or {}).items()}
        self._make_planner: Callable[[], Planner] = lambda: Planner(
            structure,
            room,
            warm_ahead=warm_ahead,
            unload_foreign=unload_foreign,
            runs=counted_runs,
            keep_alive=keep_alive,
            uses=declared,
        )
        self._planner = self._make_planner()
        self._is_entered = False

    @property
    def report(self) -> LifecycleReport:
        """What happened since the context was entered, as data that also prints as a table."""
        return self._planner.report

    def __enter__(self) -> Self:
        if self._is_entered:
            raise OllamaContentError("This ModelLifecycle is in use already: make another one for another run.")
        self._planner = self._make_planner()
        self._planner.begin()
        self._is_entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_entered = False
        # Models are let go after a run that was cancelled, too.
        with outside_scopes():
            self._planner.end()


def _checked_count(name: str, value: Any) -> int | None:
    count = to_whole(value)
    if value is not None and (count is None or count < 1):
        raise OllamaContentError(f"{name}={value!r} must be a whole number from 1, or None for any")
    return count
