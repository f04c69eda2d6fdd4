"""The options of a model: which the server knows, checks of what users pass, and those stored with the model."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from griptape_ollama.log_once import log_once
from griptape_ollama.protocol.numbers import (
    MAX_INT64,
    reported_count,
    reported_number,
    to_boolean,
    to_number,
    to_whole,
)

_logger = logging.getLogger(__name__)

_RUNNER = {
    "num_ctx": "integer",
    "num_batch": "integer",
    "num_gpu": "integer",
    "main_gpu": "integer",
    "use_mmap": "boolean",
    "num_thread": "integer",
    "draft_num_predict": "integer",
}
_SAMPLING = {
    "num_keep": "integer",
    "seed": "integer",
    "num_predict": "integer",
    "top_k": "integer",
    "top_p": "float",
    "min_p": "float",
    "typical_p": "float",
    "repeat_last_n": "integer",
    "temperature": "float",
    "repeat_penalty": "float",
    "presence_penalty": "float",
    "frequency_penalty": "float",
    "stop": "array of strings",
}
OPTION_TYPES: Mapping[str, str] = {**_RUNNER, **_SAMPLING}
"""Name and type of each option of server 0.33 (`api/types.go`, Options and Runner)."""

FORMER_OPTION_TYPES: Mapping[str, str] = {
    "numa": "boolean",
    "low_vram": "boolean",
    "f16_kv": "boolean",
    "logits_all": "boolean",
    "vocab_only": "boolean",
    "use_mlock": "boolean",
    "tfs_z": "float",
    "mirostat": "integer",
    "mirostat_tau": "float",
    "mirostat_eta": "float",
    "penalize_newline": "boolean",
}
"""Options of older servers that the `ollama` package still names; newer servers log them and go on."""

REQUEST_FIELDS = ("keep_alive", "think", "format", "truncate", "shift", "logprobs", "top_logprobs")
"""Fields of a chat request that stand beside `options`, not inside it."""

LOAD_OPTIONS = frozenset(_RUNNER)
"""Options that a model is loaded with (`api.Runner` of server 0.33)."""

SHIFT = "shift"
"""Field of a request, beside its options, that a model is loaded with too (server 0.33)."""

RELOADING_OPTIONS = LOAD_OPTIONS - {"use_mmap"}
"""Load options of which another value reloads a loaded model; another `use_mmap` does not (server 0.33)."""

AUTO = "auto"
"""Value of `num_ctx`: the window grows with the prompt."""

MAX_NUM_CTX = 2**31 - 1
"""Largest window that can be requested: the runner counts its tokens in 32 bits (server 0.33)."""

_KNOWN = {**OPTION_TYPES, **FORMER_OPTION_TYPES}


# What users pass


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options by name and type, and drop those that are None ("not set").

    Whole floats become integers where the server wants integers, and numbers of other libraries become plain ones.
    An unknown option that is one slip away from a known one is refused; any other is sent with a warning in the log,
    once, since the server may be newer than this package.

    Raises:
        ValueError: A value has the wrong type, or a name is misspelt. The text names the right one.
    """
    return {name: _checked_option(name, value) for name, value in options.items() if value is not None}


