import dataclasses

import pytest

from griptape_ollama.embeddings.embedder import Embedder
from griptape_ollama.embeddings.spec import BatchLimits, EmbeddingSpec
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout
from unit.embeddings.serving import MODEL, Gate


@pytest.fixture
def spec(simulator):
    """Settings of requests to the simulator: no retries, no known window."""
    connection = Connection.open(simulator.host)
    yield EmbeddingSpec(
        connection=connection,
        body={"model": MODEL, "truncate": False},
        limits=OllamaTimeout(),
        policy=retry_policy(max_attempts=1),
        batches=BatchLimits(texts=64, characters=200_000),
        on_long_text="chunk",
        window=lambda _: None,
    )
    connection.close()


@pytest.fixture
def embed(spec):
    """Embeds passages with a spec that has some other settings."""

    def embed(passages, *, replied=lambda _: None, **settings):
        return Embedder(dataclasses.replace(spec, **settings), Run(), replied).embed(passages)

    return embed


@pytest.fixture
def gate(simulator):
    """A server that answers on demand; at the end it answers everything."""
    gate = Gate(simulator)
    yield gate
    gate.open()
