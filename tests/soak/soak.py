"""Makes the calls, and measures open resources after each round."""

from __future__ import annotations

import asyncio
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
from dataclasses import dataclass, field
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
class Resources:
    """Open resources between rounds.

    Attributes:
        sockets: Open sockets; None where the system does not report them.
        threads: Threads of Python.
        blocks: Memory blocks allocated by Python.
        mebibytes: Memory of the process; None where the system does not report it.
    """

    sockets: int | None
    threads: int
    blocks: int
    mebibytes: float | None

    @classmethod
    def now(cls) -> Resources:
        """Measure the open resources."""
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
    """Result of a soak test.

    Attributes:
        wrong: Calls with an unexpected result.
        ends: Number of calls by result.
        left: Open resources after each round.
        metrics: Statistics of the metrics.
        seconds: Duration.
    """

    wrong: list[str]
    ends: Counter[str]
    left: list[Resources]
    metrics: OllamaStatistics
    seconds: float


class Soak:
    """Makes calls to a server.

    Args:
        host: Address of the server.
        threads: Number of calls at the same time. Every second call is asynchronous, and has a thread of its own
            while it runs.
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
        """Make a number of calls, in a number of rounds."""
        left: list[Resources] = []
        start = time.monotonic()
        with OllamaMetrics() as metrics, ThreadPoolExecutor(self._threads // 2) as pool:
            for number in range(rounds):
                cases = [case(each) for each in range(number * calls // rounds, (number + 1) * calls // rounds)]
                made = [pool.submit(self._make, chosen) for chosen in cases if not chosen.is_awaited]
                # An event loop for each round, which drivers must support.
                asyncio.run(self._await_all([chosen for chosen in cases if chosen.is_awaited]))
                for each in made:
                    each.result()
                left.append(Resources.now())
        return Result(self._wrong, self._ends, left, metrics.summary(), time.monotonic() - start)

    def _make(self, chosen: Case) -> None:
        # Listeners belong to a thread.
        with self._judging(chosen) as seen, _listening(seen.tokens):
            seen.outcome = seen.said = self._called(chosen)

    async def _await_all(self, cases: list[Case]) -> None:
        # As many at the same time as there are threads for synchronous calls: each has one of its own.
        slots = asyncio.Semaphore(self._threads // 2)

        async def make(chosen: Case) -> None:
            async with slots:
                with self._judging(chosen) as seen, _listening(seen.tokens):
                    seen.outcome = seen.said = await self._awaited(chosen, seen.tokens)

        await asyncio.gather(*map(make, cases))

    @contextlib.contextmanager
    def _judging(self, chosen: Case) -> Iterator[_Seen]:
        """Compare the result of a call with the expected one."""
        seen = _Seen()
        try:
            yield seen
        except OllamaError as error:
            seen.outcome, seen.said = type(error), error.partial_text
        except Exception as error:  # noqa: BLE001 # no other error may come
            seen.outcome = error
        self._judge(chosen, seen.outcome, seen.tokens, seen.said)

    def _judge(self, chosen: Case, outcome: Any, tokens: list[str], said: str) -> None:
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
        return self._prompted(chosen).run(prompt).to_text()

    async def _awaited(self, chosen: Case, tokens: list[str]) -> Any:
        prompt = TextArtifact(chosen.prompt)
        if chosen.way == "embed":
            assert await self._vectors.aembed(chosen.prompt)
            return None
        if chosen.way == "leave":
            await self._left(prompt, by_cancelling=chosen.number % 4 == 1)
            return None
        if chosen.way == "stream":
            async with self._prompted(chosen).astream(prompt) as deltas:
                async for delta in deltas:
                    if delta.content is not None:
                        # One by one: what came before an error is checked.
                        tokens.append(delta.content.text)  # noqa: PERF401 # pyright: ignore[reportAttributeAccessIssue]
            return "".join(tokens)
        return (await self._prompted(chosen).arun(prompt)).to_text()

    async def _left(self, prompt: TextArtifact, *, by_cancelling: bool) -> None:
        """Leave a stream at the end of its block, or by cancelling the task that reads it."""
        has_begun = asyncio.Event()

        async def read() -> None:
            async with self._streamed.astream(prompt) as deltas:
                async for _ in deltas:
                    has_begun.set()
                    if not by_cancelling:
                        return

        task = asyncio.create_task(read())
        await has_begun.wait()
        if by_cancelling:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def _prompted(self, chosen: Case) -> OllamaPromptDriver:
        return self._hasty if chosen.is_slow else self._streamed if chosen.way == "stream" else self._plain


@dataclass
class _Seen:
    """What a call gave.

    Attributes:
        outcome: The answer, or the kind of the error.
        said: The answer, or its part that an error carries.
        tokens: What was seen meanwhile.
    """

    outcome: Any = None
    said: Any = ""
    tokens: list[str] = field(default_factory=list[str])


def _listening(tokens: list[str]) -> EventListener[Any]:
    return EventListener(lambda event: tokens.append(event.token), event_types=[TextChunkEvent])


def leaks(left: list[Resources]) -> Iterator[str]:
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
    """Return the report as text."""
    seen = result.metrics
    lines = [
        f"{sum(result.ends.values()):,} calls in {result.seconds:.0f} s, {len(result.wrong)} unexpected results",
        *(f"  {count:>6,}  {how}" for how, count in result.ends.most_common()),
        f"requests: {seen.calls:,}, {seen.retries} retries, {seen.cancelled} left early, timeouts {seen.timeouts}",
        _times("whole replies", seen.total),
        _times("waited for a slot", seen.in_queue),
        "after each round, without calls:",
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
    """Log errors only, not a line for each retry."""
    logging.getLogger("griptape_ollama").setLevel(logging.ERROR)
