"""Requests that several threads share."""

from __future__ import annotations

import contextvars
import copy
import functools
import math
import queue
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import attrs

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.spec import SURELY_FITS, EmbeddingSpec, Reply, leased_spec
from griptape_ollama.errors import OllamaError
from griptape_ollama.models.keep_alive_leases import is_unloading
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.run import Run

RECENT_SECONDS = 0.25
"""How long a thread that has its answer counts as one that calls again."""


class Coalescer:
    """Joins calls of several threads into shared requests.

    A thread that is alone sends its request at once. If other threads are calling too, or were a moment ago, a call
    waits until all of them have called, or until no call comes in for a few milliseconds; then one request is sent for
    all. Calls that come in meanwhile wait for the next request.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callers: dict[int, float] = {}
        self._groups: dict[Hashable, _Group] = {}
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Forget callers and groups whose threads are gone."""
        self.__init__()

    def embed(
        self, passage: Passage, spec: EmbeddingSpec, run: Run, *, pause: float, replied: Callable[[Reply], None]
    ) -> Outcome:
        """Return the vector of a text, or the error that is about it.

        Args:
            passage: The text.
            spec: Settings of the request; calls share a request only if these are equal.
            run: The run of this caller. Cancelling it does not affect the other callers.
            pause: Seconds to wait for another call, after each that comes in; 0 sends a request of its own.
            replied: Called with each reply; for a shared one, that of one caller only.

        Raises:
            OllamaError: The run was cancelled or is over; or a request that is not shared failed.
        """
        if not pause:
            return self._embed_alone(passage, spec, run, replied)
        thread = threading.get_ident()
        try:
            with self._lock:
                self._callers[thread] = math.inf
                is_alone = self.expected_calls() == 1
            if is_alone:
                return self._embed_alone(passage, spec, run, replied)
            outcome, replies = self._joined(passage, spec, pause).wait(run)
        finally:
            with self._lock:
                self._callers[thread] = time.monotonic() + RECENT_SECONDS
        for reply in replies:
            replied(reply)
        return outcome

    def expected_calls(self) -> int:
        """Return how many threads are calling, or may call again; the lock is held."""
        now = time.monotonic()
        for thread in [thread for thread, until in self._callers.items() if until < now]:
            del self._callers[thread]
        return len(self._callers)

    def remove(self, group: _Group) -> None:
        """Forget a group without calls; the lock is held."""
        self._groups = {key: each for key, each in self._groups.items() if each is not group}

    def _embed_alone(
        self, passage: Passage, spec: EmbeddingSpec, run: Run, replied: Callable[[Reply], None]
    ) -> Outcome:
        with leased_spec(spec, takes_one_request=len(passage.text) <= SURELY_FITS) as spec_in_use:
            return Embedder(spec_in_use, run, replied).embed([passage])[0]

    def _joined(self, passage: Passage, spec: EmbeddingSpec, pause: float) -> _PendingCall:
        # A shared request has the headers of one caller: those of two tenants must not mix.
        headers = spec.connection.headers_here()
        key = (spec.key, repr(spec.body.get("keep_alive")), spec.retry_key, headers)
        with self._lock:
            group = self._groups.get(key)
            if group is not None:
                return group.join(passage, spec, pause)
            group = _Group(self, self._lock, spec, pause, contextvars.copy_context() if headers else None)
            call = group.join(passage, spec, pause)
            group.start()
            self._groups[key] = group
            return call


