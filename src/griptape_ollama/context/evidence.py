"""When counts say that a vocabulary is of another kind than was thought."""

from __future__ import annotations

# Counts of vocabularies of the same kind differ by less, whatever the text.
_OFF = 2.0
# How well counts have to fit the other kind.
_FIT = 0.25
# Tokens by which texts have to differ, or which one has to have, for what they have in common not to matter, such as a
# system prompt of the model's own.
_APART = 150.0
_LARGE = 1_500.0
# Tokens below which a text says little, where nothing surrounds it.
_FEW = 60.0


class Evidence:
    """Collects counts that do not fit what is thought of a vocabulary, and do fit the other kind.

    One is no evidence: it may be wild, or have much in it that is not known.
    """

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def is_enough(self, tokens: float, thought: float, learned: float, other: float, *, is_whole: bool) -> bool:
        """Take in a count, and say whether the last two speak for the other kind.

        Args:
            tokens: The count.
            thought: What vocabularies of this kind make of the text.
            learned: What was expected after all that was learned.
            other: What the other kind would have made of it.
            is_whole: Whether it is of a whole prompt, which has more than its texts, rather than of what was added.
        """
        if other < _FEW:
            return False
        is_off = not thought / _OFF < tokens < thought * _OFF and not _fits(tokens, learned)
        before, self._before = self._before, (tokens, other) if is_off else None
        if before is None or not is_off:
            return False
        more, apart = tokens - before[0], other - before[1]
        if is_whole and abs(apart) >= _APART:
            return _fits(more, apart)
        return (not is_whole or min(other, before[1]) >= _LARGE) and _fits(tokens, other) and _fits(*before)


def _fits(tokens: float, expected: float) -> bool:
    return abs(tokens - expected) <= _FIT * abs(expected)
