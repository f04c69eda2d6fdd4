"""Counts and times of all calls of this process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import NamedTuple

from typing_extensions import Self

from griptape_ollama.observability.statistics import OllamaStatistics, Tally
from griptape_ollama.observability.thresholds import OllamaAlert, OllamaThreshold, ThresholdMonitor
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.call_reports import CallReport, add_listener, remove_listener

GENERATING = ("/api/chat", "/api/embed")
"""The requests for which models work. The rest take milliseconds, or hours for a pull."""

MAX_KEYS = 1000
"""Largest number of pairs of host and model; calls beyond count as model `(others)` of host `(others)`."""

_OTHERS = "(others)"

_logger = logging.getLogger(__name__)

OnAlert = Callable[[OllamaAlert], object]


class MetricsKey(NamedTuple):
    """A host and a model, which are counted together.

    Attributes:
        host: Address of the server, without user and password.
        model: Requested name of the model; None for a request without one.
    """

    host: str
    model: str | None


class OllamaMetrics:
    """Counts calls and measures times, in memory, for all drivers of this process.

    ```python
    with OllamaMetrics() as metrics:
        agent.run("Hello!")
    print(metrics.summary().time_to_first_token.p95)
    ```

    A program that never stops calls `start()` once. Threads may share an object, and several objects can count at the
    same time. Memory is bounded: about 50 KB for each host and model, 150 KB at most.

    Args:
        paths: Paths of the requests that are counted; None for all.
    """

    def __init__(self, *, paths: Iterable[str] | None = GENERATING) -> None:
        self._paths = None if paths is None else frozenset(paths)
        self._tallies: dict[MetricsKey, Tally] = {}
        self._monitors: dict[tuple[int, MetricsKey], ThresholdMonitor] = {}
        self._thresholds: list[tuple[OllamaThreshold, OnAlert]] = []
        # Reentrant: a reply that is collected as garbage ends its call in any thread, also in one that is counting.
        self._lock = threading.RLock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.RLock()

    def start(self) -> Self:
        """Count the calls that start from now on. Harmless when repeated."""
        remove_listener(self._count)
        add_listener(self._count)
        return self

    def stop(self) -> None:
        """Stop counting; the counts stay. Harmless when repeated."""
        remove_listener(self._count)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def alert(self, threshold: OllamaThreshold, on_alert: OnAlert) -> None:
        """Call a function when a threshold is exceeded, and when it no longer is, for each host and model.

        Args:
            threshold: The threshold.
            on_alert: The function, called in the thread of the call that crossed it. Its exceptions are logged.
        """
        with self._lock:
            self._thresholds.append((threshold, on_alert))

    def summary(self, *, host: str | None = None, model: str | None = None) -> OllamaStatistics:
        """Return the statistics so far.

        Args:
            host: Address of a server, as in errors; by default all servers.
            model: Name of a model; by default all models.
        """
        with self._lock:
            return Tally.sum_of(
                tally for key, tally in self._tallies.items() if host in (None, key.host) and model in (None, key.model)
            )

    def by_model(self) -> dict[MetricsKey, OllamaStatistics]:
        """Return the statistics so far, by host and model."""
        with self._lock:
            return {key: Tally.sum_of([tally]) for key, tally in self._tallies.items()}

    def reset(self) -> None:
        """Reset all counts. Thresholds stay, and apply to later calls."""
        with self._lock:
            self._tallies.clear()
            self._monitors.clear()

    def _count(self, report: CallReport) -> None:
        if self._paths is not None and report.path not in self._paths:
            return
        key = MetricsKey(report.host, report.model)
        alerts: list[tuple[OnAlert, OllamaAlert]] = []
        with self._lock:
            if key not in self._tallies and len(self._tallies) >= MAX_KEYS:
                key = MetricsKey(_OTHERS, _OTHERS)
            if (tally := self._tallies.get(key)) is None:
                tally = self._tallies[key] = Tally()
            tally.add(report)
            for number, (threshold, on_alert) in enumerate(self._thresholds):
                if (monitor := self._monitors.get((number, key))) is None:
                    monitor = self._monitors[number, key] = ThresholdMonitor(threshold)
                if (alert := monitor.add(report)) is not None:
                    alerts.append((on_alert, alert))
        for on_alert, alert in alerts:
            _call(on_alert, alert)


def _call(on_alert: OnAlert, alert: OllamaAlert) -> None:
    try:
        on_alert(alert)
    except Exception:
        _logger.exception("The function that an alert calls failed.")
