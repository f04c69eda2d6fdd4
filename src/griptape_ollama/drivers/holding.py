"""Models with a keep_alive of 0 that stay in memory between the turns of a task, and leave when it is over."""

from __future__ import annotations

import logging
import threading
import time
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

from griptape_ollama.errors import OllamaError
from griptape_ollama.protocol.keep_alive import keep_alive_seconds
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.limits import OllamaTimeout

HOLD_SECONDS = 300
"""For how long a model is held from one turn to the next; the server lets it go then, should the task have vanished."""

# Letting a model go is a courtesy, for which nobody should have to wait.
_LIMITS = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=5)

_Key = tuple[str, str]

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
_pending: dict[_Key, dict[int, float]] = {}
"""Tasks that need a model until they are over, by server and model; with the time at which they are given up."""

_current: ContextVar[Hold | None] = ContextVar("ollama_hold", default=None)


def is_unloading(keep_alive: Any) -> bool:
    """Whether a keep_alive, as it goes over the wire, lets the model go right after the reply."""
    return keep_alive is not None and keep_alive_seconds(keep_alive) == 0


def is_held(connection: Connection, model: str) -> bool:
    """Whether a task needs the model until it is over."""
    now = time.monotonic()
    with _lock:
        return any(until > now for until in _pending.get((connection.base_url, model), {}).values())


class Hold:
    """One task that needs a model until it is over.

    What a task does next is not for a driver to see; so the events of the framework tell when it is over. They are
    published in the thread of the task, unlike those of what its tools do.

    Args:
        connection: The way to the server.
        model: The model.
    """

    def __init__(self, connection: Connection, model: str) -> None:
        self.key: _Key = (connection.base_url, model)
        self.thread = threading.get_ident()
        self._connection = connection
        self._model = model
        self._task_id: str | None = None
        self._listener: EventListener[Any] = EventListener(
            self._heard,
            event_types=[StartActionsSubtaskEvent, StartTaskEvent, FinishTaskEvent, FinishStructureRunEvent],
        )

    @classmethod
    def of_task(cls, connection: Connection, model: str) -> Hold:
        """Give the hold that an earlier turn of the task left, or a new one."""
        hold = _current.get()
        is_mine = hold is not None and hold.thread == threading.get_ident() and hold.key == (connection.base_url, model)
        return hold if hold is not None and is_mine else cls(connection, model)

    def begin(self) -> None:
        """Keep the model from now on: the task asks for a reply."""
        with _lock:
            _pending.setdefault(self.key, {})[id(self)] = time.monotonic() + HOLD_SECONDS

    def keep(self) -> None:
        """Go on keeping the model: the task runs tools, and will ask again."""
        self.begin()
        _current.set(self)
        EventBus.add_event_listener(self._listener)  # pyright: ignore[reportUnknownMemberType]

    def end(self) -> None:
        """Let the model go, unless another task needs it."""
        if _current.get() is self:
            _current.set(None)
            EventBus.remove_event_listener(self._listener)  # pyright: ignore[reportUnknownMemberType]
        with _lock:
            tasks = _pending.pop(self.key, {})
            now = time.monotonic()
            if others := {task: until for task, until in tasks.items() if task != id(self) and until > now}:
                _pending[self.key] = others
        if not others:
            unload(self._connection, self._model)

    def _heard(self, event: BaseEvent) -> None:
        if threading.get_ident() != self.thread:
            return  # tools, and what they start, run on other threads
        if isinstance(event, StartActionsSubtaskEvent):
            self._task_id = self._task_id or event.subtask_parent_task_id
        elif not isinstance(event, FinishTaskEvent) or event.task_id == self._task_id:
            self.end()


def unload(connection: Connection, model: str) -> None:
    """Let a model go once it has answered whom it is answering; nothing happens where it is not loaded.

    A server that does not answer is not asked again: the model leaves when its keep_alive is over.
    """
    try:
        body = {"model": model, "keep_alive": 0, "stream": False}
        Call(connection, "/api/generate", body, limits=_LIMITS).document()
    except OllamaError as error:
        _logger.debug("Model %r was not unloaded: %s", model, error)
