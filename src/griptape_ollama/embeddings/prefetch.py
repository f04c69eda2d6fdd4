"""The thread that embeds texts ahead of those who will ask for them."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import threading
from collections import Counter
from collections.abc import Callable, Generator, Sequence

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.cache import KnownVectors
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.spec import EmbeddingSpec, Reply, leased_spec_of
from griptape_ollama.errors import OllamaCancelledError, OllamaError
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.run import Run

LEAD_BATCHES = 16
"""How many full batches the thread may be ahead of who asks, so that memory stays bounded."""


@contextlib.contextmanager
def embedding_ahead(
    prefetch: Prefetch, spec: EmbeddingSpec, known: KnownVectors, run: Run, replied: Callable[[Reply], None]
) -> Generator[None, None, None]:
    """Embed the texts of a prefetch on a thread while the block runs; what is under way at its end is stopped.

    Args:
        prefetch: The texts, and where their vectors go.
        spec: What is asked for.
        known: Learns the vectors.
        run: The run that the requests belong to.
        replied: Told of each reply, in the context of who entered the block.
    """
    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(_fill, prefetch, spec, known, run, replied),
        name="griptape-ollama-prefetch",
        daemon=True,
    )
    thread.start()
    try:
        yield
    finally:
        prefetch.end()
        # A forked process has the sockets of this thread, but not the thread: they are not its own to close.
        if thread.is_alive():
            run.cancel()
            thread.join()


def _fill(
    prefetch: Prefetch, spec: EmbeddingSpec, known: KnownVectors, run: Run, replied: Callable[[Reply], None]
) -> None:
    try:
        with leased_spec_of(spec) as leased_spec:
            embedder = Embedder(leased_spec, run, replied)
            while passages := prefetch.due(spec.batches.texts):
                known.look(run)
                size = spec.batches.fitting([len(passage.sent) for passage in passages])
                outcomes = embedder.embed(passages[:size])
                for passage, outcome in zip(passages, outcomes, strict=False):
                    known.put(passage, outcome)
                prefetch.deliver(passages[:size], outcomes)
    except OllamaCancelledError:
        pass  # Calls that start later are not concerned.
    except OllamaError as error:
        prefetch.end(error)
    finally:
        prefetch.end()


class Prefetch:
    """Vectors that are on their way, or there, for callers to take.

    Args:
        key: Tells for which order the vectors are.
        passages: The texts, in the order in which they will be asked for.
        lead: How many texts may be ahead of the callers, so that memory stays bounded. Whoever asks for a text that
            is further ahead gets it all the same.
    """

    def __init__(self, key: str, passages: Sequence[Passage], lead: int) -> None:
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
        """Let everybody ask for themselves: the thread that embeds is gone."""
        self._changed = threading.Condition()
        self._is_over = True
        self._wanted.clear()

    def due(self, count: int) -> list[Passage]:
        """Give the texts that come next, once there is room for them; none when there is nothing left to do.

        Args:
            count: How many texts make a full batch.
        """
        with self._changed:
            rest = len(self._texts) - self._next
            wanted = min(count, rest)
            self._changed.wait_for(lambda: self._is_over or self._next + wanted <= self._allowed)
            if self._is_over:
                return []
            return [self._passages[text] for text in self._texts[self._next : self._next + wanted]]

    def deliver(self, passages: Sequence[Passage], outcomes: Sequence[Outcome]) -> None:
        """Give the next texts to those who wait for them."""
        with self._changed:
            for passage, outcome in zip(passages, outcomes, strict=True):
                self._ready[passage.sent] = outcome
            self._next += len(passages)
            self._is_over = self._is_over or self._next == len(self._texts)
            self._changed.notify_all()

    def end(self, error: OllamaError | None = None) -> None:
        """Let nobody wait any more.

        Args:
            error: What went wrong: whoever wants a text that is not there gets it. By default they ask for themselves.
        """
        with self._changed:
            self._is_over = True
            if error is not None:
                for text in self._texts[self._next :]:
                    self._ready[text] = error
            self._changed.notify_all()

    def take(self, passage: Passage, run: Run) -> Outcome | None:
        """Give what became of a text, waiting for it if it is to come; None where it is not to be had here.

        Args:
            passage: The text.
            run: The run that waits.

        Raises:
            OllamaCancelledError: The run was stopped.
            OllamaTimeoutError: The total limit of the run was reached.
        """
        text = passage.sent
        with self._changed:
            if self._wanted[text] <= 0:
                return None
            self._allowed = max(self._allowed, self._places[text] + 1 + self._lead)
            self._changed.notify_all()
        run.guard.bind(self._wake)
        try:
            return self._awaited(text, run)
        finally:
            run.guard.release()

    def _awaited(self, text: str, run: Run) -> Outcome | None:
        with self._changed:
            self._changed.wait_for(
                lambda: text in self._ready or self._is_gone(text) or run.guard.stopped, timeout=run.shorter(None)
            )
            run.check()
            if text not in self._ready:
                if self._is_gone(text):
                    return None
                raise run.out_of_time()
            self._wanted[text] -= 1
            if self._wanted[text] > 0:
                return copy.copy(self._ready[text])
            self._changed.notify_all()
            return copy.copy(self._ready.pop(text))

    def _is_gone(self, text: str) -> bool:
        """Whether a text that is not there will not come any more: others took it as often as it was announced."""
        return self._is_over or self._wanted[text] <= 0

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
