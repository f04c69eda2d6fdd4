"""The model options that a server knows, and a check of what users pass."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any

from griptape_ollama.protocol.numbers import to_boolean, to_number

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

_KNOWN = {**OPTION_TYPES, **FORMER_OPTION_TYPES}
_warned: set[str] = set()


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Check options by name and type, and drop those that are None ("not set").

    Whole floats become integers where the server wants integers, and numbers of other libraries become plain ones.
    An unknown option that is one slip away from a known one is refused; any other is sent with a warning in the log,
    once, since the server may be newer than this package.

    Raises:
        ValueError: A value has the wrong type, or a name is misspelt. The text names the right one.
    """
    return {name: _check(name, value) for name, value in options.items() if value is not None}


def _check(name: str, value: Any) -> Any:
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
    if (meant := _meant(name)) is not None:
        raise ValueError(f"unknown option {name!r}: did you mean {meant!r}?")
    if name not in _warned:
        _warned.add(name)
        _logger.warning("Option %r is unknown to this package; it is sent as it is.", name)


def _meant(name: str) -> str | None:
    """Find the known option that is one slip away: letter case, separators, or one edit."""
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
