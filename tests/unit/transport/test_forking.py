"""Objects that begin anew in a forked process."""

import gc
import os

import pytest

from griptape_ollama.transport import forking
from griptape_ollama.transport.forking import renew_when_forked
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.running import RunningRuns


class _Counter:
    def __init__(self):
        self.count = 0
        renew_when_forked(self)

    def start_afresh(self):
        self.count += 1


def test_each_object_begins_anew_once():
    counters = [_Counter(), _Counter()]
    renew_when_forked(counters[0])
    forking._renew()
    assert [counter.count for counter in counters] == [1, 1]


def test_an_object_that_is_gone_is_not_kept():
    before = len(forking._objects)
    _Counter()
    gc.collect()
    assert len(forking._objects) <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_it_happens_in_the_child_only():
    counter = _Counter()
    if (child := os.fork()) == 0:
        os._exit(counter.count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert counter.count == 0


def test_runs_of_threads_that_are_gone_are_not_stopped():
    running = RunningRuns()
    run = Run()
    with running.tracking(run):
        running.start_afresh()
        running.cancel()
    assert not run.guard.stopped
