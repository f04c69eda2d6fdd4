"""Chunk events of replies while they arrive, and the message that is built from the deltas of a subclass."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Generator, Mapping
from contextvars import ContextVar
from itertools import count
from typing import Any, cast

from griptape.artifacts import TextArtifact
from griptape.common import (
    ActionCallDeltaMessageContent,
    ActionCallMessageContent,
    AudioDeltaMessageContent,
    AudioMessageContent,
    BaseDeltaMessageContent,
    BaseMessageContent,
    DeltaMessage,
    Message,
    TextDeltaMessageContent,
    TextMessageContent,
)
from griptape.events import ActionChunkEvent, AudioChunkEvent, EventBus, TextChunkEvent

from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent
from griptape_ollama.conversion.response_reader import META_KEY
from griptape_ollama.events import ReasoningChunkEvent

_enabled: ContextVar[bool] = ContextVar("ollama_chunks_enabled", default=False)


@contextlib.contextmanager
def enabling_chunks() -> Generator[None, None, None]:
    """Make all drivers publish chunks in a `with` block, whatever their `stream` is."""
    before = _enabled.set(True)
    try:
        yield
    finally:
        _enabled.reset(before)


def are_chunks_enabled() -> bool:
    """Return whether drivers publish chunks whose `stream` is False."""
    return _enabled.get()


class ChunkPublisher:
    """Publishes the deltas of one reply as Griptape's events.

    The id of an event is random bits of the reply and the number of the event. It is unique and has the form of a UUID;
    a UUID of its own would cost eight times as much, more than the rest of the event.
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


class StreamedMessageBuilder:
    """Publishes what the `try_stream` of a subclass yields, and builds the message of it.

    It is the message that Griptape's base class would build.
    """

    def __init__(self) -> None:
        self.has_published = False
        self._publisher = ChunkPublisher()
        self._contents: dict[int, list[BaseDeltaMessageContent]] = {}
        self._input_tokens: float | None = None
        self._output_tokens: float | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        deltas = [delta for group in self._contents.values() for delta in group]
        return "".join(delta.text for delta in deltas if isinstance(delta, TextDeltaMessageContent))

    def publish(self, content: BaseDeltaMessageContent) -> None:
        """Publish one delta."""
        self.has_published = True
        self._publisher.publish(content)

    def add(self, delta: DeltaMessage) -> None:
        """Publish and keep the content of a delta; the last count of tokens counts."""
        if delta.usage.input_tokens is not None:
            self._input_tokens = delta.usage.input_tokens
        if delta.usage.output_tokens is not None:
            self._output_tokens = delta.usage.output_tokens
        if delta.content is not None:
            self._contents.setdefault(delta.content.index, []).append(delta.content)
            self.publish(delta.content)

    def build(self) -> Message:
        """Build the message."""
        contents = [content for group in self._contents.values() for content in _contents_of(group)]
        usage = Message.Usage(input_tokens=self._input_tokens, output_tokens=self._output_tokens)
        return Message(contents, role=Message.ASSISTANT_ROLE, usage=usage)


def to_deltas(message: Message) -> list[BaseDeltaMessageContent]:
    """Return a whole message as deltas, for listeners of chunks."""
    deltas: list[BaseDeltaMessageContent] = []
    metadata: Any = message.content[0].artifact.meta.get(META_KEY) if message.content else None
    if thinking := cast("Mapping[str, Any]", metadata or {}).get("thinking"):
        deltas.append(ReasoningDeltaMessageContent(thinking))
    for index, content in enumerate(message.content):
        if isinstance(content, TextMessageContent):
            deltas.append(TextDeltaMessageContent(content.artifact.to_text(), index=index))
        elif isinstance(content, ActionCallMessageContent):
            action = content.artifact.value
            arguments = json.dumps(cast("Any", action).input)
            deltas.append(
                ActionCallDeltaMessageContent(
                    tag=action.tag, name=action.name, path=action.path, partial_input=arguments, index=index
                )
            )
    return deltas


def with_metadata(message: Message, metadata: Mapping[str, Any] | None) -> Message:
    """Add the metadata of a reply to the artifacts of a message that was built from its deltas."""
    if metadata is None:
        return message
    if not message.content:
        message.content.append(TextMessageContent(TextArtifact("")))
    for content in message.content:
        content.artifact.meta.setdefault(META_KEY, dict(metadata))
    return message


def _contents_of(deltas: list[BaseDeltaMessageContent]) -> list[BaseMessageContent]:
    kinds: list[tuple[type[BaseDeltaMessageContent], Any]] = [
        (TextDeltaMessageContent, TextMessageContent),
        (AudioDeltaMessageContent, AudioMessageContent),
        (ActionCallDeltaMessageContent, ActionCallMessageContent),
    ]
    found = [(content, [delta for delta in deltas if isinstance(delta, kind)]) for kind, content in kinds]
    return [content.from_deltas(group) for content, group in found if group]
