"""From cancelling to the caller's exception, and to the server having seen the disconnect, phase by phase."""

import asyncio
import contextlib
import logging
import socket
import threading
import time
from typing import ClassVar

from griptape.artifacts import TextArtifact
from griptape.events import EventListener, TextChunkEvent

from benchmarks.tables import markdown
from griptape_ollama import OllamaCancelledError, OllamaPromptDriver, cancel_scope
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.concurrency import SlotRequest, slots_of
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.retry import retry_policy

TRIES = 200
BODY = {"model": "simulator", "messages": [{"role": "user", "content": "Go."}]}
PROMPT = TextArtifact("Go.")


def _wait_until(is_so):
    for _ in range(2000):
        if is_so():
            time.sleep(0.002)
            return
        time.sleep(0.001)
    raise AssertionError("the phase was not reached")


class _Phase:
    """Says when a call waits in the phase that is measured."""

    name = ""
    has_connection = True
    is_before_connecting = False
    settings: ClassVar = {}

    def __init__(self, simulator):
        self.simulator = simulator
        self.host = simulator.host
        self.reached = threading.Event()

    def wait(self):
        assert self.reached.wait(10)
        time.sleep(0.002)  # from the event to the wait behind it

    def end(self):
        """Tidy up."""


class _Connecting(_Phase):
    """An address that neither accepts nor refuses: the queue of its listener is full."""

    name = "connecting"
    has_connection = False
    is_before_connecting = True

    def __init__(self, simulator):
        super().__init__(simulator)
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=0)]
        address = self.sockets[0].getsockname()
        for _ in range(4):
            self.sockets.append(socket.socket())
            self.sockets[-1].setblocking(False)
            self.sockets[-1].connect_ex(address)
        self.host = f"http://127.0.0.1:{address[1]}"
        self.earlier = self.connecting()

    def wait(self):
        _wait_until(lambda: self.connecting() - self.earlier)

    @staticmethod
    def connecting():
        return {each for each in threading.enumerate() if each.name == "griptape-ollama-connect"}

    def end(self):
        # Those who were stopped go on until the system gives up.
        for each in self.sockets:
            each.close()


class _Queueing(_Phase):
    name = "waiting for a slot"
    has_connection = False
    is_before_connecting = True
    settings: ClassVar = {"max_concurrency": 1}

    def __init__(self, simulator):
        super().__init__(simulator)
        self.slots, self.taken = slots_of(simulator.host), SlotRequest(1, lambda: None)
        self.slots.enter(self.taken)

    def wait(self):
        _wait_until(lambda: self.slots.waiting)

    def end(self):
        self.slots.leave(self.taken)


class _Headers(_Phase):
    name = "waiting for headers"

    def __init__(self, simulator):
        super().__init__(simulator)
        self.seen = len(simulator.chats)
        simulator.reply("never", wait=threading.Event())

    def wait(self):
        self.simulator.wait_for_request(self.seen + 1, timeout=10, path="/api/chat")
        time.sleep(0.002)


class _Streaming(_Phase):
    name = "streaming"

    def __init__(self, simulator):
        super().__init__(simulator)
        simulator.reply("one two three", pause=(2, threading.Event()))


class _Retrying(_Phase):
    name = "waiting to retry"
    has_connection = False

    def __init__(self, simulator):
        super().__init__(simulator)
        simulator.reply(status=503, error="server busy")


class _InThread:
    """Something that is called in a thread, and cancelled from this one.

    Each way of calling has `prepare(host)`, `warm()` on the connection that the measured call is to use, `call(phase)`
    and `cancel()`.
    """

    ended = 0.0

    def begin(self, phase):
        self.thread = threading.Thread(target=self._run, args=(phase,))
        self.thread.start()

    def _run(self, phase):
        with contextlib.suppress(OllamaCancelledError):
            self.call(phase)
        self.ended = time.monotonic()

    def end(self):
        self.thread.join()