def _checked_option(name: str, value: Any) -> Any:
    wanted = _KNOWN.get(name)
    if wanted is None:
        _check_name(name)
        return value
    if wanted == "integer":
        return _integer(name, value)
    if wanted == "float":
        return _float(name, value)
    if wanted == "boolean":
        if (boolean := to_boolean(value)) is not None:
            return boolean
    elif isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):  # pyright: ignore[reportUnknownVariableType]
        return list(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    elif isinstance(value, str):
        raise ValueError(f"option {name!r} must be an array of strings, got {value!r}: write [{value!r}]")
    raise _wrong_type(name, wanted, value)


def _integer(name: str, value: Any) -> int:
    number = to_number(value)
    if number is not None and number == (whole := int(number)):
        return whole
    raise _wrong_type(name, "integer", value)


def _float(name: str, value: Any) -> float:
    # A text is not a number to the server, though float() would take it.
    number = to_number(value)
    if number is not None and abs(number) <= sys.float_info.max:
        return number
    raise _wrong_type(name, "number", value)


def _wrong_type(name: str, wanted: str, value: Any) -> ValueError:
    article = "an" if wanted[0] in "aeiou" else "a"
    return ValueError(f"option {name!r} must be {article} {wanted}, got {value!r} ({type(value).__name__})")


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise ValueError(f"option {name!r} must have a text as its name")  # noqa: TRY004 # as for all wrong options
    if name in REQUEST_FIELDS:
        raise ValueError(f"{name!r} is not a model option: pass it beside options, as {name}=... or in extra_params")
    if (meant := _similar_option(name)) is not None:
        raise ValueError(f"unknown option {name!r}: did you mean {meant!r}?")
    log_once(_logger, logging.WARNING, "Option %r is unknown to this package; it is sent as it is.", name)


def _similar_option(name: str) -> str | None:
    """Return the known option that is one slip away: letter case, separators, or one edit."""
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).replace("-", "_").replace(" ", "_").lower()
    if snake in _KNOWN:
        return snake
    return next((known for known in _KNOWN if _one_edit_apart(snake, known)), None)


def _one_edit_apart(left: str, right: str) -> bool:
    """Whether one insertion, deletion, replacement or swap of neighbours turns one text into the other."""
    short, long = sorted((left, right), key=len)
    if len(long) - len(short) > 1:
        return False
    same = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    if len(short) < len(long):
        return short[same:] == long[same + 1 :]
    swapped = short[same + 1 : same + 2] + short[same : same + 1]
    return short[same + 1 :] == long[same + 1 :] or (
        swapped == long[same : same + 2] and short[same + 2 :] == long[same + 2 :]
    )


def check_num_ctx(value: Any) -> int | str | None:
    """Check a context window that a user requests, and return it as a plain value.

    Args:
        value: None (nothing is requested), a number of tokens, or "auto".

    Raises:
        ValueError: It is none of these. The text names what would be right.
    """
    if isinstance(value, str):
        if value == AUTO:
            return value
        raise ValueError(f"num_ctx={value!r} is no size of a window: {_advice_on_text(value)}")
    return _checked_window("num_ctx", value, f"{AUTO!r}, a number of tokens such as 8192, or None to send nothing")


def check_max_num_ctx(value: Any) -> int | None:
    """Check the size up to which a window may grow, and return it as a plain integer.

    Args:
        value: A number of tokens; None is "not set".

    Raises:
        ValueError: It is neither. The text names what would be right.
    """
    return _checked_window("max_num_ctx", value, "a number of tokens such as 32768, or None for the default")


def _checked_window(name: str, value: Any, right: str) -> int | None:
    if value is None:
        return None
    tokens = to_whole(value)
    if tokens is None:
        raise ValueError(f"{name}={value!r} ({type(value).__name__}) is no size of a window: use {right}")
    if not 1 <= tokens <= MAX_NUM_CTX:
        raise ValueError(f"{name}={tokens} must be from 1 to {MAX_NUM_CTX}: use {right}")
    return tokens


def _advice_on_text(text: str) -> str:
    plain = text.strip().lower()
    if plain == AUTO:
        return f"write {AUTO!r}"
    if plain.isascii() and plain.isdigit():
        return "write the number itself, without quotes"
    return f"use {AUTO!r}, a number of tokens such as 8192, or None to send nothing"


# What the server stores with a model


def parse_parameters(text: str) -> dict[str, Any]:
    r"""Parse the `parameters` text of a show reply: one `name value` per line, repeated for lists, texts in quotes.

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
            value = json.loads(raw)
        except (ValueError, RecursionError):
            return raw.strip('"') if raw.startswith('"') else None
        return _READERS[wanted](value) if wanted in _READERS else value
    return raw


_READERS: Mapping[str | None, Callable[[Any], Any]] = {
    # Negative numbers mean "no limit" for some options.
    "integer": lambda value: reported_count(value, least=-MAX_INT64),
    "float": lambda value: reported_number(value, least=-MAX_INT64),
    "boolean": lambda value: value if isinstance(value, bool) else None,
}
