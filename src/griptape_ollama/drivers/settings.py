"""Converters of settings: they check a value when it is set, and return it in the form that is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

from griptape_ollama.conversion.reasoning import to_think_marks
from griptape_ollama.conversion.vectors import check_field
from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.pull_policy import PULL_POLICIES
from griptape_ollama.models.validators import checked
from griptape_ollama.ollama_package import ollama
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.numbers import (
    check_seconds,
    check_whole,
    to_boolean,
    to_plain,
    to_plain_scalar,
    to_python,
)
from griptape_ollama.protocol.options import (
    LOAD_OPTIONS,
    SHIFT,
    check_max_num_ctx,
    check_num_ctx,
    check_options,
)

ON_EMPTY_RETRY = "retry_without_thinking"

ON_LONG_TEXT = ("chunk", "truncate", "error")

DEFAULT_TEMPERATURE = 0.1
"""Griptape's default for all prompt drivers."""


def to_temperature(value: Any) -> float | None:
    """Return the temperature; None means "not set"."""
    return (
        None if value is None else checked(lambda: cast("float", check_options({"temperature": value})["temperature"]))
    )


def to_options(value: Any) -> dict[str, Any]:
    """Return options as a dict, and check those that are set.

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
    return {name: to_plain_scalar(known.get(name)) for name in options}


def to_keep_alive(value: Any) -> int | float | str | None:
    """Return a keep_alive as a request has it; None means "not set"."""
    return None if value is None else checked(lambda: normalize_keep_alive(value))


def to_model(value: Any) -> str:
    """Return the name of a model; an empty one means "not set"."""
    if value is not None and not isinstance(value, str):
        raise OllamaContentError(f"model must be the name of a model, got {value!r}")
    return (value or "").strip()


def to_load_options(options: Mapping[str, Any], *, shifts: bool) -> dict[str, Any]:
    """Return those of a request's options that a model is loaded with, and `shift` where it is False."""
    loaded = {name: value for name, value in options.items() if name in LOAD_OPTIONS and value is not None}
    return loaded if shifts else {**loaded, SHIFT: False}


def to_pull_policy(value: Any) -> str:
    """Return when a model is pulled."""
    if value not in PULL_POLICIES:
        raise OllamaContentError(f"pull_policy={value!r} must be one of {', '.join(map(repr, PULL_POLICIES))}")
    return value


def to_bool_of(name: str) -> Callable[[Any], bool]:
    """Return the converter of a setting that is True or False.

    Args:
        name: Name of the setting.
    """

    def converted(value: Any) -> bool:
        boolean = to_boolean(value)
        if boolean is None:
            raise OllamaContentError(f"{name}={value!r} must be True or False")
        return boolean

    return converted


def to_dimensions(value: Any) -> int | None:
    """Return the wanted length of vectors; None means "not set"."""
    return None if value is None else checked(lambda: check_field("dimensions", value))


def to_truncate(value: Any) -> bool | None:
    """Return whether the server truncates texts that are too long; None means "not set"."""
    return None if value is None else checked(lambda: check_field("truncate", value))


def to_extra_params(value: Any) -> dict[str, Any]:
    """Return further fields of a request by name."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in cast("Mapping[Any, Any]", value)):
        raise OllamaContentError(f"extra_params must be a mapping of field names to values, got {value!r}")
    try:
        return to_plain_setting(value)
    except RecursionError as error:
        raise OllamaContentError("extra_params cannot be written as JSON: they contain themselves.") from error


def to_plain_setting(value: Any) -> Any:
    """Return a setting in which values of other libraries are replaced by what JSON can carry, at any depth."""
    if isinstance(value, Mapping):
        return {name: to_plain_setting(each) for name, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list):
        return [to_plain_setting(each) for each in cast("list[Any]", value)]
    try:
        return to_plain(value)
    except TypeError:  # raised again for the request
        return value


def to_on_long_text(value: Any) -> Any:
    """Return what is done with texts that are longer than the model's window; None means "not set"."""
    if value is not None and value not in ON_LONG_TEXT:
        raise OllamaContentError(f"on_long_text={value!r} must be one of {', '.join(map(repr, ON_LONG_TEXT))}")
    return value


def to_count(value: Any) -> int:
    """Return a count, 1 at least."""
    return check_whole(value)


def to_size(value: Any) -> int:
    """Return a number of bytes, 0 at least."""
    return check_whole(value, least=0, unit="whole number of bytes")


def to_seconds(value: Any) -> float:
    """Return a number of seconds, 0 at least."""
    return check_seconds(value, longest=threading.TIMEOUT_MAX)  # no lock can wait longer


def to_prefix(value: Any) -> str | None:
    """Return a prefix; None means the one of the model's family."""
    if value is not None and not isinstance(value, str):
        raise OllamaContentError(f"{value!r} must be a text, or None for what the model's family wants")
    return value


def to_on_empty(value: Any) -> str | None:
    """Return what is done when a reply is empty; None means nothing."""
    if value not in (None, ON_EMPTY_RETRY):
        raise OllamaContentError(f"on_empty={value!r} must be None or {ON_EMPTY_RETRY!r}")
    return value


def to_separate_think_tags(value: Any) -> Any:
    """Return which tags separate thinking: True, False, or a list of names and pairs."""
    value = to_python(value)
    checked(lambda: to_think_marks(value))
    return value if isinstance(value, bool) else [each if isinstance(each, str) else [*each] for each in value]


def to_num_ctx(value: Any) -> int | str | None:
    """Return the context window: a number of tokens, `auto`, or None if none is sent."""
    return checked(lambda: check_num_ctx(value))


def to_max_num_ctx(value: Any) -> int | None:
    """Return the largest window, in tokens; None means "not set"."""
    return checked(lambda: check_max_num_ctx(value))
