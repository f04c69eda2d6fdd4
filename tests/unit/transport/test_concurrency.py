"""SlotQueue of a server and the queue for them."""

import gc
import random
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.transport.concurrency import (
    ConcurrencyLimit,
    SlotQueue,
    SlotRequest,
    SlotTimeoutError,
    slots_of,
)
from griptape_ollama.transport.stoppable_sockets import Cancellation


class Visitor:
    """One who wants a slot, and notes when it gets it."""

    def __init__(self, slots, log, name, *, limit=1, thread=None):
        self.slots = slots
        self.ticket = SlotRequest(limit, lambda: log.append(name), thread=thread)
        slots.enter(self.ticket)

    def leave(self):
        self.slots.leave(self.ticket)


@pytest.fixture
def slots():
    return SlotQueue()


@pytest.fixture
def log():
    return []


def test_who_comes_first_is_served_first(slots, log):
    visitors = [Visitor(slots, log, name) for name in "abcd"]
    assert log == ["a"]
    for visitor in visitors:
        visitor.leave()
    assert log == ["a", "b", "c", "d"]
    assert (slots.under_way, slots.waiting) == (0, 0)


def test_as_many_are_under_way_as_the_limit_says(slots, log):
    visitors = [Visitor(slots, log, name, limit=2) for name in "abcd"]
    assert log == ["a", "b"]
    visitors[1].leave()
    assert log == ["a", "b", "c"]
    assert (slots.under_way, slots.waiting) == (2, 1)


def test_who_gives_up_waiting_makes_room_in_the_queue(slots, log):
    first, second, third = (Visitor(slots, log, name) for name in "abc")
    second.leave()
    first.leave()
    assert log == ["a", "c"]
    third.leave()
    assert slots.under_way == 0


def test_leaving_twice_frees_one_slot_only(slots, log):
    first, second, third = (Visitor(slots, log, name) for name in "abc")
    first.leave()
    first.leave()
    assert log == ["a", "b"]
    second.leave()
    third.leave()
    assert slots.under_way == 0


def test_a_request_with_a_smaller_limit_is_not_overtaken(slots, log):
    wide = Visitor(slots, log, "wide", limit=2)
    Visitor(slots, log, "narrow", limit=1)
    Visitor(slots, log, "late", limit=2)
    assert log == ["wide"]
    wide.leave()
    assert log == ["wide", "narrow", "late"]


def test_a_thread_that_has_a_slot_does_not_wait_for_itself(slots, log):
    outer = Visitor(slots, log, "outer", thread=1)
    waiting = Visitor(slots, log, "other", thread=2)
    inner = Visitor(slots, log, "inner", thread=1)
    assert log == ["outer", "inner"]
    inner.leave()
    assert log == ["outer", "inner"]
    outer.leave()
    assert log == ["outer", "inner", "other"]
    waiting.leave()


def test_a_request_whose_notification_fails_loses_its_slot_to_the_next(slots, log):
    first = Visitor(slots, log, "a")
    gone = SlotRequest(1, lambda: 1 / 0)
    slots.enter(gone)
    Visitor(slots, log, "c")
    first.leave()
    assert log == ["a", "c"]
    slots.leave(gone)
    assert slots.under_way == 1


def test_a_notified_request_may_leave_and_enter_at_once(slots, log):
    first = Visitor(slots, log, "a")
    second = SlotRequest(1, lambda: (slots.leave(second), Visitor(slots, log, "d")))
    slots.enter(second)
    Visitor(slots, log, "c")
    first.leave()
    assert log == ["a", "c"]
    assert (slots.under_way, slots.waiting) == (1, 1)


def test_an_interruption_loses_no_request(slots, log):
    class InterruptedOnce(dict):
        def __setitem__(self, ticket, value):
            slots._under_way = {}
            raise KeyboardInterrupt

    slots._under_way = InterruptedOnce()
    with pytest.raises(KeyboardInterrupt):
        Visitor(slots, log, "a")
    second = Visitor(slots, log, "b")
    assert log == ["a"]
    slots.leave(next(iter(slots._under_way)))
    assert log == ["a", "b"]
    second.leave()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(1, 3)), max_size=60))
