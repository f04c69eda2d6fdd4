"""The simulator in a process of its own, so that its memory is not counted as the client's."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator

from griptape_ollama.testing import OllamaSimulator, Reply
from griptape_ollama.testing.request_log import RecordedRequest
from soak.cases import FAULTS, FAULTS_SHARE, HELD, text_for


class Answers:
    """Reply function that applies the fault that a prompt names."""

    def __init__(self) -> None:
        self._affected: set[str] = set()

    def __call__(self, request: RecordedRequest) -> Reply:
        number, _, name = request.messages[-1]["content"].partition(" ")
        text = text_for(number)
        if name == HELD:
            return Reply(text=text, pause=(2, threading.Event()))
        if not name or (FAULTS[name].is_once and number in self._affected):
            return Reply(text=text)
        self._affected.add(number)
        return FAULTS[name].reply(text)


def serve() -> None:
    """Serve until the input ends."""
    with OllamaSimulator(num_parallel=64, keep_requests=1) as simulator:
        simulator.reply(Answers(), times=None)
        # Faults of embedding requests are transient; several texts may share a request.
        simulator.fault("status", path="/api/embed", status=503, times=None, probability=FAULTS_SHARE)
        print(simulator.host, flush=True)  # noqa: T201 # read by the other process
        sys.stdin.read()


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run the server, and yield its address."""
    with subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; from soak.server import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
