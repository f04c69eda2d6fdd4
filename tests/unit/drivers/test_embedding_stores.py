"""Vector stores that ask for one vector at a time, on several threads: with and without a prefetch."""

import contextlib
import os
import random
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.artifacts import ImageArtifact, TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.drivers.vector.qdrant import QdrantVectorStoreDriver
from griptape.events import EventListener
from griptape.tokenizers import SimpleTokenizer
from griptape.utils import with_contextvars

from griptape_ollama import (
    OllamaCancelledError,
    OllamaContentError,
    OllamaEmbeddingEvent,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaTimeout,
)
from griptape_ollama.context.tokens.estimator import text_estimator_of
from griptape_ollama.models import keep_alive_leases as holds
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.transport.run import Run
from unit.embeddings.serving import Gate, answer_with, inputs, refuse, vector

_WORDS = ["cat", "dog", "owl", "fox", "bee", "ant", "elk", "emu", "yak", "hen"]


def _artifacts(count, prefix="text number"):
    return [TextArtifact(f"{prefix} {number}") for number in range(count)]


def _stored(store, namespace=None):
    """Texts of a local store, with their vectors."""
    return {entry.to_artifact().value: entry.vector for entry in store.load_entries(namespace=namespace)}


@pytest.fixture
def gate(simulator):
    gate = Gate(simulator)
    yield gate
    gate.open()


@pytest.fixture
def waiting(monkeypatch):
    """Counts the threads that wait for a prefetch."""
    waiting = threading.Semaphore(0)
    waiting_until = Run.waiting_until

    def counted(*arguments):
        waiting.release()
        return waiting_until(*arguments)

    monkeypatch.setattr(Run, "waiting_until", counted)
    return waiting


@pytest.fixture
def in_threads():
    """Runs a function once per argument, each in a thread of its own that has the context of this one."""
    with ThreadPoolExecutor(16) as pool:

        def run(function, arguments):
            futures = [pool.submit(with_contextvars(function), argument) for argument in arguments]
            return [future.result(60) for future in futures]

        yield run


class TestGathering:
    def test_many_threads_get_their_own_vectors_in_fewer_requests(self, simulator, make_embedder, in_threads):
        driver = make_embedder(cache_bytes=0)
        start = threading.Barrier(8)

        def work(seed):
            dice = random.Random(seed)  # noqa: S311 # a test that can be repeated
            start.wait(30)
            for _ in range(40):
                text = " ".join(dice.choices(_WORDS, k=dice.randint(0, 12)))
                assert driver.embed(text) == vector(text or ".")

        in_threads(work, range(8))
        assert sum(map(len, inputs(simulator))) == 320
        assert len(inputs(simulator)) < 320

    def test_without_gathering_each_call_goes_by_itself(self, simulator, make_embedder, in_threads):
        driver = make_embedder(cache_bytes=0, gather_seconds=0)
        in_threads(driver.embed, [f"text {number}" for number in range(30)])
        assert [len(texts) for texts in inputs(simulator)] == [1] * 30

    def test_calls_of_other_settings_do_not_share(self, simulator, make_embedder, in_threads):
        driver = make_embedder(cache_bytes=0)

        def work(number):
            other = make_embedder(cache_bytes=0, keep_alive=number % 2 + 1) if number % 4 == 0 else driver
            assert other.embed(f"text {number}") == vector(f"text {number}")
            driver.keep_alive = number % 2 + 1

        in_threads(work, range(16))
        assert sum(map(len, inputs(simulator))) == 16

    @pytest.mark.parametrize(
        "settings",
        [
            {"timeout": OllamaTimeout(first_token=0.2)},
            {"max_attempts": 1},
            {"batch_size": 2},
            {"audit_requests": True},
            {"tokenizer": SimpleTokenizer(characters_per_token=4, max_input_tokens=9, max_output_tokens=9)},
        ],
        ids=lambda settings: next(iter(settings)),
    )
    def test_calls_that_are_made_in_another_manner_do_not_share(self, simulator, gate, make_embedder, settings):
        driver = make_embedder(cache_bytes=0, gather_seconds=5, batch_size=3)
        twin = driver.with_settings(**settings)
        with ThreadPoolExecutor(6) as pool:
            lone = pool.submit(driver.embed, "lone")
            assert gate.next() == ["lone"]
            futures = [pool.submit(each.embed, text) for each, text in ((driver, "a"), (twin, "b"), (driver, "c"))]
            # A request of three would be full now. Those of the driver wait for a third that comes of its own kind.
            futures.append(pool.submit(driver.embed, "d"))
            first = gate.next()
            twin.cancel()
            gate.open()
            found = [future.result(30) for future in (lone, futures[0], *futures[2:])]
        assert sorted(first) == ["a", "c", "d"]
        assert found == [vector(text) for text in ("lone", "a", "c", "d")]

    def test_one_missing_text_fails_alone(self, simulator, make_embedder, in_threads):
        refuse(simulator, lambda text: text == "text 13", status=400, error="no")
        driver = make_embedder(cache_bytes=0)

        def work(number):
            try:
                return driver.embed(f"text {number}")
            except OllamaResponseError as error:
                return str(error)

        outcomes = in_threads(work, range(20))
        assert outcomes.pop(13).endswith("The text is 'text 13'.")
        assert outcomes == [vector(f"text {number}") for number in range(20) if number != 13]


