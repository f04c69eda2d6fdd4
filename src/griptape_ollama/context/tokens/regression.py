"""How many tokens something probably has, and how sure that is."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul

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


# How far texts of the same classes differ, as a share of their tokens: measured over six tokenizers (benchmarks).
_MISFIT = 0.04
# What rounding and a template's blanks come to, in tokens.
_SLACK = 2.0
# Of Student's t distribution: as heavy as tails are where one count in ten is wild.
_DEGREES_OF_FREEDOM = 4.0
# So much of what was not known at first is not known again after each count: models are replaced under their names.
_FORGETTING = 0.002
# Of so many last counts more than half must be off before being off is taken for normal, and so many deviations off
# before it is taken for another model under the same name.
_LAST = 9
_ANOTHER_MODEL = 4.0
_MOST_OFF = 30.0
# Texts that fit so much better than usual are a sample that is too small.
_LEAST_SCALE = 0.7
# The median of the absolute values of a normal distribution, in standard deviations.
_MEDIAN_OFF = 0.6745


@dataclass(frozen=True)
class Prior:
    """What is known about a weight before anything was counted.

    Attributes:
        name: Class that the weight is for.
        mean: Tokens that one of the class has in most tokenizers.
        spread: Standard deviation of that between tokenizers and texts.
        most: Tokens that one of the class never has more of.
        together: How far all weights with this are off in the same direction, as a share of each: some vocabularies
            are large, some texts ordinary.
        kin: Name that it shares with those weights which most often are high or low together with it.
        with_kin: How far those are off in the same direction, as a share of each.
    """

    name: str
    mean: float
    spread: float
    most: float
    together: float = 0.0
    kin: str = ""
    with_kin: float = 0.0

    def covariance(self, other: Prior) -> float:
        """Give how far this weight and another are off together, before anything was counted."""
        shares = self.together * other.together + (self.with_kin * other.with_kin if self.kin == other.kin else 0.0)
        return shares * self.mean * other.mean + (self.spread**2 if other is self else 0.0)


class Calibration:
    """Weights of classes, and how sure they are. Not thread-safe where it learns; `weights` is replaced, never changed.

    Args:
        priors: What is known before anything was counted.
        others: The same of vocabularies of another kind; None where there is no other.

    Attributes:
        weights: Tokens of one of each class, from 0 to the prior's `most`.
        counts: How many counts were learned from.
    """

    def __init__(self, priors: Sequence[Prior], others: Sequence[Prior] | None = None) -> None:
        self.counts = 0
        self._others = others
        self._evidence = Evidence()
        self._begin(priors)

    def _begin(self, priors: Sequence[Prior]) -> None:
        """Begin anew with what is known before anything was counted."""
        self._priors = priors
        self.weights: tuple[float, ...] = tuple(prior.mean for prior in priors)
        self._most = [prior.most for prior in priors]
        self._mean = list(self.weights)
        self._first = [[prior.covariance(other) for other in priors] for prior in priors]
        self._covariance = [list(line) for line in self._first]
        self._last_off: deque[float] = deque(maxlen=_LAST)
        self._scale = 1.0

    def expected(self, row: Sequence[float]) -> float:
        """Give the tokens that so many of each class probably have; trailing zeros may be left out."""
        return sum(map(mul, row, self.weights))

    def most(self, row: Sequence[float]) -> float:
        """Give the tokens that so many of each class never have more of."""
        return sum(map(mul, row, self._most))

    def deviation(self, row: Sequence[float]) -> float:
        """Give the standard deviation of what is expected, in tokens."""
        _, variance = self._known(row)
        return math.sqrt(variance + self._noise(self.expected(row)) * self._scale**2)

    def learn(self, row: Sequence[float], tokens: float) -> None:
        """Take note of a count.

        Args:
            row: How many there were of each class.
            tokens: What they came to.
        """
        if self._others is not None and self._speaks_for(self._others, row, tokens):
            self._others, priors = self._priors, self._others
            self._begin(priors)
        gains, variance = self._known(row)
        off = tokens - sum(map(mul, row, self._mean))
        noise = self._noise(min(tokens, 2 * self.expected(row)))
        if self._note(abs(off) / math.sqrt(variance + noise)):
            gains, variance = self._known(row)
        noise *= self._scale**2
        square = off**2 / (variance + noise)
        # What a t distribution makes of one that is far off: its noise is taken to be larger.
        noise *= max(1.0, (_DEGREES_OF_FREEDOM + square) / (_DEGREES_OF_FREEDOM + 1))
        self._update(gains, off, variance + noise)
        self.counts += 1

    def _speaks_for(self, others: Sequence[Prior], row: Sequence[float], tokens: float) -> bool:
        thought, other = (
            sum(value * prior.mean for value, prior in zip(row, priors, strict=False))
            for priors in (self._priors, others)
        )
        return self._evidence.is_enough(tokens, thought, self.expected(row), other, is_whole=row[0] != 0)

    def _known(self, row: Sequence[float]) -> tuple[list[float], float]:
        """Give the covariance of the weights with the sum, and the variance of the sum."""
        there = [(place, value) for place, value in enumerate(row) if value]
        gains = [sum(line[place] * value for place, value in there) for line in self._covariance]
        return gains, max(0.0, sum(gains[place] * value for place, value in there))

    def _note(self, deviations: float) -> bool:
        """Remember how far a count was off, and say whether all that was known has been given up for it."""
        self._last_off.append(min(deviations, _MOST_OFF))
        usual = statistics.median(self._last_off)
        if len(self._last_off) == _LAST and usual > _ANOTHER_MODEL:
            self._covariance = [list(line) for line in self._first]
            self._last_off.clear()
            self._scale = 1.0
            return True
        self._scale = max(_LEAST_SCALE, usual / _MEDIAN_OFF) if len(self._last_off) > _LAST // 2 else 1.0
        return False

    def _update(self, gains: list[float], off: float, variance: float) -> None:
        share = off / variance
        self._mean = [mean + gain * share for mean, gain in zip(self._mean, gains, strict=True)]
        for line, gain, first in zip(self._covariance, gains, self._first, strict=True):
            factor = gain / variance
            line[:] = [
                value - factor * other + _FORGETTING * (original - value)
                for value, other, original in zip(line, gains, first, strict=True)
            ]
        self.weights = tuple(min(max(0.0, mean), most) for mean, most in zip(self._mean, self._most, strict=True))

    def _noise(self, tokens: float) -> float:
        return _SLACK**2 + (_MISFIT * tokens) ** 2
