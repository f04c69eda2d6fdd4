"""The chunks of a structure's answer, picked from the events that are published while it runs."""

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

_threads: ContextVar[Mapping[ChunkListener, int]] = ContextVar("ollama_chunk_threads", default=MappingProxyType({}))
"""The one thread whose events count, by listener: the thread of a task while its tools run on other threads."""

_NO_THREAD = -1


class OllamaChunk(str):
    """A piece of a structure's answer, or of its reasoning: a text.

    Attributes:
        is_reasoning: Whether it is reasoning.
    """

    __slots__ = ("is_reasoning",)
    is_reasoning: bool

    def __new__(cls, text: str, *, is_reasoning: bool = False) -> Self:
        """Build a piece."""
        chunk = super().__new__(cls, text)
        chunk.is_reasoning = is_reasoning
        return chunk

    @property
    def value(self) -> str:
        """The text, under the name that it has in the artifacts of `griptape.utils.Stream`."""
        return str(self)


class ChunkListener:
    """Listens to one run of a structure, and passes its chunks on.

    The chunks of prompts inside tools are no part of the answer, nor is the summary that a memory asks for.

    Args:
        structure: The structure that runs.
        put: Called with each chunk.
        reasoning: Whether to pass reasoning on, too.
    """

    def __init__(self, structure: Structure, put: Callable[[OllamaChunk], None], *, reasoning: bool) -> None:
        self._structure = structure
        self._put = put
        self._has_text = False
        self._is_between_prompts = False
        kinds: list[type[BaseEvent]] = [
            TextChunkEvent,
            StartPromptEvent,
            FinishPromptEvent,
            StartActionsSubtaskEvent,
            FinishActionsSubtaskEvent,
        ]
        if reasoning:
            kinds.append(ReasoningChunkEvent)
        self.listener: EventListener[Any] = EventListener(self._on_event, event_types=kinds)

    def _on_event(self, event: BaseEvent) -> None:
        thread, threads = threading.get_ident(), _threads.get()
        if threads.get(self, thread) != thread:
            return
        if isinstance(event, StartPromptEvent):
            if not self._structure.is_running():
                _threads.set({**threads, self: _NO_THREAD})  # the tasks are over, and memory summarizes the run
        elif isinstance(event, StartActionsSubtaskEvent):
            _threads.set({**threads, self: thread})
        elif isinstance(event, FinishActionsSubtaskEvent):
            _threads.set({listener: each for listener, each in threads.items() if listener is not self})
        elif isinstance(event, FinishPromptEvent):
            self._is_between_prompts = self._has_text
        elif isinstance(event, ReasoningChunkEvent):
            self._put(OllamaChunk(event.token, is_reasoning=True))
        elif isinstance(event, TextChunkEvent) and event.token:
            self._put_text(event.token)

    def _put_text(self, text: str) -> None:
        if self._is_between_prompts:
            # Answers of several prompts would run into each other.
            self._put(OllamaChunk("\n"))
        self._is_between_prompts, self._has_text = False, True
        self._put(OllamaChunk(text))
