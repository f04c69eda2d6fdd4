"""Texts around an embedding model's window: what is probably too long travels alone, so that no refusal costs more."""

import random

import pytest

from griptape_ollama import OllamaEmbeddingDriver, OllamaEmbeddingError
from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_WINDOW = 256
_WORDS = ("ferry", "noon", "harbour", "keeper", "archive", "valve", "crane", "letter", "bridge", "inspection", "permit")
_SIGNS = ("x[3]", "{0}", "!=", "=>", "(a,", "b)", "&&", "0x1F", "--", "::")


def _tokens(text):
    """A token for each five letters of a word, and one for each sign: prose has fewer than code."""
    runs = "".join(letter if letter.isalnum() else " " for letter in text).split()
    return sum(-(-len(run) // 5) for run in runs) + sum(not (each.isalnum() or each.isspace()) for each in text)


def _text(chance, share, parts):
    text = ""
    while _tokens(text) + 2 < _WINDOW * share:
        text += f"{chance.choice(parts)} "
    return text


def _texts(seed, parts, low, high, number=40):
    chance = random.Random(seed)  # noqa: S311 # no secret
    return [_text(chance, chance.uniform(low, high), parts) for _ in range(number)]


@pytest.fixture
def simulator():
    reset_shared_state()
    model = SimulatedModel(
        name="window", capabilities=("embedding",), context_length=_WINDOW, count_tokens=_tokens, embedding_length=8
    )
    with OllamaSimulator([model]) as simulator:
        yield simulator


def _embedded(simulator, mode, texts, **settings):
    """What was sent after the driver had some replies, and which of it was refused."""
    driver = OllamaEmbeddingDriver(model="window", host=simulator.url, on_long_text=mode, **settings)
    for seed, parts in enumerate((_WORDS, _SIGNS, _WORDS + _SIGNS) * 3):
        driver.embed_batch(_texts(seed, parts, 0.2, 0.5, number=5))
    simulator.reset()
    failed = 0
    try:
        driver.embed_batch(texts)
    except OllamaEmbeddingError as error:
        failed = len(error.failures)
    sent = [request for request in simulator.requests if request.path == "/api/embed"]
    refused = [request for request in sent if any(_tokens(text) + 2 > _WINDOW for text in request.body["input"])]
    return sent, refused, failed


@pytest.mark.parametrize("mode", ["chunk", "error"])
@pytest.mark.parametrize("parts", [_WORDS, _SIGNS, _WORDS + _SIGNS], ids=["prose", "code", "mixed"])
def test_what_is_refused_was_alone(simulator, mode, parts):
    texts = _texts(2, parts, 0.8, 1.2)
    too_long = sum(_tokens(text) + 2 > _WINDOW for text in texts)
    sent, refused, failed = _embedded(simulator, mode, texts)
    assert too_long > 10
    assert {len(request.body["input"]) for request in refused} <= {1}
    assert len(refused) <= too_long
    assert failed == (too_long if mode == "error" else 0)
    embedded = sum(_tokens(text) for request in sent if request not in refused for text in request.body["input"])
    whole = sum(map(_tokens, texts if mode == "chunk" else [text for text in texts if _tokens(text) + 2 <= _WINDOW]))
    assert embedded <= 1.1 * whole  # nothing is embedded twice


def test_what_surely_fits_shares_requests(simulator):
    sent, refused, _ = _embedded(simulator, "chunk", _texts(3, _WORDS, 0.2, 0.6))
    assert not refused
    assert len(sent) == 1


def test_a_window_of_the_models_own_counts():
    model = SimulatedModel(
        name="own", capabilities=("embedding",), context_length=8192, count_tokens=_tokens, parameters={"num_ctx": 128}
    )
    with OllamaSimulator([model]) as simulator:
        driver = OllamaEmbeddingDriver(model="own", host=simulator.url, on_long_text="error")
        with pytest.raises(OllamaEmbeddingError, match="has 200 tokens or more, and the window has 128"):
            driver.embed_batch(["noon", "noon " * 200])
        assert [r.body["input"] for r in simulator.requests if r.path == "/api/embed"] == [["noon"]]


def test_a_larger_batch_of_the_runner_is_used():
    model = SimulatedModel(name="wide", capabilities=("embedding",), context_length=8192, count_tokens=_tokens)
    with OllamaSimulator([model]) as simulator:
        driver = OllamaEmbeddingDriver(model="wide", host=simulator.url, options={"num_ctx": 8192, "num_batch": 8192})
        driver.embed_batch(["noon " * 2500, "harbour " * 2500])
        assert len([request for request in simulator.requests if request.path == "/api/embed"]) == 1


def test_a_long_text_is_cut_at_the_same_places_whatever_was_learned_meanwhile(simulator):
    driver = OllamaEmbeddingDriver(model="window", host=simulator.url, cache_bytes=0)
    (text,) = _texts(5, _WORDS + _SIGNS, 3, 3, number=1)
    first = driver.embed(text)
    for seed, parts in enumerate((_WORDS, _SIGNS, _WORDS + _SIGNS)):
        driver.embed_batch(_texts(seed, parts, 0.2, 0.9, number=8))
    assert driver.embed(text) == first
