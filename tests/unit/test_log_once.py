import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from griptape_ollama.log_once import log_once
from griptape_ollama.shared_state import reset_shared_state

_logger = logging.getLogger("griptape_ollama.test")


def test_a_message_is_logged_once(caplog):
    assert log_once(_logger, logging.WARNING, "Model %r does not think.", "m")
    assert not log_once(_logger, logging.WARNING, "Model %r does not think.", "m")
    assert caplog.messages == ["Model 'm' does not think."]


def test_other_values_are_another_message(caplog):
    for model in ("a", "b", "a"):
        log_once(_logger, logging.WARNING, "Model %r does not think.", model)
    assert caplog.messages == ["Model 'a' does not think.", "Model 'b' does not think."]


def test_the_key_decides_where_there_is_one(caplog):
    for seconds in (1, 2):
        log_once(_logger, logging.WARNING, "Silent for %d s.", seconds, key="http://gpu:11434")
    assert caplog.messages == ["Silent for 1 s."]


def test_two_loggers_may_log_the_same(caplog):
    log_once(_logger, logging.WARNING, "Same.")
    log_once(logging.getLogger("griptape_ollama.other"), logging.WARNING, "Same.")
    assert caplog.messages == ["Same.", "Same."]


def test_the_line_of_the_caller_is_in_the_record(caplog):
    log_once(_logger, logging.WARNING, "Here.")
    assert caplog.records[0].filename == "test_log_once.py"


def test_threads_log_a_message_once(caplog):
    with ThreadPoolExecutor(8) as threads:
        new = list(threads.map(lambda _: log_once(_logger, logging.WARNING, "Many."), range(200)))
    assert sum(new) == 1
    assert caplog.messages == ["Many."]


@pytest.mark.parametrize("count", [4096, 20_000])
def test_memory_is_bounded(count):
    for number in range(count + 1):
        log_once(_logger, logging.DEBUG, "%d", number)
    assert log_once(_logger, logging.DEBUG, "%d", 0)


def test_a_reset_forgets_what_was_logged(caplog):
    log_once(_logger, logging.WARNING, "Again.")
    reset_shared_state()
    log_once(_logger, logging.WARNING, "Again.")
    assert caplog.messages == ["Again.", "Again."]
