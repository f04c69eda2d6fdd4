"""What a model can do, and what is done where it cannot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from griptape_ollama.conversion.messages import leave_out_images
from griptape_ollama.errors import OllamaContentError, OllamaResponseError
from griptape_ollama.escaping import printable
from griptape_ollama.models.metadata_cache import ModelMetadata, ServerMetadata
from griptape_ollama.transport.connection import Connection

_logger = logging.getLogger(__name__)
_said: set[tuple[str, str]] = set()
_DENIALS = {
    "does not support tools": (400, "tools"),
    "does not support thinking": (400, "thinking"),
    "does not support multimodal": (400, "vision"),
    "image input is not supported": (500, "vision"),  # native models
}


def say_once(text: str, connection: Connection, level: int = logging.INFO) -> None:
    """Log a text once per server."""
    key = (connection.base_url, text)
    if key not in _said:
        _said.add(key)
        _logger.log(level, "%s", text)


def without_images(messages: Iterable[Mapping[str, Any]], model: str, connection: Connection) -> list[dict[str, Any]]:
    """Return messages for a model that cannot see: words stand where images of tool results and of memory stood.

    Args:
        messages: Chat messages, oldest first.
        model: Name of the model.
        connection: The server.

    Raises:
        OllamaContentError: The user's newest message has images.
    """
    shown = [dict(message) for message in messages]
    if any(message.get("images") for message in shown):
        inputs = [message for message in shown if message.get("role") == "user"]
        if inputs and inputs[-1].get("images"):
            raise OllamaContentError(f"Model {model!r} cannot see images: use a model with vision.", model=model)
        text = f"Model {model!r} cannot see images: those of tool results and of earlier turns are left out."
        say_once(text, connection, logging.WARNING)
    return [leave_out_images(message) if message.get("images") else message for message in shown]


def drop_thinking(request: dict[str, Any], metadata: ModelMetadata, connection: Connection) -> None:
    """Take `think` out of a request for a model that does not think; the server would refuse it."""
    if request.get("think") and not metadata.can("thinking"):
        del request["think"]
        say_once(f"Model {request['model']!r} does not think: asked without think.", connection)


def check_think_level(request: Mapping[str, Any], metadata: ModelMetadata, connection: Connection) -> None:
    """Warn of a level of thinking that the model does not list; it is sent as it is."""
    level, levels = request.get("think"), metadata.think_levels
    if isinstance(level, str) and levels and level not in levels:
        listed = printable(", ".join(map(repr, levels)))
        text = f"Model {request['model']!r} lists no think level {level!r}, only {listed}; it is sent as it is."
        say_once(text, connection, logging.WARNING)


def note_denial(error: OllamaResponseError, metadata: ServerMetadata) -> None:
    """Remember what a refusal says about the model, so that later runs know."""
    for denial, (status, capability) in _DENIALS.items():
        if error.status == status and error.model and denial in error.server_message:
            metadata.note_missing(error.model, capability)
