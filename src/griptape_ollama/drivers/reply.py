"""One reply under way: the call, and what its lines add up to."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from griptape.common import BaseDeltaMessageContent, DeltaMessage, Message

from griptape_ollama.conversion.replies import META_KEY, ReplyReader
from griptape_ollama.errors import OllamaError
from griptape_ollama.events import OllamaResponseEvent
from griptape_ollama.transport.call import Call


class PromptReply:
    """Feeds the lines of a call to a reader.

    Args:
        call: The call, not yet made.
        reader: Takes its lines.
    """

    def __init__(self, call: Call, reader: ReplyReader) -> None:
        self.call = call
        self._reader = reader

    def deltas(self) -> Generator[BaseDeltaMessageContent, None, None]:
        """Make the call and yield what arrives.

        Raises:
            OllamaError: As `Call.lines` does, with the text so far as `partial_text`.
        """
        feed = self._reader.feed
        # Closed by hand: an exception keeps its frames, and with them the connection, for as long as somebody holds it.
        with contextlib.closing(self.call.lines()) as lines:
            try:
                for line in lines:
                    yield from feed(line)
            except OllamaError as error:
                error.partial_text = self._reader.text
                if error.host is None:
                    self._complete(error)
                raise

    def _complete(self, error: OllamaError) -> None:
        """Name host and model in an error of the reader, which knows neither."""
        error.host, error.model = self.call.host, self.call.model
        text = str(error)
        error.args = (
            f"{text}{'' if text.endswith('.') else '.'} It came from model {error.model!r} of Ollama at {error.host}.",
        )

    def usage(self) -> DeltaMessage.Usage:
        """Tokens of the whole reply, once it is there."""
        return self._reader.usage()

    def message(self) -> Message:
        """Give the whole reply, once it is there."""
        return self._reader.message(
            self._reader.metadata(host=self.call.host, time_to_first_token=self.call.time_to_first_token)
        )


def to_response_event(message: Message) -> OllamaResponseEvent | None:
    """Make the event from the metadata of a message; None if it carries none."""
    meta: dict[str, Any] | None = message.content[0].artifact.meta.get(META_KEY) if message.content else None
    if not meta:
        return None
    return OllamaResponseEvent(
        model=meta.get("model", ""),
        host=meta.get("host", ""),
        done_reason=meta.get("done_reason"),
        input_tokens=meta.get("prompt_eval_count"),
        output_tokens=meta.get("eval_count"),
        total_seconds=meta.get("total_seconds"),
        load_seconds=meta.get("load_seconds"),
        prompt_seconds=meta.get("prompt_seconds"),
        generation_seconds=meta.get("generation_seconds"),
        tokens_per_second=meta.get("tokens_per_second"),
        time_to_first_token=meta.get("time_to_first_token"),
    )
