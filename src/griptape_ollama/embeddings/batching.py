"""Any number of texts, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.cache import KnownVectors
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.spec import BatchLimits, EmbeddingSpec, Reply, leased_spec_of
from griptape_ollama.transport.run import Run

_READ_AHEAD = 16  # batches' worth of texts that may be read while looking for those that are not known yet


def in_batches(
    passages: Iterable[Passage],
    spec: EmbeddingSpec,
    known: KnownVectors,
    *,
    runs: Callable[[], contextlib.AbstractContextManager[Run]],
    replied: Callable[[Reply], None],
) -> Iterator[list[Outcome]]:
    """Embed texts in full batches, in bounded memory; each text once, and none that is known.

    Args:
        passages: The texts. No more of them are read than one batch needs, but for one that did not fit into it.
        spec: What is asked for.
        known: Vectors that are known already; learns the new ones.
        runs: Gives the run of each batch.
        replied: Told of each reply.

    Yields:
        A vector or an error for each of the next texts, in their order.

    Raises:
        OllamaError: A request failed for a reason that has nothing to do with single texts.
    """
    with contextlib.ExitStack() as leased:
        leased_spec: EmbeddingSpec | None = None
        for batch in _batches(passages, spec.batches, known):
            if batch.missing:
                leased_spec = leased_spec or leased.enter_context(leased_spec_of(spec))
            yield _outcomes(batch, leased_spec or spec, known, runs, replied)


def _batches(passages: Iterable[Passage], limits: BatchLimits, known: KnownVectors) -> Iterator[_Batch]:
    batch = _Batch(limits)
    for passage in passages:
        vector = known.get(passage)
        if not batch.takes(passage, vector):
            yield batch
            batch = _Batch(limits)
        batch.add(passage, vector)
        if batch.is_full:
            yield batch
            batch = _Batch(limits)
    if batch.texts:
        yield batch


class _Batch:
    """Texts whose vectors are given together: new ones, as many as a request holds, and those that are known.

    Args:
        limits: How much a request may hold.

    Attributes:
        texts: The texts, with the vectors that are known.
        missing: Those without, each once.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self.texts: list[tuple[Passage, list[float] | None]] = []
        self.missing: dict[Passage, None] = {}
        self._limits = limits
        self._characters = 0

    @property
    def is_full(self) -> bool:
        """Whether another text would not fit, whatever it is."""
        return len(self.missing) == self._limits.texts or len(self.texts) == self._limits.texts * _READ_AHEAD

    def takes(self, passage: Passage, vector: list[float] | None) -> bool:
        """Whether there is room for a text."""
        needs_none = vector is not None or passage in self.missing
        return needs_none or not self.missing or self._characters + len(passage.sent) <= self._limits.characters

    def add(self, passage: Passage, vector: list[float] | None) -> None:
        """Add a text."""
        self.texts.append((passage, vector))
        if vector is None and passage not in self.missing:
            self.missing[passage] = None
            self._characters += len(passage.sent)


def _outcomes(
    batch: _Batch,
    spec: EmbeddingSpec,
    known: KnownVectors,
    runs: Callable[[], contextlib.AbstractContextManager[Run]],
    replied: Callable[[Reply], None],
) -> list[Outcome]:
    found: dict[Passage, Outcome] = {}
    if batch.missing:
        missing = list(batch.missing)
        with runs() as run:
            known.look(run)
            found.update(zip(missing, Embedder(spec, run, replied).embed(missing), strict=True))
    for passage, outcome in found.items():
        known.put(passage, outcome)
    return [_own(found[passage]) if vector is None else vector for passage, vector in batch.texts]


def _own(outcome: Outcome) -> Outcome:
    """Copy a vector, so that texts that are alike do not share one."""
    return outcome.copy() if isinstance(outcome, list) else outcome
