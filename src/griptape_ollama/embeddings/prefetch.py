"""Texts that a thread embeds ahead of the calls that will ask for them."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import threading
from collections import Counter
from collections.abc import Callable, Generator, Hashable, Sequence

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.cache import CachedVectors
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.spec import EmbeddingSpec, Reply, leased_spec
from griptape_ollama.errors import OllamaCancelledError, OllamaError
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.run import Run

LEAD_BATCHES = 16
"""How many full batches the thread may be ahead of the calls, so that memory stays bounded."""


@contextlib.contextmanager
def embedding_ahead(
    active: list[Prefetch],
    prefetch: Prefetch,
    spec: EmbeddingSpec,
    cached: CachedVectors,
    *,
    run: Run,
    replied: Callable[[Reply], None],
) -> Generator[None, None, None]:
    """Embed the texts of a prefetch on a thread while the block runs; its end cancels the request that is under way.

    Args:
        active: The prefetches from which calls take vectors; this one is among them during the block.
        prefetch: The texts, and where their vectors go.
        spec: Settings of the requests.
        cached: Cached vectors; new ones are added.
        run: The run of the requests.
        replied: Called with each reply, in the context of the block.
    """
    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(_fill, prefetch, spec, cached, run, replied),
        name="griptape-ollama-prefetch",
        daemon=True,
    )
    active.append(prefetch)
    thread.start()
    try:
        yield
    finally:
        active.remove(prefetch)
        prefetch.end()
        # A forked process has the sockets of this thread, but not the thread, and must not close them.
        if thread.is_alive():
            run.cancel()
            thread.join()


def take_prefetched(active: Sequence[Prefetch], passage: Passage, key: Hashable, run: Run) -> Outcome | None:
    """Return the vector of a text from one of the prefetches with a key; None if it is in none of them.

    Raises:
        OllamaError: As `Prefetch.take` does.
    """
    for prefetch in tuple(active):
        if prefetch.key == key and (outcome := prefetch.take(passage, run)) is not None:
            return outcome
    return None


def _fill(
    prefetch: Prefetch, spec: EmbeddingSpec, cached: CachedVectors, run: Run, replied: Callable[[Reply], None]
) -> None:
    try:
        with leased_spec(spec) as spec_in_use:
            embedder = Embedder(spec_in_use, run, replied)
            while passages := prefetch.due(spec.batches.texts):
                cached.check_model(run)
                passages = passages[: spec.batches.fitting([len(passage.sent) for passage in passages])]
                outcomes = dict(zip(passages, embedder.embed(passages), strict=True))
                cached.put_all(outcomes)
                prefetch.deliver(list(outcomes), list(outcomes.values()))
    except OllamaCancelledError:
        pass  # Calls that start later are not affected.
    except OllamaError as error:
        prefetch.end(error)
    finally:
        prefetch.end()


class Prefetch:
    """Vectors that calls take as they arrive.

    Args:
        key: Identifies the vectors (`EmbeddingSpec.key`).
        passages: The texts, in the order in which calls will ask for them.
        lead: How many texts may be ahead of the calls. A call for a text that is further ahead gets it all the same.
    """

    def __init__(self, key: Hashable, passages: Sequence[Passage], lead: int) -> None:
        self.key = key
        self._lead = lead
        self._texts = list(dict.fromkeys(passage.sent for passage in passages))
        self._passages = {passage.sent: passage for passage in passages}
        self._wanted = Counter(passage.sent for passage in passages)
        self._places = {text: place for place, text in enumerate(self._texts)}
        self._ready: dict[str, Outcome] = {}
        self._next = 0
        self._allowed = lead
        self._is_over = False
        self._changed = threading.Condition()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """End the prefetch in a forked process, where the thread that embeds is gone."""
        self._changed = threading.Condition()
        self._is_over = True
        self._wanted.clear()

    def due(self, count: int) -> list[Passage]:
        """Wait until the lead allows the next `count` texts, and return them; none at the end."""
        with self._changed:
            rest = len(self._texts) - self._next
            wanted = min(count, rest)
            self._changed.wait_for(lambda: self._is_over or self._next + wanted <= self._allowed)
            if self._is_over:
                return []
            return [self._passages[text] for text in self._texts[self._next : self._next + wanted]]

    def deliver(self, passages: Sequence[Passage], outcomes: Sequence[Outcome]) -> None:
        """Add the vectors of the next texts."""
        with self._changed:
            for passage, outcome in zip(passages, outcomes, strict=True):
                self._ready[passage.sent] = outcome
            self._next += len(passages)
            self._is_over = self._is_over or self._next == len(self._texts)
            self._changed.notify_all()

    def end(self, error: OllamaError | None = None) -> None:
        """Stop the waiting.

        Args:
            error: Raised for texts that have no vector yet; without it, calls for them send their own requests.
        """
        with self._changed:
            self._is_over = True
            if error is not None:
                for text in self._texts[self._next :]:
                    self._ready[text] = error
            self._changed.notify_all()

    def take(self, passage: Passage, run: Run) -> Outcome | None:
        """Wait for the vector of a text and return it; None if it will not come.

        Args:
            passage: The text.
            run: The run that waits.

        Raises:
            OllamaCancelledError: The run was cancelled.
            OllamaTimeoutError: The total limit of the run was reached.
        """
        text = passage.sent
        with self._changed:
            if self._wanted[text] <= 0:
                return None
            self._allowed = max(self._allowed, self._places[text] + 1 + self._lead)
            self._changed.notify_all()
        with run.waiting_until(lambda: text in self._ready or self._is_gone(text), self._changed):
            if text not in self._ready:
                if self._is_gone(text):
                    return None
                raise run.timeout_error()
            self._wanted[text] -= 1
            if self._wanted[text] > 0:
                return copy.copy(self._ready[text])
            self._changed.notify_all()
            return copy.copy(self._ready.pop(text))

    def _is_gone(self, text: str) -> bool:
        """Return whether a missing text will not come any more: calls have taken it as often as it was announced."""
        return self._is_over or self._wanted[text] <= 0
