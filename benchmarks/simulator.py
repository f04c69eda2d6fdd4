"""How much the simulator can take: streamed lines, requests, and how long it takes to start."""

import json
import socket
import statistics
import time
from urllib.parse import urlsplit

from benchmarks.tables import markdown
from griptape_ollama.testing import OllamaSimulator

ROUNDS = 7
LINES = 20_000
REQUESTS = 500
STARTS = 21
BODY = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}


class Client:
    """A client that costs next to nothing: it looks for the end of a response and at nothing else."""

    def __init__(self, url):
        address = urlsplit(url)
        self._socket = socket.create_connection((address.hostname, address.port))

    def ask(self, path, end, **body):
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        self._socket.sendall(head + data)
        tail = b""
        size = 0
        while not tail.endswith(end):
            piece = self._socket.recv(1 << 20)
            assert piece, "the connection closed"
            tail = (tail + piece)[-64:]
            size += len(piece)
        return size

    def close(self):
        self._socket.close()


def _seconds(function):
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


def _median(function, rounds=ROUNDS):
    return statistics.median(_seconds(function) for _ in range(rounds))


def _start():
    """From nothing to the first answer."""
    with OllamaSimulator() as simulator:
        client = Client(simulator.url)
        client.ask("/api/chat", b"}", **BODY, stream=False)
        client.close()


def table():
    with OllamaSimulator() as simulator:
        client = Client(simulator.url)
        simulator.reply(text=[" word"] * LINES, times=None)
        streaming = _median(lambda: client.ask("/api/chat", b"0\r\n\r\n", **BODY))
        simulator.reset()
        simulator.reply("Hello", times=None)

        def ask_often():
            for _ in range(REQUESTS):
                client.ask("/api/chat", b"}", **BODY, stream=False)

        asking = _median(ask_often)
        client.close()
    rows = [
        ("streamed lines per second", f"{LINES / streaming:,.0f}", "20,000"),
        ("chat requests per second, one after the other", f"{REQUESTS / asking:,.0f}", "500"),
        ("start, first answer and stop, in seconds", f"{_median(_start, STARTS):.4f}", "0.3"),
    ]
    return markdown(
        f"Simulator (server and client in one process, median of {ROUNDS})", ("what", "measured", "target"), rows
    )