class _PendingCall:
    """One call that waits for its vector.

    Attributes:
        request: The request that it is part of; None before it is sent and when it has ended.
        is_abandoned: Whether the caller has stopped waiting.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.request: _SharedRequest | None = None
        self.is_abandoned = False
        self._result: tuple[Outcome, list[Reply]] | None = None
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def finish(self, outcome: Outcome, replies: list[Reply]) -> None:
        """Hand over the vector, and the replies that the caller is to report."""
        self._result = outcome, replies
        self._done.put(None)

    def wait(self, run: Run) -> tuple[Outcome, list[Reply]]:
        """Wait for the result.

        Raises:
            OllamaCancelledError: The run was cancelled.
            OllamaTimeoutError: The total limit of the run was reached.
        """
        try:
            run.wait(self._done, None)
        finally:
            if self._result is None:
                self._abandon()
        if self._result is None:
            raise run.timeout_error()
        return self._result

    def _abandon(self) -> None:
        self.is_abandoned = True
        request = self.request  # another thread removes it at its end
        if request is not None:
            request.cancel_if_abandoned()


class _SharedRequest:
    """One request for several calls, and those that follow if it has to be split."""

    def __init__(self, calls: Sequence[_PendingCall], spec: EmbeddingSpec) -> None:
        self._calls = calls
        # Each caller checks its own total limit.
        self._spec = replace(spec, limits=attrs.evolve(spec.limits, total=None))
        self._run = Run(self._spec.limits)
        for call in calls:
            call.request = self

    def cancel_if_abandoned(self) -> None:
        """Cancel the request if all callers have stopped waiting."""
        if all(call.is_abandoned for call in self._calls):
            self._run.cancel()

    def send(self) -> None:
        """Send the request, and finish the calls."""
        replies: list[Reply] = []
        outcomes = self._outcomes(replies)
        for call, outcome in zip(self._calls, outcomes, strict=True):
            call.request = None
            if call.is_abandoned:
                continue
            call.finish(outcome, replies)
            replies = []  # one caller reports them

    def _outcomes(self, replies: list[Reply]) -> list[Outcome]:
        try:
            self.cancel_if_abandoned()
            embedder = Embedder(self._spec, self._run, replies.append)
            return embedder.embed([call.passage for call in self._calls])
        except OllamaError as error:
            return [_copy_of(error, error) for _ in self._calls]
        except BaseException as error:  # noqa: BLE001 # a bug here must not leave threads waiting
            failure = OllamaError(f"Texts could not be embedded: {error!r}")
            return [_copy_of(failure, error) for _ in self._calls]


class _Group:
    """Calls with equal settings, and the thread that sends their requests. It ends when no more calls come in.

    Args:
        coalescer: The coalescer.
        lock: Its lock.
        spec: Settings of the requests.
        pause: Seconds to wait for another call.
        context: Context in which headers are computed that depend on the caller; None if there are none.
    """

    def __init__(
        self,
        coalescer: Coalescer,
        lock: threading.Lock,
        spec: EmbeddingSpec,
        pause: float,
        context: contextvars.Context | None = None,
    ) -> None:
        self._coalescer = coalescer
        self._context = context
        self._arrived = threading.Condition(lock)
        self._calls: list[_PendingCall] = []
        self._spec = spec
        self._pause = pause

    def start(self) -> None:
        """Start the thread."""
        # The interpreter waits for it if it has to unload the model.
        is_daemon = not is_unloading(self._spec.body.get("keep_alive"))
        target = self._serve if self._context is None else functools.partial(self._context.run, self._serve)
        threading.Thread(target=target, name="griptape-ollama-embed", daemon=is_daemon).start()

    def join(self, passage: Passage, spec: EmbeddingSpec, pause: float) -> _PendingCall:
        """Add a call; the lock is held."""
        call = _PendingCall(passage)
        self._calls.append(call)
        self._spec = spec
        self._pause = pause
        self._arrived.notify()
        return call

    def _serve(self) -> None:
        # A new thread may inherit context variables (Python 3.14), and with them the scopes of one of the callers.
        with outside_scopes(), leased_spec(self._spec) as spec:
            while (request := self._next(spec.body)) is not None:
                request.send()

    def _next(self, body: Mapping[str, Any]) -> _SharedRequest | None:
        with self._arrived:
            if not self._calls:
                self._arrived.wait(RECENT_SECONDS)
            if not self._calls:
                self._coalescer.remove(self)
                return None
            size = self._wait_for_calls()
            calls, self._calls = self._calls[:size], self._calls[size:]
            return _SharedRequest([call for call in calls if not call.is_abandoned], replace(self._spec, body=body))

    def _wait_for_calls(self) -> int:
        """Wait until all expected calls are there, and return how many of them fit into the next request."""
        batches = self._spec.batches
        while True:
            lengths = [len(call.passage.sent) for call in self._calls]
            fitting = batches.fitting(lengths)
            is_full = fitting < len(lengths) or fitting == batches.texts
            if is_full or len(lengths) >= self._coalescer.expected_calls() or not self._arrived.wait(self._pause):
                return fitting


def _copy_of(error: OllamaError, cause: BaseException) -> OllamaError:
    """Copy an error for another thread, since raising one changes it."""
    another = copy.copy(error)
    another.__cause__ = cause
    return another
