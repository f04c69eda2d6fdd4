"""A message that is built of the deltas of a `try_stream` that a subclass replaced."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
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

from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent
from griptape_ollama.conversion.response_reader import META_KEY
from griptape_ollama.drivers.chunks import ChunkPublisher
from griptape_ollama.drivers.overrides import HandOver, check
from griptape_ollama.errors import OllamaError

_END = object()


class StreamedMessage:
    """Publishes what a `try_stream` yields, and builds the message of it, as Griptape's base class does."""

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
        """Publish a piece."""
        self.has_published = True
        self._publisher.publish(content)

    def add(self, delta: DeltaMessage) -> None:
        """Publish and keep what a delta carries; the last count of tokens stands."""
        if delta.usage.input_tokens is not None:
            self._input_tokens = delta.usage.input_tokens
        if delta.usage.output_tokens is not None:
            self._output_tokens = delta.usage.output_tokens
        if delta.content is not None:
            self._contents.setdefault(delta.content.index, []).append(delta.content)
            self.publish(delta.content)

    def message(self) -> Message:
        """Build the message."""
        contents = [content for group in self._contents.values() for content in _contents_of(group)]
        usage = Message.Usage(input_tokens=self._input_tokens, output_tokens=self._output_tokens)
        return Message(contents, role=Message.ASSISTANT_ROLE, usage=usage)


def take_deltas(deltas: Iterable[DeltaMessage], streamed: StreamedMessage, hand: HandOver) -> None:
    """Add what a `try_stream` yields to a message, and close it, whatever happens.

    Raises:
        OllamaError: The stream failed or was stopped; with the text so far as `partial_text`.
    """
    iterator = iter(deltas)
    try:
        while (delta := _following(iterator, hand)) is not _END:
            check(hand.run)
            streamed.add(delta)
    except OllamaError as error:
        error.partial_text = error.partial_text or streamed.text
        raise
    finally:
        if close := getattr(iterator, "close", None):
            close()


def to_deltas(message: Message) -> list[BaseDeltaMessageContent]:
    """Return a whole message in pieces, for listeners that wait for chunks."""
    deltas: list[BaseDeltaMessageContent] = []
    told: Any = message.content[0].artifact.meta.get(META_KEY) if message.content else None
    if thinking := cast("Mapping[str, Any]", told or {}).get("thinking"):
        deltas.append(ReasoningDeltaMessageContent(thinking))
    for index, content in enumerate(message.content):
        if isinstance(content, TextMessageContent):
            deltas.append(TextDeltaMessageContent(content.artifact.to_text(), index=index))
        elif isinstance(content, ActionCallMessageContent):
            action = content.artifact.value
            given = json.dumps(cast("Any", action).input)
            deltas.append(
                ActionCallDeltaMessageContent(
                    tag=action.tag, name=action.name, path=action.path, partial_input=given, index=index
                )
            )
    return deltas


def with_metadata(message: Message, metadata: Mapping[str, Any] | None) -> Message:
    """Add what the server told of a reply to the artifacts of a message that was built of its deltas."""
    if metadata is None:
        return message
    if not message.content:
        message.content.append(TextMessageContent(TextArtifact("")))
    for content in message.content:
        content.artifact.meta.setdefault(META_KEY, dict(metadata))
    return message


def _following(deltas: Iterator[DeltaMessage], hand: HandOver) -> Any:
    with hand.offered():  # not while a listener is told of it
        return next(deltas, _END)


def _contents_of(deltas: list[BaseDeltaMessageContent]) -> list[BaseMessageContent]:
    kinds: list[tuple[type[BaseDeltaMessageContent], Any]] = [
        (TextDeltaMessageContent, TextMessageContent),
        (AudioDeltaMessageContent, AudioMessageContent),
        (ActionCallDeltaMessageContent, ActionCallMessageContent),
    ]
    found = [(content, [delta for delta in deltas if isinstance(delta, kind)]) for kind, content in kinds]
    return [content.from_deltas(group) for content, group in found if group]
