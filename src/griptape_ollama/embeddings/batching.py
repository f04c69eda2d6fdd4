"""Any number of texts, batch by batch, in bounded memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.cache import CachedVectors
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.spec import BatchLimits, EmbeddingSpec, Reply, leased_spec
from griptape_ollama.transport.run import Run

_READ_AHEAD = 16  # batches' worth of texts that may be read to find those that are not cached


def in_batches(
    passages: Iterable[Passage],
    spec: EmbeddingSpec,
    cached: CachedVectors,
    *,
    runs: Callable[[], contextlib.AbstractContextManager[Run]],
    replied: Callable[[Reply], None],
) -> Iterator[list[Outcome]]:
    """Embed texts in full batches; each distinct text once, and none that is cached.

    Args:
        passages: The texts. Only those of one batch are read, and the first that did not fit into it.
        spec: Settings of the requests.
        cached: Cached vectors; new ones are added.
        runs: Starts the run of each batch.
        replied: Called with each reply.

    Yields:
        A vector or an error for each of the next texts, in their order.

    Raises:
        OllamaError: A request failed for a reason that has nothing to do with single texts.
    """
    with contextlib.ExitStack() as leases:
        spec_in_use: EmbeddingSpec | None = None
        for batch in _batches(passages, spec.batches, cached):
            if batch.missing:
                spec_in_use = spec_in_use or leases.enter_context(leased_spec(spec))
            yield _outcomes(batch, spec_in_use or spec, cached, runs, replied)


def _batches(passages: Iterable[Passage], limits: BatchLimits, cached: CachedVectors) -> Iterator[_Batch]:
    batch = _Batch(limits)
    for passage in passages:
        vector = cached.get(passage)
        if not batch.fits(passage, vector):
            yield batch
            batch = _Batch(limits)
        batch.add(passage, vector)
        if batch.is_full:
            yield batch
            batch = _Batch(limits)
    if batch.texts:
        yield batch


class _Batch:
    """Texts whose vectors are returned together: as many new ones as a request has, and cached ones between them.

    Attributes:
        texts: The texts, with the vectors that are cached.
        missing: The distinct texts without a vector.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.texts: list[tuple[Passage, list[float] | None]] = []
        self.missing: dict[Passage, None] = {}
        self._limits = limits
        self._characters = 0

    @property
    def is_full(self) -> bool:
        return len(self.missing) == self._limits.texts or len(self.texts) == self._limits.texts * _READ_AHEAD

    def fits(self, passage: Passage, vector: list[float] | None) -> bool:
        if vector is not None or passage in self.missing:
            return True
        return self._limits.allow(len(self.missing), self._characters, len(passage.sent))

    def add(self, passage: Passage, vector: list[float] | None) -> None:
        self.texts.append((passage, vector))
        if vector is None and passage not in self.missing:
            self.missing[passage] = None
            self._characters += len(passage.sent)


def _outcomes(
    batch: _Batch,
    spec: EmbeddingSpec,
    cached: CachedVectors,
    runs: Callable[[], contextlib.AbstractContextManager[Run]],
    replied: Callable[[Reply], None],
) -> list[Outcome]:
    found: dict[Passage, Outcome] = {}
    if batch.missing:
        missing = list(batch.missing)
        with runs() as run:
            cached.check_model(run)
            found.update(zip(missing, Embedder(spec, run, replied).embed(missing), strict=True))
        cached.put_all(found)
    return [_copied(found[passage]) if vector is None else vector for passage, vector in batch.texts]


def _copied(outcome: Outcome) -> Outcome:
    """Copy a vector, so that equal texts do not share one list."""
    return outcome.copy() if isinstance(outcome, list) else outcome
