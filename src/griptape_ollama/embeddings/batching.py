"""Any number of texts, batch by batch."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.cache import KnownVectors
from griptape_ollama.embeddings.embedder import Embedder, Outcome
from griptape_ollama.embeddings.order import Order, Reply, held
from griptape_ollama.transport.run import Run

_READ_AHEAD = 16  # batches' worth of texts that may be read while looking for those that are not known yet


def in_batches(
    passages: Iterable[Passage],
    order: Order,
    known: KnownVectors,
    *,
    runs: Callable[[], contextlib.AbstractContextManager[Run]],
    replied: Callable[[Reply], None],
) -> Iterator[list[Outcome]]:
    """Embed texts in full batches, in bounded memory; each text once, and none that is known.

    Args:
        passages: The texts. No more of them are read than one batch needs, and those before it that are known.
        order: What is asked for.
        known: Vectors that are known already; learns the new ones.
        runs: Gives the run of each batch.
        replied: Told of each reply.

    Yields:
        A vector or an error for each of the next texts, in their order.

    Raises:
        OllamaError: A request failed for a reason that has nothing to do with single texts.
    """
    unread = iter(passages)
    with contextlib.ExitStack() as holding:
        order_of_many: Order | None = None
        while batch := _next_batch(unread, order, known):
            missing = list(dict.fromkeys(passage for passage, vector in batch if vector is None))
            found: dict[Passage, Outcome] = {}
            if missing:
                order_of_many = order_of_many or holding.enter_context(held(order))
                with runs() as run:
                    found.update(zip(missing, Embedder(order_of_many, run, replied).embed(missing), strict=True))
            for passage, outcome in found.items():
                known.put(passage, outcome)
            yield [found[passage] if vector is None else vector for passage, vector in batch]


def _next_batch(
    unread: Iterator[Passage], order: Order, known: KnownVectors
) -> list[tuple[Passage, list[float] | None]]:
    """Read until a batch is full, and find the vectors that are known."""
    batch: list[tuple[Passage, list[float] | None]] = []
    missing: set[Passage] = set()
    characters = 0
    for passage in itertools.islice(unread, order.batches.texts * _READ_AHEAD):
        vector = known.get(passage)
        batch.append((passage, vector))
        if vector is None and passage not in missing:
            missing.add(passage)
            characters += len(passage.sent)
        if len(missing) == order.batches.texts or characters >= order.batches.characters:
            break
    return batch
