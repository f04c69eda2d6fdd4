"""The parameters of a model, which the server shows as text."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from griptape_ollama.protocol.counters import MOST, to_count, to_number
from griptape_ollama.protocol.options import OPTION_TYPES


def parse_parameters(text: str) -> dict[str, Any]:
    r"""Read the `parameters` text of a show reply: one `name value` per line, repeated for lists, texts in quotes.

    Args:
        text: For example ``'stop    "<|im_end|>"\ntemperature    0.6'``.

    Returns:
        Values by name, typed as the server types them; `stop` is always a list. Lines that cannot be read are left
        out: facts about a model never fail a prompt.
    """
    parameters: dict[str, Any] = {}
    for line in text.split("\n"):
        name, _, raw = line.strip().partition(" ")
        value = _value(raw.strip(), OPTION_TYPES.get(name))
        if value is None:
            continue
        if OPTION_TYPES.get(name) == "array of strings":
            parameters.setdefault(name, []).append(str(value))
        else:
            parameters[name] = value
    return parameters


def _value(raw: str, wanted: str | None) -> Any:
    if not raw:
        return None
    if raw.startswith('"') or wanted in _READERS:
        try:
            return _READERS.get(wanted, _as_it_is)(json.loads(raw))
        except (ValueError, RecursionError):
            return raw.strip('"') if raw.startswith('"') else None
    return raw


def _as_it_is(value: Any) -> Any:
    return value


_READERS: Mapping[str | None, Callable[[Any], Any]] = {
    # Some mean "no limit" by negative ones.
    "integer": lambda value: to_count(value, least=-MOST),
    "float": lambda value: to_number(value, least=-MOST),
    "boolean": lambda value: value if isinstance(value, bool) else None,
}
