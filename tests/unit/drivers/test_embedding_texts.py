"""One text, and many: what is sent, what comes back, and what is said when it does not."""

import logging
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from griptape.artifacts import AudioArtifact, BlobArtifact, ImageArtifact, ListArtifact, TextArtifact
from griptape.drivers.embedding import BaseEmbeddingDriver
from griptape.events import EventBus, EventListener
from griptape.utils import with_contextvars

from griptape_ollama import (
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaEmbeddingDriver,
    OllamaEmbeddingError,
    OllamaEmbeddingEvent,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaTimeout,
    OllamaTimeoutError,
    cancel_scope,
)
from unit.embeddings.serving import Gate, inputs, refuse, vector

_IMAGE = ImageArtifact(b"png", format="png", width=1, height=1)
_NO_TEXTS = [_IMAGE, AudioArtifact(b"wav", format="wav"), BlobArtifact(b"x"), ListArtifact([TextArtifact("a")])]
_NO_TEXTS += [None, 5, b"bytes", ["a"], {"a": 1}]


@pytest.fixture
def gate(simulator):
    gate = Gate(simulator)
    yield gate
    gate.open()


@pytest.fixture
def embedding_events(events):
    """Events of ours, as they were published."""
    return lambda: [event for event in events if isinstance(event, OllamaEmbeddingEvent)]


class TestOneText:
    @pytest.mark.parametrize("value", ["a cat", TextArtifact("a cat")], ids=["str", "artifact"])
    @pytest.mark.parametrize("gather_seconds", [0, 0.01])
    def test_a_text_has_the_vector_of_the_server(self, simulator, make_embedder, value, gather_seconds):
        assert make_embedder(gather_seconds=gather_seconds).embed(value) == vector("a cat")
        assert [request.body for request in simulator.requests if request.path == "/api/embed"] == [
            {"model": "simulator-embed", "truncate": False, "input": ["a cat"]}
        ]

    @pytest.mark.parametrize("value", _NO_TEXTS, ids=lambda value: type(value).__name__)
    def test_what_is_no_text_is_refused_before_anything_is_sent(self, simulator, embedder, value):
        with pytest.raises(ValueError, match=f"Ollama embeds texts only, got {type(value).__name__}") as refused:
            embedder.embed(value)
        assert type(refused.value) is OllamaContentError
        assert refused.value.model == "simulator-embed"
        assert simulator.requests == []

    @pytest.mark.parametrize("blank", ["", " ", "\n\t", TextArtifact("")], ids=["empty", "blank", "breaks", "artifact"])
    def test_a_blank_text_has_the_vector_of_a_full_stop(self, simulator, embedder, blank):
        assert embedder.embed(blank) == vector(".")
        assert inputs(simulator) == [["."]]

    def test_the_other_ways_of_the_framework_lead_to_the_same_place(self, embedder):
        assert isinstance(embedder, BaseEmbeddingDriver)
        assert embedder.try_embed_chunk("a cat") == vector("a cat")
        assert embedder.try_embed_artifact(TextArtifact("a cat")) == vector("a cat")
        assert TextArtifact("a cat").generate_embedding(embedder) == vector("a cat")
        with pytest.raises(ValueError, match="texts only"):
            embedder.try_embed_artifact(_IMAGE)
        with pytest.warns(DeprecationWarning, match="embed_string"):
            assert embedder.embed_string("a cat") == vector("a cat")
        with pytest.warns(DeprecationWarning, match="embed_text_artifact"):
            assert embedder.embed_text_artifact(TextArtifact("a cat")) == vector("a cat")

    def test_a_refusal_is_raised_with_the_text_that_it_is_about(self, simulator, make_embedder):
        refuse(simulator, lambda text: text == "bad", status=400, error="no")
        with pytest.raises(OllamaResponseError, match=r"no\. Correct the request\. The text is 'bad'\."):
            make_embedder().embed("bad")

    def test_a_failure_that_passes_is_tried_again(self, simulator, make_embedder):
        simulator.fault("status", path="/api/embed", status=500, error="EOF", times=2)
        assert make_embedder(max_attempts=3).embed("a cat") == vector("a cat")
        assert len(inputs(simulator)) == 3

    def test_a_missing_model_and_a_dead_server_are_told_at_once(self, simulator, make_embedder):
        with pytest.raises(OllamaModelNotFoundError, match="ollama pull nope"):
            make_embedder(model="nope").embed("a")
        driver = make_embedder()
        simulator.stop()
        with pytest.raises(OllamaConnectionError, match="ollama serve"):
            driver.embed("a")

    def test_a_chat_model_is_told_apart(self, make_embedder):
        with pytest.raises(OllamaResponseError, match="It is a chat model: use an embedding model"):
            make_embedder(model="simulator").embed("a")


