"""What it costs to count a call, and what the counts take of memory."""

import random
import time
import tracemalloc

from benchmarks.tables import markdown
from griptape_ollama import OllamaMetrics, OllamaThreshold
from griptape_ollama.transport.call_reports import CallReport, reporting

CALLS = 20_000
RUNS = 7
REPORT = CallReport("http://127.0.0.1:11434", "qwen3", "/api/chat", 1.0, 0.2, input_tokens=100, output_tokens=50)


def _call():
    with reporting(lambda error: REPORT, lambda: True):
        pass


def _microseconds():
    """The fastest of several runs: what the machine does besides only adds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        for _ in range(CALLS):
            _call()
        times.append((time.perf_counter() - start) / CALLS * 1e6)
    return min(times)


def _kilobytes(longest):
    seed = random.Random(7)
    reports = [
        CallReport("http://gpu-box", "qwen3", "/api/chat", seconds, seconds / 2)
        for seconds in (10 ** seed.uniform(-2, longest) for _ in range(CALLS))
    ]
    tracemalloc.start()
    metrics = OllamaMetrics()
    for report in reports:
        metrics._count(report)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert metrics.summary().calls == CALLS
    return taken / 1024


def table():
    rows = [("a call that is not counted (µs)", f"{_microseconds():.2f}")]
    with OllamaMetrics() as metrics:
        rows.append(("a call that is counted (µs)", f"{_microseconds():.2f}"))
        for metric in ("timeout_rate", "total_p99"):
            metrics.alert(OllamaThreshold(metric, above=1e9), print)
        rows.append(("with two thresholds (µs)", f"{_microseconds():.2f}"))
        start = time.perf_counter()
        metrics.summary()
        rows.append(("a summary (µs)", f"{(time.perf_counter() - start) * 1e6:.0f}"))
    rows.append((f"memory of {CALLS:,} calls from 10 ms to 100 s (KiB)", f"{_kilobytes(2):.0f}"))
    rows.append((f"memory of {CALLS:,} calls from 10 ms to a day (KiB)", f"{_kilobytes(5):.0f}"))
    return markdown("What metrics cost, for one host and model", ("what", "measured"), rows)
