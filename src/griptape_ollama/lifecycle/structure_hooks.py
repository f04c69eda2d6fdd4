"""Follows the run of a structure: when tasks begin and end, which models they ask, and what the server said.

Griptape publishes no event when a task fails, and its listeners live in context variables, which a thread of the user's
own does not see. So `run` of the structure and of each task is wrapped while the structure is watched: its end is seen
whatever happens, from any thread; and listeners are added in the thread that runs it.
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

Answer = OllamaResponseEvent | OllamaEmbeddingEvent
"""What tells of a reply: both kinds name the model, its host, and the seconds."""

_current: ContextVar[BaseTask[Any] | None] = ContextVar("lifecycle_task", default=None)


class Observer(Protocol):
    """Somebody who wants to know. Calls come in the thread that runs the task, which waits for them."""

    def run_begins(self) -> None:
        """The structure begins to run."""
        ...

    def run_ends(self) -> None:
        """The structure has run, well or not."""
        ...

    def task_begins(self, task: BaseTask[Any]) -> None:
        """A task is about to run."""
        ...

    def task_ends(self, task: BaseTask[Any]) -> None:
        """A task has run, well or not."""
        ...

    def prompt_begins(self, task: BaseTask[Any] | None, model: str) -> None:
        """A model is about to be asked, by a task or by the structure itself."""
        ...

    def tools_begin(self, task: BaseTask[Any] | None, names: list[str]) -> None:
        """Tools of a task are about to run."""
        ...

    def answered(self, event: Answer) -> None:
        """A model has answered, in words or with vectors."""
        ...


class Watch:
    """Watches one structure, from `begin` to `end`.

    Args:
        structure: The structure.
        observer: Who wants to know. What goes wrong with it is logged, and does not reach the structure.
        keep_alives: The keep_alive that is sent in what the structure does, in place of the drivers' own.
    """

    def __init__(self, structure: Structure, observer: Observer, keep_alives: KeepAliveOverride) -> None:
        self._structure = structure
        self._observer = observer
        self._keep_alives = keep_alives
        self._lock = threading.Lock()
        self._wrapped: dict[int, tuple[Any, Any]] = {}
        self._listener: EventListener[BaseEvent] = EventListener(
            self._hear,
            event_types=[StartPromptEvent, StartActionsSubtaskEvent, OllamaResponseEvent, OllamaEmbeddingEvent],
        )

    def begin(self) -> None:
        """Wrap the structure and its tasks."""
        self._wrap(self._structure, self._run_structure)
        self.follow()

    def follow(self) -> None:
        """Wrap tasks that were added since."""
        for task in cast("list[BaseTask[Any]]", self._structure.tasks):  # pyright: ignore[reportUnknownMemberType]
            if id(task) not in self._wrapped:
                self._wrap(task, functools.partial(self._run_task, task))

    def end(self) -> None:
        """Leave everything as it was."""
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
                # Tasks have a dictionary beside their slots; what is in it hides the method of the class.
                vars(owner)["run"] = wrapper

    def _run_structure(self, run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._tell(self._observer.run_begins)
        try:
            with overriding_keep_alives(self._keep_alives), self._listening():
                return run(*args, **options)
        finally:
            self._tell(self._observer.run_ends)

    def _run_task(self, task: BaseTask[Any], run: Callable[..., Any], *args: Any, **options: Any) -> Any:
        token = _current.set(task)
        self._tell(self._observer.task_begins, task)
        try:
            with overriding_keep_alives(self._keep_alives), self._listening():
                return run(*args, **options)
        finally:
            _current.reset(token)
            self._tell(self._observer.task_ends, task)

    @contextlib.contextmanager
    def _listening(self) -> Generator[None, None, None]:
        listeners = cast("list[Any]", EventBus.event_listeners)  # pyright: ignore[reportUnknownMemberType]
        if self._listener in listeners:
            yield
            return
        with self._listener:
            yield

    def _hear(self, event: BaseEvent) -> None:
        if isinstance(event, StartPromptEvent):
            self._tell(self._observer.prompt_begins, _current.get(), event.model)
        elif isinstance(event, Answer):
            self._tell(self._observer.answered, event)
        elif isinstance(event, StartActionsSubtaskEvent):
            actions = cast("list[dict[str, Any]]", event.subtask_actions or [])  # pyright: ignore[reportUnknownMemberType]
            names = [str(action.get("name")) for action in actions]
            self._tell(self._observer.tools_begin, _current.get(), names)

    @staticmethod
    def _tell(method: Callable[..., None], *args: Any) -> None:
        try:
            method(*args)
        except Exception:
            # Whatever is wrong with the planning, the structure runs on.
            _logger.exception("Models are not planned for at this point, since the planner failed.")
