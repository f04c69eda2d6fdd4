"""State of the process: renewed in the child of a fork, and reset."""

import gc
import os

import pytest

from griptape_ollama import shared_state
from griptape_ollama.shared_state import renew_when_forked, reset_shared_state, reset_with_shared_state, when_forked


class _Counter:
    def __init__(self):
        self.count = 0
        renew_when_forked(self)

    def start_afresh(self):
        self.count += 1


def test_each_object_begins_anew_once():
    counters = [_Counter(), _Counter()]
    renew_when_forked(counters[0])
    shared_state._renew()
    assert [counter.count for counter in counters] == [1, 1]


def test_an_object_that_is_gone_is_not_kept():
    before = len(shared_state._renewables)
    _Counter()
    gc.collect()
    assert len(shared_state._renewables) <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_it_happens_in_the_child_only():
    counter = _Counter()
    if (child := os.fork()) == 0:
        os._exit(counter.count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert counter.count == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_functions_around_a_fork_are_called_where_they_belong():
    calls = []
    when_forked(
        lambda: calls.append("child"),
        before=lambda: calls.append("before"),
        after_in_parent=lambda: calls.append("parent"),
    )
    if (child := os.fork()) == 0:
        os._exit(0 if calls == ["before", "child"] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert calls == ["before", "parent"]


def test_a_reset_calls_what_was_registered(monkeypatch):
    monkeypatch.setattr(shared_state, "_resets", [])
    state = {1}
    reset_with_shared_state(state.clear)
    reset_shared_state()
    assert not state
