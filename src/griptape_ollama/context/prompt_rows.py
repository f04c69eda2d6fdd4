"""Prompts as rows of a calibration, and which prompt goes on from which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from griptape_ollama.context.message_parts import parts_of, to_json
from griptape_ollama.context.priors import PROMPT_PRIORS
from griptape_ollama.context.text_rows import Row, TextRows

AROUND_TEXTS = len(PROMPT_PRIORS)
"""How many classes stand before those of texts: what surrounds them."""


def fixed_row(tools: Sequence[Mapping[str, Any]], texts: TextRows, *, has_system: bool) -> Row:
    """Give the row of what does not depend on the messages: template and tools."""
    around = (1, 0, bool(tools), len(tools), not has_system, 0, 0)
    return (*around, *texts.row(to_json(list(tools)))) if tools else around


def messages_row(messages: Iterable[Mapping[str, Any]], texts: TextRows) -> Row:
    """Give the row of messages."""
    count = images = calls = 0
    rows: list[Row] = []
    for message in messages:
        parts = parts_of(message)
        count += 1
        images += parts.images
        calls += parts.calls
        rows.extend(map(texts.row, parts.texts))
    return (0, count, 0, 0, 0, images, calls, *map(sum, zip_longest(*rows, fillvalue=0)))


def added(row: Row, other: Row) -> Row:
    """Add two rows."""
    return tuple(map(sum, zip_longest(row, other, fillvalue=0)))


def has_system(messages: Iterable[Mapping[str, Any]]) -> bool:
    """Whether there is a system message: the model's own system prompt counts where there is none."""
    return any(message.get("role") == "system" for message in messages)


def prefixes(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Give a number for the first message, for the first two, and so on: equal ones mean the same prompt."""
    # Whether a system message is there at all decides about the model's own.
    number = hash((to_json(list(tools)) if tools else "", has_system(messages)))
    for message in messages:
        parts = parts_of(message)
        number = hash((number, str(message.get("role")), parts))
        yield number
