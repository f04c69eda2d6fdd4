"""Settings of a driver, as they are checked when they are given and stored when the driver is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import ollama

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.server_settings import checked
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.options import check_options

ON_EMPTY_RETRY = "retry_without_thinking"

DEFAULT_TEMPERATURE = 0.1
"""Griptape's default for all prompt drivers."""


def to_temperature(value: Any) -> float | None:
    """Give the temperature; None is "not set"."""
    return (
        None if value is None else checked(lambda: cast("float", check_options({"temperature": value})["temperature"]))
    )


def to_options(value: Any) -> dict[str, Any]:
    """Give options as a dict, and check those that are set.

    Args:
        value: A mapping, an `ollama.Options`, or None.
    """
    if value is None:
        return {}
    if isinstance(value, ollama.Options):
        value = value.model_dump(exclude_none=True)
    if not isinstance(value, Mapping):
        raise OllamaContentError(f"options must be a mapping of option names to values, got {value!r}")
    options = dict(cast("Mapping[str, Any]", value))
    checked(lambda: check_options(options))
    return options


def to_keep_alive(value: Any) -> int | float | str | None:
    """Give what goes over the wire for a keep_alive; None is "not set"."""
    return None if value is None else checked(lambda: normalize_keep_alive(value))


def to_on_empty(value: Any) -> str | None:
    """Give what is done when thinking used up all tokens; None is "nothing"."""
    if value not in (None, ON_EMPTY_RETRY):
        raise OllamaContentError(f"on_empty={value!r} must be None or {ON_EMPTY_RETRY!r}")
    return value
