"""Threads that are started for an event loop."""

import threading

import pytest

from griptape_ollama.transport.async_bridge import THREAD_NAME, Starter


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_functions_are_called_in_their_order_by_one_thread_that_ends():
    starter, calls, go = Starter(), [], threading.Event()
    starter.add(lambda: go.wait(10))
    (thread,) = _threads()
    for number in range(5):
        starter.add(lambda number=number: calls.append((number, threading.current_thread())))
    assert _threads() == [thread]
    go.set()
    thread.join(10)
    assert calls == [(number, thread) for number in range(5)]
    again = threading.Event()
    starter.add(again.set)
    assert again.wait(10)
    for thread in _threads():
        thread.join(10)


def test_a_forked_process_begins_anew():
    starter = Starter()
    starter._is_at_work = True  # by a thread that is gone
    starter._due.append(pytest.fail)
    starter.start_afresh()
    called = threading.Event()
    starter.add(called.set)
    assert called.wait(10)
