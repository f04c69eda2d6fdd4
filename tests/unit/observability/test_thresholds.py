"""Alerts when the latest calls cross a threshold."""

import pytest

from griptape_ollama import OllamaThreshold
from griptape_ollama.errors import OllamaCancelledError, OllamaConnectionError, OllamaContentError, OllamaTimeoutError
from griptape_ollama.observability.thresholds import ThresholdMonitor
from griptape_ollama.transport.call_reports import CallReport


def _report(seconds=1.0, error=None, first_token=None):
    return CallReport("http://gpu-box", "qwen3", "/api/chat", seconds, time_to_first_token=first_token, error=error)


TIMEOUT = _report(error=OllamaTimeoutError("slow", limit="total"))
BROKEN = _report(error=OllamaConnectionError("broken"))
CANCELLED = _report(error=OllamaCancelledError("stopped"))
GOOD = _report()


def _alerts(threshold, reports):
    """The alerts, by the number of the call that gave them."""
    monitor = ThresholdMonitor(threshold)
    found = {number: monitor.add(report) for number, report in enumerate(reports, 1)}
    return {number: (alert.value, alert.is_exceeded) for number, alert in found.items() if alert is not None}


def test_there_is_one_alert_when_it_is_exceeded_and_one_when_it_no_longer_is():
    threshold = OllamaThreshold("timeout_rate", above=0.25, calls=4, at_least=4)
    reports = [GOOD] * 4 + [TIMEOUT] * 3 + [GOOD] * 5
    assert _alerts(threshold, reports) == {6: (0.5, True), 10: (0.25, False)}


def test_there_is_no_alert_before_there_are_enough_calls():
    threshold = OllamaThreshold("error_rate", above=0, calls=10, at_least=3)
    assert _alerts(threshold, [BROKEN, BROKEN, BROKEN]) == {3: (1.0, True)}


def test_only_the_latest_calls_count():
    threshold = OllamaThreshold("error_rate", above=0.9, calls=2, at_least=2)
    assert _alerts(threshold, [GOOD] * 100 + [BROKEN, BROKEN]) == {102: (1.0, True)}


def test_other_failures_are_no_timeouts_but_timeouts_are_failures():
    assert _alerts(OllamaThreshold("timeout_rate", above=0, calls=2, at_least=1), [BROKEN]) == {}
    assert _alerts(OllamaThreshold("error_rate", above=0, calls=2, at_least=1), [TIMEOUT]) == {1: (1.0, True)}


@pytest.mark.parametrize("metric", ["timeout_rate", "error_rate", "total_p50"])
def test_cancelled_calls_do_not_count(metric):
    threshold = OllamaThreshold(metric, above=0, calls=2, at_least=1)
    assert _alerts(threshold, [CANCELLED, _report(error=KeyboardInterrupt())]) == {}


def test_seconds_are_those_of_calls_that_succeeded():
    threshold = OllamaThreshold("total_p99", above=10, calls=100, at_least=1)
    assert _alerts(threshold, [_report(1), TIMEOUT, _report(11), _report(2)]) == {3: (11, True)}


@pytest.mark.parametrize(("metric", "expected"), [("total_p50", 50), ("total_p95", 95), ("total_p99", 99)])
def test_a_percentile_is_exact_among_the_latest_calls(metric, expected):
    threshold = OllamaThreshold(metric, above=expected - 0.5, calls=100, at_least=100)
    reports = [_report(seconds) for seconds in range(101)]
    assert _alerts(threshold, reports) == {101: (expected, True)}


def test_a_slow_call_is_forgotten_with_its_turn():
    threshold = OllamaThreshold("total_p99", above=10, calls=3, at_least=1)
    reports = [_report(99), _report(1), _report(2), _report(3)]
    assert _alerts(threshold, reports) == {1: (99, True), 4: (3, False)}


def test_the_first_token_counts_where_there_was_one():
    threshold = OllamaThreshold("time_to_first_token_p95", above=5, calls=10, at_least=1)
    assert _alerts(threshold, [_report(60), _report(60, first_token=6)]) == {2: (6, True)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "p99"},
        {"metric": "timeout_rate", "above": -1},
        {"metric": "timeout_rate", "above": float("nan")},
        {"metric": "timeout_rate", "calls": 5, "at_least": 6},
        {"metric": "timeout_rate", "at_least": 0},
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(OllamaContentError):
        OllamaThreshold(**{"above": 1, **wrong})
