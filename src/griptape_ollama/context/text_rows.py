"""What texts count as in a calibration, remembered for those that come again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import mul

from griptape_ollama.context.calibration import Prior
from griptape_ollama.context.characters import count_classes
from griptape_ollama.context.priors import OWN_COUNT_PRIORS, TEXT_PRIORS, TYPICAL
from griptape_ollama.context.recent_cache import RecentMemory

# A conversation of 10,000 runs has 20,000 messages, and several may be under way. An entry has about 0.4 KB.
_TEXTS = 65_536
# No tokenizer makes more than a few tokens of one byte, and a character has four of these at most.
_MOST_PER_CHARACTER = 16
_MOST_AROUND = 1024

Row = tuple[float, ...]
"""How many there are of each class; trailing zeros may be left out."""

_logger = logging.getLogger(__name__)


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
