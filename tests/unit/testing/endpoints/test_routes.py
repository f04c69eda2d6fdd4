"""Routes and disconnects."""

import socket
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

TEXT = "one two three four"

NEVER = threading.Event()


@pytest.mark.parametrize(
    "fields",
    [{"wait": NEVER}, {"pause": (1, NEVER)}, {"headers_delay": 60}, {"line_delay": 60}],
    ids=["wait", "pause", "headers_delay", "line_delay"],
)
def test_a_disconnect_is_recorded_at_once(simulator, connect, fields):
    simulator.reply(TEXT, **fields)
    connection = connect(simulator)
    simulator.wait_for_request()
    connection.close()
    went = time.monotonic()
    assert simulator.wait_for_disconnect(timeout=30) - went < 30
    assert len(simulator.disconnects) == 1


def test_a_disconnect_during_an_endless_reply_is_recorded(simulator, connect):
    simulator.reply(text=["x" * 1000] * 100_000)
    connection = connect(simulator)
    connection.recv(1000)
    connection.close()
    simulator.wait_for_disconnect()


def test_a_complete_reply_is_not_a_disconnect(simulator, chat):
    chat(simulator)
    simulator.reply(TEXT, cut=1)
    with pytest.raises(httpx.RemoteProtocolError):
        chat(simulator)
    with pytest.raises(TimeoutError, match=r"0 of 1 disconnects were seen in 0\.05 s"):
        simulator.wait_for_disconnect(0.05)


def test_a_client_that_expects_100_continue_receives_it(simulator, read_until):
    address = urlsplit(simulator.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        body = b'{"model": "simulator"}'
        head = f"POST /api/show HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n")
        assert read_until(connection, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
