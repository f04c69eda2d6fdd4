"""What a structure says, out of the events that are published while it runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from griptape.events import (
    BaseEvent,
    EventListener,
    FinishActionsSubtaskEvent,
    FinishPromptEvent,
    StartActionsSubtaskEvent,
    StartPromptEvent,
    TextChunkEvent,
)
from griptape.structures import Structure
from typing_extensions import Self

from griptape_ollama.events import ReasoningChunkEvent

_callers: ContextVar[Mapping[Hearing, int]] = ContextVar("ollama_tool_callers", default=MappingProxyType({}))
"""The thread that is to be listened to, by who listens: that of a task while it runs tools, which run on others."""

_NOBODY = -1


class OllamaChunk(str):
    """A piece of what a structure says: a text, which also knows what it is.

    Attributes:
        is_reasoning: Whether the model thinks it, rather than says it.
    """

    __slots__ = ("is_reasoning",)
    is_reasoning: bool

    def __new__(cls, text: str, *, is_reasoning: bool = False) -> Self:
        """Make a piece."""
        chunk = super().__new__(cls, text)
        chunk.is_reasoning = is_reasoning
        return chunk

    @property
    def value(self) -> str:
        """The text, under the name that it has in what `griptape.utils.Stream` gives."""
        return str(self)


class Hearing:
    """Picks out the chunks of one run.

    What prompts inside of tools say is not what the structure says, nor is what its memory says when it sums up.

    Args:
        structure: What runs.
        put: Takes each chunk.
        reasoning: Whether reasoning is wanted, too.
    """

    def __init__(self, structure: Structure, put: Callable[[OllamaChunk], None], *, reasoning: bool) -> None:
        self._structure = structure
        self._put = put
        self._has_spoken = False
        self._is_between = False
        kinds: list[type[BaseEvent]] = [
            TextChunkEvent,
            StartPromptEvent,
            FinishPromptEvent,
            StartActionsSubtaskEvent,
            FinishActionsSubtaskEvent,
        ]
        if reasoning:
            kinds.append(ReasoningChunkEvent)
        self.listener: EventListener[Any] = EventListener(self._heard, event_types=kinds)

    def _heard(self, event: BaseEvent) -> None:
        thread, callers = threading.get_ident(), _callers.get()
        if callers.get(self, thread) != thread:
            return
        if isinstance(event, StartPromptEvent):
            if not self._structure.is_running():
                _callers.set({**callers, self: _NOBODY})  # the tasks are over, and memory takes in the run
        elif isinstance(event, StartActionsSubtaskEvent):
            _callers.set({**callers, self: thread})
        elif isinstance(event, FinishActionsSubtaskEvent):
            _callers.set({caller: each for caller, each in callers.items() if caller is not self})
        elif isinstance(event, FinishPromptEvent):
            self._is_between = self._has_spoken
        elif isinstance(event, ReasoningChunkEvent):
            self._put(OllamaChunk(event.token, is_reasoning=True))
        elif isinstance(event, TextChunkEvent) and event.token:
            self._say(event.token)

    def _say(self, text: str) -> None:
        if self._is_between:
            # Answers of several prompts would run into each other.
            self._put(OllamaChunk("\n"))
        self._is_between, self._has_spoken = False, True
        self._put(OllamaChunk(text))
