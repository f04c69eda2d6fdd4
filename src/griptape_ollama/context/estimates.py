"""How many tokens something probably has, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of a normal distribution, between which 95 of 100 values are.
_DEVIATIONS = 1.96


@dataclass(frozen=True)
class TokenEstimate:
    """How many tokens a text or a prompt probably has.

    Attributes:
        tokens: Most likely number.
        low: Number that it falls below in about 2 of 100 cases.
        high: Number that it is above in about 2 of 100 cases.
    """

    tokens: int
    low: int
    high: int

    @property
    def uncertainty(self) -> float:
        """Half of the span between `low` and `high`, as a share of `tokens`; 0.1 is "give or take 10%"."""
        return (self.high - self.low) / 2 / max(1, self.tokens)


def to_estimate(tokens: float, deviation: float) -> TokenEstimate:
    """Give an estimate.

    Args:
        tokens: Expected number of tokens.
        deviation: Standard deviation of the expectation, in tokens.
    """
    span = _DEVIATIONS * deviation
    return TokenEstimate(round(tokens), max(0, math.floor(tokens - span)), math.ceil(tokens + span))
