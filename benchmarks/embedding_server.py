"""The simulator in a process of its own, so that its CPU time is not the client's: embedding models that cost time."""

import contextlib
import subprocess
import sys
from dataclasses import dataclass

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

NUMBERS = 384
WIDE, WIDE_NUMBERS = "wide", 768
"""A model whose vectors are large, and take no time."""


@dataclass(frozen=True)
class Cost:
    """Seconds that a model takes, on the wall clock."""

    request: float
    text: float

    def of(self, seen):
        return self.request * seen.requests + self.text * seen.texts

    def __str__(self):
        if not self.request and not self.text:
            return "none"
        return f"{self.request * 1e3:g} ms per request and {self.text * 1e3:g} ms per text"


COSTS = {"chunks": Cost(0.005, 0.002), "short-texts": Cost(0.005, 0.0005), "free": Cost(0, 0)}
"""Models by name. A tiny one on two cores was seen to take 3 ms per request and 1.5 ms per short text (server 0.33)."""


@dataclass(frozen=True)
class Seen:
    """What the server was asked for."""

    requests: int
    texts: int


class Server:
    """The server, seen from the benchmark."""

    def __init__(self, process):
        self._process = process
        self.host = process.stdout.readline().strip()

    def seen(self):
        """Return the requests since the last call."""
        print(file=self._process.stdin, flush=True)
        return Seen(*map(int, self._process.stdout.readline().split()))


@contextlib.contextmanager
def running():
    """Start the server."""
    command = [sys.executable, "-m", "benchmarks.embedding_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Server(process)  # it ends when its input does


def _texts(request):
    given = request.body.get("input", request.body.get("prompt"))
    return len(given) if isinstance(given, list) else 1


def _serve():
    models = [
        SimulatedModel(
            name=name,
            capabilities=["embedding"],
            embedding_length=NUMBERS,
            embed_seconds=cost.request,
            embed_seconds_per_text=cost.text,
        )
        for name, cost in COSTS.items()
    ]
    models.append(SimulatedModel(name=WIDE, capabilities=["embedding"], embedding_length=WIDE_NUMBERS))
    with OllamaSimulator(models) as simulator:
        print(simulator.url, flush=True)
        for _ in sys.stdin:
            texts = [_texts(request) for request in simulator.requests if request.path.startswith("/api/embed")]
            simulator.reset()
            print(len(texts), sum(texts), flush=True)


if __name__ == "__main__":
    _serve()
