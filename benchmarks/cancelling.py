"""From `Call.cancel()` to the caller's exception, phase by phase."""

import logging
import threading
import time

from benchmarks.tables import markdown
from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retrying

TRIES = 200
BODY = {"model": "simulator", "messages": [{"role": "user", "content": "Go."}]}


def _cancel_once(call, is_there):
    """Seconds from cancelling the call, once `is_there` says that it waits where it should, to its exception."""
    ended = []

    def caller():
        try:
            for line in call.lines():
                is_there.on_line(line)
        except OllamaCancelledError:
            ended.append(time.perf_counter())

    thread = threading.Thread(target=caller)
    thread.start()
    is_there.wait()
    start = time.perf_counter()
    call.cancel()
    thread.join()
    return ended[0] - start


class _Phase:
    """Says when a call waits in the phase that is measured."""

    def __init__(self, simulator):
        self.simulator = simulator
        self.reached = threading.Event()

    def on_line(self, line):
        pass

    def wait(self):
        assert self.reached.wait(10)
        time.sleep(0.002)  # from the event to the wait behind it


class _Headers(_Phase):
    def __init__(self, simulator):
        super().__init__(simulator)
        self.seen = len(simulator.requests)
        simulator.reply("never", wait=threading.Event())

    def wait(self):
        self.simulator.wait_for_request(self.seen + 1, timeout=10)
        time.sleep(0.002)


class _Streaming(_Phase):
    def __init__(self, simulator):
        super().__init__(simulator)
        simulator.reply("one two three", pause=(2, threading.Event()))

    def on_line(self, line):
        self.reached.set()


class _Retrying(_Phase):
    def __init__(self, simulator):
        super().__init__(simulator)
        simulator.reply(status=503, error="server busy")

    def policy(self):
        return retrying(max_attempts=2, min_delay=30, max_delay=30, after=lambda _: self.reached.set())


def _times(simulator, phase_class, *, is_reused):
    times = []
    connection = Connection.open(simulator.host)
    for _ in range(TRIES):
        if is_reused:
            simulator.reply("Hello.")
            list(Call(connection, "/api/chat", BODY).lines())
        else:
            connection = Connection.open(simulator.host, verify=False)  # no certificates to read: http
        phase = phase_class(simulator)
        policy = phase.policy() if phase_class is _Retrying else None
        times.append(_cancel_once(Call(connection, "/api/chat", BODY, policy=policy), phase))
    return sorted(times)


def table():
    logging.getLogger("griptape_ollama").setLevel(logging.ERROR)  # a warning per try is not what is measured
    rows = []
    with OllamaSimulator() as simulator:
        for name, phase in (
            ("waiting for headers", _Headers),
            ("streaming", _Streaming),
            ("waiting to retry", _Retrying),
        ):
            for is_reused in (False, True):
                times = _times(simulator, phase, is_reused=is_reused)
                p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99) - 1]
                kind = "reused" if is_reused else "new"
                rows.append((name, kind, f"{p50 * 1e3:.2f}", f"{p99 * 1e3:.2f}", f"{times[-1] * 1e3:.2f}"))
    title = f"From Call.cancel() to the caller's exception ({TRIES} tries each, in ms)"
    return markdown(title, ("phase", "connection", "p50", "p99", "longest"), rows)
