"""Indexing with a vector store: how many requests it takes, and how long beside what store and server need anyway."""

import contextlib
import os
import statistics
import time
from dataclasses import dataclass

from griptape.artifacts import TextArtifact
from griptape.drivers.embedding import BaseEmbeddingDriver
from griptape.drivers.embedding.ollama_embedding_driver import OllamaEmbeddingDriver as BuiltIn
from griptape.drivers.vector.local_vector_store_driver import LocalVectorStoreDriver

from benchmarks import prose
from benchmarks.embedding_server import COSTS, NUMBERS, running
from benchmarks.tables import markdown
from griptape_ollama import OllamaDriversConfig, OllamaEmbeddingDriver

ROUNDS = 5
CHUNKS = 1000
CHARACTERS = 1000
MODEL = "chunks"
THREADS = min(32, (os.cpu_count() or 1) + 4)  # what Griptape's executor has by default


class Free(BaseEmbeddingDriver):
    """An embedder that takes no time, so that the store alone is left."""

    def try_embed_chunk(self, chunk, *, vector_operation=None):
        return [0.0] * NUMBERS


def _built_in(host):
    return LocalVectorStoreDriver(embedding_driver=BuiltIn(model=MODEL, host=host))


def _ours(host):
    return LocalVectorStoreDriver(embedding_driver=OllamaEmbeddingDriver(model=MODEL, host=host))


def _configured(host):
    return OllamaDriversConfig(embedding_model=MODEL, host=host).vector_store_driver


@dataclass(frozen=True)
class Way:
    """A way to index.

    Attributes:
        name: Its name.
        store: Makes a fresh store, with a fresh driver that has nothing in its cache.
        prefetches: Whether to prefetch.
    """

    name: str
    store: object
    prefetches: bool = False


WAYS = (
    Way("Griptape's built-in driver", _built_in),
    Way(f"griptape-ollama, Griptape's {THREADS} threads", _ours),
    Way("griptape-ollama, store of OllamaDriversConfig", _configured),
    Way("griptape-ollama, prefetch", _ours, prefetches=True),
)


def _seconds(store, *, prefetches=False):
    artifacts = [TextArtifact(text) for text in prose.chunks(CHUNKS, CHARACTERS)]
    began = time.perf_counter()
    with store.embedding_driver.prefetch(artifacts) if prefetches else contextlib.nullcontext():
        store.upsert_collection(artifacts)
    seconds = time.perf_counter() - began
    assert len(store.entries) == CHUNKS
    return seconds


def _alone(make_store, host):
    """Seconds of the store, with as many threads as it has."""
    store = make_store(host)
    store.embedding_driver = Free(model="free")
    return _seconds(store)


def _round(server):
    """Return seconds, those of the store alone and of the server, and the number of requests, by driver."""
    alone = {_ours: _alone(_ours, server.host), _configured: _alone(_configured, server.host)}
    for way in WAYS:
        server.seen()
        seconds = _seconds(way.store(server.host), prefetches=way.prefetches)
        seen = server.seen()
        assert seen.texts == CHUNKS, f"{way.name}: {seen}"
        yield way.name, (seconds, alone.get(way.store, alone[_ours]), COSTS[MODEL].of(seen), seen.requests)


def table():
    found = {way.name: [] for way in WAYS}
    with running() as server:
        for _ in range(ROUNDS):
            for name, figures in _round(server):
                found[name].append(figures)
    rows = []
    for way in WAYS:
        seconds, alone, of_server, requests = map(statistics.median, zip(*found[way.name], strict=True))
        times = statistics.median(each[0] / (each[1] + each[2]) for each in found[way.name])
        figures = (f"{each:.2f}" for each in (seconds, alone, of_server, times))
        rows.append((way.name, f"{requests:,}", *figures))
    title = (
        f"`upsert_collection` of {CHUNKS:,} chunks of {CHARACTERS:,} characters into LocalVectorStoreDriver "
        f"(simulator, {COSTS[MODEL]}, median of {ROUNDS})"
    )
    head = ("driver", "requests", "s", "store alone, s", "server, s", "times store and server")
    return markdown(title, head, rows)
