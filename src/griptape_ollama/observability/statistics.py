"""Statistics of calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from griptape_ollama.errors import OllamaCancelledError, OllamaTimeoutError
from griptape_ollama.observability.histogram import Histogram
from griptape_ollama.transport.call_reports import CallReport


@dataclass(frozen=True)
class Seconds:
    """Statistics of durations in seconds. Percentiles have an error of 1% at most.

    Attributes:
        count: Number of durations.
        mean: The mean; None without durations, as are all that follow.
        p50: The median.
        p95: The 95th percentile.
        p99: The 99th percentile.
        max: The longest.
    """

    count: int = 0
    mean: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None

    @classmethod
    def of(cls, histogram: Histogram) -> Seconds:
        """Build the statistics of a histogram."""
        if not histogram.count:
            return cls()
        p50, p95, p99 = (histogram.quantile(share) for share in (0.5, 0.95, 0.99))
        return cls(histogram.count, histogram.total / histogram.count, p50, p95, p99, histogram.most)


@dataclass(frozen=True)
class OllamaStatistics:
    """Statistics of calls. A call is one request with its retries; an Agent may make many.

    Attributes:
        calls: Calls that have ended.
        succeeded: Calls with a complete reply.
        cancelled: Calls that were cancelled, or left before their end. They are not failures.
        errors: Calls that failed, by the class of the error, timeouts included.
        timeouts: Calls that reached a limit, by its name: `connect`, `first_token`, `between_tokens`, `total`, `slot`.
        retries: Attempts after the first one of each call.
        input_tokens: Tokens of prompts, as the server counted them.
        output_tokens: Tokens of replies, likewise.
        cached_tokens: Tokens of prompts in the server's prompt cache; 0 if it does not report them (before 0.34).
        cache_hit_rate: Share of cached tokens in the prompts for which they are reported; None if there are none.
        time_to_first_token: Of every call with a first token, from its start, queue and retries included.
        total: Duration of the calls that succeeded.
        in_queue: Waits for one of the `max_concurrency` slots.
    """

    calls: int = 0
    succeeded: int = 0
    cancelled: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    timeouts: dict[str, int] = field(default_factory=dict[str, int])
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_hit_rate: float | None = None
    time_to_first_token: Seconds = field(default_factory=Seconds)
    total: Seconds = field(default_factory=Seconds)
    in_queue: Seconds = field(default_factory=Seconds)

    @property
    def failed(self) -> int:
        """Calls that failed."""
        return sum(self.errors.values())

    @property
    def error_rate(self) -> float:
        """Share of failures in the calls that were not cancelled; 0 without calls."""
        return self.failed / max(self.calls - self.cancelled, 1)

    @property
    def timeout_rate(self) -> float:
        """Share of timeouts in the calls that were not cancelled; 0 without calls."""
        return sum(self.timeouts.values()) / max(self.calls - self.cancelled, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {**asdict(self), "failed": self.failed, "error_rate": self.error_rate, "timeout_rate": self.timeout_rate}


def is_cancelled(error: BaseException | None) -> bool:
    """Return whether a call was cancelled: by our own error, or by Ctrl-C."""
    return isinstance(error, OllamaCancelledError) or (error is not None and not isinstance(error, Exception))


class Tally:
    """Counts the calls of one kind."""

    def __init__(self) -> None:
        self._calls = self._succeeded = self._cancelled = self._retries = 0
        self._input_tokens = self._output_tokens = 0
        # Of prompts for which the server reports cached tokens: all tokens, and the cached ones.
        self._cacheable_tokens = self._cached_tokens = 0
        self._errors: dict[str, int] = {}
        self._timeouts: dict[str, int] = {}
        self._first_token, self._total, self._in_queue = Histogram(), Histogram(), Histogram()

    def add(self, report: CallReport) -> None:
        """Add a call."""
        self._calls += 1
        self._retries += report.retries
        self._input_tokens += report.input_tokens or 0
        self._output_tokens += report.output_tokens or 0
        if report.cached_tokens is not None and report.input_tokens is not None:
            self._cacheable_tokens += report.input_tokens
            self._cached_tokens += min(report.cached_tokens, report.input_tokens)
        if report.time_to_first_token is not None:
            self._first_token.add(report.time_to_first_token)
        if report.seconds_in_queue:
            self._in_queue.add(report.seconds_in_queue)
        if report.error is None:
            self._succeeded += 1
            self._total.add(report.seconds)
        elif is_cancelled(report.error):
            self._cancelled += 1
        else:
            self._add_error(report.error)

    def _add_error(self, error: BaseException) -> None:
        _count(self._errors, type(error).__name__)
        if isinstance(error, OllamaTimeoutError):
            _count(self._timeouts, error.limit)

    @staticmethod
    def sum_of(tallies: Iterable[Tally]) -> OllamaStatistics:
        """Add up several tallies."""
        whole = Tally()
        for each in tallies:
            whole._add_all(each)
        return whole._statistics()

    def _add_all(self, other: Tally) -> None:
        self._calls += other._calls
        self._succeeded += other._succeeded
        self._cancelled += other._cancelled
        self._retries += other._retries
        self._input_tokens += other._input_tokens
        self._output_tokens += other._output_tokens
        self._cacheable_tokens += other._cacheable_tokens
        self._cached_tokens += other._cached_tokens
        for counts, more in ((self._errors, other._errors), (self._timeouts, other._timeouts)):
            for name, count in more.items():
                _count(counts, name, count)
        self._first_token.add_all(other._first_token)
        self._total.add_all(other._total)
        self._in_queue.add_all(other._in_queue)

    def _statistics(self) -> OllamaStatistics:
        return OllamaStatistics(
            calls=self._calls,
            succeeded=self._succeeded,
            cancelled=self._cancelled,
            errors=self._errors,
            timeouts=self._timeouts,
            retries=self._retries,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cached_tokens=self._cached_tokens,
            cache_hit_rate=self._cached_tokens / self._cacheable_tokens if self._cacheable_tokens else None,
            time_to_first_token=Seconds.of(self._first_token),
            total=Seconds.of(self._total),
            in_queue=Seconds.of(self._in_queue),
        )


def _count(counts: dict[str, int], name: str, number: int = 1) -> None:
    counts[name] = counts.get(name, 0) + number