def test_the_limit_holds_and_no_request_is_lost_in_any_order_of_steps(steps):
    slots, order, present, entered = SlotQueue(), [], [], 0
    for comes, which, limit in steps:
        if comes:
            ticket = SlotRequest(limit, lambda number=entered: order.append(number))
            slots.enter(ticket)
            present.append(ticket)
            entered += 1
        elif present:
            slots.leave(present.pop(which % len(present)))
        under_way = [ticket for ticket in present if ticket.is_admitted]
        assert slots.under_way == len(under_way) <= max((ticket.limit for ticket in present), default=3)
        assert slots.waiting == len(present) - len(under_way)
        waiting = [ticket for ticket in present if not ticket.is_admitted]
        assert not waiting or waiting[0].limit <= len(under_way), "a request waits though a slot is free"
    assert order == sorted(order), "a request was overtaken"


def test_many_threads_never_exceed_the_limit_and_all_have_their_turn():
    slots, inside, most, done = SlotQueue(), [], [0], []
    admission = ConcurrencyLimit(slots, 3)
    start = threading.Barrier(12)

    def work(number):
        dice = random.Random(number)  # noqa: S311 # nothing secret
        start.wait()
        for _ in range(100):
            with admission.slot(Cancellation(), 60):
                inside.append(number)
                most[0] = max(most[0], len(inside))
                if dice.random() < 0.2:
                    threading.Event().wait(0.0001)
                inside.remove(number)
        done.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done) == list(range(12))
    assert most[0] <= 3
    assert (slots.under_way, slots.waiting) == (0, 0)


def _occupied(limit=1):
    slots = SlotQueue()
    taken = SlotRequest(limit, lambda: None)
    slots.enter(taken)
    return slots, taken


def test_the_wait_ends_with_its_limit_and_tells_how_many_were_ahead():
    slots, _ = _occupied()
    slots.enter(SlotRequest(1, lambda: None))
    with pytest.raises(SlotTimeoutError) as caught, ConcurrencyLimit(slots, 1).slot(Cancellation(), 0.01):
        pass
    assert caught.value.ahead == 1
    assert caught.value.seconds >= 0.01
    assert slots.waiting == 1


def test_the_wait_ends_when_it_is_stopped():
    slots, _ = _occupied()
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(SlotTimeoutError), ConcurrencyLimit(slots, 1).slot(cancellation, None):
        pass
    assert slots.waiting == 0


def test_a_free_slot_takes_no_time():
    with ConcurrencyLimit(SlotQueue(), 1).slot(Cancellation(), 0) as waited:
        assert waited == 0


def test_a_failure_inside_gives_the_slot_back():
    slots = SlotQueue()
    with pytest.raises(ValueError, match="x"), ConcurrencyLimit(slots, 1).slot(Cancellation(), None):
        raise ValueError("x")
    assert slots.under_way == 0


def test_an_address_keeps_its_slots_while_they_are_referenced():
    first = slots_of("http://gpu-box:11434")
    assert slots_of("http://gpu-box:11434") is first
    assert slots_of("http://gpu-box:11435") is not first
    number = id(first)
    first.marked = True
    del first
    gc.collect()
    assert not hasattr(slots_of("http://gpu-box:11434"), "marked"), number


@pytest.mark.parametrize(
    "other",
    [
        "http://localhost:11434",
        "http://LOCALHOST:11434/",
        "http://localhost.:11434",
        "http://[::1]:11434",
        "http://[0:0:0:0:0:0:0:1]:11434",
        "http://0.0.0.0:11434",
        "http://[::]:11434",
    ],
)
def test_this_machine_has_the_same_slots_by_whatever_name(other):
    slots = slots_of("http://127.0.0.1:11434")
    assert slots_of(other) is slots


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://gpu-box", "http://gpu-box:80/"),
        ("https://gpu-box/ollama", "https://GPU-BOX:443/ollama/"),
        ("http://[FD00::0:1]:11434", "http://[fd00::1]:11434"),
    ],
)
def test_a_port_that_goes_without_saying_makes_no_difference(one, other):
    slots = slots_of(one)
    assert slots_of(other) is slots


@pytest.mark.parametrize(
    "other",
    [
        "http://127.0.0.1:11435",
        "http://127.0.0.2:11434",
        "https://127.0.0.1:11434",
        "http://127.0.0.1:11434/other",
        "http://localhost.example.com:11434",
        "http://ollama.localhost:11434",
    ],
)
def test_another_server_has_other_slots(other):
    slots = slots_of("http://127.0.0.1:11434")
    assert slots_of(other) is not slots


def test_a_forked_process_starts_with_free_slots():
    slots, taken = _occupied()
    slots._working.acquire()
    slots.start_afresh()
    assert slots.under_way == 0
    slots.leave(taken)
    with ConcurrencyLimit(slots, 1).slot(Cancellation(), 0) as waited:
        assert waited == 0
