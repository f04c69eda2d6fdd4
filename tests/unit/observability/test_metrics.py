"""Counts and times of all calls of a process."""

import asyncio
import contextlib
import gc
import json
import logging
import sys
import threading

import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack

from griptape_ollama import (
    OllamaAuthError,
    OllamaCancelledError,
    OllamaEmbeddingDriver,
    OllamaMetrics,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaStatistics,
    OllamaThreshold,
    OllamaTimeout,
    OllamaTimeoutError,
)
from griptape_ollama.observability.metrics import MAX_KEYS, MetricsKey
from griptape_ollama.transport.call_reports import CallReport


@pytest.fixture
def metrics():
    with OllamaMetrics() as metrics:
        yield metrics


@pytest.fixture
def driver(simulator):
    return OllamaPromptDriver(model="simulator", host=simulator.url, min_retry_delay=0)


def _report(host="http://gpu-box", model="qwen3", seconds=1.0, **details):
    return CallReport(host, model, details.pop("path", "/api/chat"), seconds, **details)


def test_a_prompt_counts_with_its_tokens_and_times(simulator, driver, metrics):
    message = driver.run(TextArtifact("hi"))
    seen = metrics.summary()
    assert (seen.calls, seen.succeeded, seen.failed, seen.cancelled, seen.retries) == (1, 1, 0, 0, 0)
    assert (seen.input_tokens, seen.output_tokens) == (message.usage.input_tokens, message.usage.output_tokens)
    assert seen.total.count == seen.time_to_first_token.count == 1
    assert seen.time_to_first_token.p99 <= seen.total.p99 * 1.01


def test_metadata_requests_count_only_if_their_paths_are_given(simulator, driver, metrics):
    with OllamaMetrics(paths=None) as every:
        driver.run(TextArtifact("hi"))
    assert metrics.summary().calls == 1
    assert every.summary().calls == len(simulator.requests) > 1


def test_hosts_and_models_are_counted_separately_and_added_up(simulator, driver, metrics):
    driver.run(TextArtifact("hi"))
    OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url).embed("text")
    assert set(metrics.by_model()) == {
        MetricsKey(simulator.url, "simulator"),
        MetricsKey(simulator.url, "simulator-embed"),
    }
    assert metrics.summary().calls == metrics.summary(host=simulator.url).calls == 2
    assert metrics.summary(model="simulator-embed").calls == 1
    assert metrics.summary(model="simulator-embed").time_to_first_token.count == 0
    assert metrics.summary(host="http://elsewhere") == OllamaStatistics()


def test_failures_timeouts_and_retries_count_by_kind(simulator, driver, metrics):
    simulator.fault("status", status=503, error="busy")
    driver.run(TextArtifact("hi"))
    simulator.fault("status", status=404, error="model 'simulator' not found")
    with pytest.raises(OllamaModelNotFoundError):
        driver.run(TextArtifact("hi"))
    simulator.reply("late", headers_delay=30)
    driver.timeout = OllamaTimeout(first_token=0.01)
    with pytest.raises(OllamaTimeoutError):
        driver.run(TextArtifact("hi"))
    seen = metrics.summary()
    assert seen.errors == {"OllamaModelNotFoundError": 1, "OllamaTimeoutError": 1}
    assert seen.timeouts == {"first_token": 1}
    assert (seen.calls, seen.succeeded, seen.failed, seen.retries) == (3, 1, 2, 1)
    assert seen.error_rate == pytest.approx(2 / 3)
    assert seen.timeout_rate == pytest.approx(1 / 3)
    assert seen.total.count == 1


def test_awaited_calls_count_like_others(simulator, driver, metrics):
    embedder = OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url)

    async def ask():
        await driver.arun(TextArtifact("hi"))
        async with driver.astream(TextArtifact("hi")) as deltas:
            assert [delta async for delta in deltas]
        await embedder.aembed("a")
        await embedder.aembed_batch(["b", "c"])

    asyncio.run(ask())
    counted = {key.model: each for key, each in metrics.by_model().items()}
    assert {model: (each.calls, each.succeeded) for model, each in counted.items()} == {
        "simulator": (2, 2),
        "simulator-embed": (2, 2),
    }
    assert counted["simulator"].time_to_first_token.count == 2


def test_a_task_that_is_cancelled_and_a_stream_that_is_left_are_no_failures(simulator, driver, metrics):
    hold = threading.Event()
    simulator.reply("never", wait=hold)
    simulator.reply("one two three", pause=(1, hold))

    async def ask():
        task = asyncio.create_task(driver.arun(TextArtifact("hi")))
        await asyncio.to_thread(simulator.wait_for_request, 1, path="/api/chat")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with driver.astream(TextArtifact("hi")) as deltas:
            async for _ in deltas:
                break

    asyncio.run(ask())
    hold.set()
    seen = metrics.summary()
    assert (seen.calls, seen.cancelled, seen.failed, seen.succeeded) == (2, 2, 0, 0)


def test_a_cancelled_run_is_no_failure(simulator, driver, metrics):
    for delta in (stream := driver.try_stream(PromptStack.from_artifact(TextArtifact("hi")))):
        assert delta
        driver.cancel()
        break
    stream.close()
    seen = metrics.summary()
    assert (seen.calls, seen.cancelled, seen.failed, seen.succeeded) == (1, 1, 0, 0)
    assert seen.error_rate == 0


