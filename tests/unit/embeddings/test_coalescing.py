"""Calls of several threads in one request."""

import contextvars
import dataclasses
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.embeddings import coalescing
from griptape_ollama.embeddings.coalescing import Coalescer
from griptape_ollama.embeddings.spec import BatchLimits
from griptape_ollama.errors import (
    OllamaCancelledError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaTimeoutError,
)
from griptape_ollama.transport.cancel_scope import CancelScope
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout
from unit.embeddings.serving import inputs, refuse, vector

_PAUSE = 0.01
_LONG = 60.0
"""A pause that no test waits for: what goes before its end went for another reason."""


@pytest.fixture
def coalescer():
    return Coalescer()


@pytest.fixture
def joined(monkeypatch):
    """Counts the calls that wait for a shared request."""
    joined = threading.Semaphore(0)
    join = coalescing._Group.join

    def counted(*arguments):
        waiter = join(*arguments)
        joined.release()
        return waiter

    monkeypatch.setattr(coalescing._Group, "join", counted)
    return joined


@pytest.fixture
def clock(monkeypatch):
    """Time as the module sees it; it stands still until a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(coalescing, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def call(coalescer, spec):
    """Calls the coalescer in a thread, and returns the future."""
    with ThreadPoolExecutor(16) as pool:

        def call(text, *, pause=_LONG, replied=lambda _: None, run=None, context=None, **settings):
            changed = dataclasses.replace(spec, **settings)

            def embed():
                own = run or _run_of(changed)
                return coalescer.embed(Passage("", text), changed, own, pause=pause, replied=replied)

            return pool.submit(embed if context is None else functools.partial(context.run, embed))

        yield call


@pytest.fixture
def busy(gate, call, joined):
    """A group with a request for `a` and `b` under way, so that further calls wait; returns the futures of these."""
    two = BatchLimits(texts=2, characters=1000)
    lone = call("lone", batches=two)
    assert gate.next() == ["lone"]
    futures = [call(text, batches=two) for text in "ab"]
    assert sorted(gate.next()) == ["a", "b"]
    gate.let_go()
    assert lone.result(30) == vector("lone")
    for _ in futures:
        assert joined.acquire(timeout=30)
    yield futures
    gate.open()


def _run_of(spec):
    return Run(spec.limits, host=spec.connection.base_url, model=spec.model)


def _await_joined(joined, count):
    for _ in range(count):
        assert joined.acquire(timeout=30)


class TestAlone:
    def test_a_lone_call_is_sent_at_once_in_its_own_thread(self, simulator, coalescer, spec):
        threads = []
        for text in ("one", "two"):
            found = coalescer.embed(
                Passage("", text), spec, Run(), pause=_LONG, replied=lambda _: threads.append(threading.get_ident())
            )
            assert found == vector(text)
        assert threads == [threading.get_ident()] * 2
        assert inputs(simulator) == [["one"], ["two"]]
        assert coalescer._groups == {}

    def test_a_lone_call_that_fails_raises_or_returns_its_error(self, simulator, coalescer, spec):
        refuse(simulator, lambda text: text == "bad", status=400, error="no")
        bad = coalescer.embed(Passage("", "bad"), spec, Run(), pause=_LONG, replied=lambda _: None)
        assert type(bad) is OllamaResponseError
        missing = dataclasses.replace(spec, body={"model": "nope"})
        with pytest.raises(OllamaModelNotFoundError):
            coalescer.embed(Passage("", "a"), missing, Run(), pause=_LONG, replied=lambda _: None)

    def test_a_call_is_alone_again_after_a_while_without_other_calls(self, coalescer, spec, call, clock):
        assert call("other").result(30) == vector("other")
        clock.now += coalescing.RECENT_SECONDS + 0.001
        coalescer.embed(Passage("", "a"), spec, Run(), pause=_LONG, replied=lambda _: None)
        assert coalescer._groups == {}


class TestTogether:
    def test_calls_wait_until_the_request_is_full(self, simulator, gate, call, joined):
        lone = call("lone")
        gate.next()
        others = [call(text, batches=BatchLimits(texts=5, characters=1000)) for text in "abcde"]
        _await_joined(joined, 5)
        gate.open()
        assert [future.result(30) for future in others] == [vector(text) for text in "abcde"]
        assert lone.result(30) == vector("lone")
        assert sorted(inputs(simulator)[1]) == list("abcde")
        assert len(inputs(simulator)) == 2

    def test_a_request_is_full_of_characters_too(self, simulator, gate, busy, call, joined):
        futures = [
            call(text, batches=BatchLimits(texts=64, characters=10), pause=_PAUSE) for text in ("aaaa", "bbbb", "cccc")
        ]
        _await_joined(joined, 3)
        gate.open()
        assert [future.result(30) for future in futures] == [vector("aaaa"), vector("bbbb"), vector("cccc")]
        assert [len(texts) for texts in inputs(simulator)] == [1, 2, 2, 1]

    def test_calls_during_a_request_share_the_next_one(self, simulator, gate, busy, call, joined):
        later = [call(text, pause=_PAUSE) for text in "cdefg"]
        _await_joined(joined, 5)
        assert len(inputs(simulator)) == 2
        gate.open()
        assert [future.result(30) for future in [*busy, *later]] == [vector(text) for text in "abcdefg"]
        assert sorted(inputs(simulator)[2]) == list("cdefg")
        assert len(inputs(simulator)) == 3

    def test_no_call_waits_longer_than_the_pause(self, simulator, gate, call, joined):
        lone = call("lone")
        gate.next()
        other = call("other", pause=_PAUSE)
        assert gate.next() == ["other"]
        gate.open()
        assert (lone.result(30), other.result(30)) == (vector("lone"), vector("other"))

    def test_no_call_waits_once_all_expected_calls_are_there(self, simulator, coalescer, spec, clock):
        def embed(text, pause):
            return coalescer.embed(Passage("", text), spec, Run(), pause=pause, replied=lambda _: None)

        def twice(text):
            embed(text, _PAUSE)
            start.wait(30)
            return embed(text.upper(), _LONG)

        start = threading.Barrier(3)
        with ThreadPoolExecutor(3) as pool:
            futures = [pool.submit(twice, text) for text in "abc"]
            assert [future.result(30) for future in futures] == [vector(text) for text in "ABC"]
        assert sorted(inputs(simulator)[-1]) == ["A", "B", "C"]

    def test_specs_that_differ_do_not_share_a_request(self, simulator, gate, call, joined, spec):
        call("lone")
        gate.next()
        bodies = [{**spec.body, "keep_alive": seconds} for seconds in (1, 2)]
        futures = [
            call(f"{text}{body['keep_alive']}", body=body, batches=BatchLimits(texts=3, characters=1000))
            for text in "abc"
            for body in bodies
        ]
        _await_joined(joined, 6)
        gate.open()
        assert [future.result(30) for future in futures] == [vector(f"{text}{n}") for text in "abc" for n in (1, 2)]
        shared = [request.body for request in simulator.requests if request.path == "/api/embed"][1:]
        assert sorted((body["keep_alive"], sorted(body["input"])) for body in shared) == [
            (1, ["a1", "b1", "c1"]),
            (2, ["a2", "b2", "c2"]),
        ]

    def test_callers_with_other_headers_do_not_share_a_request(self, simulator, gate, call, joined, spec):
        tenant = contextvars.ContextVar("tenant")
        connection = Connection.open(simulator.host, headers=lambda: {"X-Tenant": tenant.get()})

        def call_of(name, text):
            context = contextvars.copy_context()
            context.run(tenant.set, name)
            settings = {"connection": connection, "batches": BatchLimits(texts=3, characters=1000)}
            return call(f"{text} of {name}", context=context, **settings)

        lone = call_of("ada", "lone")
        gate.next()
        futures = [call_of(name, text) for text in "abc" for name in ("ada", "bob")]
        _await_joined(joined, 6)
        gate.open()
        found = [future.result(30) for future in [lone, *futures]]
        names = [f"{text} of {name}" for text in "abc" for name in ("ada", "bob")]
        assert found == [vector(text) for text in ["lone of ada", *names]]
        asked = [request for request in simulator.requests if request.path == "/api/embed"][1:]
        assert sorted((request.headers["X-Tenant"], sorted(request.body["input"])) for request in asked) == [
            ("ada", ["a of ada", "b of ada", "c of ada"]),
            ("bob", ["a of bob", "b of bob", "c of bob"]),
        ]
        connection.close()

    def test_the_scope_of_the_first_caller_does_not_cancel_the_rest(self, simulator, gate, call, joined):
        connection = Connection.open(simulator.host, headers=lambda: {"X-Token": "one"})
        scope, settings = CancelScope(), {"connection": connection, "batches": BatchLimits(texts=2, characters=1000)}
        lone = call("lone", **settings)
        gate.next()
        with scope:
            inside = contextvars.copy_context()
        others = [call(text, context=context, **settings) for text, context in (("a", inside), ("b", None))]
        _await_joined(joined, 2)
        gate.next()
        scope.cancel()
        gate.open()
        assert isinstance(others[0].exception(30), OllamaCancelledError)
        assert (lone.result(30), others[1].result(30)) == (vector("lone"), vector("b"))
        connection.close()

    def test_headers_that_fail_are_an_error_of_their_caller_only(self, simulator, gate, call, joined):
        def fail():
            raise LookupError("no token")

        lone = call("lone")
        gate.next()
        connection = Connection.open(simulator.host, headers=fail)
        assert isinstance(call("other", connection=connection).exception(30), LookupError)
        gate.open()
        assert lone.result(30) == vector("lone")
        connection.close()

    def test_each_reply_is_reported_by_one_caller(self, simulator, gate, busy, call, joined):
        told = []
        futures = [call(text, pause=_PAUSE, replied=lambda reply: told.append(reply[0])) for text in "cde"]
        _await_joined(joined, 3)
        gate.open()
        for future in [*busy, *futures]:
            future.result(30)
        assert told == [3]


class TestErrors:
    def test_an_error_about_one_text_is_raised_in_its_caller_only(self, simulator, call, joined):
        hold = threading.Event()
        simulator.reply(path="/api/embed", body={"embeddings": [vector("lone")]}, wait=hold)
        refuse(simulator, lambda text: text == "c", status=400, error="no")
        lone = call("lone")
        simulator.wait_for_request(path="/api/embed")
        futures = {text: call(text, batches=BatchLimits(texts=4, characters=1000)) for text in "abcd"}
        outcomes = {text: future.result(30) for text, future in futures.items()}
        hold.set()
        assert lone.result(30) == vector("lone")
        assert type(outcomes.pop("c")) is OllamaResponseError
        assert outcomes == {text: vector(text) for text in "abd"}

    def test_an_error_about_all_texts_is_raised_in_each_caller_as_its_own_exception(
        self, simulator, gate, busy, call, joined
    ):
        futures = [call(text, pause=_PAUSE) for text in "cde"]
        _await_joined(joined, 3)
        simulator.fault("status", path="/api/embed", status=503, error="server busy")
        gate.open()
        errors = [future.result(30) for future in futures]
        assert [str(error) for error in errors] == [str(errors[0])] * 3
        assert "server busy" in str(errors[0])
        assert len({id(error) for error in errors}) == 3
        assert [future.result(30) for future in busy] == [vector("a"), vector("b")]

    def test_a_bug_leaves_no_caller_waiting(self, gate, busy, call, joined, monkeypatch):
        def fail(*_):
            monkeypatch.undo()
            raise MemoryError("bug")

        futures = [call(text, pause=_PAUSE) for text in "cde"]
        _await_joined(joined, 3)
        monkeypatch.setattr(coalescing.Embedder, "embed", fail)
        gate.open()
        for future in futures:
            error = future.result(30)
            assert type(error) is OllamaError
            assert "bug" in str(error)
            assert isinstance(error.__cause__, MemoryError)
        assert [future.result(30) for future in busy] == [vector("a"), vector("b")]
        assert call("f", pause=_PAUSE).result(30) == vector("f")


class TestLeaving:
    def test_a_cancelled_caller_does_not_affect_the_rest(self, simulator, gate, busy, call, joined):
        runs = [Run() for _ in range(3)]
        futures = [call(text, run=run, batches=BatchLimits(3, 1000)) for text, run in zip("cde", runs, strict=True)]
        _await_joined(joined, 3)
        gate.let_go()
        assert sorted(gate.next()) == ["c", "d", "e"]
        runs[1].cancel()
        with pytest.raises(OllamaCancelledError):
            futures[1].result(30)
        gate.open()
        assert [futures[0].result(30), futures[2].result(30)] == [vector("c"), vector("e")]
        assert simulator.disconnects == []

    def test_the_request_is_cancelled_with_its_last_caller(self, simulator, gate, busy, call, joined):
        runs = [Run() for _ in range(3)]
        futures = [call(text, run=run, batches=BatchLimits(3, 1000)) for text, run in zip("cde", runs, strict=True)]
        _await_joined(joined, 3)
        gate.let_go()
        gate.next()
        for run, future in zip(runs, futures, strict=True):
            assert simulator.disconnects == []
            run.cancel()
            with pytest.raises(OllamaCancelledError):
                future.result(30)
        simulator.wait_for_disconnect()

    def test_a_caller_that_was_cancelled_before_the_request_is_not_in_it(self, simulator, gate, busy, call, joined):
        run = Run()
        gone = call("gone", run=run)
        stays = call("stays", pause=_PAUSE)
        _await_joined(joined, 2)
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            gone.result(30)
        gate.open()
        assert stays.result(30) == vector("stays")
        assert ["stays"] in inputs(simulator)
        assert not any("gone" in texts for texts in inputs(simulator))

    def test_nothing_is_sent_if_all_callers_were_cancelled_before(self, simulator, gate, busy, call, joined):
        run = Run()
        gone = call("gone", run=run, pause=_PAUSE)
        _await_joined(joined, 1)
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            gone.result(30)
        gate.open()
        for future in busy:
            future.result(30)
        assert call("later", pause=_PAUSE).result(30) == vector("later")
        assert not any("gone" in texts for texts in inputs(simulator))

    def test_a_cancelled_run_does_not_wait(self, gate, busy, call, joined):
        run = Run()
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            call("gone", run=run).result(30)

    def test_each_caller_has_its_own_total_limit(self, simulator, gate, busy, call, joined):
        patient = call("patient", batches=BatchLimits(2, 1000))
        _await_joined(joined, 1)
        hasty = call("hasty", batches=BatchLimits(2, 1000), limits=OllamaTimeout(total=0.2))
        _await_joined(joined, 1)
        gate.let_go()
        with pytest.raises(OllamaTimeoutError, match=r"longer than 0.2 s in all \(limit: total\)") as late:
            hasty.result(30)
        assert (late.value.limit, late.value.seconds) == ("total", 0.2)
        assert (late.value.host, late.value.model) == (simulator.url, "simulator-embed")
        gate.open()
        assert patient.result(30) == vector("patient")

    def test_a_shared_request_has_no_total_limit(self, spec):
        limited = dataclasses.replace(spec, limits=OllamaTimeout(first_token=7, total=0.2))
        request = coalescing._SharedRequest([], limited)
        assert request._run.limits == request._spec.limits == OllamaTimeout(first_token=7, total=None)

    def test_a_call_that_is_cancelled_as_its_request_ends_is_cancelled(self, spec):
        class Ending(coalescing._PendingCall):
            """A call whose request ends as soon as it was read."""

            @property
            def request(self):
                request, self._request = self._request, None
                return request

            @request.setter
            def request(self, request):
                self._request = request

        call = Ending(Passage("", "a"))
        coalescing._SharedRequest([call], spec)
        run = Run()
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            call.wait(run)

    def test_a_reply_is_reported_by_a_caller_that_still_waits(self, gate, busy, call, joined):
        told = []
        run = Run()
        gone = call("gone", run=run, batches=BatchLimits(2, 1000))
        _await_joined(joined, 1)
        stays = call("stays", batches=BatchLimits(2, 1000), replied=lambda reply: told.append(reply[0]))
        _await_joined(joined, 1)
        gate.let_go()
        assert gate.next() == ["gone", "stays"]
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            gone.result(30)
        gate.open()
        assert stays.result(30) == vector("stays")
        assert told == [2]


@pytest.fixture
def earlier_threads():
    """Threads that are there before the test."""
    return set(threading.enumerate())


def test_the_thread_of_a_group_ends_without_calls(earlier_threads, coalescer, busy, gate, call):
    mine = set(threading.enumerate()) - earlier_threads
    (worker,) = [thread for thread in mine if thread.name == "griptape-ollama-embed"]
    gate.open()
    for future in busy:
        future.result(30)
    worker.join(30)
    assert not worker.is_alive()
    assert coalescer._groups == {}
    assert call("later", pause=_PAUSE).result(30) == vector("later")


def test_threads_that_no_longer_call_are_forgotten(coalescer, call, spec, clock):
    for text in "ab":
        call(text, pause=_PAUSE).result(30)
    clock.now += 1
    coalescer.embed(Passage("", "a"), spec, Run(OllamaTimeout()), pause=_LONG, replied=lambda _: None)
    assert list(coalescer._callers) == [threading.get_ident()]


def test_a_forked_process_waits_for_no_other_thread(coalescer, call, spec):
    call("a").result(30)
    coalescer._lock.acquire()  # by a thread that is gone
    coalescer.start_afresh()
    missing = dataclasses.replace(spec, body={"model": "nope"})
    with pytest.raises(OllamaModelNotFoundError):
        coalescer.embed(Passage("", "a"), missing, Run(), pause=_LONG, replied=lambda _: None)
