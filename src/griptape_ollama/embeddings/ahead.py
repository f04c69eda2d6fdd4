"""The thread that embeds texts ahead of those who will ask for them."""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Generator

from griptape_ollama.embeddings.cache import KnownVectors
from griptape_ollama.embeddings.embedder import Embedder
from griptape_ollama.embeddings.order import Order, Reply, held
from griptape_ollama.embeddings.prefetching import Prefetch
from griptape_ollama.errors import OllamaCancelledError, OllamaError
from griptape_ollama.transport.run import Run

LEAD_BATCHES = 16
"""How many full batches the thread may be ahead of who asks, so that memory stays bounded."""


@contextlib.contextmanager
def embedding_ahead(
    prefetch: Prefetch, order: Order, known: KnownVectors, run: Run, replied: Callable[[Reply], None]
) -> Generator[None, None, None]:
    """Embed the texts of a prefetch on a thread while the block runs; what is under way at its end is stopped.

    Args:
        prefetch: The texts, and where their vectors go.
        order: What is asked for.
        known: Learns the vectors.
        run: The run that the requests belong to.
        replied: Told of each reply, in the context of who entered the block.
    """
    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(_fill, prefetch, order, known, run, replied),
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


def _fill(prefetch: Prefetch, order: Order, known: KnownVectors, run: Run, replied: Callable[[Reply], None]) -> None:
    try:
        with held(order) as order_of_many:
            embedder = Embedder(order_of_many, run, replied)
            while passages := prefetch.due(order.batches.texts):
                known.look(run)
                size = order.batches.fitting([len(passage.sent) for passage in passages])
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