class TestManyTexts:
    def test_vectors_come_in_the_order_of_the_texts(self, simulator, embedder):
        texts = [f"text number {number}" for number in range(150)]
        assert embedder.embed_batch(texts) == [vector(text) for text in texts]
        assert [len(batch) for batch in inputs(simulator)] == [64, 64, 22]

    @pytest.mark.parametrize("values", [[], (), iter([])], ids=["list", "tuple", "iterator"])
    def test_no_texts_have_no_vectors_and_send_no_embed_request(self, simulator, embedder, values):
        assert embedder.embed_batch(values) == []
        assert inputs(simulator) == []

    def test_texts_and_artifacts_mix_and_may_come_from_anywhere(self, embedder):
        values = ["a", TextArtifact("b"), "", "a"]
        expected = [vector(text) for text in ("a", "b", ".", "a")]
        assert embedder.embed_batch(values) == expected
        assert embedder.embed_batch(iter(values)) == expected
        assert list(embedder.iter_embed_batch(tuple(values))) == expected

    def test_texts_that_come_again_are_asked_for_once(self, simulator, embedder):
        found = embedder.embed_batch(["a", "b"] * 50)
        assert found == [vector("a"), vector("b")] * 50
        assert inputs(simulator) == [["a", "b"]]
        found[0][0] = 7.0
        assert found[2] == vector("a")

    def test_arrays_hold_float32(self, embedder):
        matrix = embedder.embed_batch(["a", "b", "a"], as_numpy=True)
        assert (matrix.dtype, matrix.shape) == (np.float32, (3, 64))
        assert matrix == pytest.approx(np.array([vector(text) for text in "aba"]), abs=1e-6)
        nothing = embedder.embed_batch([], as_numpy=True)
        assert (nothing.dtype, nothing.shape) == (np.float32, (0, 0))
        (one,) = embedder.iter_embed_batch(["a"], as_numpy=True)
        assert (one.dtype, one.shape) == (np.float32, (64,))

    @pytest.mark.parametrize("value", _NO_TEXTS, ids=lambda value: type(value).__name__)
    def test_what_is_no_text_is_refused_with_its_place_before_anything_is_sent(self, simulator, embedder, value):
        with pytest.raises(OllamaContentError, match=f"Value 100: .* got {type(value).__name__}"):
            embedder.embed_batch([*["a"] * 100, value])
        assert simulator.requests == []

    @pytest.mark.parametrize(
        "way",
        [
            lambda driver, value: driver.embed_batch(value),
            lambda driver, value: list(driver.iter_embed_batch(value)),
        ],
        ids=["embed_batch", "iter_embed_batch"],
    )
    def test_lists_by_namespace_are_not_taken_for_the_names(self, simulator, embedder, way):
        with pytest.raises(OllamaContentError, match="got one dict"):
            way(embedder, {"namespace": ["hello"]})
        assert inputs(simulator) == []

    @pytest.mark.parametrize("value", ["hello", TextArtifact("hello"), b"hello"], ids=["str", "artifact", "bytes"])
    @pytest.mark.parametrize(
        "way",
        [
            lambda driver, value: driver.embed_batch(value),
            lambda driver, value: list(driver.iter_embed_batch(value)),
            lambda driver, value: driver.prefetch(value).__enter__(),
            lambda driver, value: driver.prefetch({"namespace": value}).__enter__(),
        ],
        ids=["embed_batch", "iter_embed_batch", "prefetch", "prefetch by namespace"],
    )
    def test_one_text_in_place_of_many_is_not_taken_for_its_letters(self, simulator, embedder, value, way):
        with pytest.raises(OllamaContentError, match=rf"{type(value).__name__}.*\[text\]"):
            way(embedder, value)
        assert inputs(simulator) == []

    def test_progress_is_told_after_each_batch(self, embedder):
        progress = []
        embedder.embed_batch(["a", *map(str, range(100))], on_progress=lambda *done: progress.append(done))
        assert progress == [(64, 101), (101, 101)]
        progress.clear()
        list(embedder.iter_embed_batch(iter(["a", "b"]), on_progress=lambda *done: progress.append(done)))
        assert progress == [(2, None)]

    def test_an_error_of_a_listener_for_progress_is_its_own(self, embedder):
        with pytest.raises(ZeroDivisionError):
            embedder.embed_batch(["a"], on_progress=lambda done, total: 1 / 0)

    def test_batches_keep_to_characters(self, simulator, make_embedder):
        texts = [letter * 40 for letter in "abcde"]
        make_embedder(batch_characters=100).embed_batch(texts)
        assert [len(batch) for batch in inputs(simulator)] == [2, 2, 1]

    def test_a_failure_of_everything_is_the_servers_error(self, simulator, make_embedder):
        with pytest.raises(OllamaModelNotFoundError):
            make_embedder(model="nope").embed_batch(["a"] * 3)
        simulator.fault("status", path="/api/embed", status=500, error="broken", times=None)
        with pytest.raises(OllamaResponseError, match="broken"):
            make_embedder().embed_batch([str(number) for number in range(64)])
        assert len(inputs(simulator)) == 1 + 8


