"""Drivers that limit how many requests are under way."""

import logging
import threading

import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.events import EventBus, EventListener, TextChunkEvent

from griptape_ollama import (
    OllamaCancelledError,
    OllamaMetrics,
    OllamaModels,
    OllamaSlotError,
    OllamaTimeout,
    OllamaTimeoutError,
)
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.concurrency import SlotRequest, slots_of

_HI = TextArtifact("Hi")


class Caller(threading.Thread):
    """Makes a call in a thread of its own, and keeps what came of it."""

    def __init__(self, work):
        super().__init__(daemon=True)
        self.work = work
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self.work()
        except Exception as error:  # noqa: BLE001 # looked at by the test
            self.error = error

    def outcome(self):
        self.join(30)
        assert not self.is_alive()
        return self.result if self.error is None else self.error


@pytest.fixture
def slots(simulator):
    return slots_of(simulator.url)


@pytest.fixture
def taken(slots):
    """The only slot of the server is taken, until this is called."""
    ticket = SlotRequest(1, lambda: None)
    slots.enter(ticket)
    yield lambda: slots.leave(ticket)
    slots.leave(ticket)


@pytest.fixture
def queued(slots):
    """Waits until so many wait for a slot."""

    def wait(number):
        tick = threading.Event()
        for _ in range(10_000):
            if slots.waiting == number:
                return
            tick.wait(0.001)
        raise AssertionError(f"{slots.waiting} wait, not {number}")

    return wait


def test_a_prompt_waits_for_its_turn_and_then_runs(simulator, make_driver, slots, taken, queued):
    driver = make_driver(max_concurrency=1)
    caller = Caller(lambda: driver.run(_HI))
    queued(1)
    assert simulator.chats == []
    taken()
    assert caller.outcome().to_text()
    assert len(simulator.chats) == 1
    assert slots.under_way == 0


def test_drivers_of_all_kinds_share_the_slots_of_a_server(simulator, make_driver, make_embedder, taken, queued):
    prompt, other = make_driver(max_concurrency=1), make_driver(max_concurrency=1, stream=True)
    embedder = make_embedder(max_concurrency=1)
    callers = [
        Caller(lambda: prompt.run(_HI)),
        Caller(lambda: other.run(_HI)),
        Caller(lambda: embedder.embed("text")),
        Caller(lambda: embedder.embed_batch(["one", "two"])),
    ]
    queued(4)
    taken()
    assert [isinstance(caller.outcome(), Exception) for caller in callers] == [False] * 4


def test_as_many_requests_as_are_allowed_arrive_at_the_same_time_and_no_more(make_driver):
    together, most, lock = [0], [0], threading.Lock()
    trio = threading.Barrier(3)

    def answer(request):
        with lock:
            together[0] += 1
            most[0] = max(most[0], together[0])
        trio.wait(30)
        with lock:
            together[0] -= 1
        trio.wait(30)
        return "Hello"

    with OllamaSimulator(num_parallel=24) as simulator:
        simulator.reply(answer, times=None)
        driver = make_driver(host=simulator.url, max_concurrency=3)
        callers = [Caller(lambda: driver.run(_HI)) for _ in range(24)]
        assert {caller.outcome().to_text() for caller in callers} == {"Hello"}
    assert most[0] == 3


def test_without_a_limit_no_call_waits(simulator, make_driver, taken):
    assert make_driver().run(_HI).to_text()


def test_questions_about_models_do_not_wait(simulator, taken):
    assert OllamaModels(host=simulator.url, max_concurrency=1).list()


def test_another_name_of_this_machine_shares_its_slots(simulator, make_driver, taken):
    named = simulator.url.replace("127.0.0.1", "localhost")
    assert make_driver(host=named).run(_HI).to_text()
    with pytest.raises(OllamaSlotError):
        make_driver(host=named, max_concurrency=1, max_wait=0).run(_HI)


def test_another_server_has_slots_of_its_own(simulator, make_driver, taken):
    with OllamaSimulator() as other:
        assert make_driver(max_concurrency=1, host=other.url).run(_HI).to_text()


def test_who_waits_too_long_is_told_what_to_do_and_nothing_was_sent(simulator, make_driver, slots, taken):
    with pytest.raises(OllamaSlotError) as caught:
        make_driver(max_concurrency=1, max_wait=0.01, max_attempts=5).run(_HI)
    error = caught.value
    assert (error.limit, error.seconds, error.host, error.model) == ("slot", 0.01, simulator.url, "simulator")
    assert "no slot became free within 0.01 s, with max_concurrency=1 and 0 others ahead" in str(error)
    assert isinstance(error, OllamaTimeoutError)
    assert simulator.chats == []
    assert slots.waiting == 0


def test_who_does_not_want_to_wait_at_all_is_refused_at_once(simulator, make_driver, taken):
    with pytest.raises(OllamaSlotError):
        make_driver(max_concurrency=1, max_wait=0).run(_HI)


def test_waiting_counts_for_the_total_limit(simulator, make_driver, taken):
    with pytest.raises(OllamaTimeoutError) as caught:
        make_driver(max_concurrency=1, max_wait=None, timeout=0.05).run(_HI)
    assert caught.value.limit == "total"


