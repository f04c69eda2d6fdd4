"""Stopping what is under way."""

import os
import signal
import threading

import pytest

from griptape_ollama.transport.run import Run
from griptape_ollama.transport.running import RunningRuns


def test_runs_under_way_are_stopped_and_others_are_not():
    running = RunningRuns()
    before, under_way, after = Run(), Run(), Run()
    with running.tracking(before):
        pass
    with running.tracking(under_way):
        running.cancel()
    with running.tracking(after):
        pass
    assert [run.guard.stopped for run in (before, under_way, after)] == [False, True, False]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no signals to send to itself")
def test_a_signal_handler_may_cancel_while_its_own_thread_starts_a_run():
    running = RunningRuns()
    before = signal.signal(signal.SIGUSR1, lambda *_: running.cancel())
    try:
        with running._lock:
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_run_that_was_cancelled_stays_so():
    run = Run()
    run.cancel()
    interrupted = threading.Event()
    run.guard.bind(interrupted.set)
    assert interrupted.is_set()