class TestFailures:
    @pytest.fixture
    def bad_texts(self, simulator):
        refuse(simulator, lambda text: text.startswith("bad"), status=400, error="no")
        return [*map(str, range(70)), "bad one", "a", "bad two", "b"]

    def test_the_error_tells_which_why_and_gives_the_others(self, embedder, bad_texts):
        with pytest.raises(OllamaEmbeddingError) as failed:
            embedder.embed_batch(bad_texts)
        error = failed.value
        assert str(error).startswith("Text 70 of 74 could not be embedded: Ollama at ")
        assert "The text is 'bad one'. Neither could 1 more: 72." in str(error)
        assert error.index == 70
        assert list(error.failures) == [70, 72]
        assert all(type(failure) is OllamaResponseError for failure in error.failures.values())
        assert error.vectors == [None if text.startswith("bad") else vector(text) for text in bad_texts]
        assert error.__cause__ is error.failures[70]
        assert (error.host, error.model) == (error.failures[70].host, "simulator-embed")

    def test_a_text_that_comes_twice_fails_twice(self, embedder, bad_texts):
        with pytest.raises(OllamaEmbeddingError) as failed:
            embedder.embed_batch(["bad", "a", "bad"])
        assert list(failed.value.failures) == [0, 2]
        assert failed.value.vectors == [None, vector("a"), None]

    def test_many_failures_are_named_in_few_words(self, embedder, bad_texts):
        with pytest.raises(
            OllamaEmbeddingError, match=r"Neither could 29 more: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\.\."
        ):
            embedder.embed_batch([*(f"bad {number}" for number in range(30)), "a"])

    def test_the_others_can_be_arrays(self, embedder, bad_texts):
        with pytest.raises(OllamaEmbeddingError) as failed:
            embedder.embed_batch(["a", "bad"], as_numpy=True)
        found, missing = failed.value.vectors
        assert found.dtype == np.float32
        assert missing is None

    def test_the_error_survives_pickling(self, embedder, bad_texts):
        with pytest.raises(OllamaEmbeddingError) as failed:
            embedder.embed_batch(bad_texts)
        back = pickle.loads(pickle.dumps(failed.value))  # noqa: S301 # our own
        assert str(back) == str(failed.value)
        assert (back.index, list(back.failures), back.vectors) == (70, [70, 72], failed.value.vectors)
        assert str(back.failures[72]) == str(failed.value.failures[72])

    def test_the_others_are_known_at_the_next_try(self, simulator, embedder, bad_texts):
        with pytest.raises(OllamaEmbeddingError):
            embedder.embed_batch(bad_texts)
        before = len(inputs(simulator))
        good = [text for text in bad_texts if not text.startswith("bad")]
        assert embedder.embed_batch(good) == [vector(text) for text in good]
        assert len(inputs(simulator)) == before

    def test_one_by_one_those_before_the_failure_are_given(self, embedder, bad_texts):
        given = []
        with pytest.raises(OllamaEmbeddingError, match="Text 70 of 74 could not be embedded") as failed:
            given.extend(embedder.iter_embed_batch(bad_texts))
        assert failed.value.index == len(given) == 70
        assert given == [vector(text) for text in bad_texts[:70]]
        assert (list(failed.value.failures), failed.value.vectors) == ([70], [])
        with pytest.raises(OllamaEmbeddingError, match="Text 70 could not be embedded"):
            list(embedder.iter_embed_batch(iter(bad_texts)))