def test_waiting_does_not_count_for_the_first_token(simulator, make_driver, taken, queued):
    driver = make_driver(max_concurrency=1, timeout=OllamaTimeout(first_token=5))
    caller = Caller(lambda: driver.run(_HI))
    queued(1)
    threading.Event().wait(0.05)
    taken()
    assert caller.outcome().to_text()


def test_who_waits_can_be_cancelled(simulator, make_driver, slots, taken, queued):
    driver = make_driver(max_concurrency=1, max_wait=None)
    callers = [Caller(lambda: driver.run(_HI)) for _ in range(3)]
    queued(3)
    driver.cancel()
    assert [type(caller.outcome()) for caller in callers] == [OllamaCancelledError] * 3
    assert simulator.chats == []
    assert slots.waiting == 0
    taken()
    assert driver.run(_HI).to_text()


def test_a_slot_is_held_for_as_long_as_the_reply_lasts(simulator, make_driver, slots):
    simulator.reply("one two three")
    stream = make_driver(max_concurrency=1).try_stream(PromptStack.from_artifact(_HI))
    assert slots.under_way == 0
    next(stream)
    assert slots.under_way == 1
    stream.close()
    assert slots.under_way == 0


def test_a_wait_for_another_try_holds_no_slot(simulator, make_driver, slots):
    held = []
    simulator.fault("status", status=503, error="busy")
    make_driver(max_concurrency=1, after_hook=lambda _: held.append(slots.under_way)).run(_HI)
    assert held == [0]
    assert len(simulator.chats) == 2


@pytest.mark.parametrize(
    "fault",
    [
        ("reset", {"at": "before_headers"}),
        ("reset", {"after": 1}),
        ("status", {"status": 404, "error": "model 'simulator' not found"}),
        ("garbage", {"after": 0}),
        ("error_line", {"after": 1}),
    ],
    ids=str,
)
def test_a_failure_gives_the_slot_back(simulator, make_driver, slots, fault):
    kind, details = fault
    simulator.fault(kind, **details)
    Caller(lambda: make_driver(max_concurrency=1, max_attempts=1).run(_HI)).outcome()
    assert (slots.under_way, slots.waiting) == (0, 0)


def test_a_listener_may_prompt_while_the_reply_comes_in(simulator, make_driver):
    simulator.reply("one")
    simulator.reply("inner")
    driver, inner = make_driver(max_concurrency=1, stream=True), []

    def ask(_):
        if not inner:
            inner.append(None)
            inner.append(make_driver(max_concurrency=1, max_wait=0).run(_HI).to_text())

    EventBus.add_event_listener(EventListener(ask, event_types=[TextChunkEvent]))
    assert driver.run(_HI).to_text() == "one"
    assert inner[1] == "inner"


def test_metrics_tell_how_long_calls_waited(simulator, make_driver, taken, queued):
    driver = make_driver(max_concurrency=1)
    with OllamaMetrics() as metrics:
        caller = Caller(lambda: driver.run(_HI))
        queued(1)
        taken()
        caller.outcome()
        driver.run(_HI)
    seen = metrics.summary()
    assert (seen.calls, seen.in_queue.count) == (2, 1)
    assert 0 < seen.in_queue.max <= seen.total.max


def test_metrics_count_who_waited_in_vain(simulator, make_driver, taken):
    with OllamaMetrics() as metrics, pytest.raises(OllamaSlotError):
        make_driver(max_concurrency=1, max_wait=0.001).run(_HI)
    seen = metrics.summary()
    assert (seen.errors, seen.timeouts) == ({"OllamaSlotError": 1}, {"slot": 1})
    assert seen.in_queue.count == 1


def test_a_limit_that_is_changed_counts_from_the_next_call(simulator, make_driver, taken):
    driver = make_driver(max_concurrency=1, max_wait=0)
    with pytest.raises(OllamaSlotError):
        driver.run(_HI)
    driver.max_concurrency = None
    assert driver.run(_HI).to_text()
    assert driver.with_settings(max_concurrency=2).run(_HI).to_text()


def test_a_client_of_ones_own_is_limited_as_well(simulator, make_driver, make_client, taken):
    with pytest.raises(OllamaSlotError):
        make_driver(host=None, client=make_client(), max_concurrency=1, max_wait=0).run(_HI)


@pytest.mark.parametrize(("limit", "kept"), [(None, 20), (4, 20), (50, 50)])
def test_as_many_connections_are_kept_as_may_be_in_use(simulator, make_driver, limit, kept):
    pool = make_driver(max_concurrency=limit).connection._session._transport._pool
    assert pool._max_keepalive_connections == kept
    assert pool._keepalive_expiry == 30


def test_idle_connections_are_closed_with_the_next_request(simulator, make_driver):
    driver = make_driver()
    pool = driver.connection._session._transport._pool
    streams = [driver.try_stream(PromptStack.from_artifact(_HI)) for _ in range(4)]
    for stream in streams:
        next(stream)
    assert len(pool.connections) == 4
    for stream in streams:
        list(stream)
    for connection in pool.connections:
        connection._connection._keepalive_expiry = 0
        connection._connection._expire_at = 0
    driver.run(_HI)
    assert len(pool.connections) == 1


def test_nothing_is_logged_of_a_wait_that_ended_well(simulator, make_driver, caplog):
    with caplog.at_level(logging.DEBUG, "griptape_ollama"):
        make_driver(max_concurrency=1).run(_HI)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
