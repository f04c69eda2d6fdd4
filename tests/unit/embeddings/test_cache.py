"""Vectors that are known already."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from griptape_ollama.conversion.vectors import Passage
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


def test_the_least_recently_used_vector_is_dropped(cache):
    for key in (b"a", b"b", b"c"):
        cache.put(key, [1.0, 0.0])
    cache.get(b"a")
    cache.put(b"d", [1.0, 0.0])
    assert _keys(cache) == [b"a", b"c", b"d"]
    assert cache.info().size == 3 * _ENTRY


def test_a_membership_test_does_not_count_as_use(cache):
    for key in (b"a", b"b", b"c"):
        cache.put(key, [1.0, 0.0])
    assert b"a" in cache
    cache.put(b"d", [1.0, 0.0])
    assert _keys(cache) == [b"b", b"c", b"d"]


def test_a_vector_that_is_put_again_is_counted_once(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.put(b"a", [0.6, 0.8, 0.0])
    assert cache.get(b"a") == [0.6, 0.8, 0.0]
    assert (cache.info().entries, cache.info().size) == (1, _ENTRY + 8)


def test_a_vector_larger_than_the_cache_drops_nothing(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.put(b"b", [1.0] * 1000)
    assert _keys(cache) == [b"a"]


def test_a_smaller_limit_drops_vectors_at_once_and_zero_keeps_none(cache):
    for key in (b"a", b"b", b"c"):
        cache.put(key, [1.0, 0.0])
    cache.limit(_ENTRY)
    assert _keys(cache) == [b"c"]
    cache.limit(0)
    cache.put(b"a", [1.0, 0.0])
    assert (cache.info().entries, cache.info().size) == (0, 0)


def test_clearing_drops_vectors_and_keeps_the_counts(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.get(b"a")
    cache.clear()
    assert (cache.info().hits, cache.info().entries, cache.info().size) == (1, 0, 0)


def test_the_count_of_bytes_is_right_with_many_threads():
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


def test_a_forked_process_keeps_the_vectors_unless_a_thread_held_the_lock(cache):
    cache.put(b"a", [1.0, 0.0])
    cache.start_afresh()
    assert cache.get(b"a") == [1.0, 0.0]
    cache._lock.acquire()  # by a thread that is gone
    cache.start_afresh()
    assert cache.get(b"a") is None


class TestCachedVectors:
    @pytest.fixture
    def cached(self, cache, spec):
        """The vectors of the cache for a spec with changed fields of the request."""

        def cached(**body):
            return CachedVectors(cache, dataclasses.replace(spec, body={**spec.body, **body}), Run())

        return cached

    def test_the_whole_text_with_its_prefix_is_the_key(self, cached):
        vectors = cached()
        vectors.put_all({Passage("query: ", "cat"): [1.0, 0.0]})
        assert vectors.get(Passage("", "query: cat")) == [1.0, 0.0]
        assert Passage("query: ", "cat") in vectors
        assert Passage("", "cat") not in vectors
        assert vectors.get(Passage("", "cat")) is None

    def test_other_settings_have_other_vectors(self, cached):
        cached(dimensions=2).put_all({Passage("", "cat"): [1.0, 0.0]})
        for other in (cached(), cached(dimensions=3), cached(options={"num_ctx": 8})):
            assert Passage("", "cat") not in other
        assert Passage("", "cat") in cached(dimensions=2, keep_alive=5)

    def test_other_spellings_of_a_model_share_vectors(self, cached):
        cached(model="Simulator-Embed").put_all({Passage("", "cat"): [1.0, 0.0]})
        assert Passage("", "cat") in cached(model="simulator-embed:latest")

    def test_without_a_digest_nothing_is_kept_or_counted(self, cache, cached):
        vectors = cached(model="not-listed")
        vectors.put_all({Passage("", "cat"): [1.0, 0.0]})
        assert vectors.get(Passage("", "cat")) is None
        assert Passage("", "cat") not in vectors
        assert cache.info() == VectorCache().info()

    def test_a_disabled_cache_sends_no_requests(self, simulator, spec):
        CachedVectors(VectorCache(), spec, Run())
        assert simulator.requests == []

    def test_errors_are_not_kept(self, cache, cached):
        cached().put_all({Passage("", "cat"): OllamaError("no")})
        assert cache.info().entries == 0

    def test_a_text_with_a_lone_surrogate_has_a_key(self, cached):
        cached().put_all({Passage("", "\ud800"): [1.0, 0.0]})
        assert cached().get(Passage("", "\ud800")) == [1.0, 0.0]