class TestOneByOne:
    def test_texts_are_read_as_they_are_needed(self, simulator, make_embedder):
        read = []

        def texts():
            number = 0
            while True:
                read.append(number)
                yield f"text {number}"
                number += 1

        found = make_embedder(batch_size=4).iter_embed_batch(texts())
        assert read == []
        for number in range(4):
            assert next(found) == vector(f"text {number}")
        assert len(read) == 4
        assert next(found) == vector("text 4")
        assert len(read) == 8
        assert [len(batch) for batch in inputs(simulator)] == [4, 4]
        found.close()

    def test_what_is_no_text_is_refused_when_it_is_read(self, make_embedder):
        found = make_embedder(batch_size=2).iter_embed_batch(["a", "b", "c", _IMAGE])
        assert [next(found), next(found)] == [vector("a"), vector("b")]
        with pytest.raises(OllamaContentError, match="Value 3: "):
            next(found)

    def test_cancelling_within_a_request_stops_it(self, gate, make_embedder):
        driver = make_embedder(batch_size=2)
        found = driver.iter_embed_batch(list("abcd"))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(next, found)
            gate.next()
            driver.cancel()
            with pytest.raises(OllamaCancelledError):
                first.result(30)

    def test_cancelling_between_two_requests_ends_it_before_the_next_one(self, simulator, make_embedder):
        driver = make_embedder(batch_size=2)
        found, later = (driver.iter_embed_batch(list("abcd")) for _ in range(2))
        assert next(found) == vector("a")
        driver.cancel()
        assert next(found) == vector("b")
        with pytest.raises(OllamaCancelledError, match="simulator-embed"):
            next(found)
        assert inputs(simulator) == [["a", "b"]]
        assert len(list(later)) == 4  # it had not begun

    def test_a_server_that_does_not_come_is_waited_for_once(self, make_embedder, caplog, unused_port):
        driver = make_embedder(host=f"127.0.0.1:{unused_port}", wait_for_server=1.2)
        with caplog.at_level(logging.WARNING, "griptape_ollama"), pytest.raises(OllamaConnectionError):
            next(driver.iter_embed_batch(["a"]))
        # It is asked every half a second.
        assert 1 <= len([record for record in caplog.records if "Attempt" in record.message]) <= 3

    def test_a_request_that_works_lets_the_next_ones_wait_again(self, make_embedder):
        with make_embedder()._runs_until_cancelled() as runs:
            with runs() as run:
                run.has_waited = True
            has_waited = []
            for _ in range(3):
                with runs() as run:
                    has_waited.append(run.has_waited)
        assert has_waited == [True, False, False]

    def test_each_request_is_stopped_by_the_scope_that_is_open_then(self, make_embedder):
        found = make_embedder(batch_size=1).iter_embed_batch(list("abc"))
        with cancel_scope() as scope:
            assert next(found) == vector("a")
        scope.cancel()
        assert next(found) == vector("b")
        scope = cancel_scope()
        scope.cancel()
        with scope, pytest.raises(OllamaCancelledError):
            next(found)


