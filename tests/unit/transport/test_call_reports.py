"""What is told of each call that is over."""

import logging

import pytest

from griptape_ollama.errors import (
    OllamaBusyError,
    OllamaCancelledError,
    OllamaModelNotFoundError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.call_reports import add_listener, remove_listener, reporting
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.timeouts import OllamaTimeout

BODY = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


@pytest.fixture
def connection(simulator):
    return Connection.open(simulator.host)


@pytest.fixture
def reports():
    """What is told of all calls, as they end."""
    heard = []
    add_listener(heard.append)
    yield heard
    remove_listener(heard.append)


def _call(connection, attempts=1, path="/api/chat", body=BODY, **settings):
    policy = retry_policy(max_attempts=attempts, min_delay=0, max_delay=0)
    return Call(connection, path, body, policy=policy, **settings)


def test_a_whole_reply_is_reported_with_its_times_and_tokens(simulator, connection, reports):
    simulator.reply("one two three")
    lines = list(_call(connection).lines())
    (report,) = reports
    assert (report.host, report.model, report.path) == (simulator.url, "simulator", "/api/chat")
    assert report.error is None
    assert report.retries == 0
    assert report.input_tokens == lines[-1]["prompt_eval_count"]
    assert report.output_tokens == lines[-1]["eval_count"]
    assert 0 < report.time_to_first_token <= report.seconds


def test_a_document_has_no_first_token(simulator, connection, reports):
    reply = _call(connection, path="/api/embed", body={"model": "simulator-embed", "input": "text"}).document()
    (report,) = reports
    assert (report.path, report.model) == ("/api/embed", "simulator-embed")
    assert report.time_to_first_token is None
    assert report.input_tokens == reply["prompt_eval_count"]


def test_a_request_for_a_status_is_reported(simulator, connection, reports):
    Call(connection, "/api/copy", {"source": "simulator", "destination": "twin"}, model="simulator").confirm()
    assert [(report.path, report.error) for report in reports] == [("/api/copy", None)]


def test_tries_after_the_first_are_counted_and_reported_once(simulator, connection, reports):
    simulator.fault("status", status=503, error="busy", times=2)
    simulator.reply("Hello")
    list(_call(connection, attempts=3).lines())
    assert [(report.retries, report.error) for report in reports] == [(2, None)]


def test_a_call_that_fails_is_reported_with_its_error(simulator, connection, reports):
    simulator.fault("status", status=503, error="busy", times=None)
    with pytest.raises(OllamaBusyError) as caught:
        list(_call(connection, attempts=2).lines())
    (report,) = reports
    assert report.error is caught.value
    assert report.retries == 1


def test_a_refused_document_is_reported_with_its_error(simulator, connection, reports):
    with pytest.raises(OllamaModelNotFoundError):
        _call(connection, path="/api/show", body={"model": "nope"}).document()
    assert isinstance(reports[0].error, OllamaModelNotFoundError)


def test_a_limit_is_reported(simulator, connection, reports):
    simulator.reply("late", headers_delay=30)
    with pytest.raises(OllamaTimeoutError):
        list(_call(connection, limits=OllamaTimeout(first_token=0.01)).lines())
    assert reports[0].error.limit == "first_token"


def test_a_reply_that_breaks_keeps_the_time_to_its_first_token(simulator, connection, reports):
    simulator.reply("one two three")
    simulator.fault("no_done", after=2)
    with pytest.raises(OllamaStreamError):
        list(_call(connection).lines())
    assert reports[0].time_to_first_token is not None
    assert reports[0].output_tokens is None


def test_a_reply_that_is_left_early_counts_as_cancelled(simulator, connection, reports):
    simulator.reply("one two three")
    lines = _call(connection).lines()
    next(lines)
    assert reports == []
    lines.close()
    assert isinstance(reports[0].error, OllamaCancelledError)


def test_a_reply_that_is_left_after_its_last_line_is_whole(simulator, connection, reports):
    simulator.reply("one two three")
    lines = _call(connection).lines()
    while not next(lines)["done"]:
        pass
    lines.close()
    assert reports[0].error is None
    assert reports[0].output_tokens is not None


def test_a_cancelled_call_is_reported_as_such(simulator, connection, reports):
    simulator.reply("one two three")
    call = _call(connection)
    lines = call.lines()
    next(lines)
    call.cancel()
    with pytest.raises(OllamaCancelledError):
        next(lines)
    assert isinstance(reports[0].error, OllamaCancelledError)


@pytest.mark.parametrize("count", ["7", None, [1]])
def test_counts_that_are_no_numbers_are_left_out(simulator, connection, reports, count):
    simulator.reply(lines=[{"message": {"content": "x"}, "done": True, "eval_count": count, "prompt_eval_count": 3}])
    list(_call(connection).lines())
    assert (reports[0].input_tokens, reports[0].output_tokens) == (3, None)


def test_a_listener_that_fails_harms_neither_the_call_nor_the_other_listeners(
    simulator, connection, reports, caplog, request
):
    def fail(report):
        raise ValueError("a bug of the listener")

    remove_listener(reports.append)
    add_listener(fail)
    request.addfinalizer(lambda: remove_listener(fail))
    add_listener(reports.append)
    simulator.reply("Hello")
    with caplog.at_level(logging.ERROR, "griptape_ollama"):
        list(_call(connection).lines())
    assert len(reports) == 1
    assert "a bug of the listener" in caplog.text


def test_a_removed_listener_gets_no_reports(simulator, connection, reports):
    remove_listener(reports.append)
    remove_listener(reports.append)
    simulator.reply("Hello")
    list(_call(connection).lines())
    assert reports == []


def test_without_listeners_no_report_is_built():
    def never(*_):
        raise AssertionError("a report was made")

    with reporting(never, never):
        pass
