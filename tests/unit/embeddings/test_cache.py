"""Vectors that are known already."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.embeddings.cache import CachedVectors, VectorCache
from griptape_ollama.errors import OllamaError
from griptape_ollama.transport.run import Run

_ENTRY = 300 + 2 * 8
"""Bytes that a vector of two numbers takes."""


@pytest.fixture
def cache():
    cache = VectorCache()
    cache.limit(3 * _ENTRY)
    return cache


def _keys(cache, keys=b"abcdef"):
    return [key for key in (bytes([key]) for key in keys) if key in cache]


def test_a_vector_comes_back_exactly(cache):
    vector = [0.1, 1e-310]
    cache.put(b"a", vector)
    assert cache.get(b"a") == vector
    assert cache.get(b"a") is not vector


def test_what_is_done_to_a_vector_does_not_reach_the_cache(cache):
    vector = [0.1, 0.2]
    cache.put(b"a", vector)
    vector[0] = 7.0
    cache.get(b"a")[0] = 8.0
    assert cache.get(b"a") == [0.1, 0.2]


def test_hits_misses_entries_and_bytes_are_counted(cache):
    assert cache.get(b"a") is None
    cache.put(b"a", [1.0, 0.0])
    cache.get(b"a")
    cache.get(b"a")
    info = cache.info()
    assert (info.hits, info.misses, info.entries, info.size) == (2, 1, 1, _ENTRY)


def test_the_vector_that_was_not_used_for_the_longest_time_makes_room(cache):
    for key in (b"a", b"b", b"c"):
        cache.put(key, [1.0, 0.0])
    cache.get(b"a")
    cache.put(b"d", [1.0, 0.0])
    assert _keys(cache) == [b"a", b"c", b"d"]
    assert cache.info().size == 3 * _ENTRY


def test_a_look_is_no_use(cache):
    for key in (b"a", b"b", b"c"):
        cache.put(key, [1.0, 0.0])
    assert b"a" in cache
    cache.put(b"d", [1.0, 0.0])
    assert _keys(cache) == [b"b", b"c", b"d"]


def test_a_vector_that_is_put_again_takes_its_room_once(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.put(b"a", [0.6, 0.8, 0.0])
    assert cache.get(b"a") == [0.6, 0.8, 0.0]
    assert (cache.info().entries, cache.info().size) == (1, _ENTRY + 8)


def test_a_vector_that_is_larger_than_all_room_drives_nothing_out(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.put(b"b", [1.0] * 1000)
    assert _keys(cache) == [b"a"]


def test_less_room_lets_vectors_go_at_once_and_none_keeps_none(cache):
    for key in (b"a", b"b", b"c"):
        cache.put(key, [1.0, 0.0])
    cache.limit(_ENTRY)
    assert _keys(cache) == [b"c"]
    cache.limit(0)
    cache.put(b"a", [1.0, 0.0])
    assert (cache.info().entries, cache.info().size) == (0, 0)


def test_clearing_lets_go_of_vectors_and_keeps_the_counts(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.get(b"a")
    cache.clear()
    assert (cache.info().hits, cache.info().entries, cache.info().size) == (1, 0, 0)


def test_threads_do_not_upset_the_count_of_bytes():
    cache = VectorCache()
    cache.limit(50 * _ENTRY)
    start = threading.Barrier(8)

    def work(number):
        start.wait()
        for i in range(300):
            key = b"%d" % ((number * 7 + i) % 80)
            if cache.get(key) is None:
                cache.put(key, [1.0, 0.0])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    info = cache.info()
    assert info.size == info.entries * _ENTRY <= 50 * _ENTRY
    assert info.hits + info.misses == 8 * 300


def test_a_forked_process_has_the_vectors_unless_a_thread_that_is_gone_was_at_them(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.start_afresh()
    assert cache.get(b"a") == [1.0, 0.0]
    cache._lock.acquire()  # by a thread that is gone
    cache.start_afresh()
    assert cache.get(b"a") is None


class TestCachedVectors:
    @pytest.fixture
    def known(self, cache, spec):
        def known(**body):
            known = CachedVectors(cache, dataclasses.replace(spec, body={**spec.body, **body}))
            known.check_model(Run())
            return known

        return known

    def test_texts_are_known_by_what_is_sent(self, known):
        found = known()
        found.put_all({Passage("query: ", "cat"): [1.0, 0.0]})
        assert found.get(Passage("", "query: cat")) == [1.0, 0.0]
        assert Passage("query: ", "cat") in found
        assert Passage("", "cat") not in found
        assert found.get(Passage("", "cat")) is None

    def test_other_settings_know_nothing_of_it(self, known):
        known(dimensions=2).put_all({Passage("", "cat"): [1.0, 0.0]})
        for other in (known(), known(dimensions=3), known(options={"num_ctx": 8})):
            assert Passage("", "cat") not in other
        assert Passage("", "cat") in known(dimensions=2, keep_alive=5)

    def test_without_a_look_at_the_model_nothing_is_kept_or_counted(self, cache, spec):
        known = CachedVectors(cache, spec)
        known.put_all({Passage("", "cat"): [1.0, 0.0]})
        assert known.get(Passage("", "cat")) is None
        assert Passage("", "cat") not in known
        assert cache.info() == VectorCache().info()

    def test_a_cache_that_keeps_nothing_asks_for_nothing(self, simulator, spec):
        CachedVectors(VectorCache(), spec).check_model(Run())
        assert simulator.requests == []

    def test_errors_are_not_kept(self, cache, known):
        known().put_all({Passage("", "cat"): OllamaError("no")})
        assert cache.info().entries == 0

    def test_a_text_that_is_no_unicode_can_be_known(self, known):
        known().put_all({Passage("", "\ud800"): [1.0, 0.0]})
        assert known().get(Passage("", "\ud800")) == [1.0, 0.0]
