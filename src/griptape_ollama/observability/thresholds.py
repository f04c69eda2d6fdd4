"""Thresholds for the latest calls, and alerts when they are crossed."""

from __future__ import annotations

import bisect
import math
from collections import deque
from dataclasses import dataclass

from griptape_ollama.errors import OllamaContentError, OllamaTimeoutError
from griptape_ollama.observability.statistics import is_cancelled
from griptape_ollama.transport.call_reports import CallReport

_RATES = ("timeout_rate", "error_rate")
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_TIMES = ("total", "time_to_first_token")
METRICS = (*_RATES, *(f"{time}_{percentile}" for time in _TIMES for percentile in _SHARES))
"""Names of the values that a threshold can limit."""


@dataclass(frozen=True)
class OllamaThreshold:
    """A value that should not be exceeded by the latest calls of a host and model.

    Attributes:
        metric: `timeout_rate` or `error_rate`, a share from 0 to 1; or `total_p99`, `total_p95`, `total_p50`,
            `time_to_first_token_p99` and so on, in seconds.
        above: Largest value without an alert.
        calls: How many of the latest calls count. Cancelled ones never do; for seconds, only calls that succeeded, or
            had a first token.
        at_least: Smallest number of calls for an alert.

    Raises:
        OllamaContentError: There is no such metric, or a number is invalid.
    """

    metric: str
    above: float
    calls: int = 100
    at_least: int = 20

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise OllamaContentError(f"metric={self.metric!r} must be one of {', '.join(map(repr, METRICS))}")
        if not self.above >= 0:
            raise OllamaContentError(f"above={self.above!r} must be a number from 0")
        if not 1 <= self.at_least <= self.calls:
            raise OllamaContentError(
                f"at_least={self.at_least!r} must be from 1 to calls={self.calls!r}, or nothing is ever said"
            )


@dataclass(frozen=True)
class OllamaAlert:
    """A threshold that was crossed.

    Attributes:
        threshold: The threshold.
        host: Address of the server.
        model: Name of the model.
        value: The value now.
        is_exceeded: Whether the value is above the threshold; if not, it was until now.
    """

    threshold: OllamaThreshold
    host: str
    model: str | None
    value: float
    is_exceeded: bool


class ThresholdMonitor:
    """Compares the latest calls of one host and model with a threshold."""

    def __init__(self, threshold: OllamaThreshold) -> None:
        self._threshold = threshold
        self._latest: deque[float] = deque()
        self._ordered: list[float] = []
        self._sum = 0.0
        self._is_exceeded = False
        self._what, _, percentile = threshold.metric.rpartition("_")
        self._share = _SHARES.get(percentile)

    def add(self, report: CallReport) -> OllamaAlert | None:
        """Add a call, and return an alert if it crossed the threshold."""
        value = self._value(report)
        if value is None:
            return None
        self._add_value(value)
        if len(self._latest) < self._threshold.at_least:
            return None
        now = self._current()
        if (now > self._threshold.above) == self._is_exceeded:
            return None
        self._is_exceeded = not self._is_exceeded
        return OllamaAlert(self._threshold, report.host, report.model, now, self._is_exceeded)

    def _value(self, report: CallReport) -> float | None:
        """Return the value of a call that the threshold limits; None if it has none."""
        error = report.error
        if self._share is None:
            wrong = OllamaTimeoutError if self._what == "timeout" else Exception
            return None if is_cancelled(error) else float(isinstance(error, wrong))
        if self._what == "total":
            return report.seconds if error is None else None
        return report.time_to_first_token

    def _add_value(self, value: float) -> None:
        if len(self._latest) == self._threshold.calls:
            self._forget(self._latest.popleft())
        self._latest.append(value)
        if self._share is None:
            self._sum += value
        else:
            bisect.insort(self._ordered, value)

    def _forget(self, value: float) -> None:
        if self._share is None:
            self._sum -= value
        else:
            del self._ordered[bisect.bisect_left(self._ordered, value)]

    def _current(self) -> float:
        if self._share is None:
            return self._sum / len(self._latest)
        return self._ordered[max(math.ceil(self._share * len(self._ordered)), 1) - 1]
