"""A name that comes to mean another model: vectors of two models are never mixed, nor kept under a wrong digest."""

import asyncio
import copy
import pickle
import threading

import pytest

from griptape_ollama import OllamaEmbeddingError, OllamaModels
from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel
from unit.embeddings.serving import inputs

_TEXTS = [f"text {number}" for number in range(12)]


def _vectors(request, size):
    return Reply(body={"embeddings": [[1.0] + [0.0] * (size - 1) for _ in request.body["input"]]})


@pytest.fixture
def digest(simulator):
    """Replaces the model, as the list of models shows it."""

    entry = {"name": "simulator-embed:latest", "model": "simulator-embed:latest", "digest": "1a" * 32}
    simulator.reply(lambda _: Reply(body={"models": [entry]}), path="/api/tags", times=None)

    def set_to(digest, *, is_seen=True):
        entry["digest"] = digest * 32
        if is_seen:
            reset_shared_state()  # as if a minute had passed

    return set_to


@pytest.fixture
def sizes(simulator):
    """Sets the sizes of the vectors, reply by reply; the last one stays."""

    def set_to(*sizes):
        left = list(sizes)
        simulator.reply(lambda request: _vectors(request, left.pop(0) if left[1:] else left[0]), path="/api/embed",
                        times=None)  # fmt: skip

    return set_to


async def _embed_all(driver):
    return await driver.aembed_batch(_TEXTS)


def _one_by_one(driver):
    return [driver.embed(text) for text in _TEXTS]


def _ahead(driver):
    with driver.prefetch(_TEXTS, vector_operation=None):
        return [driver.embed(text) for text in _TEXTS]


