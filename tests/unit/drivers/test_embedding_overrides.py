"""Methods of an embedding driver that a subclass, or a test, puts in place of ours."""

import asyncio
from unittest import mock

import numpy as np
import pytest
from attrs import define, field
from griptape.artifacts import AudioArtifact, ImageArtifact, TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.tokenizers import SimpleTokenizer

from griptape_ollama import (
    OllamaCancelledError,
    OllamaContentError,
    OllamaContextError,
    OllamaEmbeddingDriver,
    OllamaEmbeddingError,
    OllamaResponseError,
    OllamaTimeoutError,
)

IMAGE = ImageArtifact(b"\x89PNG", format="png", width=1, height=1)


@define
class Lengths(OllamaEmbeddingDriver):
    """Embeds a text as its length, without a server."""

    model: str = "simulator-embed"
    min_retry_delay: float = 0
    asked: list = field(factory=list, init=False)

    def try_embed_chunk(self, chunk, *, vector_operation=None):
        self.asked.append((chunk, vector_operation))
        return [float(len(chunk)), 1.0]


@define
class Images(OllamaEmbeddingDriver):
    """Embeds images by itself, and texts on the server."""

    model: str = "simulator-embed"
    asked: list = field(factory=list, init=False)

    def try_embed_artifact(self, artifact, *, vector_operation=None):
        self.asked.append((artifact, vector_operation))
        return [0.0, 1.0]


class Passing(OllamaEmbeddingDriver):
    def try_embed_chunk(self, chunk, *, vector_operation=None):
        return super().try_embed_chunk(chunk.lower(), vector_operation=vector_operation)

    def try_embed_artifact(self, artifact, *, vector_operation=None):
        return super().try_embed_artifact(artifact, vector_operation=vector_operation)


@pytest.fixture
def lengths(simulator):
    return Lengths(host=simulator.url)


def _inputs(simulator):
    return [request.body["input"] for request in simulator.requests if request.path == "/api/embed"]