class TestStores:
    def test_a_collection_is_stored_with_shared_requests(self, simulator, embedder):
        store = LocalVectorStoreDriver(embedding_driver=embedder)
        store.upsert_collection(_artifacts(120))
        assert _stored(store) == {artifact.value: vector(artifact.value) for artifact in _artifacts(120)}
        assert len(inputs(simulator)) < 120

    def test_several_stores_share_a_driver(self, simulator, embedder, in_threads):
        stores = [LocalVectorStoreDriver(embedding_driver=embedder) for _ in range(3)]

        def work(number):
            stores[number].upsert_collection(_artifacts(40, f"store {number}"))

        in_threads(work, range(3))
        for number, store in enumerate(stores):
            expected = {artifact.value: vector(artifact.value) for artifact in _artifacts(40, f"store {number}")}
            assert _stored(store) == expected
        assert len(inputs(simulator)) < 120

    def test_a_query_finds_what_is_like_it(self, embedder):
        store = LocalVectorStoreDriver(embedding_driver=embedder)
        store.upsert_collection([TextArtifact("cats eat mice"), TextArtifact("bridges are long")])
        assert [entry.to_artifact().value for entry in store.query("what do cats eat?", count=1)] == ["cats eat mice"]

    def test_indexing_again_sends_no_embed_request(self, simulator, embedder):
        artifacts = _artifacts(100)
        LocalVectorStoreDriver(embedding_driver=embedder).upsert_collection(artifacts)
        before = len(inputs(simulator))
        store = LocalVectorStoreDriver(embedding_driver=embedder)
        with embedder.prefetch(artifacts):
            store.upsert_collection(artifacts)
        assert len(_stored(store)) == 100
        assert len(inputs(simulator)) == before

    def test_images_are_refused_by_name(self, simulator, embedder):
        store = LocalVectorStoreDriver(embedding_driver=embedder)
        image = ImageArtifact(b"png", format="png", width=1, height=1)
        with pytest.raises(OllamaContentError, match="texts only, got ImageArtifact"):
            store.upsert(image)
        with pytest.raises(ValueError, match="does not support embedding"):
            store.query(image)


