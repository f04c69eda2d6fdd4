"""Scopes that stop what runs inside."""

import contextvars
import gc
import math
import os
import signal
import threading
import weakref

import pytest

from griptape_ollama import OllamaCancelledError, OllamaContentError, cancel_after, cancel_scope
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.run import ActiveRuns, Run


def _timers():
    return [thread for thread in threading.enumerate() if thread.name == "griptape-ollama-cancel-after"]


def test_what_runs_inside_is_stopped_and_what_runs_outside_is_not():
    before = Run()
    with cancel_scope() as scope:
        inside = Run()
    after = Run()
    assert not inside.cancellation.is_cancelled
    scope.cancel()
    assert [run.cancellation.is_cancelled for run in (before, inside, after)] == [False, True, False]


def test_what_begins_inside_later_is_stopped_from_the_start():
    scope = cancel_scope()
    scope.cancel()
    with scope:
        run = Run()
    assert run.cancellation.is_cancelled
    with pytest.raises(OllamaCancelledError), ActiveRuns().tracking(run):
        pytest.fail("a stopped run does not begin")


def test_cancelling_twice_and_after_the_end_is_harmless():
    with cancel_scope() as scope:
        pass
    assert not scope.is_cancelled
    scope.cancel()
    scope.cancel()
    assert scope.is_cancelled
    assert not Run().cancellation.is_cancelled


def test_an_inner_scope_stops_only_its_own():
    with cancel_scope():
        outer_run = Run()
        with cancel_scope() as inner:
            inner_run = Run()
            inner.cancel()
        again = Run()
    assert [run.cancellation.is_cancelled for run in (outer_run, inner_run, again)] == [False, True, False]


def test_an_outer_scope_stops_what_is_inside_the_inner_one():
    with cancel_scope() as outer, cancel_scope() as inner:
        run = Run()
        outer.cancel()
    assert run.cancellation.is_cancelled
    assert not inner.is_cancelled


def test_a_scope_may_be_entered_again_inside_itself():
    with cancel_scope() as scope:
        with scope:
            pass
        run = Run()
        scope.cancel()
    assert run.cancellation.is_cancelled
    assert not Run().cancellation.is_cancelled


def test_a_scope_reaches_threads_that_carry_context_variables_also_after_its_block():
    with cancel_scope() as scope:
        context = contextvars.copy_context()
    runs = []
    thread = threading.Thread(target=context.run, args=(lambda: runs.append(Run()),))
    thread.start()
    thread.join()
    scope.cancel()
    assert runs[0].cancellation.is_cancelled


def test_what_is_left_in_another_context_than_it_was_entered_in_is_left_all_the_same():
    scope = cancel_scope()

    def within():
        with scope:
            yield Run()
            yield Run()

    runs = within()
    first = contextvars.copy_context().run(next, runs)
    second = next(runs)
    with pytest.raises(StopIteration):
        next(runs)
    scope.cancel()
    assert [first.cancellation.is_cancelled, second.cancellation.is_cancelled, Run().cancellation.is_cancelled] == [
        True,
        False,
        False,
    ]


def test_what_is_done_outside_scopes_is_not_stopped():
    with cancel_scope() as scope:
        scope.cancel()
        with outside_scopes():
            run = Run()
        assert Run().cancellation.is_cancelled
    assert not run.cancellation.is_cancelled


def test_a_scope_keeps_nothing_that_is_over():
    with cancel_scope() as scope:
        run = weakref.ref(Run())
        gc.collect()
        assert run() is None
        assert not scope._members


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no signals to send to itself")
def test_a_signal_handler_may_cancel_in_the_thread_that_waits():
    with cancel_scope() as scope:
        run = Run()
        before = signal.signal(signal.SIGUSR1, lambda *_: scope.cancel())
        try:
            with run.cancellation._lock:
                os.kill(os.getpid(), signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert run.cancellation.is_cancelled


def test_a_time_limit_cancels_and_leaves_no_thread():
    with cancel_after(0.01) as scope:
        interrupted = threading.Event()
        run = Run()
        run.cancellation.on_cancel(interrupted.set)
        assert interrupted.wait(10)
    assert scope.is_cancelled
    assert _timers() == []


def test_a_time_limit_that_was_not_reached_leaves_no_thread():
    with cancel_after(3600) as scope:
        assert len(_timers()) == 1
    assert not scope.is_cancelled
    assert _timers() == []


def test_the_latest_time_limit_counts():
    with cancel_scope() as scope:
        scope.cancel_after(3600)
        scope.cancel_after(0)
        interrupted = threading.Event()
        run = Run()
        run.cancellation.on_cancel(interrupted.set)
        assert interrupted.wait(10)
    assert _timers() == []


def test_cancelling_ends_the_time_limit():
    with cancel_after(3600) as scope:
        (timer,) = _timers()
        scope.cancel()
        timer.join(10)
        scope.cancel_after(3600)
    assert _timers() == []


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "5", True, None])
def test_a_time_limit_is_a_number_of_seconds(seconds):
    with cancel_scope() as scope, pytest.raises(OllamaContentError, match="number of seconds"):
        scope.cancel_after(seconds)
    if seconds is not None:
        with pytest.raises(OllamaContentError, match="number of seconds"):
            cancel_after(seconds)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking with threads is what is looked at
def test_a_forked_process_does_not_stop_what_its_parent_does():
    with cancel_scope() as scope:
        run = Run()
        interrupted = threading.Event()
        run.cancellation.on_cancel(interrupted.set)
        child = os.fork()
        if child == 0:
            scope.cancel()
            os._exit(1 if interrupted.is_set() else 0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