class TestRuns:
    def test_cancelling_stops_everything_under_way_and_nothing_later(self, simulator, gate, make_embedder):
        driver = make_embedder(cache_bytes=0)
        with ThreadPoolExecutor(4) as pool:
            one = pool.submit(driver.embed, "a")
            gate.next()
            many = pool.submit(driver.embed_batch, ["b", "c"])
            gate.next()
            driver.cancel()
            for future in (one, many):
                with pytest.raises(OllamaCancelledError):
                    future.result(30)
            simulator.wait_for_disconnect(n=2)
            gate.open()
            assert driver.embed("d") == vector("d")

    def test_the_total_limit_is_for_all_requests_of_a_call(self, gate, make_embedder):
        driver = make_embedder(timeout=OllamaTimeout(total=0.3), batch_size=1, cache_bytes=0)
        with ThreadPoolExecutor(1) as pool:
            many = pool.submit(driver.embed_batch, ["a", "b"])
            gate.next()
            gate.let_go()
            with pytest.raises(OllamaTimeoutError) as late:
                many.result(30)
        assert late.value.limit == "total"

    def test_a_server_that_does_not_answer_is_given_up(self, gate, make_embedder):
        driver = make_embedder(timeout=OllamaTimeout(first_token=0.1), max_attempts=1)
        with pytest.raises(OllamaTimeoutError, match="first_token"):
            driver.embed("a")


class TestEvents:
    def test_each_request_has_one_event(self, simulator, make_embedder, embedding_events):
        driver = make_embedder(batch_size=2)
        driver.embed("a")
        driver.embed_batch(list("bcd"))
        assert [(event.model, event.host, event.texts) for event in embedding_events()] == [
            ("simulator-embed", simulator.url, texts) for texts in (1, 2, 1)
        ]
        for event in embedding_events():
            assert event.input_tokens > 0
            assert event.total_seconds > event.load_seconds > 0

    def test_what_is_known_has_none(self, embedder, embedding_events):
        embedder.embed("a")
        embedder.embed("a")
        embedder.embed_batch(["a"])
        assert len(embedding_events()) == 1

    def test_threads_that_share_requests_have_one_event_per_request_in_a_context_of_theirs(
        self, simulator, make_embedder
    ):
        driver = make_embedder(cache_bytes=0)
        heard = []
        lock = threading.Lock()

        def hear(event):
            with lock:
                heard.append(event.texts)

        start = threading.Barrier(4)

        def work(name):
            for number in range(10):
                start.wait(30)
                assert driver.embed(f"{name} {number}") == vector(f"{name} {number}")

        # Listeners of this context, which the pool's threads have only where they are given it.
        with EventListener(hear, event_types=[OllamaEmbeddingEvent]), ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(with_contextvars(work), name) for name in "abcd"]:
                future.result(60)
        assert len(heard) == len(inputs(simulator))
        assert sum(heard) == 40

    def test_a_listener_that_fails_fails_the_call_that_published(self, embedder):
        def fail(_):
            raise ZeroDivisionError

        EventBus.add_event_listener(EventListener(fail, event_types=[OllamaEmbeddingEvent]))
        with pytest.raises(ZeroDivisionError):
            embedder.embed("a")


def test_vectors_of_a_reply_have_length_1(simulator, make_embedder):
    simulator.reply(path="/api/embed", body={"embeddings": [[1.0, 2.0, 3.0]]})
    assert math.hypot(*make_embedder().embed("a cat")) == pytest.approx(1)


def test_a_subclass_can_change_what_is_embedded(simulator):
    class Shouting(OllamaEmbeddingDriver):
        def embed(self, value, *, vector_operation=None):
            return super().embed(value.upper(), vector_operation=vector_operation)

    assert Shouting(model="simulator-embed", host=simulator.url).try_embed_chunk("a cat") == vector("A CAT")
