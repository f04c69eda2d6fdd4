"""The end of a task, which the framework does not tell drivers, but listeners."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from typing import Any

from griptape.events import (
    BaseEvent,
    EventBus,
    EventListener,
    FinishStructureRunEvent,
    FinishTaskEvent,
    StartActionsSubtaskEvent,
    StartTaskEvent,
)

from griptape_ollama.models.keep_alive_leases import acquire_lease, release_lease
from griptape_ollama.protocol.model_name import is_same_model
from griptape_ollama.transport.connection import Connection

_current: ContextVar[TaskHold | None] = ContextVar("ollama_task_hold", default=None)


class TaskHold:
    """Keeps a model in memory until the task that needs it is over.

    What a task does next is not for a driver to see; so the events of the framework tell when it is over. They are
    published in the thread of the task, unlike those of what its tools do.

    Args:
        connection: The way to the server.
        model: The model.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        self.model = model
        self.host = connection.base_url
        self.thread = threading.get_ident()
        self._connection = connection
        self._task_id: str | None = None
        self._listener: EventListener[Any] = EventListener(
            self._heard,
            event_types=[StartActionsSubtaskEvent, StartTaskEvent, FinishTaskEvent, FinishStructureRunEvent],
        )

    @classmethod
    def of_task(cls, connection: Connection, model: str) -> TaskHold:
        """Give what an earlier turn of the task left, or a new one."""
        found = _current.get()
        wanted = (connection.base_url, threading.get_ident())
        if found is not None and (found.host, found.thread) == wanted and is_same_model(found.model, model):
            return found
        return cls(connection, model)

    def begin(self) -> None:
        """Keep the model from now on: the task asks for a reply."""
        acquire_lease(self._connection, self.model, self)

    def keep(self) -> None:
        """Go on keeping the model: the task runs tools, and will ask again."""
        self.begin()
        _current.set(self)
        EventBus.add_event_listener(self._listener)  # pyright: ignore[reportUnknownMemberType]

    def end(self) -> None:
        """Let the model go, unless somebody else needs it."""
        if _current.get() is self:
            _current.set(None)
            EventBus.remove_event_listener(self._listener)  # pyright: ignore[reportUnknownMemberType]
        release_lease(self._connection, self.model, self)

    def _heard(self, event: BaseEvent) -> None:
        if threading.get_ident() != self.thread:
            return  # tools, and what they start, run on other threads
        if isinstance(event, StartActionsSubtaskEvent):
            self._task_id = self._task_id or event.subtask_parent_task_id
        elif not isinstance(event, FinishTaskEvent) or event.task_id == self._task_id:
            self.end()
