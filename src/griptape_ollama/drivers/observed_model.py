"""What the replies of a model show of it, for the runs that come later."""

from __future__ import annotations

from collections.abc import Sequence

from griptape_ollama.conversion.reasoning import ThinkMark, leaves_thinking_open
from griptape_ollama.conversion.response_reader import ReplyReader
from griptape_ollama.drivers.capabilities import say_once
from griptape_ollama.models.metadata_cache import ModelMetadata, ServerMetadata
from griptape_ollama.models.model_quirks import IGNORES_FORMAT, UNOPENED_THINK_TAG
from griptape_ollama.transport.connection import Connection


class ObservedModel:
    """What the replies of a model show of it, remembered for later runs.

    Args:
        metadata: The server.
        model: The model.
        known: Facts about it.
        connection: The way to the server.
    """

    def __init__(self, metadata: ServerMetadata, model: str, known: ModelMetadata, connection: Connection) -> None:
        self._metadata = metadata
        self._model = model
        self._known = known
        self._connection = connection

    def ignored_format(self) -> None:
        """Remember that a format made no difference."""
        self._metadata.record_quirk(self._model, self._known, IGNORES_FORMAT)
        say_once(
            f"Model {self._model!r} answered under a format with what is no JSON of its kind, so formats are ignored "
            "there: it is told its schemas in words.",
            self._connection,
        )

    def ended_round(self, reader: ReplyReader) -> None:
        """Remember whether thinking stood in the text without the mark that begins it."""
        if reader.had_lone_mark:
            self._metadata.record_quirk(self._model, self._known, UNOPENED_THINK_TAG)
        elif reader.round_text and UNOPENED_THINK_TAG in self._known.quirks:
            self._metadata.forget_quirk(self._model, UNOPENED_THINK_TAG)


def awaits_closing_mark(known: ModelMetadata, marks: Sequence[ThinkMark]) -> bool:
    """Whether replies of a model begin with thinking that has no opening mark, as far as is known."""
    # Of a model that thinks, the server separates the thinking itself.
    is_left = known.capabilities is not None and not known.can("thinking")
    return UNOPENED_THINK_TAG in known.quirks or (is_left and leaves_thinking_open(known.raw.get("template"), marks))
