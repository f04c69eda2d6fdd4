"""A Bayesian linear regression from features to tokens, which is robust against wrong counts."""

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
        low: The number is lower in about 2 of 100 cases.
        high: The number is higher in about 2 of 100 cases.
    """

    tokens: int
    low: int
    high: int

    @property
    def uncertainty(self) -> float:
        """Half of the span between `low` and `high`, as a share of `tokens`; 0.1 is "give or take 10%"."""
        return (self.high - self.low) / 2 / max(1, self.tokens)


def to_estimate(tokens: float, deviation: float) -> TokenEstimate:
    """Return the estimate of an expected number of tokens and its standard deviation."""
    span = _DEVIATIONS * deviation
    return TokenEstimate(round(tokens), max(0, math.floor(tokens - span)), math.ceil(tokens + span))


# Counts of vocabularies of the same kind differ by less, whatever the text.
_OFF = 2.0
# How well counts have to fit the other kind.
_FIT = 0.25
# Tokens by which two texts have to differ, or which one has to have, for what they have in common not to matter, such
# as a system prompt of the model.
_APART = 150.0
_LARGE = 1_500.0
# Tokens below which a text proves little, where nothing surrounds it.
_FEW = 60.0


class VocabularyCheck:
    """Detects from counts that a model has a vocabulary of another kind than was assumed.

    It takes two counts that do not fit the assumed kind and do fit the other: a single one may be wrong, or include
    much that is not known.
    """

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def add(self, tokens: float, assumed: float, learned: float, other: float, *, is_whole: bool) -> bool:
        """Add a count, and return whether the last two speak for the other kind.

        Args:
            tokens: The count.
            assumed: What vocabularies of the assumed kind make of the text.
            learned: What was expected after all that was learned.
            other: What vocabularies of the other kind make of the text.
            is_whole: Whether it counts a whole prompt, which has more than its texts, rather than what was added to it.
        """
        if other < _FEW:
            return False
        is_off = not assumed / _OFF < tokens < assumed * _OFF and not _fits(tokens, learned)
        before, self._before = self._before, (tokens, other) if is_off else None
        if before is None or not is_off:
            return False
        more, apart = tokens - before[0], other - before[1]
        if is_whole and abs(apart) >= _APART:
            return _fits(more, apart)
        return (not is_whole or min(other, before[1]) >= _LARGE) and _fits(tokens, other) and _fits(*before)


def _fits(tokens: float, expected: float) -> bool:
    return abs(tokens - expected) <= _FIT * abs(expected)


# How far texts with the same features differ, as a share of their tokens: measured over six tokenizers (benchmarks).
_MISFIT = 0.04
# What rounding and a template's blanks come to, in tokens.
_SLACK = 2.0
# Of Student's t distribution: as heavy as tails are where one count in ten is wild.
_DEGREES_OF_FREEDOM = 4.0
# After each count the covariance returns to the first one by this share: models are replaced under their names.
_FORGETTING = 0.002
# More than half of so many last counts must be off before that is taken for normal, and by so many deviations before
# it is taken for another model under the same name.
_LAST = 9
_ANOTHER_MODEL = 4.0
_MOST_OFF = 30.0
# Texts that fit so much better than usual are a sample that is too small.
_LEAST_SCALE = 0.7
# The median of the absolute values of a normal distribution, in standard deviations.
_MEDIAN_OFF = 0.6745


@dataclass(frozen=True)
class Prior:
    """What is known of a weight before anything was counted.

    Attributes:
        name: Name of the feature.
        mean: Tokens of one of the feature in most tokenizers.
        spread: Standard deviation of that between tokenizers and texts.
        most: Upper limit of the weight.
        common: How far all weights are off in the same direction, as a share of each: some vocabularies are large, some
            texts ordinary.
    """

    name: str
    mean: float
    spread: float
    most: float
    common: float = 0.0

    def covariance(self, other: Prior) -> float:
        """Return the covariance of this weight and another before anything was learned."""
        shared = self.common * other.common * self.mean * other.mean
        return shared + (self.spread**2 if other is self else 0.0)


class TokenRegression:
    """Weights of features, and how sure they are. `learn` is not thread-safe; `weights` is replaced, never changed.

    Args:
        priors: What is known before anything was counted.
        alternative: The same for vocabularies of another kind; None if there is no other.

    Attributes:
        weights: Tokens of one of each feature, from 0 to the prior's `most`.
        counts: How many counts were learned from.
    """

    def __init__(self, priors: Sequence[Prior], alternative: Sequence[Prior] | None = None) -> None:
        self.counts = 0
        self._alternative = alternative
        self._vocabulary_check = VocabularyCheck()
        self._begin(priors)

    def _begin(self, priors: Sequence[Prior]) -> None:
        """Begin anew with the priors."""
        self._priors = priors
        self.weights: tuple[float, ...] = tuple(prior.mean for prior in priors)
        self._most = [prior.most for prior in priors]
        self._mean = list(self.weights)
        self._first = [[prior.covariance(other) for other in priors] for prior in priors]
        self._covariance = [list(line) for line in self._first]
        self._last_errors: deque[float] = deque(maxlen=_LAST)
        self._scale = 1.0

    def expected(self, features: Sequence[float]) -> float:
        """Return the expected tokens; trailing zeros of the features may be left out."""
        return sum(map(mul, features, self.weights))

    def most(self, features: Sequence[float]) -> float:
        """Return the upper limit of the tokens."""
        return sum(map(mul, features, self._most))

    def deviation(self, features: Sequence[float]) -> float:
        """Return the standard deviation of what is expected, in tokens."""
        _, variance = self._gains(features)
        return math.sqrt(variance + self._noise(self.expected(features)) * self._scale**2)

    def learn(self, features: Sequence[float], tokens: float) -> None:
        """Update the weights with a count of `tokens` for the features `features`."""
        if self._alternative is not None and self._fits_alternative(self._alternative, features, tokens):
            self._alternative, priors = self._priors, self._alternative
            self._begin(priors)
        gains, variance = self._gains(features)
        error = tokens - sum(map(mul, features, self._mean))
        noise = self._noise(min(tokens, 2 * self.expected(features)))
        if self._record_error(abs(error) / math.sqrt(variance + noise)):
            gains, variance = self._gains(features)
        noise *= self._scale**2
        square = error**2 / (variance + noise)
        # As in a t distribution, a count that is far off is taken for one with more noise.
        noise *= max(1.0, (_DEGREES_OF_FREEDOM + square) / (_DEGREES_OF_FREEDOM + 1))
        self._update(gains, error, variance + noise)
        self.counts += 1

    def _fits_alternative(self, alternative: Sequence[Prior], features: Sequence[float], tokens: float) -> bool:
        assumed, other = (
            sum(value * prior.mean for value, prior in zip(features, priors, strict=False))
            for priors in (self._priors, alternative)
        )
        return self._vocabulary_check.add(tokens, assumed, self.expected(features), other, is_whole=features[0] != 0)

    def _gains(self, features: Sequence[float]) -> tuple[list[float], float]:
        """Return the covariance of the weights with the sum, and the variance of the sum."""
        gains = [sum(map(mul, line, features)) for line in self._covariance]
        return gains, max(0.0, sum(map(mul, gains, features)))

    def _record_error(self, deviations: float) -> bool:
        """Record how far a count was off, and return whether the covariance was reset for it."""
        self._last_errors.append(min(deviations, _MOST_OFF))
        usual = statistics.median(self._last_errors)
        if len(self._last_errors) == _LAST and usual > _ANOTHER_MODEL:
            self._covariance = [list(line) for line in self._first]
            self._last_errors.clear()
            self._scale = 1.0
            return True
        self._scale = max(_LEAST_SCALE, usual / _MEDIAN_OFF) if len(self._last_errors) > _LAST // 2 else 1.0
        return False

    def _update(self, gains: list[float], error: float, variance: float) -> None:
        share = error / variance
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
