"""A lease on a model until the end of a task, which Griptape reports to listeners and not to drivers."""

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

_current: ContextVar[TaskLease | None] = ContextVar("ollama_task_lease", default=None)


class TaskLease:
    """Keeps a model in memory until the task that needs it is over.

    A driver does not see what a task does next; so Griptape's events show when it is over. They are published in the
    thread of the task, unlike the events of its tools.

    Args:
        connection: Connection to the server.
        model: The model.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        self.model = model
        self.host = connection.base_url
        self.thread = threading.get_ident()
        self._connection = connection
        self._task_id: str | None = None
        self._listener: EventListener[Any] = EventListener(
            self._on_event,
            event_types=[StartActionsSubtaskEvent, StartTaskEvent, FinishTaskEvent, FinishStructureRunEvent],
        )

    @classmethod
    def of_task(cls, connection: Connection, model: str) -> TaskLease:
        """Return the lease of an earlier request of the task, or a new one."""
        found = _current.get()
        wanted = (connection.base_url, threading.get_ident())
        if found is not None and (found.host, found.thread) == wanted and is_same_model(found.model, model):
            return found
        return cls(connection, model)

    def acquire(self) -> None:
        """Acquire the lease: the task asks for a reply."""
        acquire_lease(self._connection, self.model, self)

    def extend(self) -> None:
        """Extend the lease to the end of the task: it runs tools, and will ask again."""
        self.acquire()
        _current.set(self)
        EventBus.add_event_listener(self._listener)  # pyright: ignore[reportUnknownMemberType]

    def release(self) -> None:
        """Release the lease; the model is unloaded unless it has another one."""
        if _current.get() is self:
            _current.set(None)
            EventBus.remove_event_listener(self._listener)  # pyright: ignore[reportUnknownMemberType]
        release_lease(self._connection, self.model, self)

    def _on_event(self, event: BaseEvent) -> None:
        if threading.get_ident() != self.thread:
            return  # tools, and what they start, run on other threads
        if isinstance(event, StartActionsSubtaskEvent):
            self._task_id = self._task_id or event.subtask_parent_task_id
        elif not isinstance(event, FinishTaskEvent) or event.task_id == self._task_id:
            self.release()
