"""A short soak; `make soak` makes 10,000 calls."""

from collections import Counter

from soak.cases import FAULTS, FAULTS_SHARE, case
from soak.server import running
from soak.soak import Soak, leaks, report


def test_every_call_ends_as_expected_and_leaves_no_resources():
    with running() as host:
        result = Soak(host, threads=10).run(calls=400, rounds=4)
    assert result.wrong == [], report(result)
    assert list(leaks(result.left)) == [], report(result)
    assert sum(result.ends.values()) == 400


def test_metrics_agree_with_the_results_of_the_callers():
    with running() as host:
        result = Soak(host, threads=10).run(calls=200, rounds=1)
    seen = Counter({how: count for how, count in result.ends.items() if how.startswith("Ollama")})
    assert Counter(result.metrics.errors) == seen
    assert result.metrics.cancelled == result.ends["leave succeeded"]
    assert sum(result.metrics.timeouts.values()) == seen["OllamaTimeoutError"]


def test_every_fault_and_every_kind_of_call_is_drawn():
    drawn = [case(number) for number in range(10_000)]
    assert {each.fault for each in drawn} == {"", *FAULTS}
    assert {each.way for each in drawn} == {"run", "stream", "embed", "leave"}
    assert abs(sum(bool(each.fault) for each in drawn) / len(drawn) - FAULTS_SHARE) < 0.01