class TestTexts:
    def test_one_text_is_given_to_a_subclass_as_it_came(self, simulator, lengths):
        assert lengths.embed("Hi", vector_operation="query") == [2.0, 1.0]
        assert lengths.embed(TextArtifact("Hello"), vector_operation="upsert") == [5.0, 1.0]
        assert lengths.embed("") == [0.0, 1.0]
        assert TextArtifact("Hey").generate_embedding(lengths) == [3.0, 1.0]
        assert asyncio.run(lengths.aembed("Good")) == [4.0, 1.0]
        assert lengths.asked == [("Hi", "query"), ("Hello", "upsert"), ("", None), ("Hey", None), ("Good", None)]
        assert _inputs(simulator) == []

    @pytest.mark.parametrize("as_numpy", [False, True])
    def test_many_texts_are_given_to_a_subclass_one_by_one(self, simulator, lengths, as_numpy):
        progress = []
        values = ["a", TextArtifact("bb"), "ccc", "a"]
        found = lengths.embed_batch(
            values, "upsert", as_numpy=as_numpy, on_progress=lambda *done: progress.append(done)
        )
        expected = [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0], [1.0, 1.0]]
        assert (found.tolist() if as_numpy else found) == expected
        assert [np.asarray(vector).tolist() for vector in lengths.iter_embed_batch(iter(values))] == expected
        assert lengths.asked[:4] == [("a", "upsert"), ("bb", "upsert"), ("ccc", "upsert"), ("a", "upsert")]
        assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
        assert _inputs(simulator) == []

    def test_many_texts_are_given_to_a_subclass_in_an_event_loop(self, simulator, lengths):
        async def work():
            batch = await lengths.aembed_batch(["a", "bb"])
            return batch, [vector async for vector in lengths.aiter_embed_batch(["a", "bb"])]

        assert asyncio.run(work()) == ([[1.0, 1.0], [2.0, 1.0]],) * 2
        assert _inputs(simulator) == []

    def test_an_endless_number_of_texts_is_read_as_it_is_needed(self, lengths):
        vectors = lengths.iter_embed_batch("x" * n for n in iter(int, 1))
        assert [next(vectors), next(vectors)] == [[0.0, 1.0]] * 2
        vectors.close()
        assert len(lengths.asked) == 2

    def test_a_vector_store_asks_a_subclass(self, simulator, lengths):
        store = LocalVectorStoreDriver(embedding_driver=lengths)
        texts = [TextArtifact("x" * size) for size in range(1, 9)]
        with lengths.prefetch(texts):
            store.upsert_collection({"all": texts})
        assert sorted(lengths.asked) == [("x" * size, "upsert") for size in range(1, 9)]
        assert store.query("xxx", count=1)[0].to_artifact().value == "xxx"
        assert lengths.asked[-1] == ("xxx", "query")
        assert _inputs(simulator) == []

    def test_what_a_subclass_changes_is_what_the_server_gets(self, simulator):
        driver = Passing(model="nomic-embed-text", host=simulator.url)
        with mock.patch.object(driver, "model", "simulator-embed"):
            driver.document_prefix = "doc: "
            one = driver.embed("ONE", vector_operation="upsert")
            with driver.prefetch(["TWO"]):
                two = driver.embed("TWO", vector_operation="upsert")
            assert driver.embed_batch(["ONE", TextArtifact("TWO")], "upsert") == [one, two]
        assert [text for texts in _inputs(simulator) for text in texts] == ["doc: one", "doc: two"]

    def test_a_method_that_was_set_on_a_driver_runs(self, simulator, embedder):
        with mock.patch.object(embedder, "try_embed_chunk", return_value=[1.0]) as chunk:
            assert embedder.embed("Hi") == [1.0]
            assert embedder.embed_batch(["Hi", "Ho"]) == [[1.0], [1.0]]
        assert [call.args for call in chunk.call_args_list] == [("Hi",), ("Hi",), ("Ho",)]
        with mock.patch.object(OllamaEmbeddingDriver, "try_embed_chunk", return_value=[2.0]):
            assert embedder.embed("Hi") == [2.0]
        assert _inputs(simulator) == []
        assert len(embedder.embed("Hi")) > 1

    def test_a_long_text_is_given_in_pieces_where_a_tokenizer_counts(self, simulator):
        tokenizer = SimpleTokenizer(characters_per_token=1, max_input_tokens=10, max_output_tokens=1)
        for settings, longest in (({}, 10), ({"on_long_text": "truncate"}, 39)):
            driver = Lengths(host=simulator.url, tokenizer=tokenizer, **settings)
            vector = driver.embed("one two. three four. five six. seven it")
            assert max(len(chunk) for chunk, _ in driver.asked) <= longest
            assert (len(driver.asked) > 1) is (not settings)
            assert np.linalg.norm(vector) == pytest.approx(1) or settings
            assert driver.embed_batch(["one two. three four. five six. seven it"]) == [vector]

    def test_a_method_that_asks_for_a_batch_is_not_asked_again(self, simulator):
        class Batching(OllamaEmbeddingDriver):
            def embed(self, value, *, vector_operation=None):
                return self.embed_batch([value], vector_operation)[0]

            def try_embed_chunk(self, chunk, *, vector_operation=None):
                return self.embed_batch([chunk + "!"], vector_operation)[0]

        driver = Batching(model="simulator-embed", host=simulator.url)
        assert driver.embed("Hi") == driver.embed_batch(["Hi"])[0]
        assert {text for texts in _inputs(simulator) for text in texts} == {"Hi!"}

    def test_an_embed_of_a_subclass_is_asked_for_each_of_many_texts(self, simulator):
        class Redacting(OllamaEmbeddingDriver):
            def embed(self, value, *, vector_operation=None):
                return super().embed(str(value).replace("secret", "***"), vector_operation=vector_operation)

        driver = Redacting(model="simulator-embed", host=simulator.url)
        texts = ["a secret", "no such thing"]
        with driver.prefetch(texts):
            assert driver.embed_batch(texts) == [driver.embed(text) for text in texts]
        assert {text for texts in _inputs(simulator) for text in texts} == {"a ***", "no such thing"}


