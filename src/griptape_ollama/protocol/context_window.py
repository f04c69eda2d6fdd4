"""The context window that is asked for, as users write it."""

from __future__ import annotations

from typing import Any

from griptape_ollama.protocol.numbers import to_whole

AUTO = "auto"
"""The window is as large as it has to be."""

MAX_NUM_CTX = 2**31 - 1
"""Largest window that can be asked for: the runner counts its tokens in 32 bits (server 0.33)."""


def check_num_ctx(value: Any) -> int | str | None:
    """Check a window that is asked for.

    Args:
        value: None (nothing is asked for), a number of tokens, or "auto".

    Raises:
        ValueError: It is none of these. The text names what would be right.
    """
    if isinstance(value, str):
        if value == AUTO:
            return value
        raise ValueError(f"num_ctx={value!r} is no size of a window: {_meant(value)}")
    return _check("num_ctx", value, f"{AUTO!r}, a number of tokens such as 8192, or None to send nothing")


def check_max_num_ctx(value: Any) -> int | None:
    """Check the size up to which a window may grow.

    Args:
        value: A number of tokens; None is "not set".

    Raises:
        ValueError: It is neither. The text names what would be right.
    """
    return _check("max_num_ctx", value, "a number of tokens such as 32768, or None for the default")


def _check(name: str, value: Any, right: str) -> int | None:
    if value is None:
        return None
    tokens = to_whole(value)
    if tokens is None:
        raise ValueError(  # a wrong setting, whatever is wrong with it
            f"{name}={value!r} ({type(value).__name__}) is no size of a window: use {right}"
        )
    if not 1 <= tokens <= MAX_NUM_CTX:
        raise ValueError(f"{name}={tokens} must be from 1 to {MAX_NUM_CTX}: use {right}")
    return tokens


def _meant(text: str) -> str:
    plain = text.strip().lower()
    if plain == AUTO:
        return f"write {AUTO!r}"
    if plain.isascii() and plain.isdigit():
        return "write the number itself, without quotes"
    return f"use {AUTO!r}, a number of tokens such as 8192, or None to send nothing"
