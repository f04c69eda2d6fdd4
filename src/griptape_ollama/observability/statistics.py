"""What was counted, at one moment."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from griptape_ollama.errors import OllamaCancelledError, OllamaTimeoutError
from griptape_ollama.observability.histogram import Histogram
from griptape_ollama.transport.call_reports import CallReport


@dataclass(frozen=True)
class Seconds:
    """How long something took. Percentiles are 1% off at most.

    Attributes:
        count: How often it was measured.
        mean: The mean; None where it never was. So are all that follow.
        p50: The median.
        p95: What 95% did not exceed.
        p99: What 99% did not exceed.
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
        """Take them from a histogram."""
        if not histogram.count:
            return cls()
        p50, p95, p99 = (histogram.quantile(share) for share in (0.5, 0.95, 0.99))
        return cls(histogram.count, histogram.total / histogram.count, p50, p95, p99, histogram.most)


@dataclass(frozen=True)
class OllamaStatistics:
    """How calls fared. A call is one request with its retries; those of one Agent can be many.

    Attributes:
        calls: Calls that are over.
        succeeded: Those with a whole reply.
        cancelled: Those that somebody stopped, or left before their end. They count as no failure.
        errors: Those that failed, by the name of the error's class, timeouts included.
        timeouts: Those that reached a limit, by its name: `connect`, `first_token`, `between_tokens`, `total`, `slot`.
        retries: Tries beyond the first of each call.
        input_tokens: Tokens of prompts, as the server counted them.
        output_tokens: Tokens of replies, likewise.
        cached_tokens: Those of prompts that were in the server's prompt cache; 0 where it does not tell (before 0.34).
        cache_hit_rate: Share of these in the tokens of the prompts of which it told; None where it told of none.
        time_to_first_token: Of every call that got so far, from its start, queues and retries included.
        total: Of the calls that succeeded.
        in_queue: Of the calls that waited for one of `max_concurrency` places, how long.
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
        """Share of failures among the calls that nobody stopped; 0 without any."""
        return self.failed / max(self.calls - self.cancelled, 1)

    @property
    def timeout_rate(self) -> float:
        """Share of timeouts among the calls that nobody stopped; 0 without any."""
        return sum(self.timeouts.values()) / max(self.calls - self.cancelled, 1)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain values, for JSON."""
        return {**asdict(self), "failed": self.failed, "error_rate": self.error_rate, "timeout_rate": self.timeout_rate}


def is_cancelled(error: BaseException | None) -> bool:
    """Whether a call ended because somebody wanted it to: our own error, or Ctrl-C."""
    return isinstance(error, OllamaCancelledError) or (error is not None and not isinstance(error, Exception))


class Tally:
    """Counts the calls of one kind."""

    def __init__(self) -> None:
        self._calls = self._succeeded = self._cancelled = self._retries = 0
        self._input_tokens = self._output_tokens = 0
        # Tokens of prompts of which the server tells how many it had, and how many it had of them.
        self._cacheable_tokens = self._cached_tokens = 0
        self._errors: dict[str, int] = {}
        self._timeouts: dict[str, int] = {}
        self._first_token, self._total, self._in_queue = Histogram(), Histogram(), Histogram()

    def add(self, report: CallReport) -> None:
        """Count a call."""
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
        """Add up what several have counted."""
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
        for mine, others in ((self._errors, other._errors), (self._timeouts, other._timeouts)):
            for name, count in others.items():
                _count(mine, name, count)
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
