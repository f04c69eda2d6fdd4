"""Hooks into a structure: when its run and its tasks start and end, which models they use, and what servers reported.

Griptape publishes no event when a task fails, and its listeners live in context variables, which a thread of the user's
own does not see. So `run` of the structure and of each task is wrapped while the hooks are installed: the end of a run
is seen whatever happens, from any thread; and listeners are added in the thread that runs it.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any, Protocol, cast

from griptape.events import BaseEvent, EventBus, EventListener, StartActionsSubtaskEvent, StartPromptEvent
from griptape.structures import Structure
from griptape.tasks import BaseTask

from griptape_ollama.events import OllamaEmbeddingEvent, OllamaResponseEvent
from griptape_ollama.models.keep_alive_leases import KeepAliveOverride, overriding_keep_alives

_logger = logging.getLogger("griptape_ollama.lifecycle")

ModelResponse = OllamaResponseEvent | OllamaEmbeddingEvent
"""Events of a reply: both have the model, its host, and the seconds."""

_current_task: ContextVar[BaseTask[Any] | None] = ContextVar("lifecycle_task", default=None)


class RunObserver(Protocol):
    """What the hooks call, in the thread that runs the structure or the task, which waits for it."""

    def on_run_start(self) -> None:
        """The structure starts to run."""

    def on_run_end(self) -> None:
        """The structure has run, with success or not."""

    def on_task_start(self, task: BaseTask[Any]) -> None:
        """A task is about to run."""

    def on_task_end(self, task: BaseTask[Any]) -> None:
        """A task has run, with success or not."""

    def on_prompt(self, task: BaseTask[Any] | None, model: str) -> None:
        """A task, or the structure itself, is about to send a prompt."""

    def on_tools(self, task: BaseTask[Any] | None, names: list[str]) -> None:
        """Tools of a task are about to run."""

    def on_response(self, event: ModelResponse) -> None:
        """A model has answered, with text or vectors."""


class StructureHooks:
    """Reports the runs of one structure to an observer, from `install` to `uninstall`.

    Args:
        structure: The structure.
        observer: What is called. Its exceptions are logged, and do not reach the structure.
        keep_alive_of: The keep_alive that requests of the structure have, in place of that of the drivers.
    """

    def __init__(self, structure: Structure, observer: RunObserver, keep_alive_of: KeepAliveOverride) -> None:
        self._structure = structure
        self._observer = observer
        self._keep_alive_of = keep_alive_of
        self._lock = threading.Lock()
        self._wrapped: dict[int, tuple[Any, Any]] = {}
        self._listener: EventListener[BaseEvent] = EventListener(
            self._on_event,
            event_types=[StartPromptEvent, StartActionsSubtaskEvent, OllamaResponseEvent, OllamaEmbeddingEvent],
        )

    def install(self) -> None:
        """Wrap `run` of the structure and of its tasks."""
        self._wrap(self._structure, self._run_structure)
        self.wrap_new_tasks()

    def wrap_new_tasks(self) -> None:
        """Wrap `run` of the tasks that were added since."""
        for task in cast("list[BaseTask[Any]]", self._structure.tasks):  # pyright: ignore[reportUnknownMemberType]
            if id(task) not in self._wrapped:
                self._wrap(task, functools.partial(self._run_task, task))

    def uninstall(self) -> None:
        """Restore each `run` that was wrapped."""
        with self._lock:
            wrapped, self._wrapped = self._wrapped, {}
        for owner, wrapper in wrapped.values():
            own = cast("dict[str, Any]", vars(owner))
            if own.get("run") is wrapper:
                del own["run"]

    def _wrap(self, owner: Any, around: Callable[..., Any]) -> None:
        wrapper = functools.partial(around, owner.run)
        with self._lock:
            if id(owner) not in self._wrapped:
                self._wrapped[id(owner)] = (owner, wrapper)
                # Tasks have a dictionary beside their slots; an entry in it hides the method of the class.
                vars(owner)["run"] = wrapper

    def _run_structure(self, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._call(self._observer.on_run_start)
        try:
            with overriding_keep_alives(self._keep_alive_of), self._listening():
                return run(*args, **options)
        finally:
            self._call(self._observer.on_run_end)

    def _run_task(self, task: BaseTask[Any], run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        token = _current_task.set(task)
        self._call(self._observer.on_task_start, task)
        try:
            with overriding_keep_alives(self._keep_alive_of), self._listening():
                return run(*args, **options)
        finally:
            _current_task.reset(token)
            self._call(self._observer.on_task_end, task)

    @contextlib.contextmanager
    def _listening(self) -> Generator[None, None, None]:
        listeners = cast("list[Any]", EventBus.event_listeners)  # pyright: ignore[reportUnknownMemberType]
        if self._listener in listeners:
            yield
            return
        with self._listener:
            yield

    def _on_event(self, event: BaseEvent) -> None:
        if isinstance(event, StartPromptEvent):
            self._call(self._observer.on_prompt, _current_task.get(), event.model)
        elif isinstance(event, ModelResponse):
            self._call(self._observer.on_response, event)
        elif isinstance(event, StartActionsSubtaskEvent):
            actions = cast("list[dict[str, Any]]", event.subtask_actions or [])  # pyright: ignore[reportUnknownMemberType]
            names = [str(action.get("name")) for action in actions]
            self._call(self._observer.on_tools, _current_task.get(), names)

    @staticmethod
    def _call(method: Callable[..., None], *args: Any) -> None:
        try:
            method(*args)
        except Exception:
            # Whatever is wrong with the planning, the structure runs on.
            _logger.exception("Models are not planned for at this point, since the planner failed.")
