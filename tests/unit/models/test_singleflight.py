"""One transfer for everybody who asks for the same at the same time."""

import contextvars
import logging
import threading
import time
from concurrent.futures import wait

import pytest

from griptape_ollama import OllamaCancelledError, OllamaResponseError, OllamaTimeoutError, cancel_scope
from griptape_ollama.models.singleflight import shared_transfers
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

MB = 1_000_000
BIG = SimulatedModel(name="big:8b", size=100 * MB, pull_bytes_per_second=10 * MB)
_who = contextvars.ContextVar("who", default="none")
OTHER = SimulatedModel(name="other", size=100 * MB, pull_bytes_per_second=10 * MB)


@pytest.fixture
def simulator():
    """Time stands still: a pull goes on when the test says so."""
    with OllamaSimulator(models=[], library=[BIG, OTHER], time_scale=0) as simulator:
        yield simulator


@pytest.fixture
def watch(in_background):
    """Pull in a thread; return when the pull was heard of."""

    def start(models, model="big:8b", **settings):
        heard, seen = threading.Event(), []

        def on_progress(progress):
            seen.append(progress)
            if progress.total:
                heard.set()

        future = in_background(models.pull, model, on_progress=on_progress, **settings)
        return future, heard, seen

    return start


def _arrive(simulator):
    """Wait for the first bytes."""
    simulator.wait_for_sleeper()
    simulator.advance(0.06)


def _finish(simulator, *futures):
    deadline = time.monotonic() + 10
    while wait(futures, 0.001).not_done:
        assert time.monotonic() < deadline
        simulator.advance(60)
    return [future.result() for future in futures]


def test_callers_share_one_pull(simulator, manage, watch, count, audit):
    first, heard, _ = watch(manage(simulator))
    _arrive(simulator)
    assert heard.wait(5)
    others = [watch(manage(simulator), name) for name in ("big:8b", "BIG:8b", "library/big:8b")]
    # A later caller gets the progress at once.
    assert all(each[1].wait(5) for each in others)
    results = _finish(simulator, first, *(each[0] for each in others))
    assert count(simulator, "/api/pull") == 1
    assert len({id(result) for result in results}) == 1
    assert all(each[2][-1].status == "success" for each in others)
    assert len(audit()) == 1


def test_another_model_is_another_pull(simulator, manage, watch, count):
    one, heard_one, _ = watch(manage(simulator))
    other, heard_other, _ = watch(manage(simulator), "other")
    simulator.wait_for_sleeper(2)
    simulator.advance(0.06)
    assert heard_one.wait(5)
    assert heard_other.wait(5)
    _finish(simulator, one, other)
    assert count(simulator, "/api/pull") == 2


def test_another_key_is_another_pull(simulator, manage, watch, count):
    one, _, _ = watch(manage(simulator))
    other, _, _ = watch(manage(simulator, api_key="another"))
    simulator.wait_for_sleeper(2)
    _finish(simulator, one, other)
    assert count(simulator, "/api/pull") == 2


def test_a_cancelled_caller_leaves_and_the_rest_wait_on(simulator, manage, watch, audit):
    leaver = manage(simulator)
    leaving, heard, _ = watch(leaver)
    _arrive(simulator)
    assert heard.wait(5)
    staying, heard_too, _ = watch(manage(simulator))
    assert heard_too.wait(5)
    leaver.cancel()
    with pytest.raises(OllamaCancelledError):
        leaving.result(5)
    (result,) = _finish(simulator, staying)
    assert result.model.name == "big:8b"
    assert [record["outcome"] for record in audit()] == ["done"]


def test_the_scope_of_the_first_caller_does_not_cancel_the_pull(simulator, manage, in_background, watch):
    heard, scope = threading.Event(), cancel_scope()

    def pull_in_scope():
        with scope:
            manage(simulator).pull("big:8b", on_progress=lambda progress: progress.total and heard.set())

    leaving = in_background(pull_in_scope)
    _arrive(simulator)
    assert heard.wait(5)
    staying, heard_too, _ = watch(manage(simulator))
    assert heard_too.wait(5)
    scope.cancel()
    with pytest.raises(OllamaCancelledError):
        leaving.result(5)
    (result,) = _finish(simulator, staying)
    assert result.model.name == "big:8b"
    assert result.attempts == 1


