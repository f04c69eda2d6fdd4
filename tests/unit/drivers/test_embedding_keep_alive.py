"""With keep_alive=0, an embedding model stays while there is more to embed, and is unloaded once."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from griptape.artifacts import TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver

from griptape_ollama import OllamaEmbeddingDriver
from griptape_ollama.embeddings import coalescing
from griptape_ollama.models import keep_alive_leases as holds


@pytest.fixture
def driver(simulator):
    return OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url, keep_alive=0, batch_size=4)


def _sent(simulator):
    return [
        "unload" if request.path == "/api/generate" else request.body["keep_alive"]
        for request in simulator.requests
        if request.path in ("/api/embed", "/api/generate")
    ]


def _end_threads():
    for thread in threading.enumerate():
        if thread.name == "griptape-ollama-embed":
            thread.join()


def test_one_short_text_lets_the_server_unload(simulator, driver):
    driver.embed("llama")
    assert _sent(simulator) == [0]


def test_a_text_that_may_take_several_requests_holds_the_model(simulator, driver):
    driver.embed("llama " * 100)
    assert _sent(simulator) == [300, "unload"]
    assert simulator.loaded_models == []


def test_batches_hold_the_model_until_the_last_one(simulator, driver):
    driver.embed_batch([f"llama {number}" for number in range(10)])
    assert _sent(simulator) == [300, 300, 300, "unload"]
    assert simulator.loaded_models == []


def test_known_texts_unload_nothing(simulator, driver):
    driver.embed_batch(["llama"])
    driver.embed_batch(["llama"])
    assert _sent(simulator) == [300, "unload"]


def test_leaving_an_iteration_early_lets_the_model_go(simulator, driver):
    vectors = driver.iter_embed_batch(f"llama {number}" for number in range(10))
    next(vectors)
    vectors.close()
    assert _sent(simulator) == [300, "unload"]


def test_leaving_an_awaited_iteration_early_lets_the_model_go(simulator, driver):
    async def main():
        async with contextlib.aclosing(driver.aiter_embed_batch(f"llama {number}" for number in range(10))) as vectors:
            assert await vectors.__anext__()

    asyncio.run(main())
    assert _sent(simulator) == [300, "unload"]


def test_a_store_that_is_filled_by_threads_loads_the_model_once(simulator, driver, monkeypatch):
    monkeypatch.setattr(coalescing, "RECENT_SECONDS", 2.0)  # a busy machine may keep all threads waiting for longer
    store = LocalVectorStoreDriver(embedding_driver=driver)
    store.upsert_collection([TextArtifact(f"llama {number}") for number in range(40)])
    _end_threads()
    sent = _sent(simulator)
    # The first calls may have been alone, as long as one thread of the store was quick enough to make them all.
    alone = sent.count(0)
    assert alone < 40
    assert sent[alone:] == [300] * (len(sent) - alone - 1) + ["unload"]
    assert holds._leases == {}


def test_a_prefetch_holds_the_model_until_it_has_all(simulator, driver):
    store = LocalVectorStoreDriver(embedding_driver=driver)
    artifacts = [TextArtifact(f"llama {number}") for number in range(10)]
    with driver.prefetch(artifacts):
        store.upsert_collection(artifacts)
    assert _sent(simulator) == [300, 300, 300, "unload"]


def test_a_short_text_beside_a_batch_does_not_take_the_model_away(simulator, driver):
    vectors = driver.iter_embed_batch(f"llama {number}" for number in range(10))
    next(vectors)
    driver.embed("alpaca")
    vectors.close()
    assert _sent(simulator) == [300, 300, "unload"]


def test_a_batch_holds_the_model_however_long_it_takes(simulator, driver, monkeypatch):
    vectors = driver.iter_embed_batch(f"llama {number}" for number in range(10))
    next(vectors)
    later = time.monotonic() + 10 * holds.LEASE_SECONDS
    monkeypatch.setattr(holds, "time", SimpleNamespace(monotonic=lambda: later))
    driver.embed("alpaca")
    vectors.close()
    assert _sent(simulator) == [300, 300, "unload"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_a_forked_process_holds_nothing(driver):
    vectors = driver.iter_embed_batch(["llama", "alpaca"])
    next(vectors)
    if (child := os.fork()) == 0:
        os._exit(holds.is_leased(driver.connection, driver.model))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert holds.is_leased(driver.connection, driver.model)
    vectors.close()


def test_an_iteration_may_be_dropped_while_its_own_thread_is_noting_a_hold(simulator, driver):
    vectors = driver.iter_embed_batch(f"llama {number}" for number in range(10))
    next(vectors)

    def drop():
        with holds._lock:  # the garbage collector closes an iterator whenever and wherever it likes
            vectors.close()

    thread = threading.Thread(target=drop, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert _sent(simulator) == [300, "unload"]


def test_a_program_that_ends_right_away_still_lets_the_model_go(simulator):
    script = f"""
from griptape.artifacts import TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape_ollama import OllamaEmbeddingDriver
driver = OllamaEmbeddingDriver(model="simulator-embed", host={simulator.url!r}, keep_alive=0)
LocalVectorStoreDriver(embedding_driver=driver).upsert_collection([TextArtifact(str(n)) for n in range(40)])
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert simulator.loaded_models == []
