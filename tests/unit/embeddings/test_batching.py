"""Any number of texts, batch by batch: what is read, what is asked for, and what is known."""

import contextlib
import dataclasses

import pytest

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.batching import in_batches
from griptape_ollama.embeddings.cache import CachedVectors, VectorCache
from griptape_ollama.embeddings.spec import BatchLimits
from griptape_ollama.errors import OllamaResponseError
from griptape_ollama.transport.run import Run
from unit.embeddings.serving import inputs, refuse, vector


@pytest.fixture
def known(spec):
    cache = VectorCache()
    cache.limit(1_000_000)
    return CachedVectors(cache, spec, Run())


@pytest.fixture
def batches(spec, known):
    """Embeds texts, and returns the batches of outcomes one by one."""

    def batches(texts, *, size=4, characters=1000, runs=lambda: contextlib.nullcontext(Run())):
        changed = dataclasses.replace(spec, batches=BatchLimits(size, characters))
        passages = (Passage("", text) for text in texts)
        return in_batches(passages, changed, known, runs=runs, replied=lambda _: None)

    return batches


def _counted(texts, read):
    for text in texts:
        read.append(text)
        yield text


def test_texts_travel_in_full_batches_in_their_order(simulator, batches):
    assert list(batches("abcdefghij")) == [
        [vector(text) for text in "abcd"],
        [vector(text) for text in "efgh"],
        [vector(text) for text in "ij"],
    ]
    assert inputs(simulator) == [list("abcd"), list("efgh"), list("ij")]


def test_no_texts_make_no_batch(simulator, batches):
    assert list(batches([])) == []
    assert inputs(simulator) == []


def test_no_more_is_read_than_a_batch_needs(simulator, batches):
    read = []
    found = batches(_counted("abcdefghij", read))
    assert read == []
    next(found)
    assert "".join(read) == "abcd"
    next(found)
    assert "".join(read) == "abcdefgh"


def test_a_batch_ends_before_a_text_that_would_be_too_much(simulator, batches):
    read = []
    found = batches(_counted(["a" * 6, "b" * 6, "c", "d" * 20, "e"], read), characters=10)
    assert next(found) == [vector("a" * 6)]
    assert read == ["a" * 6, "b" * 6]
    assert len(list(found)) == 3
    assert inputs(simulator) == [["a" * 6], ["b" * 6, "c"], ["d" * 20], ["e"]]


def test_known_texts_and_texts_that_come_again_fill_nothing(simulator, batches, known):
    known.put_all({Passage("", "b" * 9): vector("b" * 9)})
    assert [len(found) for found in batches(["a" * 6, "b" * 9, "a" * 6, "c"], characters=10)] == [4]
    assert inputs(simulator) == [["a" * 6, "c"]]


def test_a_text_that_comes_again_is_asked_for_once_and_has_a_vector_of_its_own(simulator, batches):
    (found,) = batches(["a", "b", "a", "a", "c"])
    assert found == [vector(text) for text in "abaac"]
    assert inputs(simulator) == [["a", "b", "c"]]
    found[0][0] = 7.0
    assert found[2] == vector("a")


def test_a_batch_is_filled_with_texts_that_are_not_known(simulator, batches, known):
    for text in "bcd":
        known.put_all({Passage("", text): vector(text)})
    assert [len(found) for found in batches("abcdefgh")] == [7, 1]
    assert inputs(simulator) == [["a", "e", "f", "g"], ["h"]]


def test_known_texts_are_read_in_bounded_numbers_too(simulator, batches, known):
    known.put_all({Passage("", "a"): vector("a")})
    read = []
    found = batches(_counted("a" * 1000, read))
    assert len(next(found)) == len(read) == 4 * 16
    assert inputs(simulator) == []


def test_new_vectors_become_known_and_errors_do_not(simulator, batches, known):
    refuse(simulator, lambda text: text == "b", status=400, error="no")
    ((first, error, last),) = batches("abc")
    assert (first, last) == (vector("a"), vector("c"))
    assert type(error) is OllamaResponseError
    assert [text for text in "abc" if Passage("", text) in known] == ["a", "c"]


def test_each_batch_has_the_run_that_it_is_given_and_known_ones_need_none(batches, known):
    known.put_all({Passage("", "a"): vector("a")})
    runs = []

    @contextlib.contextmanager
    def a_run():
        runs.append("began")
        yield Run()
        runs.append("ended")

    found = batches("aaaabcdefg", runs=a_run)
    next(found)
    assert runs == ["began", "ended"]
    list(found)
    assert runs == ["began", "ended"] * 2
    assert list(batches("aaa", runs=a_run)) == [[vector("a")] * 3]
    assert len(runs) == 4
