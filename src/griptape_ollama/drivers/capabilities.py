"""What a model can do: what is changed in a request where it cannot, and what its replies show for later runs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from griptape_ollama.conversion.messages import replace_images
from griptape_ollama.conversion.reasoning import ThinkMark, leaves_thinking_open
from griptape_ollama.conversion.response_reader import ResponseReader
from griptape_ollama.errors import OllamaContentError, OllamaResponseError
from griptape_ollama.escaping import printable
from griptape_ollama.log_once import log_once
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.models.model_metadata import IGNORES_FORMAT, UNOPENED_THINK_TAG, ModelMetadata

_logger = logging.getLogger(__name__)
_REFUSALS = {
    "does not support tools": (400, "tools"),
    "does not support thinking": (400, "thinking"),
    "does not support multimodal": (400, "vision"),
    "image input is not supported": (500, "vision"),  # native models
}


def log_once_for(address: str, level: int, text: str) -> None:
    """Log a text once per server."""
    log_once(_logger, level, "%s", text, key=(address, text))


def without_images(messages: Iterable[Mapping[str, Any]], model: str, address: str) -> list[dict[str, Any]]:
    """Return messages for a model without vision: texts replace the images of tool results and of memory.

    Args:
        messages: Chat messages, oldest first.
        model: Name of the model.
        address: Address of the server, whose log lines are written once.

    Raises:
        OllamaContentError: The user's newest message has images.
    """
    shown = [dict(message) for message in messages]
    if any(message.get("images") for message in shown):
        inputs = [message for message in shown if message.get("role") == "user"]
        if inputs and inputs[-1].get("images"):
            raise OllamaContentError(f"Model {model!r} cannot see images: use a model with vision.", model=model)
        text = f"Model {model!r} cannot see images: those of tool results and of earlier turns are left out."
        log_once_for(address, logging.WARNING, text)
    return [replace_images(message) if message.get("images") else message for message in shown]


def check_thinking(request: dict[str, Any], known: ModelMetadata, address: str) -> None:
    """Remove `think` for a model that does not think, which the server refuses; warn of a level that is not listed."""
    model, think, levels = request["model"], request.get("think"), known.think_levels
    if think and not known.can("thinking"):
        del request["think"]
        log_once_for(address, logging.INFO, f"Model {model!r} does not think: asked without think.")
    elif isinstance(think, str) and levels and think not in levels:
        listed = printable(", ".join(map(repr, levels)))
        text = f"Model {model!r} lists no think level {think!r}, only {listed}; it is sent as it is."
        log_once_for(address, logging.WARNING, text)


def awaits_closing_tag(known: ModelMetadata, tags: Sequence[ThinkMark]) -> bool:
    """Return whether replies of a model are known to begin with thinking that has no opening tag."""
    # Of a model that thinks, the server separates the thinking itself.
    is_left = known.capabilities is not None and not known.can("thinking")
    return UNOPENED_THINK_TAG in known.quirks or (is_left and leaves_thinking_open(known.raw.get("template"), tags))


class ModelObserver:
    """Records for later runs what the replies of a model show of it.

    Args:
        metadata: Metadata of the server.
        model: Name of the model.
        known: Metadata of the model.
    """

    def __init__(self, metadata: ServerMetadata, model: str, known: ModelMetadata) -> None:
        self._metadata = metadata
        self._model = model
        self._known = known

    def record_refusal(self, error: OllamaResponseError) -> None:
        """Record a capability that the server denies the model."""
        for text, (status, capability) in _REFUSALS.items():
            if error.status == status and error.model and text in error.server_message:
                self._metadata.note_missing(error.model, capability)

    def record_ignored_format(self) -> None:
        """Record that a format made no difference."""
        self._metadata.record_quirk(self._model, self._known, IGNORES_FORMAT)
        log_once_for(
            self._metadata.address,
            logging.INFO,
            f"Model {self._model!r} answered under a format with what is no JSON of its kind, so formats are ignored "
            "there: its schemas are described in the prompt.",
        )

    def record_think_tags(self, reader: ResponseReader) -> None:
        """Record whether thinking stands in the text without the tag that opens it."""
        if reader.had_unopened_thinking:
            self._metadata.record_quirk(self._model, self._known, UNOPENED_THINK_TAG)
        elif reader.round_text and UNOPENED_THINK_TAG in self._known.quirks:
            self._metadata.forget_quirk(self._model, UNOPENED_THINK_TAG)