def _on_threads(driver):
    start, found = threading.Barrier(4), []

    def work(texts):
        start.wait(30)
        try:
            found.extend(len(driver.embed(text)) for text in texts)
        except OllamaEmbeddingError as error:
            found.append(error)

    threads = [threading.Thread(target=work, args=(_TEXTS[number::4],)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {size for size in found if isinstance(size, int)} <= {64}
    raise next(error for error in found if isinstance(error, OllamaEmbeddingError))


_WAYS = {
    "embed": _one_by_one,
    "embed_batch": lambda driver: driver.embed_batch(_TEXTS),
    "as_numpy": lambda driver: driver.embed_batch(_TEXTS, as_numpy=True),
    "iter_embed_batch": lambda driver: list(driver.iter_embed_batch(_TEXTS)),
    "aembed_batch": lambda driver: asyncio.run(_embed_all(driver)),
    "prefetch": _ahead,
    "threads": _on_threads,
}


@pytest.mark.parametrize("way", _WAYS.values(), ids=_WAYS)
def test_vectors_of_two_sizes_are_an_error_whatever_the_call(make_embedder, sizes, digest, way):
    sizes(64, 64, 32)
    driver = make_embedder(batch_size=2)
    with pytest.raises(
        OllamaEmbeddingError, match="has changed: vectors had 64 numbers so far, and have 32 now"
    ) as caught:
        way(driver)
    assert "embed all texts with one of them" in str(caught.value)
    assert caught.value.model == "simulator-embed"


def test_the_error_names_both_digests_and_what_to_do(make_embedder, sizes, digest):
    sizes(64, 32)
    driver = make_embedder()
    driver.embed("a")
    digest("2b", is_seen=False)
    with pytest.raises(OllamaEmbeddingError) as caught:
        driver.embed("b")
    for part in ("digest 1a1a1a1a1a1a so far, 2b2b2b2b2b2b now", "clear_cache()", "several servers"):
        assert part in str(caught.value)


def test_an_error_in_a_batch_tells_at_which_text(make_embedder, sizes, digest):
    sizes(64, 64, 32)
    with pytest.raises(OllamaEmbeddingError) as caught:
        make_embedder(batch_size=4).embed_batch(_TEXTS)
    assert caught.value.index == 8


def test_iterating_gives_the_vectors_before_the_change(make_embedder, sizes, digest):
    sizes(64, 64, 32)
    found = []
    with pytest.raises(OllamaEmbeddingError, match="has changed"):
        found.extend(map(len, make_embedder(batch_size=4).iter_embed_batch(_TEXTS)))
    assert found in ([], [64] * 8)  # `extend` keeps none of them where it fails


@pytest.mark.parametrize("mode", ["chunk", "error"])
def test_halves_of_a_refused_request_and_pieces_of_a_text_are_checked_too(make_embedder, simulator, digest, mode):
    def answer(request):
        if len(request.body["input"]) > 1 and "long" in request.body["input"][-1]:
            return Reply(status=400, error="the input length exceeds the context length")
        return _vectors(request, 64 if len(inputs(simulator)) < 3 else 32)

    simulator.reply(answer, path="/api/embed", times=None)
    with pytest.raises(OllamaEmbeddingError, match="has changed"):
        make_embedder(on_long_text=mode).embed_batch(["a", "b", "c", "a long one"])


def test_another_digest_is_an_error_between_calls(make_embedder, simulator, digest):
    driver = make_embedder()
    driver.embed("a")
    digest("2b")
    for text in ("a", "b"):
        with pytest.raises(OllamaEmbeddingError, match="digest 1a1a1a1a1a1a so far, 2b2b2b2b2b2b now"):
            driver.embed(text)
    assert inputs(simulator) == [["a"]]


def test_another_digest_is_an_error_within_one_call(make_embedder, simulator, digest):
    def answer(request):
        if "text 4" in request.body["input"]:
            digest("2b")
        return _vectors(request, 64)

    simulator.reply(answer, path="/api/embed", times=None)
    with pytest.raises(OllamaEmbeddingError, match="digest 1a1a1a1a1a1a so far") as caught:
        make_embedder(batch_size=4).embed_batch(_TEXTS)
    assert caught.value.index == 8
    assert len(inputs(simulator)) == 2


def test_a_vector_made_while_the_model_was_replaced_is_not_kept_under_the_digest_before(
    make_embedder, simulator, digest
):
    def answer(request):
        digest("2b")
        return _vectors(request, 64)

    simulator.reply(answer, path="/api/embed", times=1)
    driver = make_embedder()
    driver.embed("a")
    with pytest.raises(OllamaEmbeddingError):
        driver.embed("b")
    digest("1a")
    driver.embed("a")
    assert inputs(simulator) == [["a"], ["a"]]


def test_vectors_that_a_later_look_confirmed_stay(make_embedder, simulator, digest):
    driver = make_embedder()
    driver.embed("a")
    digest("1a")
    driver.embed("a")
    digest("2b")
    with pytest.raises(OllamaEmbeddingError):
        driver.embed("a")
    digest("1a")
    driver.embed("a")
    assert inputs(simulator) == [["a"]]


def test_clear_cache_takes_the_model_as_it_is_now(make_embedder, simulator, sizes, digest):
    sizes(64, 32)
    driver = make_embedder()
    driver.embed("a")
    digest("2b")
    driver.clear_cache()
    assert len(driver.embed("a")) == len(driver.embed("b")) == 32
    assert len(inputs(simulator)) == 3


def test_copies_know_nothing_of_it_and_twins_do(make_embedder, sizes, digest):
    sizes(64, 32)
    driver = make_embedder()
    driver.embed("a")
    for other in (copy.copy(driver), copy.deepcopy(driver), pickle.loads(pickle.dumps(driver))):  # noqa: S301 # made here
        assert len(other.embed("b")) == 32
    with pytest.raises(OllamaEmbeddingError):
        driver.with_settings(keep_alive=5).embed("b")


def test_other_dimensions_and_other_models_are_no_change(make_embedder, simulator):
    driver = make_embedder()
    assert len(driver.embed("a")) == 64
    driver.dimensions = 32
    assert len(driver.embed("a")) == 32
    driver.dimensions = None
    assert len(driver.embed("b")) == 64
    assert len(driver.with_settings(dimensions=16).embed("b")) == 16


def test_a_driver_that_is_given_another_model_starts_with_it(digest):
    models = [
        SimulatedModel(name="small", capabilities=("embedding",), embedding_length=8),
        SimulatedModel(name="large", capabilities=("embedding",), embedding_length=16),
    ]
    from griptape_ollama import OllamaEmbeddingDriver  # noqa: PLC0415

    with OllamaSimulator(models) as simulator:
        driver = OllamaEmbeddingDriver(model="small", host=simulator.url)
        assert len(driver.embed("a")) == 8
        driver.model = "large"
        assert len(driver.embed("a")) == 16


def test_a_pull_of_this_package_is_noticed_at_once():
    from griptape_ollama import OllamaEmbeddingDriver  # noqa: PLC0415

    models = [
        SimulatedModel(name="small", capabilities=("embedding",), embedding_length=8),
        SimulatedModel(name="alike", capabilities=("embedding",), embedding_length=8),
    ]
    with OllamaSimulator(models) as simulator:
        driver = OllamaEmbeddingDriver(model="main", host=simulator.url)
        manager = OllamaModels(host=simulator.url)
        manager.alias("main", "small")
        driver.embed("a")
        manager.alias("main", "alike")
        with pytest.raises(OllamaEmbeddingError, match="has changed: digest"):
            driver.embed("b")


def test_it_costs_no_request(make_embedder, simulator):
    driver = make_embedder(batch_size=4)
    for _ in range(3):
        driver.embed_batch(_TEXTS)
        driver.embed("another")
        driver.clear_cache()
    assert len([request for request in simulator.requests if request.path == "/api/tags"]) == 1


def test_without_a_digest_the_size_is_checked_all_the_same(make_embedder, simulator, sizes):
    simulator.reply(path="/api/tags", status=404, error="no", times=None)
    sizes(64, 32)
    driver = make_embedder()
    driver.embed("a")
    with pytest.raises(OllamaEmbeddingError, match=r"vectors had 64 numbers so far, and have 32 now\. Vectors"):
        driver.embed("b")


def test_without_a_cache_the_size_is_checked_all_the_same(make_embedder, simulator, sizes):
    sizes(64, 32)
    driver = make_embedder(cache_bytes=0)
    driver.embed("a")
    with pytest.raises(OllamaEmbeddingError, match="vectors had 64 numbers so far"):
        driver.embed("b")
