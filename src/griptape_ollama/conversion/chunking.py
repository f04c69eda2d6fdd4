"""Splits texts that are longer than the model's window, and estimates their tokens."""

from __future__ import annotations

_SEARCH = 0.1  # how far from the middle a blank is searched, as a share of the text
_TOKENS_PER_WORD = 1.4  # English prose has about 1.3; chunks that are too short are better than refused ones
_CHARACTERS_PER_TOKEN = 3


def least_tokens(text: str) -> int:
    """Return the tokens that a text has at least: no tokenizer makes one token of two words."""
    return len(text.split())


def likely_tokens(text: str) -> int:
    """Estimate the tokens of a text, rather too many than too few."""
    return round(max(least_tokens(text) * _TOKENS_PER_WORD, len(text) / _CHARACTERS_PER_TOKEN))


def split_text(text: str, pieces: int) -> list[str]:
    """Split a text into chunks of about the same length, between words where there are blanks near the cut.

    Args:
        text: A text of two characters at least.
        pieces: How many chunks are wanted, 2 at least.

    Returns:
        The chunks; fewer where one would be blank.
    """
    pieces = max(2, min(pieces, len(text)))
    found: list[str] = []
    start = 0
    for number in range(1, pieces):
        end = _near_blank(text, len(text) * number // pieces, int(len(text) / pieces * _SEARCH))
        found.append(text[start:end])
        start = end
    found.append(text[start:])
    kept = [piece.strip() for piece in found if piece.strip()]
    return kept or [text]


def _near_blank(text: str, at: int, reach: int) -> int:
    for distance in range(reach + 1):
        for position in (at - distance, at + distance):
            if 0 < position < len(text) and text[position].isspace():
                return position
    return at
