"""Requests whose reply is lines of status, or nothing but a status."""

import pytest

from griptape_ollama.errors import (
    OllamaConnectionError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.protocol.stream_kinds import CHAT, STATUS
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.timeouts import OllamaTimeout

LINES = [{"status": "pulling manifest"}, {"status": "writing manifest"}, {"status": "success"}]


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


@pytest.fixture
def connection(simulator):
    return Connection.open(simulator.host)


def _pull(connection, **settings):
    return Call(connection, "/api/pull", {"model": "m"}, kind=STATUS, **settings)


class TestStatusLines:
    def test_the_last_line_says_success(self, simulator, connection):
        simulator.reply(path="/api/pull", lines=[*LINES, {"status": "more"}])
        assert list(_pull(connection).lines()) == LINES

    def test_a_chat_line_does_not_end_them(self, simulator, connection):
        simulator.reply(path="/api/pull", lines=[{"done": True}, *LINES])
        assert list(_pull(connection).lines()) == [{"done": True}, *LINES]

    def test_each_line_is_yielded_as_it_arrives(self, simulator, connection):
        simulator.fault("cut", path="/api/pull", after=2)
        simulator.reply(path="/api/pull", lines=LINES)
        lines = _pull(connection).lines()
        assert [next(lines), next(lines)] == LINES[:2]
        with pytest.raises(OllamaStreamError, match="broke after 2 lines"):
            next(lines)

    def test_without_success_the_reply_is_not_whole(self, simulator, connection):
        simulator.reply(path="/api/pull", lines=LINES[:2])
        with pytest.raises(OllamaStreamError, match="ended without its last line"):
            list(_pull(connection).lines())

    def test_an_error_line_raises_with_the_message_of_the_server(self, simulator, connection):
        simulator.reply(path="/api/pull", lines=[LINES[0], {"error": "max retries exceeded"}])
        with pytest.raises(OllamaStreamError) as caught:
            list(_pull(connection).lines())
        assert caught.value.server_message == "max retries exceeded"

    def test_silence_is_counted_in_lines(self, simulator, connection):
        simulator.fault("slow_tokens", path="/api/pull", seconds=30)
        simulator.reply(path="/api/pull", lines=LINES)
        limits = OllamaTimeout(between_tokens=0.05)
        with pytest.raises(OllamaTimeoutError, match=r"sent no line for 0\.05 s after 1 lines"):
            list(_pull(connection, limits=limits).lines())

    def test_the_kinds_know_their_last_line(self):
        assert [STATUS.is_last(line) for line in (LINES[0], LINES[-1])] == [False, True]
        assert [CHAT.is_last(line) for line in ({"done": False}, {}, {"done": True})] == [False, False, True]


class TestNothingButAStatus:
    def _copy(self, connection, source="simulator", **settings):
        body = {"source": source, "destination": "copied"}
        return Call(connection, "/api/copy", body, model=source, **settings)

    def test_an_empty_reply_confirms(self, simulator, connection):
        assert self._copy(connection).confirm() is None
        assert "copied:latest" in simulator.models

    def test_a_refusal_names_the_model_that_the_request_is_about(self, connection):
        with pytest.raises(
            OllamaModelNotFoundError, match=r"has no model 'nope'\. Get it with: ollama pull nope"
        ) as caught:
            self._copy(connection, "nope").confirm()
        assert caught.value.model == "nope"

    def test_the_connection_serves_the_next_request(self, simulator, connection):
        for _ in range(3):
            self._copy(connection).confirm()
        (pooled,) = connection._session._transport._pool.connections
        assert "Request Count: 3" in pooled.info()

    def test_what_passes_is_tried_again(self, simulator, connection):
        simulator.fault("status", path="/api/copy", status=503)
        self._copy(connection, policy=retry_policy(max_attempts=2, min_delay=0)).confirm()
        assert "copied:latest" in simulator.models

    def test_a_broken_connection_is_our_error(self, simulator, connection):
        simulator.fault("reset", path="/api/copy")
        with pytest.raises(OllamaConnectionError):
            self._copy(connection).confirm()

    def test_another_status_is_our_error(self, simulator, connection):
        simulator.fault("status", path="/api/copy", status=400, error="destination is invalid")
        with pytest.raises(OllamaResponseError, match="destination is invalid"):
            self._copy(connection).confirm()
