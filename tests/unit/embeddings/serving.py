"""How a server answers embed requests in these tests, and what is asked of it."""

import queue
import threading

from griptape_ollama.testing import Reply
from griptape_ollama.testing.endpoints.embed import embed_text

MODEL = "simulator-embed"
SIZE = 64
"""How many numbers the simulator's vectors have."""
WINDOW = 512
"""Tokens that the simulator's embedding model takes, of four characters each."""


def vector(text, size=SIZE):
    """The vector that the simulator gives for a text, whatever else is in the request."""
    return embed_text(text, size)


def inputs(simulator):
    """The texts of each embed request so far."""
    return [request.body["input"] for request in simulator.requests if request.path == "/api/embed"]


def vectors_of(request):
    """The reply of a server that is well."""
    return Reply(body={"model": MODEL, "embeddings": [vector(text) for text in request.body["input"]]})


def answer_with(simulator, function, *, times=None):
    """Reply by a function of the request: a Reply, or None for the usual one."""
    simulator.reply(lambda request: function(request) or vectors_of(request), path="/api/embed", times=times)


def refuse(simulator, is_bad, **reply):
    """Refuse each request that has a bad text in it."""
    answer_with(simulator, lambda request: Reply(**reply) if any(map(is_bad, request.body["input"])) else None)


def spoil(simulator, is_bad, **bad):
    """Reply with something else than a vector for each bad text."""
    (wrong,) = bad.values()

    def reply(request):
        return Reply(
            body={"embeddings": [wrong if is_bad(text) else vector(text) for text in request.body["input"]]},
        )

    answer_with(simulator, reply)


class Gate:
    """A server that answers on demand."""

    def __init__(self, simulator):
        self._arrived = queue.SimpleQueue()
        self._turns = queue.SimpleQueue()
        self._is_open = False
        answer_with(simulator, self._reply)

    def _reply(self, request):
        go = threading.Event()
        self._turns.put(go)
        self._arrived.put(request.body["input"])
        assert self._is_open or go.wait(60)

    def next(self):
        """Wait for the next request, and return its texts."""
        return self._arrived.get(timeout=30)

    def let_go(self):
        """Answer the request that came first of those that wait."""
        self._turns.get(timeout=30).set()

    def open(self):
        """Answer all requests from now on."""
        self._is_open = True
        while not self._turns.empty():
            self._turns.get().set()