def test_the_pull_is_cancelled_with_its_last_caller(simulator, manage, watch, audit):
    managers = [manage(simulator) for _ in range(2)]
    futures = []
    for each in managers:
        future, heard, _ = watch(each)
        futures.append(future)
        if len(futures) == 1:
            _arrive(simulator)
        assert heard.wait(5)
    for each, future in zip(managers, futures, strict=True):
        assert simulator.disconnects == []
        each.cancel()
        with pytest.raises(OllamaCancelledError):
            future.result(5)
    assert simulator.wait_for_disconnect()
    assert [record["outcome"] for record in audit()] == ["cancelled"]
    assert shared_transfers._transfers == {}


def test_a_caller_after_the_last_one_starts_another_pull(simulator, manage, watch, count):
    models = manage(simulator)
    left, heard, _ = watch(models)
    _arrive(simulator)
    assert heard.wait(5)
    models.cancel()
    with pytest.raises(OllamaCancelledError):
        left.result(5)
    simulator.wait_for_disconnect()
    again, _, _ = watch(models)
    _finish(simulator, again)
    assert count(simulator, "/api/pull") == 2


def test_the_total_limit_of_one_caller_does_not_affect_the_rest(simulator, manage, watch):
    patient, heard, _ = watch(manage(simulator))
    _arrive(simulator)
    assert heard.wait(5)
    with pytest.raises(OllamaTimeoutError):
        manage(simulator, timeout=0.1).pull("big:8b")
    assert _finish(simulator, patient)[0].model.name == "big:8b"


def test_the_pull_does_not_have_the_total_limit_of_its_first_caller(simulator, manage, watch):
    hasty, heard, _ = watch(manage(simulator, timeout=1.0))
    _arrive(simulator)
    assert heard.wait(5)
    patient, heard_too, _ = watch(manage(simulator))
    assert heard_too.wait(5)
    with pytest.raises(OllamaTimeoutError):
        hasty.result(5)
    assert _finish(simulator, patient)[0].model.name == "big:8b"


def test_a_failure_is_raised_in_each_caller_as_its_own_exception(simulator, manage, watch):
    simulator.fault("error_line", path="/api/pull", after=3, error="pull model manifest: 412: newer version of Ollama")
    watches = [watch(manage(simulator))]
    _arrive(simulator)
    assert watches[0][1].wait(5)
    watches.append(watch(manage(simulator)))
    assert watches[1][1].wait(5)
    errors = []
    while wait([future for future, _, _ in watches], 0.001).not_done:
        simulator.advance(1)
    for future, _, _ in watches:
        with pytest.raises(OllamaResponseError) as caught:
            future.result()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert str(errors[0]) == str(errors[1])


def test_a_slow_listener_gets_each_status_and_the_end_but_not_each_byte(manage):
    with OllamaSimulator(models=[], library=[BIG], time_scale=100_000) as simulator:
        seen, is_first = [], threading.Event()

        def slow(progress):
            seen.append(progress)
            if progress.total and not is_first.is_set():
                is_first.set()
                simulator.wait_for_request(3)  # the last question, after the pull

        manage(simulator).pull("big:8b", on_progress=slow)
    assert [each.status for each in seen][-3:] == ["verifying sha256 digest", "writing manifest", "success"]
    assert len(seen) < 20


def test_the_pull_runs_in_the_context_of_its_first_caller(manage, simulator, in_background, caplog):
    caplog.set_level(logging.INFO, logger="griptape_ollama.audit")
    seen = []
    caplog.handler.addFilter(lambda record: seen.append((record.name, _who.get())) or True)

    def pull():
        _who.set("me")
        return manage(simulator).pull("big:8b")

    _finish(simulator, in_background(pull))
    assert ("griptape_ollama.audit", "me") in seen


def test_a_forked_process_does_not_have_the_pulls_of_its_parent(simulator, manage, watch):
    future, heard, _ = watch(manage(simulator))
    _arrive(simulator)
    assert heard.wait(5)
    known = dict(shared_transfers._transfers)
    assert known
    shared_transfers.start_afresh()
    assert shared_transfers._transfers == {}
    shared_transfers._transfers.update(known)
    _finish(simulator, future)
