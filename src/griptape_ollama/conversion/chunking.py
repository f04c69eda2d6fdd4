"""Texts that are longer than the model's window: how long they are at least, and where they are cut."""

from __future__ import annotations

_SEARCH = 0.1  # how far from the middle a blank is looked for, as a share of the text
_TOKENS_PER_WORD = 1.4  # English prose has about 1.3; pieces had better be too short than refused
_CHARACTERS_PER_TOKEN = 3


def least_tokens(text: str) -> int:
    """Tokens that a text has at least: no tokenizer makes one token of two words."""
    return len(text.split())


def likely_tokens(text: str) -> int:
    """Tokens that a text has about, rather too many than too few."""
    return round(max(least_tokens(text) * _TOKENS_PER_WORD, len(text) / _CHARACTERS_PER_TOKEN))


def split_text(text: str, pieces: int) -> list[str]:
    """Cut a text into pieces of about the same length, between words where there are blanks near the cut.

    Args:
        text: A text; of two letters at least, so that there is something to cut.
        pieces: How many pieces are wanted, 2 at least.

    Returns:
        The pieces, none of them empty or blank but where the text is blank over a whole piece; then fewer.
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