class TestPrefetch:
    def test_a_collection_is_embedded_in_full_batches(self, simulator, embedder):
        artifacts = _artifacts(200)
        store = LocalVectorStoreDriver(embedding_driver=embedder)
        with embedder.prefetch(artifacts):
            store.upsert_collection(artifacts)
        assert [len(texts) for texts in inputs(simulator)] == [64, 64, 64, 8]
        assert _stored(store) == {artifact.value: vector(artifact.value) for artifact in artifacts}

    def test_without_a_cache_too(self, simulator, make_embedder):
        driver = make_embedder(cache_bytes=0)
        artifacts = [*_artifacts(100), *_artifacts(30)]
        store = LocalVectorStoreDriver(embedding_driver=driver)
        with driver.prefetch(artifacts):
            store.upsert_collection(artifacts)
        assert [len(texts) for texts in inputs(simulator)] == [64, 36]

    def test_qdrant(self, simulator, embedder):
        from qdrant_client import QdrantClient, models  # noqa: PLC0415 # slow to import, and for this test only

        client = QdrantClient(location=":memory:")
        client.create_collection("c", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
        store = QdrantVectorStoreDriver(
            embedding_driver=embedder,
            client=client,
            collection_name="c",
            # The embedded mode of Qdrant is not made for several threads; the prefetch does not need them.
            create_futures_executor=lambda: ThreadPoolExecutor(1),
        )
        artifacts = _artifacts(200)
        with embedder.prefetch(artifacts):
            ids = store.upsert_collection(artifacts)
        assert client.count("c").count == len(set(ids)) == 200
        assert [len(texts) for texts in inputs(simulator)] == [64, 64, 64, 8]
        found = client.query_points("c", query=embedder.embed("text number 7", vector_operation="query"), limit=1)
        assert found.points[0].id == ids[7]
        client.close()

    def test_namespaces(self, simulator, embedder):
        artifacts = {"one": _artifacts(50, "one"), "two": _artifacts(50, "two")}
        store = LocalVectorStoreDriver(embedding_driver=embedder)
        with embedder.prefetch(artifacts):
            store.upsert_collection(artifacts)
        assert [len(texts) for texts in inputs(simulator)] == [64, 36]
        assert _stored(store, "two") == {artifact.value: vector(artifact.value) for artifact in artifacts["two"]}

    def test_another_order_and_texts_that_were_not_announced(self, simulator, make_embedder):
        driver = make_embedder(batch_size=4, cache_bytes=0)
        texts = [f"text {number}" for number in range(200)]
        asked = [*texts, "another", "text 3"]
        random.Random(1).shuffle(asked)  # noqa: S311 # a test that can be repeated
        with driver.prefetch(texts, vector_operation=None):
            assert [driver.embed(text) for text in asked] == [vector(text) for text in asked]
        assert sum(map(len, inputs(simulator))) == 202

    def test_it_runs_ahead_only_so_far(self, simulator, make_embedder):
        driver = make_embedder(batch_size=1)
        texts = [f"text {number}" for number in range(100)]
        with driver.prefetch(texts, vector_operation=None):
            simulator.wait_for_request(16, path="/api/embed")
            assert driver.embed(texts[0]) == vector(texts[0])
            simulator.wait_for_request(17, path="/api/embed")
        assert inputs(simulator) == [[text] for text in texts[:17]]

    def test_what_was_given_is_not_kept(self, make_embedder):
        driver = make_embedder(batch_size=4)
        texts = [f"text {number}" for number in range(300)]
        with driver.prefetch(texts, vector_operation=None):
            (prefetch,) = driver._prefetches
            for text in texts:
                driver.embed(text)
                assert len(prefetch._ready) <= 16 * 4 + 4
            assert prefetch._ready == {}
        assert driver._prefetches == []

    def test_query_and_document_are_two_texts(self, simulator, make_embedder):
        driver = make_embedder(query_prefix="query: ", document_prefix="passage: ", cache_bytes=0)
        with driver.prefetch(["cats"]):
            assert driver.embed("cats", vector_operation="query") == vector("query: cats")
            assert driver.embed("cats", vector_operation="upsert") == vector("passage: cats")
        assert sorted(inputs(simulator)) == [["passage: cats"], ["query: cats"]]

    def test_settings_that_change_within_are_those_of_the_calls(self, simulator, make_embedder):
        driver = make_embedder()
        with driver.prefetch(["cats"], vector_operation=None):
            driver.dimensions = 16
            assert driver.embed("cats") == vector("cats", 16)

    def test_an_error_about_everything_is_raised_where_a_vector_is_wanted(self, make_embedder):
        driver = make_embedder(model="nope")
        with driver.prefetch(["a", "b"], vector_operation=None):
            for text in ("a", "b", "c"):
                with pytest.raises(OllamaModelNotFoundError, match="ollama pull nope"):
                    driver.embed(text)

    def test_an_error_about_one_text_is_raised_for_that_text(self, simulator, embedder):
        refuse(simulator, lambda text: text == "b", status=400, error="no")
        with embedder.prefetch(["a", "b", "c"], vector_operation=None):
            assert embedder.embed("a") == vector("a")
            with pytest.raises(OllamaResponseError, match="The text is 'b'"):
                embedder.embed("b")
            assert embedder.embed("c") == vector("c")

    def test_a_bug_lets_everybody_ask_for_himself(self, simulator, make_embedder, monkeypatch):
        caught = []
        monkeypatch.setattr(threading, "excepthook", caught.append)

        def fail(_):
            if threading.current_thread().name == "griptape-ollama-prefetch":
                raise ZeroDivisionError

        driver = make_embedder(cache_bytes=0)
        with EventListener(fail, event_types=[OllamaEmbeddingEvent]), driver.prefetch(["a"], vector_operation=None):
            assert driver.embed("a") == vector("a")
        assert [type(each.exc_value) for each in caught] == [ZeroDivisionError]

    def test_leaving_early_stops_the_request(self, simulator, gate, embedder):
        with embedder.prefetch(_artifacts(100)):
            gate.next()
        simulator.wait_for_disconnect()
        assert len(inputs(simulator)) == 1
        assert not [each for each in threading.enumerate() if each.name == "griptape-ollama-prefetch"]
        gate.open()
        assert embedder.embed("a") == vector("a")

    def test_an_exception_leaves_it_too(self, simulator, gate, embedder):
        def work():
            with embedder.prefetch(["a"]):
                gate.next()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            work()
        simulator.wait_for_disconnect()
        assert embedder._prefetches == []

    def test_others_who_still_wait_when_it_is_left_ask_for_themselves(self, waiting, gate, embedder):
        with ThreadPoolExecutor(1) as pool:
            with embedder.prefetch(["a", "b"], vector_operation=None):
                assert gate.next() == ["a", "b"]
                waits = pool.submit(embedder.embed, "b")
                assert waiting.acquire(timeout=30)
            assert gate.next() == ["b"]
            gate.open()
            assert waits.result(30) == vector("b")

    def test_cancelling_stops_it_and_does_not_concern_later_calls(self, simulator, waiting, gate, embedder):
        with ThreadPoolExecutor(1) as pool, embedder.prefetch(["a", "b"], vector_operation=None):
            gate.next()
            waits = pool.submit(embedder.embed, "a")
            assert waiting.acquire(timeout=30)
            embedder.cancel()
            with pytest.raises(OllamaCancelledError):
                waits.result(30)
            simulator.wait_for_disconnect()
            gate.open()
            assert embedder.embed("b") == vector("b")

    def test_within_one_another(self, simulator, make_embedder):
        driver = make_embedder(cache_bytes=0)
        with driver.prefetch(["a", "b"], vector_operation=None), driver.prefetch(["b", "c"], vector_operation=None):
            assert [driver.embed(text) for text in "bbacd"] == [vector(text) for text in "bbacd"]
        assert sorted(inputs(simulator)) == [["a", "b"], ["b", "c"], ["d"]]

    def test_side_by_side(self, simulator, make_embedder, in_threads):
        driver = make_embedder(batch_size=8, cache_bytes=0)

        def work(name):
            artifacts = _artifacts(40, name)
            store = LocalVectorStoreDriver(embedding_driver=driver)
            with driver.prefetch(artifacts):
                store.upsert_collection(artifacts)
            assert _stored(store) == {artifact.value: vector(artifact.value) for artifact in artifacts}

        in_threads(work, ["one", "two", "three"])
        assert [len(texts) for texts in inputs(simulator)] == [8] * 15

    def test_its_events_go_to_the_listeners_of_the_caller(self, simulator, make_embedder):
        driver = make_embedder(batch_size=2)
        heard = []
        with (
            EventListener(lambda event: heard.append(event.texts), event_types=[OllamaEmbeddingEvent]),
            driver.prefetch(list("abc"), vector_operation=None),
        ):
            for text in "abc":
                driver.embed(text)
        assert heard == [2, 1]

    def test_long_and_blank_texts(self, simulator, make_embedder):
        driver = make_embedder(cache_bytes=0)
        texts = ["", "a word " * 500, "cat", " "]
        alone = [make_embedder().embed(text) for text in texts]
        with driver.prefetch(texts, vector_operation=None):
            assert [driver.embed(text) for text in texts] == alone

    def test_batches_keep_to_characters(self, simulator, make_embedder):
        driver = make_embedder(batch_characters=10)
        texts = [letter * 4 for letter in "abcde"]
        with driver.prefetch(texts, vector_operation=None):
            assert [driver.embed(text) for text in texts] == [vector(text) for text in texts]
        assert [len(batch) for batch in inputs(simulator)] == [2, 2, 1]

    @pytest.mark.parametrize("nothing", [[], {}, {"namespace": []}], ids=str)
    def test_nothing_to_embed(self, simulator, embedder, nothing):
        with embedder.prefetch(nothing):
            assert embedder.embed("a") == vector("a")
        assert inputs(simulator) == [["a"]]

    def test_what_is_no_text_is_refused_before_anything_is_sent(self, simulator, embedder):
        with pytest.raises(OllamaContentError, match="Value 1: "), embedder.prefetch(["a", 5]):
            pytest.fail("it was entered")
        assert simulator.requests == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
class TestFork:
    @pytest.fixture
    def in_child(self):
        """Runs a function in a forked process, and tells whether it went well."""

        def run(work):
            if (child := os.fork()) == 0:
                signal.alarm(30)
                with contextlib.suppress(BaseException):
                    work()
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(child, 0)[1] == 0

        return run

    def test_a_child_embeds_while_threads_of_the_parent_are_at_it(self, simulator, make_embedder, in_child):
        driver = make_embedder()
        hold, arrived = threading.Event(), threading.Semaphore(0)

        def reply(request):
            if not request.body["input"][0].startswith("child"):
                arrived.release()
                hold.wait(60)

        answer_with(simulator, reply)

        def work():
            with ThreadPoolExecutor(4) as others:
                found = list(others.map(driver.embed, ["child a", "child b", "child c"]))
            assert found == [vector(text) for text in ("child a", "child b", "child c")]

        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(driver.embed, f"text {number}") for number in range(8)]
            # One goes alone, and the others, or some of them, together: they wait for the thread of their group.
            assert arrived.acquire(timeout=30)
            assert arrived.acquire(timeout=30)
            in_child(work)
            hold.set()
            assert [future.result(30) for future in futures] == [vector(f"text {number}") for number in range(8)]

    @pytest.mark.parametrize("lock", ["holds", "estimator", "identity", "cache", "gatherer"])
    def test_a_child_does_not_wait_for_locks_that_threads_of_the_parent_hold(self, make_embedder, in_child, lock):
        driver = make_embedder(keep_alive=0)
        owner = {
            "holds": holds,
            "estimator": text_estimator_of(driver.connection.base_url, model_key(driver.model)),
            "identity": driver._identity,
            "cache": driver._cache,
            "gatherer": driver._coalescer,
        }[lock]
        held, over = threading.Event(), threading.Event()

        def hold():
            with owner._lock:
                held.set()
                over.wait(60)

        def work():
            assert driver.embed_batch(["a", "b"]) == [vector("a"), vector("b")]
            assert driver.embed("c") == vector("c")

        with ThreadPoolExecutor(1) as pool:
            pool.submit(hold)
            assert held.wait(30)
            try:
                in_child(work)
            finally:
                over.set()

    def test_a_prefetch_of_the_parent_is_neither_waited_for_nor_disturbed(self, simulator, make_embedder, in_child):
        driver = make_embedder()
        hold = threading.Event()
        simulator.reply(path="/api/embed", body={"embeddings": [vector("a"), vector("b")]}, wait=hold)
        with contextlib.ExitStack() as stack:
            stack.enter_context(driver.prefetch(["a", "b"], vector_operation=None))
            simulator.wait_for_request(path="/api/embed")

            def work():
                assert driver.embed("b") == vector("b")
                driver.cancel()
                stack.close()
                assert driver.embed("a") == vector("a")

            in_child(work)
            hold.set()
            assert [driver.embed(text) for text in "ab"] == [vector("a"), vector("b")]
        assert inputs(simulator) == [["a", "b"], ["b"], ["a"]]
        assert simulator.disconnects == []