class _ByCall(_InThread):
    name = "Call.cancel()"

    def prepare(self, host, **settings):
        self.connection = Connection.open(host, verify=False, **settings)  # no certificates to read: http

    def warm(self):
        list(Call(self.connection, "/api/chat", BODY).lines())

    def begin(self, phase):
        policy = retry_policy(max_attempts=2, min_delay=30, max_delay=30, after=lambda _: phase.reached.set())
        self.running = Call(self.connection, "/api/chat", BODY, policy=policy)
        super().begin(phase)

    def call(self, phase):
        for _ in self.running.lines():
            phase.reached.set()

    def cancel(self):
        self.running.cancel()


class _ByScope(_InThread):
    name = "scope.cancel(), `driver.run`"

    def prepare(self, host, **settings):
        settings |= {"min_retry_delay": 30, "max_retry_delay": 30}
        self.driver = OllamaPromptDriver(model="simulator", host=host, stream=True, verify=False, **settings)

    def warm(self):
        self.driver.run(PROMPT)

    def begin(self, phase):
        self.driver.after_hook = lambda _: phase.reached.set()
        self.scope = cancel_scope()
        super().begin(phase)

    def call(self, phase):
        with self.scope, EventListener(lambda _: phase.reached.set(), event_types=[TextChunkEvent]):
            self.driver.run(PROMPT)

    def cancel(self):
        self.scope.cancel()


class _ByTask(_ByScope):
    name = "task.cancel(), `await driver.arun`"

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def begin(self, phase):
        self.driver.after_hook = lambda _: phase.reached.set()
        self.future = asyncio.run_coroutine_threadsafe(self._main(phase), self.loop)

    async def _main(self, phase):
        self.task = asyncio.current_task()
        with EventListener(lambda _: phase.reached.set(), event_types=[TextChunkEvent]):
            try:
                await self.driver.arun(PROMPT)
            except asyncio.CancelledError:
                self.ended = time.monotonic()

    def cancel(self):
        self.loop.call_soon_threadsafe(self.task.cancel)

    def end(self):
        self.future.result(10)


def _tries(simulator, way, phase_class, *, is_reused):
    """Seconds to the exception, and to the disconnect, of each try."""
    callers, servers = [], []
    way.prepare(simulator.host, **phase_class.settings)
    way.warm()  # facts about the model are asked once
    for _ in range(TRIES):
        if is_reused:
            way.warm()
        gone = len(simulator.disconnects)
        phase = phase_class(simulator)
        if not is_reused:
            way.prepare(phase.host, **phase.settings)
        way.begin(phase)
        phase.wait()
        start = time.monotonic()
        way.cancel()
        way.end()
        callers.append(way.ended - start)
        if phase.has_connection:
            servers.append(simulator.wait_for_disconnect(n=gone + 1) - start)
        phase.end()
    return callers, servers


def _summary(times):
    if not times:
        return ("no connection", "", "")
    times = sorted(times)
    return tuple(f"{each * 1e3:.2f}" for each in (times[len(times) // 2], times[int(len(times) * 0.99) - 1], times[-1]))


def table():
    for name in ("griptape_ollama", "griptape"):
        logging.getLogger(name).setLevel(logging.ERROR)  # a warning per try is not what is measured
    rows = []
    with OllamaSimulator() as simulator:
        for way in (_ByCall(), _ByScope(), _ByTask()):
            for phase in (_Queueing, _Connecting, _Headers, _Streaming, _Retrying):
                for is_reused in (False,) if phase.is_before_connecting else (False, True):
                    callers, servers = _tries(simulator, way, phase, is_reused=is_reused)
                    kind = "none yet" if phase.is_before_connecting else "reused" if is_reused else "new"
                    rows.append((way.name, phase.name, kind, *_summary(callers), *_summary(servers)))
    head = ("how", "phase", "connection", "caller p50", "p99", "longest", "server p50", "p99", "longest")
    title = f"From cancelling to the caller's exception, and until the server notices it ({TRIES} tries each, in ms)"
    return markdown(title, head, rows)
