"""What a chat message puts into a prompt."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import mul
from typing import Any, NamedTuple, cast

from griptape_ollama.context.recent_cache import RecentMemory
from griptape_ollama.context.tokens.characters import count_classes
from griptape_ollama.context.tokens.priors import OWN_COUNT_PRIORS, PROMPT_PRIORS, TEXT_PRIORS, TYPICAL
from griptape_ollama.context.tokens.regression import Prior

_logger = logging.getLogger(__name__)


class MessageParts(NamedTuple):
    """What of a message has tokens.

    Attributes:
        texts: Content, thinking, and the calls as JSON.
        images: How many images it has.
        calls: How many calls it asks for; 1 for the result of one.
    """

    texts: tuple[str, ...]
    images: int
    calls: int


def parts_of(message: Mapping[str, Any]) -> MessageParts:
    """Give what of a message has tokens.

    Args:
        message: A message as it goes over the wire. Fields of a wrong kind count as what they look like as text.
    """
    texts = [_to_text(message[name]) for name in ("content", "thinking") if message.get(name)]
    calls = to_list(message.get("tool_calls"))
    if calls:
        texts.append(to_json([_to_call(call) for call in calls]))
    images = to_list(message.get("images"))
    return MessageParts(tuple(texts), len(images), len(calls) + (message.get("role") == "tool"))


def to_json(value: Any) -> str:
    """Write a value as templates do; what JSON does not know is written as Python does."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _to_call(call: Any) -> object:
    """Give what a template shows of a call: neither the id nor the index."""
    function = cast("Mapping[str, Any]", call).get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return cast("object", call)
    function = cast("Mapping[str, Any]", function)
    return {name: function.get(name) for name in ("name", "arguments")}


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def to_list(value: Any) -> Sequence[Any]:
    """Give what should be a list; what is none is the only one of its kind."""
    if not value:
        return ()
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else (value,)


# A conversation of 10,000 runs has 20,000 messages, and several may be under way. An entry has about 0.4 KB.
_TEXTS = 65_536
# No tokenizer makes more than a few tokens of one byte, and a character has four of these at most.
_MOST_PER_CHARACTER = 16
_MOST_AROUND = 1024

Row = tuple[float, ...]
"""How many there are of each class; trailing zeros may be left out."""


class TextRows:
    """Gives the rows of texts, and what they come to.

    No text is held: what is known of one is found by its hash and its length.

    Attributes:
        priors: Of the classes of a row.

    Args:
        count: Counts the tokens of a text in place of the built-in classes.
    """

    def __init__(self, count: Callable[[str], float] | None = None) -> None:
        self.priors: tuple[Prior, ...] = OWN_COUNT_PRIORS if count else TEXT_PRIORS
        self._count = count
        self._is_blamed = False
        self._known: RecentMemory[tuple[Row, int, float]] = RecentMemory(_TEXTS)

    def __len__(self) -> int:
        return len(self._known)

    def typical(self) -> Row:
        """Give the row of a plain text, without asking a tokenizer of the user's own."""
        return count_classes(TYPICAL) if self._count is None else _likely(TYPICAL)

    def row(self, text: str) -> Row:
        """Give how many there are of each class."""
        key = hash(text), len(text)
        known = self._known.get(key)
        if known is not None:
            return known[0]
        row = self._new_row(text)
        self._known.put(key, (row, -1, 0.0))
        return row

    def tokens(self, text: str, version: int, weights: Row) -> float:
        """Give what a text comes to.

        Args:
            text: The text.
            version: Number of the weights: as long as it is the same, what was found is remembered.
            weights: Tokens of one of each class.
        """
        key = hash(text), len(text)
        known = self._known.get(key)
        if known is not None and known[1] == version:
            return known[2]
        row = known[0] if known else self._new_row(text)
        tokens = sum(map(mul, row, weights))
        self._known.put(key, (row, version, tokens))
        return tokens

    def _new_row(self, text: str) -> Row:
        if self._count is None:
            return count_classes(text)
        try:
            tokens = float(self._count(text))
        except Exception as error:  # noqa: BLE001 - whatever a tokenizer of the user's raises, a prompt goes on
            return self._instead(text, f"failed: {error!r}")
        most = _MOST_PER_CHARACTER * len(text) + _MOST_AROUND
        return (tokens,) if 0 <= tokens <= most else self._instead(text, f"gave {tokens!r}")

    def _instead(self, text: str, what: str) -> Row:
        """Give what most tokenizers would count, and say once why."""
        if not self._is_blamed:
            self._is_blamed = True
            _logger.warning("The tokenizer that counts the prompts' tokens %s; its count is estimated instead.", what)
        return _likely(text)


def _likely(text: str) -> Row:
    return (sum(number * prior.mean for number, prior in zip(count_classes(text), TEXT_PRIORS, strict=False)),)


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
