"""What the replies of a model show of it, for the runs that come later."""

from __future__ import annotations

from collections.abc import Sequence

from griptape_ollama.conversion.reasoning import ThinkMark, leaves_thinking_open
from griptape_ollama.conversion.response_reader import ReplyReader
from griptape_ollama.drivers.capabilities import say_once
from griptape_ollama.models.metadata_cache import Facts, ModelFacts
from griptape_ollama.models.model_habits import IGNORES_FORMAT, LONE_MARK
from griptape_ollama.transport.connection import Connection


class ObservedModel:
    """What the replies of a model show of it, remembered for later runs.

    Args:
        facts: The server.
        model: The model.
        known: Facts about it.
        connection: The way to the server.
    """

    def __init__(self, facts: Facts, model: str, known: ModelFacts, connection: Connection) -> None:
        self._facts = facts
        self._model = model
        self._known = known
        self._connection = connection

    def ignored_format(self) -> None:
        """Remember that a format made no difference."""
        self._facts.note_habit(self._model, self._known, IGNORES_FORMAT)
        say_once(
            f"Model {self._model!r} answered under a format with what is no JSON of its kind, so formats are ignored "
            "there: it is told its schemas in words.",
            self._connection,
        )

    def ended_round(self, reader: ReplyReader) -> None:
        """Remember whether thinking stood in the text without the mark that begins it."""
        if reader.had_lone_mark:
            self._facts.note_habit(self._model, self._known, LONE_MARK)
        elif reader.round_text and LONE_MARK in self._known.habits:
            self._facts.drop_habit(self._model, LONE_MARK)


def awaits_closing_mark(known: ModelFacts, marks: Sequence[ThinkMark]) -> bool:
    """Whether replies of a model begin with thinking that has no opening mark, as far as is known."""
    # Of a model that thinks, the server separates the thinking itself.
    is_left = known.capabilities is not None and not known.can("thinking")
    return LONE_MARK in known.habits or (is_left and leaves_thinking_open(known.raw.get("template"), marks))
