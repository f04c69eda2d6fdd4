"""Calls of several threads in one request."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import functools
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import attrs

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.spec import SURELY_FITS, EmbeddingSpec, Reply, leased_spec_of
from griptape_ollama.errors import OllamaError
from griptape_ollama.models.keep_alive_leases import is_unloading
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.run import Run

RECENT_SECONDS = 0.25
"""For how long a thread that has its answer counts as one that calls again."""

_Key = tuple[str, str, tuple[tuple[str, str], ...] | None]
"""What texts must have in common to share a request: order, manner, and headers that are made for each request."""

_Answer = tuple[Outcome, list[Reply]]
"""What became of a text, and the replies that the caller is to report."""


class Coalescer:
    """Lets threads that ask at the same time share requests.

    A thread that is alone asks for itself, at once. Where others are calling too, or were a moment ago, a call waits
    until all of them have asked, or until no more calls come in for a few milliseconds; then one request carries them.
    While it is under way, calls are gathered for the next one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._present: dict[int, float] = {}
        self._groups: dict[_Key, _Group] = {}
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Forget callers and groups whose threads are gone."""
        self.__init__()

    def embed(
        self, passage: Passage, spec: EmbeddingSpec, run: Run, *, pause: float, replied: Callable[[Reply], None]
    ) -> Outcome:
        """Give the vector of a text, or why there is none.

        Args:
            passage: The text.
            spec: What is asked for; texts travel with those of an equal order.
            run: The run of this caller. Stopping it does not disturb the others.
            pause: Seconds to wait for other threads, after each that came.
            replied: Told of each reply, but of one that several callers share only once among them.

        Raises:
            OllamaError: The run was stopped or is over; or, where nobody shares it, the request failed.
        """
        thread = threading.get_ident()
        try:
            with self._lock:
                self._present[thread] = math.inf
                is_alone = self.expected() == 1
            if is_alone:
                with leased_spec_of(spec, takes_one=len(passage.text) <= SURELY_FITS) as leased_spec:
                    return Embedder(leased_spec, run, replied).embed([passage])[0]
            outcome, replies = self._joined(passage, spec, pause).answer(run)
        finally:
            with self._lock:
                self._present[thread] = time.monotonic() + RECENT_SECONDS
        for reply in replies:
            replied(reply)
        return outcome

    def expected(self) -> int:
        """Tell how many threads are calling, or may call again; the lock is held."""
        now = time.monotonic()
        for thread in [thread for thread, until in self._present.items() if until < now]:
            del self._present[thread]
        return len(self._present)

    def _joined(self, passage: Passage, spec: EmbeddingSpec, pause: float) -> _Waiter:
        # Whose headers differ, as those of two tenants may, must not share a request: it has the headers of one.
        headers = spec.connection.headers_here()
        key = (spec.key, spec.manner, headers)
        with self._lock:
            group = self._groups.get(key)
            if group is not None:
                return group.join(passage, spec, pause)
            group = _Group(self, self._lock, spec, pause, contextvars.copy_context() if headers else None)
            waiter = group.join(passage, spec, pause)
            group.start()
            self._groups[key] = group
            return waiter

    def left(self, group: _Group) -> None:
        """Forget a group that nobody waits in; the lock is held."""
        self._groups = {key: each for key, each in self._groups.items() if each is not group}


class _Waiter:
    """One call that waits.

    Args:
        passage: Its text.
    """

    def __init__(self, passage: Passage) -> None:
        self.passage = passage
        self.length = len(passage.sent)
        self.flight: _Flight | None = None
        self.has_left = False
        self._answers: queue.SimpleQueue[_Answer | None] = queue.SimpleQueue()

    def put(self, answer: _Answer) -> None:
        """Answer the call."""
        self._answers.put(answer)

    def answer(self, run: Run) -> _Answer:
        """Wait for the answer, as long as the run may last.

        Raises:
            OllamaCancelledError: The run was stopped.
            OllamaTimeoutError: The total limit of the run was reached.
        """
        run.guard.bind(lambda: self._answers.put(None))
        answer = None
        try:
            with contextlib.suppress(queue.Empty):
                answer = self._answers.get(timeout=run.shorter(None))
        finally:
            run.guard.release()
            if answer is None:
                self._leave()
        if answer is None:
            run.check()
            raise run.out_of_time()
        return answer

    def _leave(self) -> None:
        self.has_left = True
        flight = self.flight  # another thread takes it away when it has landed
        if flight is not None:
            flight.stop_if_deserted()


class _Flight:
    """One request, or those that follow from it, for several callers.

    Args:
        waiters: The callers.
        spec: What they ask for.
    """

    def __init__(self, waiters: Sequence[_Waiter], spec: EmbeddingSpec) -> None:
        self._waiters = waiters
        # Each caller keeps to its own total limit.
        self._spec = replace(spec, limits=attrs.evolve(spec.limits, total=None))
        self._run = Run(self._spec.limits)
        for waiter in waiters:
            waiter.flight = self

    def stop_if_deserted(self) -> None:
        """Stop the request where nobody waits for it any more."""
        if all(waiter.has_left for waiter in self._waiters):
            self._run.cancel()

    def fly(self) -> None:
        """Ask, and answer everybody."""
        replies: list[Reply] = []
        outcomes = self._outcomes(replies)
        for waiter, outcome in zip(self._waiters, outcomes, strict=True):
            waiter.flight = None
            if waiter.has_left:
                continue
            waiter.put((outcome, replies))
            replies = []  # one of the callers reports them

    def _outcomes(self, replies: list[Reply]) -> list[Outcome]:
        try:
            self.stop_if_deserted()
            embedder = Embedder(self._spec, self._run, replies.append)
            return embedder.embed([waiter.passage for waiter in self._waiters])
        except OllamaError as error:
            return [_another(error, error) for _ in self._waiters]
        except BaseException as error:  # noqa: BLE001 # a bug of ours must not leave anybody waiting, now or later
            failure = OllamaError(f"Texts could not be embedded: {error!r}")
            return [_another(failure, error) for _ in self._waiters]


class _Group:
    """Callers who ask for the same, and the thread that asks for them. It ends when nobody comes any more.

    Args:
        coalescer: Where callers come from.
        lock: Its lock.
        spec: What is asked for.
        pause: Seconds to wait for other callers.
        context: Where headers are made that may depend on the caller; None where none are.
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
        self._waiters: list[_Waiter] = []
        self._spec = spec
        self._pause = pause

    def start(self) -> None:
        """Start the thread."""
        # An interpreter that ends must not leave a model behind that somebody wanted to have unloaded.
        is_daemon = not is_unloading(self._spec.body.get("keep_alive"))
        serve = self._serve if self._context is None else functools.partial(self._context.run, self._serve)
        threading.Thread(target=serve, name="griptape-ollama-embed", daemon=is_daemon).start()

    def join(self, passage: Passage, spec: EmbeddingSpec, pause: float) -> _Waiter:
        """Wait with the others; the lock is held."""
        waiter = _Waiter(passage)
        self._waiters.append(waiter)
        self._spec = spec
        self._pause = pause
        self._arrived.notify()
        return waiter

    def _serve(self) -> None:
        # A new thread may inherit context variables (Python 3.14), and with them scopes of one of many callers.
        with outside_scopes(), leased_spec_of(self._spec) as spec:
            while (flight := self._next(spec.body)) is not None:
                flight.fly()

    def _next(self, body: Mapping[str, Any]) -> _Flight | None:
        with self._arrived:
            if not self._waiters:
                self._arrived.wait(RECENT_SECONDS)
            if not self._waiters:
                self._coalescer.left(self)
                return None
            size = self._gathered(self._spec)
            waiters, self._waiters = self._waiters[:size], self._waiters[size:]
            spec = replace(self._spec, body=body)
            return _Flight([waiter for waiter in waiters if not waiter.has_left], spec)

    def _gathered(self, spec: EmbeddingSpec) -> int:
        """Wait until everybody is there who may come, and tell how many of them go."""
        while True:
            lengths = [waiter.length for waiter in self._waiters]
            fitting = spec.batches.fitting(lengths)
            is_full = fitting < len(lengths) or fitting == spec.batches.texts
            if is_full or len(lengths) >= self._coalescer.expected() or not self._arrived.wait(self._pause):
                return fitting


def _another(error: OllamaError, cause: BaseException) -> OllamaError:
    """Make an exception for one more thread: raising changes it."""
    another = copy.copy(error)
    another.__cause__ = cause
    return another
