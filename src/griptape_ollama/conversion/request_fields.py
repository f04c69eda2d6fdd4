"""Builds chat requests, and checks their settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.log_once import log_once
from griptape_ollama.ollama_package import ollama
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.numbers import to_plain_scalar
from griptape_ollama.protocol.options import OPTION_TYPES, check_options

_logger = logging.getLogger(__name__)

_MAX_TOP_LOGPROBS = 20


def to_chat_request(
    *,
    model: str,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    options: Mapping[str, Any],
    fields: Mapping[str, Any],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Build a request, and check every setting in it.

    Args:
        model: Model name.
        messages: Chat messages, one at least.
        tools: Functions that the model may call.
        options: Model options, already merged.
        fields: Fields beside them, such as `keep_alive` and `format`; None means "not set".
        extra: The user's `extra_params` but for `options`; they win over fields, and unknown ones are sent as they are.

    Raises:
        OllamaContentError: A setting has a value that the server would refuse.
    """
    settings = {name: value for name, value in {**fields, **extra}.items() if value is not None}
    settings.pop("stream", None)  # The wire always streams; `stream` of the driver decides what listeners see.
    all_tools = [*tools, *_checked_list("tools", settings.pop("tools", []))]
    request: dict[str, Any] = {"model": model, "messages": _checked_list("messages", messages)}
    if not request["messages"]:
        raise OllamaContentError("The prompt is empty: it needs one message at least.", model=model)
    if all_tools:
        request["tools"] = all_tools
    try:
        checked = check_options(options)
        request |= {name: _checked_field(name, value) for name, value in settings.items()}
    except ValueError as error:
        raise OllamaContentError(str(error), model=model) from error
    if checked:
        request["options"] = checked
    request["stream"] = True
    return request


def _checked_list(name: str, value: Any) -> list[Any]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, Mapping) for each in cast("list[Any]", value)):
        raise OllamaContentError(f"{name} must be a list of mappings, got {value!r:.100}")
    return list(cast("list[Any]", value))


def merge_options(
    *,
    fields: Mapping[str, Any],
    options: Mapping[str, Any],
    extra: Any,
) -> dict[str, Any]:
    """Merge options key by key: the driver's fields < `options` < `extra_params["options"]`.

    Raises:
        OllamaContentError: `extra_params["options"]` is not a mapping.
    """
    if isinstance(extra, ollama.Options):
        extra = extra.model_dump(exclude_none=True)
    if extra is not None and not isinstance(extra, Mapping):
        raise OllamaContentError(f'extra_params["options"] must be a mapping of option names to values, got {extra!r}')
    merged = {**fields, **options, **cast("Mapping[str, Any]", extra or {})}
    return {name: to_plain_scalar(value) for name, value in merged.items()}


def merge_stop(needed: Sequence[str], given: Any, own: Any) -> Any:
    """Return the stop texts to send; None for none. Sending any replaces the model's own, so those are added.

    Args:
        needed: Texts that the prompt needs.
        given: The user's `stop` option; anything but a list of texts is returned as it is, to be refused.
        own: The model's own `stop` parameter.
    """
    if given is not None and not isinstance(given, (list, tuple)):
        return given
    wanted = [*needed, *(stop for stop in cast("Sequence[str]", given or ()) if stop not in needed)]
    return [*wanted, *(stop for stop in cast("Sequence[str]", own or ()) if stop not in wanted)] if wanted else None


def _checked_field(name: str, value: Any) -> Any:
    if name == "keep_alive":
        return normalize_keep_alive(value)
    value = to_plain_scalar(value)
    _check_field(name, value)
    return value


def _check_field(name: str, value: Any) -> None:
    is_bool = isinstance(value, bool)
    # The levels depend on the model.
    if name == "think" and not is_bool and not (isinstance(value, str) and value.strip()):
        raise ValueError(f"think={value!r} must be True, False or the name of a level, such as 'low' or 'high'")
    if name == "format" and value != "json" and not isinstance(value, dict):
        raise ValueError(f"format={value!r} must be 'json' or a JSON schema")
    if name in ("truncate", "shift", "logprobs") and not is_bool:
        raise ValueError(f"{name}={value!r} must be True or False")
    if name == "top_logprobs" and (is_bool or not isinstance(value, int) or not 0 <= value <= _MAX_TOP_LOGPROBS):
        raise ValueError(f"top_logprobs={value!r} must be an integer from 0 to {_MAX_TOP_LOGPROBS}")
    if name in OPTION_TYPES:
        log_once(
            _logger, logging.WARNING, "%r beside options is ignored by servers: pass options={%r: ...}.", name, name
        )
