"""Settings of a driver, as they are checked when they are given and stored when the driver is."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

from griptape_ollama.conversion.embeddings import check_field
from griptape_ollama.conversion.reasoning import to_think_marks
from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.pull_policy import PULL_POLICIES
from griptape_ollama.models.validators import checked
from griptape_ollama.ollama_package import ollama
from griptape_ollama.protocol.context_window import check_max_num_ctx, check_num_ctx
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.numbers import simplified, to_boolean, to_number, to_plain, to_python, to_whole
from griptape_ollama.protocol.options import check_options

ON_EMPTY_RETRY = "retry_without_thinking"

ON_LONG_TEXT = ("chunk", "truncate", "error")

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
    known = checked(lambda: check_options(options))
    return {name: simplified(known.get(name)) for name in options}


def to_keep_alive(value: Any) -> int | float | str | None:
    """Give what goes over the wire for a keep_alive; None is "not set"."""
    return None if value is None else checked(lambda: normalize_keep_alive(value))


def to_model(value: Any) -> str:
    """Give the name of a model; None and an empty one are "not set"."""
    if value is not None and not isinstance(value, str):
        raise OllamaContentError(f"model must be the name of a model, got {value!r}")
    return (value or "").strip()


def to_pull_policy(value: Any) -> str:
    """Give when a model is pulled."""
    if value not in PULL_POLICIES:
        raise OllamaContentError(f"pull_policy={value!r} must be one of {', '.join(map(repr, PULL_POLICIES))}")
    return value


def to_audit(value: Any) -> bool:
    """Give whether requests are recorded."""
    audits = to_boolean(value)
    if audits is None:
        raise OllamaContentError(f"audit_requests={value!r} must be True or False")
    return audits


def to_parse_text_calls(value: Any) -> bool:
    """Return whether text that is a call is one."""
    parses = to_boolean(value)
    if parses is None:
        raise OllamaContentError(f"parse_text_calls={value!r} must be True or False")
    return parses


def to_dimensions(value: Any) -> int | None:
    """Give how many numbers a vector is to have; None is "not set"."""
    return None if value is None else checked(lambda: check_field("dimensions", value))


def to_truncate(value: Any) -> bool | None:
    """Give whether the server cuts texts that are too long; None is "not set"."""
    return None if value is None else checked(lambda: check_field("truncate", value))


def to_extra_params(value: Any) -> dict[str, Any]:
    """Give more fields of a request by their names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in cast("Mapping[Any, Any]", value)):
        raise OllamaContentError(f"extra_params must be a mapping of field names to values, got {value!r}")
    try:
        return to_plain_setting(value)
    except RecursionError as error:
        raise OllamaContentError("extra_params cannot be written as JSON: they contain themselves.") from error


def to_plain_setting(value: Any) -> Any:
    """Return a setting with what JSON can carry in place of values of other libraries, also those inside it."""
    if isinstance(value, Mapping):
        return {name: to_plain_setting(each) for name, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list):
        return [to_plain_setting(each) for each in cast("list[Any]", value)]
    try:
        return to_plain(value)
    except TypeError:  # which is said of the request
        return value


def to_on_long_text(value: Any) -> Any:
    """Give what is done with texts that are longer than the model's window; None is "not set"."""
    if value is not None and value not in ON_LONG_TEXT:
        raise OllamaContentError(f"on_long_text={value!r} must be one of {', '.join(map(repr, ON_LONG_TEXT))}")
    return value


def to_count(value: Any) -> int:
    """Give a number of things, one at least."""
    count = to_whole(value)
    if count is None or count < 1:
        raise OllamaContentError(f"{value!r} must be a whole number from 1")
    return count


def to_size(value: Any) -> int:
    """Give a number of bytes; 0 is none."""
    size = to_whole(value)
    if size is None or size < 0:
        raise OllamaContentError(f"{value!r} must be a whole number of bytes, or 0")
    return size


def to_seconds(value: Any) -> float:
    """Give a number of seconds from 0."""
    # What is longer no lock can wait for.
    seconds = to_number(value)
    if seconds is None or not 0 <= seconds <= threading.TIMEOUT_MAX:
        raise OllamaContentError(f"{value!r} must be a number of seconds from 0")
    return seconds


def to_prefix(value: Any) -> str | None:
    """Give a prefix; None is "as the model wants it"."""
    if value is not None and not isinstance(value, str):
        raise OllamaContentError(f"{value!r} must be a text, or None for what the model's family wants")
    return value


def to_on_empty(value: Any) -> str | None:
    """Give what is done when thinking used up all tokens; None is "nothing"."""
    if value not in (None, ON_EMPTY_RETRY):
        raise OllamaContentError(f"on_empty={value!r} must be None or {ON_EMPTY_RETRY!r}")
    return value


def to_separate_think_tags(value: Any) -> Any:
    """Give which marks separate thinking, as they are stored: True, False, or a list of names and pairs."""
    value = to_python(value)
    checked(lambda: to_think_marks(value))
    return value if isinstance(value, bool) else [each if isinstance(each, str) else [*each] for each in value]


def to_tell_schema(value: Any) -> bool:
    """Give whether the model is told the schema that its answer must fit."""
    tells = to_boolean(value)
    if tells is None:
        raise OllamaContentError(f"tell_schema={value!r} must be True or False")
    return tells


def to_num_ctx(value: Any) -> int | str | None:
    """Give the window that is asked for: a number of tokens, `auto`, or None for "nothing is sent"."""
    return checked(lambda: check_num_ctx(value))


def to_max_num_ctx(value: Any) -> int | None:
    """Give the size up to which a window may grow, in tokens; None is "not set"."""
    return checked(lambda: check_max_num_ctx(value))