class TestImages:
    def test_an_image_is_given_to_a_subclass(self, simulator):
        driver = Images(host=simulator.url)
        assert driver.embed(IMAGE, vector_operation="upsert") == [0.0, 1.0]
        assert asyncio.run(driver.aembed(IMAGE)) == [0.0, 1.0]
        assert driver.asked == [(IMAGE, "upsert"), (IMAGE, None)]
        assert len(driver.embed(TextArtifact("Hi"))) > 2
        assert len(driver.asked) == 2

    def test_texts_among_images_share_requests(self, simulator):
        driver = Images(host=simulator.url)
        values = ["a", "b", IMAGE, "c", TextArtifact("d"), IMAGE]
        vectors = driver.embed_batch(values)
        assert [len(vector) == 2 for vector in vectors] == [False, False, True, False, False, True]
        assert [driver.embed(value) for value in values] == vectors
        assert _inputs(simulator) == [["a", "b"], ["c", "d"]]

    def test_images_are_left_out_of_what_is_embedded_ahead(self, simulator):
        driver = Images(host=simulator.url)
        with driver.prefetch([TextArtifact("a"), IMAGE, TextArtifact("b")]):
            for value in (TextArtifact("a"), IMAGE, TextArtifact("b")):
                driver.embed(value, vector_operation="upsert")
        assert _inputs(simulator) == [["a", "b"]]

    @pytest.mark.parametrize("value", [IMAGE, AudioArtifact(b"la", format="wav"), 3])
    def test_what_no_method_takes_is_refused(self, simulator, lengths, embedder, value):
        for driver in (lengths, embedder):
            with pytest.raises(OllamaContentError):
                driver.embed(value)
            with pytest.raises(OllamaContentError):
                driver.embed_batch(["a", value])
        assert lengths.asked == []
        with pytest.raises(OllamaContentError):
            Passing(model="simulator-embed", host=simulator.url).try_embed_artifact(value)

    def test_a_text_artifact_goes_the_way_of_texts(self, lengths):
        assert lengths.try_embed_artifact(TextArtifact("Hi"), vector_operation="query") == [2.0, 1.0]
        assert lengths.asked == [("Hi", "query")]


class TestFailures:
    def _failing(self, simulator, *errors, **settings):
        remaining = list(errors)

        class Failing(Lengths):
            def try_embed_chunk(self, chunk, *, vector_operation=None):
                self.asked.append(chunk)
                if remaining:
                    raise remaining.pop(0)
                return [1.0]

        return Failing(host=simulator.url, **settings)

    @pytest.mark.parametrize("embed", [lambda it: it.embed("Hi"), lambda it: it.embed_batch(["Hi"])[0]])
    def test_a_failure_of_a_subclass_is_tried_again_as_the_base_class_does(self, simulator, embed):
        errors = [RuntimeError("not yet"), RuntimeError("not yet")]
        assert embed(self._failing(simulator, *errors, max_attempts=3)) == [1.0]
        driver = self._failing(simulator, *errors, max_attempts=2)
        with pytest.raises(RuntimeError, match="not yet"):
            embed(driver)
        assert len(driver.asked) == 2
        driver = self._failing(simulator, *errors, max_attempts=5, ignored_exception_types=(RuntimeError,))
        with pytest.raises(RuntimeError, match="not yet"):
            embed(driver)
        assert len(driver.asked) == 1

    def test_a_failure_of_the_server_is_tried_as_often_as_max_attempts_says(self, simulator):
        simulator.fault("status", status=503, times=None, path="/api/embed")
        driver = Passing(model="simulator-embed", host=simulator.url, max_attempts=3, min_retry_delay=0)
        with pytest.raises(OllamaResponseError):
            driver.embed("Hi")
        assert len(_inputs(simulator)) == 3

    def test_one_text_that_has_no_vector_leaves_the_others_theirs(self, simulator):
        class Choosy(Lengths):
            def try_embed_chunk(self, chunk, *, vector_operation=None):
                if chunk == "bad":
                    raise OllamaContextError("too long")
                return super().try_embed_chunk(chunk, vector_operation=vector_operation)

        driver = Choosy(host=simulator.url)
        with pytest.raises(OllamaEmbeddingError) as caught:
            driver.embed_batch(["a", "bad", "ccc"])
        assert caught.value.index == 1
        assert caught.value.vectors == [[1.0, 1.0], None, [3.0, 1.0]]
        vectors = driver.iter_embed_batch(["a", "bad", "ccc"])
        assert next(vectors) == [1.0, 1.0]
        with pytest.raises(OllamaEmbeddingError):
            next(vectors)

    def test_cancel_and_the_total_limit_end_it_between_two_texts(self, simulator):
        class Cancelling(Lengths):
            def try_embed_chunk(self, chunk, *, vector_operation=None):
                if len(self.asked) == 1:
                    self.cancel()
                return super().try_embed_chunk(chunk, vector_operation=vector_operation)

        driver = Cancelling(host=simulator.url)
        with pytest.raises(OllamaCancelledError):
            driver.embed_batch(["a", "b", "c"])
        assert len(driver.asked) == 2
        with pytest.raises(OllamaTimeoutError, match="total"):
            Lengths(host=simulator.url, timeout=0.05).embed_batch(["x"] * 100_000)
