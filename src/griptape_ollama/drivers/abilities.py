"""What a model can do, and what is done where it cannot."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from griptape_ollama.errors import OllamaContentError, OllamaResponseError
from griptape_ollama.models.facts import Facts, ModelFacts
from griptape_ollama.transport.connection import Connection

_logger = logging.getLogger(__name__)
_said: set[tuple[str, str]] = set()
_DENIALS = {"does not support tools": "tools", "does not support thinking": "thinking"}


def say_once(text: str, connection: Connection) -> None:
    """Log a text at INFO, once per server."""
    key = (connection.base_url, text)
    if key not in _said:
        _said.add(key)
        _logger.info(text)


def check_images(messages: Iterable[Mapping[str, Any]], model: str, facts: ModelFacts) -> None:
    """Refuse images for a model that cannot see.

    Raises:
        OllamaContentError: There are images, and the server says that the model has no vision.
    """
    if not facts.can("vision") and any(message.get("images") for message in messages):
        raise OllamaContentError(f"Model {model!r} cannot see images: use a model with vision.", model=model)


def drop_thinking(request: dict[str, Any], facts: ModelFacts, connection: Connection) -> None:
    """Take `think` out of a request for a model that does not think; the server would refuse it."""
    if request.get("think") and not facts.can("thinking"):
        del request["think"]
        say_once(f"Model {request['model']!r} does not think: asked without think.", connection)


def note_denial(error: OllamaResponseError, facts: Facts) -> None:
    """Remember what a refusal says about the model, so that later runs know."""
    for denial, capability in _DENIALS.items():
        if error.status == 400 and error.model and denial in error.server_message:
            facts.note_missing(error.model, capability)
