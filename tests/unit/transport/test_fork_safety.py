"""Connections in a forked process."""

import asyncio
import contextlib
import json
import multiprocessing
import os
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
import trustme
from griptape.artifacts import TextArtifact

from griptape_ollama import OllamaError, OllamaPromptDriver
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import ActiveRuns, Run
from unit.transport.clients import foreign_client
from unit.transport.tls_front import TlsFront


def test_runs_of_threads_that_are_gone_are_not_stopped():
    running = ActiveRuns()
    run = Run()
    with running.tracking(run):
        running.start_afresh()
        running.cancel()
    assert not run.cancellation.is_cancelled


_forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
_threads_are_fine = pytest.mark.filterwarnings("ignore:.*use of fork\\(\\) may lead to deadlocks:DeprecationWarning")


class _Echo(ThreadingHTTPServer):
    """Answers each chat with what was said, and remembers over which connection it came."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        echo = self
        self.peers, self.pause = [], 0.0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                echo.peers.append(self.client_address)
                threading.Event().wait(echo.pause)
                said = body["messages"][0]["content"] if "messages" in body else "nothing"
                line = {"message": {"content": said}, "done": True, "done_reason": "stop"}
                answer = json.dumps(line).encode() + b"\n"
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, *_):
        pass


@pytest.fixture
def echo():
    with _Echo() as echo:
        yield echo


class _Logging(httpx.BaseTransport):
    """A transport that wraps another, as people do for logging."""

    def __init__(self, inner):
        self.inner = inner

    def handle_request(self, request):
        return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


def _say(connection, text):
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    (line,) = Call(connection, "/api/chat", body).lines()
    return line["message"]["content"]


def _in_children(work, count):
    """Run `work(n)` in as many forked processes, all at the same moment, and give what they returned."""
    ready, go = os.pipe(), os.pipe()
    children = []
    for number in range(count):
        result = os.pipe()
        if (child := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                os.write(ready[1], b"x")
                os.read(go[0], 1)
                try:
                    answer = work(number)
                except Exception as error:  # noqa: BLE001 # compared by the test
                    answer = repr(error)
                os.write(result[1], str(answer).encode())
            os._exit(0)
        os.close(result[1])
        children.append((child, result[0]))
    received = 0
    while received < count:
        received += len(os.read(ready[0], count))
    os.write(go[1], b"x" * count)
    results = []
    for child, pipe in children:
        with os.fdopen(pipe, "rb") as file:
            results.append(file.read().decode())
        os.waitpid(child, 0)
    for end in (*ready, *go):
        os.close(end)
    return results


def _own(url):
    return contextlib.closing(Connection.open(url))


@contextlib.contextmanager
def _foreign(url, **settings):
    with foreign_client(host=url, **settings) as client:
        yield Connection(client)


_CLIENTS = {
    "ours": _own,
    "a client": _foreign,
    "with a transport": lambda url: _foreign(url, transport=httpx.HTTPTransport()),
    "with a wrapped transport": lambda url: _foreign(url, transport=_Logging(_Logging(httpx.HTTPTransport()))),
    "with mounts": lambda url: _foreign(url, mounts={"http://": httpx.HTTPTransport()}),
    "with one place in its pool": lambda url: _foreign(url, limits=httpx.Limits(max_connections=1)),
}


@_forks
@_threads_are_fine
class TestConnections:
    @pytest.mark.parametrize("kind", _CLIENTS)
    def test_no_answer_goes_to_another_process(self, echo, kind):
        with _CLIENTS[kind](echo.url) as connection:
            assert _say(connection, "before") == "before"
            echo.pause = 0.05
            results = _in_children(lambda number: [_say(connection, f"{number} {turn}") for turn in "ab"], 4)
            assert results == [str([f"{number} a", f"{number} b"]) for number in range(4)]
            assert _say(connection, "after") == "after"
            assert echo.peers[0] == echo.peers[-1], "the first process goes on with its connection"
            assert len(set(echo.peers)) == 5

    def test_none_does_through_a_proxy(self, echo):
        """A forward proxy has the same manners as a server here."""
        with _foreign("http://gpu.example", proxy=echo.url) as connection:
            assert _say(connection, "before") == "before"
            echo.pause = 0.05
            assert _in_children(lambda number: _say(connection, str(number)), 4) == ["0", "1", "2", "3"]

    def test_calls_of_other_threads_continue_in_the_parent_and_do_no_harm_in_the_children(self, echo):
        echo.pause = 0.3
        with _foreign(echo.url, limits=httpx.Limits(max_connections=2)) as connection, ThreadPoolExecutor(6) as pool:
            running = [pool.submit(_say, connection, f"thread {n}") for n in range(6)]
            while len(echo.peers) < 2:
                threading.Event().wait(0.002)
            # All places of the pool are taken, and four requests wait for one.
            results = _in_children(lambda number: _say(connection, str(number)), 3)
            assert results == ["0", "1", "2"]
            assert [each.result(30) for each in running] == [f"thread {n}" for n in range(6)]

    def test_a_thread_may_fork(self, echo):
        with _foreign(echo.url) as connection, ThreadPoolExecutor(1) as pool:
            _say(connection, "before")
            forked = pool.submit(_in_children, lambda number: _say(connection, str(number)), 3)
            assert [_say(connection, str(n)) for n in range(20)] == [str(n) for n in range(20)]
            assert forked.result(30) == ["0", "1", "2"]

    def test_a_lock_that_another_thread_holds_is_not_waited_for(self, echo):
        with _foreign(echo.url) as connection:
            _say(connection, "before")
            with connection._session._transport._pool._optional_thread_lock, ThreadPoolExecutor(1) as pool:
                assert pool.submit(_in_children, lambda number: _say(connection, str(number)), 1).result(30) == ["0"]

    def test_a_reply_that_is_being_read_stays_with_the_first_process(self, simulator):
        goes_on = threading.Event()
        simulator.reply("one two three", pause=(1, goes_on))
        with _foreign(simulator.url) as connection:
            body = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}]}
            lines = Call(connection, "/api/chat", body).lines()
            next(lines)

            def read_on(_):
                try:
                    return list(lines)
                except OllamaError as error:
                    return type(error).__name__

            assert _in_children(read_on, 1) == ["OllamaStreamError"]
            goes_on.set()
            assert [line["done"] for line in lines][-1] is True

    def test_nothing_is_sent_when_connections_are_forgotten_over_tls(self, echo):
        """The first process would find its connection ended."""
        context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
        authority.issue_cert("127.0.0.1").configure_cert(context)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        with (
            TlsFront(context, echo.url) as port,
            _foreign(f"https://127.0.0.1:{port}", verify=trusting) as connection,
        ):
            assert _say(connection, "before") == "before"
            assert _in_children(lambda number: _say(connection, str(number)), 2) == ["0", "1"]
            assert _say(connection, "after") == "after"
            assert echo.peers[0] == echo.peers[-1]
            assert len(set(echo.peers)) == 3

    def test_drivers_with_a_client_of_ones_own_do_not_mix_answers_up(self, echo):
        with foreign_client(host=echo.url) as client:
            driver = OllamaPromptDriver(model="m", client=client, max_attempts=1)
            driver.run(TextArtifact("before"))
            echo.pause = 0.05

            def work(number):
                answer = driver.run(TextArtifact(str(number))).to_text()
                return answer + asyncio.run(driver.arun(TextArtifact(f"{number} async"))).to_text()

            assert _in_children(work, 3) == [f"{n}{n} async" for n in range(3)]

    def test_multiprocessing_works_too(self, echo):
        with _foreign(echo.url) as connection:
            _say(connection, "before")
            echo.pause = 0.02
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            workers = [context.Process(target=_put_answer, args=(queue, connection, n)) for n in range(4)]
            for worker in workers:
                worker.start()
            assert sorted(queue.get(timeout=30) for _ in workers) == ["0", "1", "2", "3"]
            for worker in workers:
                worker.join()
            queue.close()
            queue.join_thread()


def _put_answer(queue, connection, number):
    queue.put(_say(connection, str(number)))
