"""Texts that are embedded ahead: who gets them, who waits, and how far ahead they may be."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings.prefetch import Prefetch
from griptape_ollama.errors import OllamaCancelledError, OllamaError, OllamaTimeoutError
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout


def _passages(texts):
    return [Passage("", text) for text in texts]


def _deliver(prefetch, count):
    """Do what the thread does that embeds: the vector of a text is its code."""
    passages = prefetch.due(count)
    prefetch.deliver(passages, [[float(ord(passage.text))] for passage in passages])
    return "".join(passage.text for passage in passages)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def waiting(monkeypatch):
    """Counts the threads that wait for something to change."""
    waiting = threading.Semaphore(0)
    wait_for = threading.Condition.wait_for

    def counted(condition, predicate, timeout=None):
        if not predicate():
            waiting.release()
        return wait_for(condition, predicate, timeout)

    monkeypatch.setattr(threading.Condition, "wait_for", counted)
    return waiting


def test_texts_are_due_in_their_order_each_once(pool):
    prefetch = Prefetch("key", _passages("abacd"), lead=100)
    assert _deliver(prefetch, 3) == "abc"
    assert _deliver(prefetch, 3) == "d"
    assert prefetch.due(3) == []


def test_a_text_can_be_taken_as_often_as_it_is_in_the_prefetch():
    prefetch = Prefetch("key", _passages("aba"), lead=100)
    _deliver(prefetch, 2)
    assert [prefetch.take(Passage("", text), Run()) for text in "aaab"] == [[97.0], [97.0], None, [98.0]]
    assert prefetch._ready == {}


def test_each_call_gets_its_own_list():
    prefetch = Prefetch("key", _passages("aa"), lead=100)
    _deliver(prefetch, 1)
    first = prefetch.take(Passage("", "a"), Run())
    first[0] = 0.0
    assert prefetch.take(Passage("", "a"), Run()) == [97.0]


def test_a_text_that_is_not_in_the_prefetch_is_not_waited_for():
    prefetch = Prefetch("key", _passages("a"), lead=100)
    assert prefetch.take(Passage("", "b"), Run()) is None
    assert prefetch.take(Passage("query: ", "a"), Run()) is None


def test_a_text_that_is_to_come_is_waited_for(pool, waiting):
    prefetch = Prefetch("key", _passages("ab"), lead=100)
    taken = pool.submit(prefetch.take, Passage("", "b"), Run())
    assert waiting.acquire(timeout=30)
    _deliver(prefetch, 2)
    assert taken.result(30) == [98.0]


def test_no_more_texts_are_embedded_ahead_than_the_lead(pool, waiting):
    prefetch = Prefetch("key", _passages("abcdefgh"), lead=4)
    assert _deliver(prefetch, 2) == "ab"
    assert _deliver(prefetch, 2) == "cd"
    more = pool.submit(_deliver, prefetch, 2)
    assert waiting.acquire(timeout=30)
    prefetch.take(Passage("", "a"), Run())
    assert sorted(prefetch._ready) == list("bcd")
    prefetch.take(Passage("", "b"), Run())
    assert more.result(30) == "ef"
    assert sorted(prefetch._ready) == list("cdef")


def test_calls_in_another_order_extend_the_lead(pool, waiting):
    prefetch = Prefetch("key", _passages("abcdefgh"), lead=2)
    _deliver(prefetch, 2)
    last = pool.submit(prefetch.take, Passage("", "h"), Run())
    assert waiting.acquire(timeout=30)
    assert [_deliver(prefetch, 2) for _ in range(3)] == ["cd", "ef", "gh"]
    assert last.result(30) == [104.0]


def test_more_calls_than_texts_send_their_own_requests(pool, waiting):
    prefetch = Prefetch("key", _passages("abcdefgh"), lead=2)
    futures = [pool.submit(prefetch.take, Passage("", "a"), Run()) for _ in range(4)]
    for _ in futures:
        assert waiting.acquire(timeout=30)
    _deliver(prefetch, 2)
    assert sorted(future.result(30) or [0] for future in futures) == [[0], [0], [0], [97.0]]


def test_an_error_is_raised_in_waiting_and_in_later_calls(pool, waiting):
    prefetch = Prefetch("key", _passages("abc"), lead=100)
    _deliver(prefetch, 1)
    waits = pool.submit(prefetch.take, Passage("", "b"), Run())
    assert waiting.acquire(timeout=30)
    error = OllamaError("no")
    prefetch.end(error)
    assert str(waits.result(30)) == "no"
    assert str(prefetch.take(Passage("", "c"), Run())) == "no"
    assert waits.result() is not error
    assert prefetch.take(Passage("", "a"), Run()) == [97.0]
    assert prefetch.due(1) == []


def test_an_error_about_one_text_is_returned_for_that_text():
    prefetch = Prefetch("key", _passages("ab"), lead=100)
    prefetch.deliver(prefetch.due(2), [OllamaError("no"), [98.0]])
    assert str(prefetch.take(Passage("", "a"), Run())) == "no"
    assert prefetch.take(Passage("", "b"), Run()) == [98.0]


def test_after_the_end_ready_vectors_are_returned_and_no_call_waits(pool, waiting):
    prefetch = Prefetch("key", _passages("ab"), lead=100)
    _deliver(prefetch, 1)
    waits = pool.submit(prefetch.take, Passage("", "b"), Run())
    assert waiting.acquire(timeout=30)
    prefetch.end()
    assert waits.result(30) is None
    assert prefetch.take(Passage("", "a"), Run()) == [97.0]


def test_a_cancelled_call_leaves_its_text_for_another(pool, waiting):
    prefetch = Prefetch("key", _passages("a"), lead=100)
    run = Run()
    stops = pool.submit(prefetch.take, Passage("", "a"), run)
    assert waiting.acquire(timeout=30)
    run.cancel()
    with pytest.raises(OllamaCancelledError):
        stops.result(30)
    _deliver(prefetch, 1)
    assert prefetch.take(Passage("", "a"), Run()) == [97.0]


def test_a_call_has_its_own_total_limit():
    prefetch = Prefetch("key", _passages("a"), lead=100)
    run = Run(OllamaTimeout(total=0.01), host="http://gpu", model="embed")
    with pytest.raises(OllamaTimeoutError, match=r"longer than 0.01 s in all \(limit: total\)") as late:
        prefetch.take(Passage("", "a"), run)
    assert (late.value.limit, late.value.seconds) == ("total", 0.01)
    assert "model 'embed' of Ollama at http://gpu" in str(late.value)


def test_the_thread_that_embeds_stops_at_the_end(pool, waiting):
    prefetch = Prefetch("key", _passages("abcd"), lead=2)
    _deliver(prefetch, 2)
    more = pool.submit(prefetch.due, 2)
    assert waiting.acquire(timeout=30)
    prefetch.end()
    assert more.result(30) == []


def test_an_empty_prefetch_ends_at_once():
    prefetch = Prefetch("key", [], lead=2)
    assert prefetch.due(2) == []
    assert prefetch.take(Passage("", "a"), Run()) is None


def test_calls_of_a_forked_process_send_their_own_requests():
    prefetch = Prefetch("key", _passages("abc"), lead=100)
    _deliver(prefetch, 1)
    prefetch._changed.acquire()  # by a thread that is gone
    prefetch.start_afresh()
    assert [prefetch.take(Passage("", text), Run()) for text in "abc"] == [None] * 3
    assert prefetch.due(1) == []
