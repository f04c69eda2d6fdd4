"""Idle connections are closed in time, and the thread that does it is there for no longer than it is needed."""

import gc
import os
import threading
import time
import weakref
from unittest.mock import Mock

import httpcore
import pytest

from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport import connection as connection_module
from griptape_ollama.transport import idle_connections as idle
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.idle_connections import THREAD_NAME, IdleConnectionCloser
from griptape_ollama.transport.retry import retry_policy
from unit.hostile import HEAD, HostileServer, chunk
from unit.transport.clients import foreign_client

BODY = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}
REPLY = [HEAD + b"\r\n", chunk(b'{"message":{"content":"x"},"done":true,"done_reason":"stop"}\n'), chunk(b"")]
_TICK = 0.01
_WAIT = 30.0


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


@pytest.fixture
def sweeper(monkeypatch):
    """One that looks often, in place of the one of the process."""
    sweeper = IdleConnectionCloser(_TICK)
    monkeypatch.setattr(connection_module, "close_when_idle", sweeper.close_when_idle)
    yield sweeper
    sweeper.pause()
    assert _is_gone(sweeper)


@pytest.fixture
def short_lived(monkeypatch):
    """Connections may be idle for a moment only."""
    monkeypatch.setattr(connection_module, "_IDLE_SECONDS", 0.05)


def _is_gone(sweeper):
    return sweeper._thread is None or not sweeper._thread.is_alive()


def _until(is_so):
    """Wait for what another thread, or the system, does."""
    tick, end = threading.Event(), time.monotonic() + _WAIT
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        tick.wait(0.002)


def _ask(connection):
    return list(Call(connection, "/api/chat", BODY).lines())


def _open(connection):
    return [each for each in connection._session._transport._pool.connections if not each.is_closed()]


def test_an_idle_connection_is_closed(simulator, sweeper, short_lived):
    connection = Connection.open(simulator.host)
    _ask(connection)
    assert len(_open(connection)) == 1
    _until(lambda: not _open(connection))
    _until(lambda: _is_gone(sweeper))
    assert sweeper._pools == {}


def test_the_server_sees_it_closed(sweeper, short_lived):
    gone = threading.Event()

    class Keeping(HostileServer):
        def _serve(self, peer):
            with peer:
                peer.recv(65536)
                peer.sendall(b"".join(REPLY))
                while peer.recv(65536):
                    pass
                gone.set()

    with Keeping(None) as server:
        connection = Connection.open(server.url)
        _ask(connection)
        assert gone.wait(_WAIT)
        assert _open(connection) == []


def test_one_that_waits_for_its_reply_is_left_alone(simulator, sweeper, short_lived):
    goes_on = threading.Event()
    simulator.reply("one two three", pause=(1, goes_on))
    connection = Connection.open(simulator.host)
    lines = Call(connection, "/api/chat", BODY).lines()
    next(lines)
    looks = _count_looks(sweeper)
    _until(lambda: looks[0] > 20)
    goes_on.set()
    assert [line["done"] for line in lines][-1] is True
    _until(lambda: not _open(connection))


def test_one_that_may_still_be_used_is_kept(simulator, sweeper):
    connection = Connection.open(simulator.host)
    _ask(connection)
    (before,) = _open(connection)
    looks = _count_looks(sweeper)
    _until(lambda: looks[0] > 20)
    _ask(connection)
    assert _open(connection) == [before]


def test_a_connection_that_a_request_may_just_have_got_stays_open_for_a_round():
    class Expired:
        closed = 0

        def is_closed(self):
            return bool(self.closed)

        def is_idle(self):
            return True

        def has_expired(self):
            return True

        def close(self):
            self.closed += 1

    sweeper, pool = IdleConnectionCloser(60), Mock(connections=[Expired(), Expired()])
    known = weakref.ref(pool)
    found = sweeper._close_expired(id(pool), known, set())
    assert found == set(pool.connections)
    assert sweeper._close_expired(id(pool), known, {pool.connections[0]}) == {pool.connections[1]}
    assert [each.closed for each in pool.connections] == [1, 0]


def test_one_that_the_server_has_closed_is_closed_before_its_time(sweeper):
    with HostileServer(lambda _: REPLY) as server:
        connection = Connection.open(server.url)
        _ask(connection)
        _until(lambda: not _open(connection))


def test_the_next_request_after_that_works_and_is_watched_again(simulator, sweeper, short_lived):
    connection = Connection.open(simulator.host)
    for _ in range(3):
        _ask(connection)
        _until(lambda: not _open(connection))


def test_requests_and_closing_at_the_same_time_do_not_disturb_each_other(simulator, sweeper, monkeypatch):
    monkeypatch.setattr(connection_module, "_IDLE_SECONDS", 0.002)
    connection, failed = Connection.open(simulator.host), []

    def work():
        try:
            for _ in range(60):
                # A request may come just when its connection expires (httpcore 1.0), and is made again.
                list(Call(connection, "/api/chat", BODY, policy=retry_policy(max_attempts=5)).lines())
                threading.Event().wait(0.002)
        except Exception as error:  # noqa: BLE001 # looked at below
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_WAIT)
    assert failed == []


def test_one_thread_serves_all_connections(simulator, sweeper, short_lived):
    connections = [Connection.open(simulator.host) for _ in range(5)]
    before = threading.active_count()
    for connection in connections:
        _ask(connection)
    assert [each.name for each in threading.enumerate()].count(THREAD_NAME) >= 1
    assert len({id(sweeper._thread)}) == 1
    for connection in connections:
        _until(lambda connection=connection: not _open(connection))
    _until(lambda: _is_gone(sweeper))
    assert threading.active_count() <= before + 1


def test_what_is_watched_is_not_kept_alive(simulator, sweeper):
    connection = Connection.open(simulator.host)
    _ask(connection)
    pool = weakref.ref(connection._session._transport._pool)
    del connection
    gc.collect()
    _until(lambda: pool() is None)  # it may be looked at right now
    _until(lambda: _is_gone(sweeper))
    assert sweeper._pools == {}


def test_a_client_of_ones_own_keeps_its_own_rules(simulator, sweeper):
    with foreign_client(host=simulator.host) as client:
        _ask(Connection(client))
        assert sweeper._pools == {}


def test_where_no_thread_can_be_started_nothing_fails(simulator, sweeper, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    pool = httpcore.ConnectionPool()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        sweeper.close_when_idle(pool)
    assert sweeper._thread is None
    sweeper.close_when_idle(pool)
    _until(lambda: sweeper._pools == {})


def test_a_process_is_forked_without_the_thread_which_then_goes_on(simulator, sweeper, short_lived):
    connection = Connection.open(simulator.host)
    _ask(connection)
    sweeper.pause()
    assert _is_gone(sweeper)
    _ask(connection)
    assert _is_gone(sweeper)
    sweeper.resume()
    _until(lambda: not _open(connection))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")
def test_forking_right_after_a_call_finds_no_thread_of_ours(simulator):
    connection = Connection.open(simulator.host)
    _ask(connection)
    assert THREAD_NAME in [thread.name for thread in threading.enumerate()]
    if (child := os.fork()) == 0:
        sweeper = idle._closer
        is_fresh = sweeper._thread is None and sweeper._pools == {} and not sweeper._is_pausing.is_set()
        os._exit(0 if is_fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert THREAD_NAME in [thread.name for thread in threading.enumerate()]


def _count_looks(sweeper):
    """Count the rounds from now on."""
    looks, look = [0], sweeper._close_expired

    def counted(*arguments):
        looks[0] += 1
        return look(*arguments)

    sweeper._close_expired = counted
    return looks
