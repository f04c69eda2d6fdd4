"""Fixtures for the tests of the simulator: a running one, and functions that send requests to it."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import pytest

HI = [{"role": "user", "content": "hi"}]


@pytest.fixture
def chat():
    """Send a chat request, and return the response of httpx."""

    def send(simulator, text="hi", **body):
        messages = body.pop("messages", [{"role": "user", "content": text}])
        request = {"model": body.pop("model", "simulator"), "messages": messages, **body}
        return httpx.post(f"{simulator.url}/api/chat", json=request, timeout=10)

    return send


@pytest.fixture
def post():
    """Send a JSON request to any path, and return the response of httpx."""

    def send(simulator, path, method="POST", **body):
        return httpx.request(method, f"{simulator.url}{path}", json=body, timeout=10)

    return send


@pytest.fixture
def post_lines(post):
    """Send a JSON request to any path, and return the decoded lines of its response."""

    def send(simulator, path, **body):
        return [json.loads(line) for line in post(simulator, path, **body).text.split("\n") if line]

    return send


@pytest.fixture
def in_background():
    """Run a function in a thread, and return its future."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


@pytest.fixture
def lines(chat):
    """Send a chat request, and return the decoded lines of its reply."""

    def send(simulator, text="hi", **body):
        response = chat(simulator, text, **body)
        assert response.status_code == 200, response.text
        return [json.loads(line) for line in response.text.split("\n") if line]

    return send


@pytest.fixture
def chat_text(lines):
    """Send a chat request, and return the text of its reply."""

    def send(simulator, text="hi", **body):
        return "".join(line["message"]["content"] for line in lines(simulator, text, **body))

    return send


@pytest.fixture
def connect():
    """Open a socket, send a chat request over it, and return the socket."""
    sockets = []

    def send(simulator, **body):
        address = urlsplit(simulator.url)
        connection = socket.create_connection((address.hostname, address.port), timeout=10)
        sockets.append(connection)
        data = json.dumps({"model": "simulator", "messages": HI, **body}).encode()
        head = f"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        connection.sendall(head + data)
        return connection

    yield send
    for connection in sockets:
        connection.close()


@pytest.fixture
def read_all():
    """Read a socket to its end, and return the bytes and whether the connection was reset."""

    def read(connection):
        data = b""
        try:
            while piece := connection.recv(65536):
                data += piece
        except ConnectionResetError:
            return data, True
        return data, False

    return read


@pytest.fixture
def read_until():
    """Read a socket until its data ends with given bytes."""

    def read(connection, end):
        data = b""
        while not data.endswith(end):
            piece = connection.recv(65536)
            assert piece, f"the connection closed after {data!r}"
            data += piece
        return data

    return read


@pytest.fixture
def received_chunks(connect, read_until):
    """Send a chat request, and return the HTTP chunks of the response."""

    def split(simulator):
        data = read_until(connect(simulator), b"0\r\n\r\n")
        rest = data.split(b"\r\n\r\n", 1)[1]
        found = []
        while rest:
            size, rest = rest.split(b"\r\n", 1)
            length = int(size, 16)
            found.append(rest[:length])
            assert rest[length : length + 2] == b"\r\n"
            rest = rest[length + 2 :]
        return found

    return split