def test_an_alert_comes_through_a_driver(simulator, driver, metrics):
    alerts = []
    metrics.alert(OllamaThreshold("error_rate", above=0.4, calls=2, at_least=2), alerts.append)
    simulator.fault("status", status=401, error="no")
    for _ in range(3):
        with contextlib.suppress(OllamaAuthError):
            driver.run(TextArtifact("hi"))
    assert [(alert.host, alert.model, alert.value, alert.is_exceeded) for alert in alerts] == [
        (simulator.url, "simulator", 0.5, True),
        (simulator.url, "simulator", 0.0, False),
    ]


def test_each_model_has_its_own_threshold():
    metrics, alerts = OllamaMetrics(), []
    metrics.alert(OllamaThreshold("total_p50", above=5, calls=2, at_least=2), alerts.append)
    for model in ("slow", "fast", "slow", "fast"):
        metrics._count(_report(model=model, seconds=10 if model == "slow" else 1))
    assert [alert.model for alert in alerts] == ["slow"]


def test_an_alert_that_fails_is_logged_and_harms_nothing(caplog):
    metrics, alerts = OllamaMetrics(), []
    threshold = OllamaThreshold("total_p50", above=5, calls=1, at_least=1)
    metrics.alert(threshold, lambda _: 1 / 0)
    metrics.alert(threshold, alerts.append)
    with caplog.at_level(logging.ERROR, "griptape_ollama"):
        metrics._count(_report(seconds=10))
    assert "ZeroDivisionError" in caplog.text
    assert len(alerts) == 1
    assert metrics.summary().calls == 1


def test_an_alert_may_read_the_metrics():
    metrics, seen = OllamaMetrics(), []
    metrics.alert(
        OllamaThreshold("total_p50", above=5, calls=1, at_least=1), lambda _: seen.append(metrics.summary().calls)
    )
    metrics._count(_report(seconds=10))
    assert seen == [1]


def test_stopped_metrics_keep_what_they_have_and_count_no_more(simulator, driver):
    metrics = OllamaMetrics().start().start()
    driver.run(TextArtifact("hi"))
    metrics.stop()
    metrics.stop()
    driver.run(TextArtifact("hi"))
    assert metrics.summary().calls == 1


def test_reset_forgets(simulator, driver, metrics):
    driver.run(TextArtifact("hi"))
    metrics.reset()
    assert metrics.summary() == OllamaStatistics()
    driver.run(TextArtifact("hi"))
    assert metrics.summary().calls == 1


def test_many_threads_lose_no_call():
    metrics = OllamaMetrics()
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for _ in range(500):
            metrics._count(_report(model=f"m{number % 2}", retries=1))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (metrics.summary().calls, metrics.summary().retries) == (4000, 4000)
    assert metrics.summary(model="m1").calls == 2000


def test_there_are_never_more_keys_than_fit():
    metrics = OllamaMetrics()
    for number in range(MAX_KEYS + 50):
        metrics._count(_report(model=f"model-{number}"))
    by_model = metrics.by_model()
    assert len(by_model) == MAX_KEYS + 1
    assert by_model[MetricsKey("(others)", "(others)")].calls == 50
    assert metrics.summary().calls == MAX_KEYS + 50


def test_a_summary_can_be_written_as_json(simulator, driver, metrics):
    driver.run(TextArtifact("hi"))
    stored = json.loads(json.dumps(metrics.summary().to_dict()))
    assert stored["calls"] == 1
    assert stored["timeout_rate"] == 0
    assert stored["total"]["p95"] > 0


def test_a_summary_does_not_change_afterwards():
    metrics = OllamaMetrics()
    metrics._count(_report(error=OllamaTimeoutError("slow", limit="total")))
    before = metrics.summary()
    metrics._count(_report(error=OllamaTimeoutError("slow", limit="total")))
    assert before.errors == {"OllamaTimeoutError": 1}


def test_memory_stays_where_it_is_when_calls_go_on():
    metrics = OllamaMetrics()
    metrics.alert(OllamaThreshold("total_p99", above=1e9), lambda _: None)
    for number in range(2000):
        metrics._count(_report(seconds=0.001 * (1 + number % 1000)))
    gc.collect()
    (tally,) = metrics._tallies.values()
    before = len(tally._total._buckets), sys.getsizeof(tally._total._buckets)
    for number in range(20_000):
        metrics._count(_report(seconds=0.001 * (1 + number % 1000)))
    assert (len(tally._total._buckets), sys.getsizeof(tally._total._buckets)) == before
    (monitor,) = metrics._monitors.values()
    assert len(monitor._latest) == len(monitor._ordered) == 100


def test_a_forked_process_can_count_although_a_thread_held_the_lock():
    metrics = OllamaMetrics()
    held = threading.Event()
    let_go = threading.Event()

    def hold():
        with metrics._lock:
            held.set()
            let_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:
        metrics.start_afresh()
        metrics._count(_report(error=OllamaCancelledError("stopped")))
        assert metrics.summary().cancelled == 1
    finally:
        let_go.set()
        thread.join()
