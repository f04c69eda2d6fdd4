"""How many tokens a text has."""

from collections.abc import Callable
from functools import lru_cache

CountTokens = Callable[[str], int]
"""Counts the tokens of a text."""

_CHARACTERS_PER_TOKEN = 4
_LONGEST_KNOWN = 20_000  # characters of texts whose count is worth remembering


def estimated_tokens(text: str) -> int:
    """Count about four characters as a token, which is what a simulator does by itself."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def counted(text: str, count: CountTokens | None) -> int:
    """Count the tokens of a text.

    Args:
        text: The text.
        count: Counter of the test's own, None for an estimate. It is asked once for each text that is not very long.

    Raises:
        TypeError: The counter gave no number of tokens.
    """
    if count is None:
        return estimated_tokens(text)
    return _known(count, text) if len(text) <= _LONGEST_KNOWN else _checked(count, text)


def _checked(count: CountTokens, text: str) -> int:
    tokens = count(text)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"count_tokens gave {tokens!r:.80} for a text, which is no number of tokens")
    return tokens


_known = lru_cache(maxsize=4096)(_checked)
