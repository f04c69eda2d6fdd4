"""Keepalive of the connections that are opened, and the options of a user's own."""

import socket
import threading

import httpcore
import httpx
import ollama
import pytest

from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport import tcp_keepalive
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from unit.hostile import HEAD, HostileServer, chunk

LINE = b'{"message":{"content":"x"},"done":true,"done_reason":"stop"}\n'
linux_only = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


def _socket_of(connection):
    """The socket of the one connection that is kept."""
    (kept,) = [kept for pool in connection._own_pools or _pools(connection) for kept in pool.connections]
    while not hasattr(kept, "_network_stream"):
        kept = kept._connection
    return kept._network_stream.get_extra_info("socket")


def _pools(connection):
    return [connection._session._transport._pool]


def _ask(connection, content="hi"):
    body = {"model": "simulator", "messages": [{"role": "user", "content": content}]}
    return list(Call(connection, "/api/chat", body).lines())


def _option(sock, name):
    return sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


def _assert_kept_alive(sock):
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert _option(sock, "TCP_NODELAY")
    if hasattr(socket, "TCP_KEEPIDLE"):
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")
        assert [_option(sock, name) for name in names] == [60, 20, 3]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        assert _option(sock, "TCP_USER_TIMEOUT") == 120_000


def test_a_connection_is_kept_alive(simulator):
    connection = Connection.open(simulator.url)
    _ask(connection)
    _assert_kept_alive(_socket_of(connection))


def test_so_is_one_to_a_proxy(monkeypatch):
    answer = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LINE), LINE]
    waiting, done = [], threading.Event()

    class Keeping(HostileServer):
        def _serve(self, peer):
            with peer:
                waiting.append(peer.recv(65536))
                peer.sendall(b"".join(answer))
                done.wait(30)

    with Keeping(None) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        connection = Connection.open("http://gpu.example")
        _ask(connection)
        _assert_kept_alive(_socket_of(connection))
        connection.close()
        done.set()


def test_so_is_one_of_a_client_of_ones_own(simulator):
    client = ollama.Client(host=simulator.url)
    connection = Connection(client)
    _ask(connection)
    _assert_kept_alive(_socket_of(connection))
    connection.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system names its options otherwise")
def test_options_of_ones_own_win(simulator):
    options = [
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 7),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 9000),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),
    ]
    transport = httpx.HTTPTransport(socket_options=options)
    connection = Connection(ollama.Client(host=simulator.url, transport=transport))
    _ask(connection, "x" * 100_000)
    sock = _socket_of(connection)
    assert _option(sock, "TCP_KEEPIDLE") == 7
    assert _option(sock, "TCP_KEEPINTVL") == 20
    assert _option(sock, "TCP_USER_TIMEOUT") == 9000
    connection.close()


def test_keepalive_can_be_switched_off(simulator):
    transport = httpx.HTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)])
    connection = Connection(ollama.Client(host=simulator.url, transport=transport))
    _ask(connection)
    assert not _socket_of(connection).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    connection.close()


def test_a_backend_of_ones_own_opens_its_connections_itself(simulator):
    class Backend(httpcore.SyncBackend):
        asked = 0

        def connect_tcp(self, *arguments, **keywords):
            self.asked += 1
            return super().connect_tcp(*arguments, **keywords)

    client, backend = ollama.Client(host=simulator.url), Backend()
    client._client._transport._pool._network_backend = backend
    connection = Connection(client)
    _ask(connection)
    assert backend.asked == 1
    connection.close()


def test_an_option_that_the_system_refuses_is_left_out(monkeypatch):
    refused = (socket.IPPROTO_TCP, 9999, 1)
    monkeypatch.setattr(tcp_keepalive, "OPTIONS", (refused, *tcp_keepalive.OPTIONS))
    with socket.socket() as sock:
        tcp_keepalive.set_socket_options(sock, None)
        _assert_kept_alive(sock)


@linux_only
def test_a_server_that_does_not_read_a_large_request_yet_is_waited_for(monkeypatch):
    """A proxy may let a request wait in its queue; Linux would count that as silence."""
    monkeypatch.setattr(tcp_keepalive, "_GONE_MILLISECONDS", 300)
    options = [each for each in tcp_keepalive.OPTIONS if each[1] != socket.TCP_USER_TIMEOUT]
    monkeypatch.setattr(tcp_keepalive, "OPTIONS", (*options, (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)))

    class Queueing(HostileServer):
        def _serve(self, peer):
            with peer:
                threading.Event().wait(1.5)  # several times the limit, as the system counts it
                received = b""
                while not received.endswith(b"}]}"):
                    received += peer.recv(1 << 20)
                peer.sendall(HEAD + b"\r\n" + chunk(LINE) + chunk(b""))
                peer.recv(1)

    with Queueing(None) as server:
        connection = Connection.open(server.url)
        assert _ask(connection, "x" * 8_000_000)
        assert _option(_socket_of(connection), "TCP_USER_TIMEOUT") == 300
        connection.close()
