"""OllamaEmbeddingDriver and a real server: consistent vectors for all texts and settings."""

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.artifacts import TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.events import EventListener

from griptape_ollama import (
    OllamaCancelledError,
    OllamaContentError,
    OllamaContextError,
    OllamaEmbeddingDriver,
    OllamaEmbeddingEvent,
    OllamaModelNotFoundError,
    OllamaResponseError,
)

TEXTS = [f"{animal} number {number}" for number in range(10) for animal in ("cat", "dog", "owl")]


def new_driver(model, **settings):
    return OllamaEmbeddingDriver(model=model, **settings)


def likeness(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def is_near(one, other):
    """Return whether two vectors are the same except for rounding."""
    return likeness(one, other) > 1 - 1e-3


@pytest.fixture
def window(embed_model):
    """Tokens that the model takes."""
    return new_driver(embed_model).facts.show(embed_model).context_length


@pytest.fixture
def long_text(window):
    return "the quick brown fox jumps over the lazy dog " * (window // 4)


class TestEmbed:
    def test_a_vector_has_length_1_and_the_size_that_the_model_shows(self, embed_model):
        driver = new_driver(embed_model)
        found = driver.embed("a cat")
        assert math.hypot(*found) == pytest.approx(1, abs=1e-3)
        assert len(found) == driver.facts.show(embed_model).embedding_length
        assert all(isinstance(value, float) for value in found)
        assert is_near(found, driver.embed(TextArtifact("a cat")))

    def test_a_batch_returns_the_same_vectors_as_single_calls(self, embed_model):
        batch = new_driver(embed_model).embed_batch(TEXTS)
        single = new_driver(embed_model, cache_bytes=0)
        assert all(is_near(found, single.embed(text)) for text, found in zip(TEXTS, batch, strict=True))
        array = new_driver(embed_model, batch_size=7).embed_batch(TEXTS, as_numpy=True)
        assert array.shape == (len(TEXTS), len(batch[0]))
        assert all(is_near(found, row) for found, row in zip(batch, array.tolist(), strict=True))

    @pytest.mark.parametrize("blank", ["", " ", "\n"], ids=["empty", "blank", "break"])
    def test_a_blank_text_has_a_vector_and_does_not_shift_the_rest(self, embed_model, blank):
        driver = new_driver(embed_model)
        first, found, last = driver.embed_batch(["a cat", blank, "a bridge"])
        assert is_near(found, driver.embed(blank))
        assert is_near(found, driver.embed("."))
        fresh = new_driver(embed_model)
        assert is_near(first, fresh.embed("a cat"))
        assert is_near(last, fresh.embed("a bridge"))

    @pytest.mark.parametrize("text", ["\x00", "\u200b", "😀" * 50, "a\u2028b\x85c", "\ud800", "<s></s>"], ids=ascii)
    def test_unusual_texts_have_vectors(self, embed_model, text):
        assert math.hypot(*new_driver(embed_model).embed(text)) == pytest.approx(1, abs=1e-3)

    def test_cached_vectors_are_not_requested_again(self, embed_model):
        driver = new_driver(embed_model)
        events = []
        with EventListener(events.append, event_types=[OllamaEmbeddingEvent]):
            first = driver.embed_batch(TEXTS)
            assert driver.embed_batch(TEXTS) == first
        assert [event.texts for event in events] == [len(TEXTS)]
        assert events[0].input_tokens > 0
        assert events[0].total_seconds > 0


class TestLongTexts:
    def test_a_chunked_text_has_a_vector_of_length_1(self, embed_model, long_text):
        driver = new_driver(embed_model)
        first, found, last = driver.embed_batch(["a cat", long_text, "a bridge"])
        assert math.hypot(*found) == pytest.approx(1, abs=1e-3)
        assert is_near(first, driver.embed("a cat"))
        assert is_near(last, driver.embed("a bridge"))

    @pytest.mark.parametrize("text", ["犬" * 20_000, "x" * 20_000, "1+" * 10_000], ids=["no blanks", "a word", "signs"])
    def test_long_texts_of_few_words_are_truncated(self, embed_model, text):
        assert math.hypot(*new_driver(embed_model).embed(text)) == pytest.approx(1, abs=1e-3)

    def test_the_server_truncates(self, embed_model, long_text):
        driver = new_driver(embed_model, on_long_text="truncate")
        found = driver.embed(long_text)
        assert math.hypot(*found) == pytest.approx(1, abs=1e-3)
        assert is_near(found, driver.embed(f"{long_text} and more that does not count"))

    def test_a_long_text_is_an_error(self, embed_model, window, long_text):
        with pytest.raises(OllamaContextError, match="on_long_text='chunk'"):
            new_driver(embed_model, on_long_text="error").embed(long_text)
        # Of this text only the server knows that it is too long.
        with pytest.raises(OllamaContextError, match="on_long_text='chunk'"):
            new_driver(embed_model, on_long_text="error").embed("xq" * window * 8)


class TestSettings:
    def test_vectors_can_be_shorter(self, embed_model):
        size = len(new_driver(embed_model).embed("a cat"))
        found = new_driver(embed_model, dimensions=size // 2).embed("a cat")
        assert len(found) == size // 2
        assert math.hypot(*found) == pytest.approx(1, abs=1e-3)
        with pytest.raises(OllamaContentError, match=f"dimensions={size + 1} is more than"):
            new_driver(embed_model, dimensions=size + 1).embed("a cat")

    def test_options_and_keep_alive_are_accepted(self, embed_model):
        driver = new_driver(embed_model, options={"num_ctx": 128}, keep_alive=60)
        assert math.hypot(*driver.embed("a cat")) == pytest.approx(1, abs=1e-3)


class TestErrors:
    def test_a_missing_model_names_the_pull_command(self):
        with pytest.raises(OllamaModelNotFoundError, match="ollama pull no-such-model"):
            new_driver("no-such-model").embed("a")
        with pytest.raises(OllamaModelNotFoundError, match="ollama pull no-such-model"):
            new_driver("no-such-model").embed_batch(TEXTS)

    def test_a_chat_model_is_an_error(self, chat_model):
        with pytest.raises(OllamaResponseError, match="use an embedding model"):
            new_driver(chat_model).embed("a")


class TestStores:
    def test_a_store_finds_its_texts(self, embed_model):
        driver = new_driver(embed_model)
        store = LocalVectorStoreDriver(embedding_driver=driver)
        artifacts = [TextArtifact(text) for text in TEXTS]
        events = []
        with EventListener(events.append, event_types=[OllamaEmbeddingEvent]):
            store.upsert_collection(artifacts)
        assert len(events) < len(TEXTS) == len(store.load_entries())
        (best,) = store.query(TEXTS[7], count=1)
        assert best.to_artifact().value == TEXTS[7]

    def test_a_prefetch_sends_full_batches(self, embed_model):
        driver = new_driver(embed_model, batch_size=16)
        store = LocalVectorStoreDriver(embedding_driver=driver)
        artifacts = [TextArtifact(text) for text in TEXTS]
        events = []
        with EventListener(events.append, event_types=[OllamaEmbeddingEvent]), driver.prefetch(artifacts):
            store.upsert_collection(artifacts)
        assert [event.texts for event in events] == [16, 14]

    def test_cancelling_ends_a_batch(self, embed_model):
        driver = new_driver(embed_model, cache_bytes=0)
        began = []
        with ThreadPoolExecutor(1) as pool:

            def progress(done, total):
                began.append(done)
                driver.cancel()

            future = pool.submit(driver.embed_batch, [f"text {n}" for n in range(500)], on_progress=progress)
            with pytest.raises(OllamaCancelledError):
                future.result(60)
        assert began == [64]
