"""Stopping what is under way."""

import os
import signal
import threading

import pytest

from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.transport.run import ActiveRuns, Run
from griptape_ollama.transport.timeouts import OllamaTimeout


def test_only_active_runs_are_cancelled():
    running = ActiveRuns()
    before, under_way, after = Run(), Run(), Run()
    with running.tracking(before):
        pass
    with running.tracking(under_way):
        running.cancel()
    with running.tracking(after):
        pass
    assert [run.cancellation.is_cancelled for run in (before, under_way, after)] == [False, True, False]


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no signals to send to itself")
def test_a_signal_handler_may_cancel_while_its_own_thread_starts_a_run():
    running = ActiveRuns()
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
    run.cancellation.on_cancel(interrupted.set)
    assert interrupted.is_set()


def test_a_run_that_was_stopped_or_ran_out_of_time_says_what_it_asked_for():
    run = Run(OllamaTimeout(total=7), host="http://gpu:11434", model="qwen3")
    run.check()
    run.cancel()
    with pytest.raises(
        OllamaCancelledError, match=r"^The run of model 'qwen3' of Ollama at http://gpu:11434 was"
    ) as off:
        run.check()
    late = run.timeout_error()
    assert (
        str(late)
        == "The run of model 'qwen3' of Ollama at http://gpu:11434 took longer than 7 s in all (limit: total)."
    )
    for error in (off.value, late):
        assert (error.host, error.model) == ("http://gpu:11434", "qwen3")


@pytest.mark.parametrize(
    ("host", "text"), [("http://gpu", "The run of Ollama at http://gpu was"), (None, "The run was")]
)
def test_one_that_is_about_no_model_says_so_too(host, text):
    run = Run(host=host, model="")
    run.cancel()
    with pytest.raises(OllamaCancelledError, match=f"^{text} cancelled"):
        run.check()
