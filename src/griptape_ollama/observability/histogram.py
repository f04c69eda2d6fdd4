"""Durations in bounded memory, however many there are."""

from __future__ import annotations

import math

RELATIVE_ERROR = 0.01
"""Largest difference of a quantile from the value that it stands for, as a share of that value."""

SHORTEST = 1e-4
"""Seconds; all values below are in one bucket."""

LONGEST = 1e5
"""Seconds, more than a day; all values above are in one bucket."""

# A bucket is represented by its geometric middle, which is the root of this factor away from its ends.
_FACTOR = (1 + RELATIVE_ERROR) ** 2
_PER_UNIT = 1 / math.log(_FACTOR)
_FIRST = math.floor(math.log(SHORTEST) * _PER_UNIT)


class Histogram:
    """Counts seconds in at most 1,050 buckets, each of which begins 2% above the one before.

    Unlike percentiles and samples, histograms can be added up without a loss.

    Attributes:
        count: Number of values.
        total: Their sum.
        least: The smallest of them; 0 without any.
        most: The largest of them; 0 without any.
    """

    __slots__ = ("_buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0.0
        self.least = 0.0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Add a value."""
        bucket = math.floor(math.log(min(max(seconds, SHORTEST), LONGEST)) * _PER_UNIT)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.least = seconds if self.count == 0 else min(self.least, seconds)
        self.most = max(self.most, seconds)
        self.count += 1
        self.total += seconds

    def add_all(self, other: Histogram) -> None:
        """Add the values of another histogram."""
        if not other.count:
            return
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count
        self.least = min(self.least, other.least) if self.count else other.least
        self.most = max(self.most, other.most)
        self.count += other.count
        self.total += other.total

    def quantile(self, share: float) -> float | None:
        """Return the smallest value not below a share of all values, with an error of 1%; None without values.

        Args:
            share: From 0 to 1; 0.5 is the median.
        """
        if not self.count:
            return None
        wanted = max(math.ceil(share * self.count), 1)
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                middle = 0.0 if bucket == _FIRST else _FACTOR ** (bucket + 0.5)
                return min(max(middle, self.least), self.most)
        return self.most
