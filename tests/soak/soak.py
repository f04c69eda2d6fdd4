"""Makes the calls, and looks at what is left after each round of them."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.events import EventListener, TextChunkEvent

from griptape_ollama import (
    OllamaEmbeddingDriver,
    OllamaError,
    OllamaMetrics,
    OllamaPromptDriver,
    OllamaStatistics,
    OllamaTimeout,
)
from soak.cases import Case, case

_DESCRIPTORS = Path("/proc/self/fd")
_STATUS = Path("/proc/self/statm")


@dataclass(frozen=True)
class Left:
    """What there is while nobody calls.

    Attributes:
        sockets: Open sockets; None where the system does not tell.
        threads: Threads of Python.
        blocks: Blocks of memory that Python has handed out.
        mebibytes: Memory that the process has; None where the system does not tell.
    """

    sockets: int | None
    threads: int
    blocks: int
    mebibytes: float | None

    @classmethod
    def now(cls) -> Left:
        """Look."""
        for thread in threading.enumerate():
            if thread.name.startswith("griptape-ollama"):
                thread.join(10)
        gc.collect()
        pages = int(_STATUS.read_text().split()[1]) if _STATUS.exists() else None
        return cls(
            _sockets(),
            threading.active_count(),
            sys.getallocatedblocks(),
            None if pages is None else pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        )


def _sockets() -> int | None:
    if not _DESCRIPTORS.exists():
        return None
    targets = []
    for each in list(_DESCRIPTORS.iterdir()):
        with contextlib.suppress(OSError):
            targets.append(str(each.readlink()))
    return sum(target.startswith("socket:") for target in targets)


@dataclass(frozen=True)
class Result:
    """What came of a soak.

    Attributes:
        wrong: What ended otherwise than it should have.
        ends: How often calls ended in which way.
        left: What was there after each round.
        metrics: What was counted.
        seconds: How long it took.
    """

    wrong: list[str]
    ends: Counter[str]
    left: list[Left]
    metrics: OllamaStatistics
    seconds: float


class Soak:
    """Makes calls to a server.

    Args:
        host: Address of the server.
        threads: How many make calls at the same time.
    """

    def __init__(self, host: str, threads: int) -> None:
        settings: dict[str, Any] = {"host": host, "min_retry_delay": 0.001, "max_concurrency": max(threads // 2, 1)}
        self._plain = OllamaPromptDriver(model="simulator", **settings)
        self._streamed = OllamaPromptDriver(model="simulator", stream=True, **settings)
        limits = OllamaTimeout(first_token=0.5, between_tokens=0.5)
        self._hasty = self._streamed.with_settings(timeout=limits)
        self._vectors = OllamaEmbeddingDriver(
            model="simulator-embed", cache_bytes=0, **{**settings, "max_attempts": 20}
        )
        self._threads = threads
        self._wrong: list[str] = []
        self._ends: Counter[str] = Counter()
        self._counting = threading.Lock()

    def run(self, calls: int, rounds: int) -> Result:
        """Make so many calls, in so many rounds."""
        left: list[Left] = []
        start = time.monotonic()
        with OllamaMetrics() as metrics, ThreadPoolExecutor(self._threads) as pool:
            for number in range(rounds):
                numbers = range(number * calls // rounds, (number + 1) * calls // rounds)
                list(pool.map(self._one, numbers))
                left.append(Left.now())
        return Result(self._wrong, self._ends, left, metrics.summary(), time.monotonic() - start)

    def _one(self, number: int) -> None:
        chosen, tokens, said = case(number), list[str](), ""
        try:
            # Listeners belong to a thread.
            with EventListener(lambda event: tokens.append(event.token), event_types=[TextChunkEvent]):
                outcome = said = self._called(chosen)
        except OllamaError as error:
            outcome, said = type(error), error.partial_text
        except Exception as error:  # noqa: BLE001 # that is what must not come
            outcome = error
        wrong = "" if outcome == chosen.expected else f"ended with {outcome!r}, not with {chosen.expected!r}"
        if tokens and "".join(tokens) != said:
            wrong += f" after {tokens} were seen of {said!r}"
        with self._counting:
            self._ends[outcome.__name__ if isinstance(outcome, type) else f"{chosen.way} succeeded"] += 1
            if wrong:
                self._wrong.append(f"{chosen} {wrong}")

    def _called(self, chosen: Case) -> Any:
        prompt = TextArtifact(chosen.prompt)
        if chosen.way == "embed":
            assert self._vectors.embed(chosen.prompt)
            return None
        if chosen.way == "leave":
            with contextlib.closing(self._streamed.try_stream(PromptStack.from_artifact(prompt))) as deltas:
                next(deltas)  # pyright: ignore[reportArgumentType] # it is a generator
            return None
        driver = self._hasty if chosen.is_slow else self._streamed if chosen.way == "stream" else self._plain
        return driver.run(prompt).to_text()


def leaks(left: list[Left]) -> Iterator[str]:
    """Compare the end with the time after the first rounds, in which pools fill and caches settle."""
    settled, end = left[len(left) // 4], left[-1]
    if end.threads > settled.threads:
        yield f"{end.threads - settled.threads} more threads"
    # Each of the two kinds of drivers keeps 20 connections, or as many as may be in use.
    if end.sockets is not None and settled.sockets is not None and end.sockets > settled.sockets + 5:
        yield f"{end.sockets - settled.sockets} more sockets"
    if end.blocks > settled.blocks * 1.02 + 1000:
        yield f"{end.blocks - settled.blocks:,} more blocks of memory, of {settled.blocks:,}"
    if end.mebibytes is not None and settled.mebibytes is not None and end.mebibytes > settled.mebibytes * 1.05 + 4:
        yield f"{end.mebibytes - settled.mebibytes:.1f} MiB more, of {settled.mebibytes:.1f}"


def report(result: Result) -> str:
    """Tell what came of it."""
    seen = result.metrics
    lines = [
        f"{sum(result.ends.values()):,} calls in {result.seconds:.0f} s, {len(result.wrong)} of which ended wrongly",
        *(f"  {count:>6,}  {how}" for how, count in result.ends.most_common()),
        f"requests: {seen.calls:,}, {seen.retries} retries, {seen.cancelled} left early, timeouts {seen.timeouts}",
        _times("whole replies", seen.total),
        _times("waited for a slot", seen.in_queue),
        "after each round, while nobody calls:",
        f"  {'sockets':>8} {'threads':>8} {'blocks':>9} {'MiB':>7}",
        *(
            f"  {each.sockets or 0:>8} {each.threads:>8} {each.blocks:>9,} {each.mebibytes or 0:>7.1f}"
            for each in result.left
        ),
        *(f"LEAK: {what}" for what in leaks(result.left)),
        *(f"WRONG: {what}" for what in result.wrong[:10]),
    ]
    return "\n".join(lines)


def _times(what: str, times: Any) -> str:
    if not times.count:
        return f"{what}: none"
    return f"{what}: {times.count:,}, p50 {times.p50:.3f} s, p95 {times.p95:.3f} s, p99 {times.p99:.3f} s"


def quietly() -> None:
    """Keep the log to what matters: a line for each retry does not."""
    logging.getLogger("griptape_ollama").setLevel(logging.ERROR)
