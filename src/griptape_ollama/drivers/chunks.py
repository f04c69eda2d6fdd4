"""Chunk events: what listeners see of a reply while it arrives."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Generator
from contextvars import ContextVar
from itertools import count

from griptape.common import (
    ActionCallDeltaMessageContent,
    AudioDeltaMessageContent,
    BaseDeltaMessageContent,
    TextDeltaMessageContent,
)
from griptape.events import ActionChunkEvent, AudioChunkEvent, EventBus, TextChunkEvent

from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent
from griptape_ollama.events import ReasoningChunkEvent

_wanted: ContextVar[bool] = ContextVar("ollama_chunks_wanted", default=False)


@contextlib.contextmanager
def want_chunks() -> Generator[None, None, None]:
    """Let all drivers publish chunks, whatever their `stream` says."""
    before = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(before)


def are_chunks_wanted() -> bool:
    """Whether somebody wants chunks of drivers that do not stream by themselves."""
    return _wanted.get()


class ChunkPublisher:
    """Publishes the deltas of one reply as events of the framework.

    An event's id is random bits of the reply and the number of the event: unique like a UUID, of the same form, and an
    eighth of its cost, which would be the largest part of publishing a token.
    """

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex[:24]
        self._numbers = count()

    def publish(self, delta: BaseDeltaMessageContent) -> None:
        """Publish one delta."""
        event_id = f"{self._prefix}{next(self._numbers):08x}"
        if isinstance(delta, TextDeltaMessageContent):
            EventBus.publish_event(TextChunkEvent(token=delta.text, index=delta.index, id=event_id))
        elif isinstance(delta, ReasoningDeltaMessageContent):
            EventBus.publish_event(ReasoningChunkEvent(token=delta.text, id=event_id))
        elif isinstance(delta, ActionCallDeltaMessageContent):
            EventBus.publish_event(
                ActionChunkEvent(
                    partial_input=delta.partial_input,
                    tag=delta.tag,
                    name=delta.name,
                    path=delta.path,
                    index=delta.index,
                    id=event_id,
                )
            )
        elif isinstance(delta, AudioDeltaMessageContent) and delta.data is not None:
            EventBus.publish_event(AudioChunkEvent(data=delta.data, id=event_id))
