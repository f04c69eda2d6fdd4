"""Items of a thread for a consumer in another thread or task."""

import asyncio
import contextlib
import contextvars
import gc
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from griptape_ollama import OllamaCancelledError, cancel_scope
from griptape_ollama.transport import async_bridge as starting
from griptape_ollama.transport.async_bridge import (
    THREAD_NAME,
    BackgroundIterator,
    ThreadStarter,
    run_in_thread,
)
from griptape_ollama.transport.run import Run

NAME = "feed-under-test"
_who = contextvars.ContextVar("who", default="none")


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    for thread in _threads():
        thread.join(10)
        assert not thread.is_alive()


def _threads():
    return [thread for thread in threading.enumerate() if thread.name == NAME]


def _feed(work):
    return BackgroundIterator(work, name=NAME)


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """On a busy machine a thread may take longer than a second to end."""
    monkeypatch.setattr("griptape_ollama.transport.async_bridge.STOP_SECONDS", 30)


def _wait_until_stopped():
    """Waits as a call does, until it is stopped."""
    run, stopped = Run(), threading.Event()
    run.cancellation.on_cancel(stopped.set)
    assert stopped.wait(10)
    run.check()


@pytest.fixture
def endless():
    """A feed that gives one item, and then waits until it is stopped; and what became of it."""
    ends = []

    def work(put):
        put("first")
        try:
            _wait_until_stopped()
        except OllamaCancelledError as error:
            ends.append(error)
            raise

    return _feed(work), ends


async def _collected(feed):
    return [item async for item in feed]


@pytest.mark.parametrize("take", [list, lambda feed: asyncio.run(_collected(feed))], ids=["sync", "async"])
def test_items_arrive_in_order_and_the_thread_ends(take):
    feed = _feed(lambda put: [put(number) for number in range(1000)])
    assert take(feed) == list(range(1000))
    assert take(feed) == []


@pytest.mark.parametrize("take", [list, lambda feed: asyncio.run(_collected(feed))], ids=["sync", "async"])
def test_an_error_comes_after_the_items_once_and_with_its_class(take):
    def work(put):
        put(1)
        raise LookupError("nothing there")

    feed = _feed(work)
    assert next(feed) == 1
    with pytest.raises(LookupError, match="nothing there"):
        take(feed)
    assert take(feed) == []


def test_nothing_begins_before_the_first_item_is_asked_for():
    begun = []
    feed = _feed(begun.append)
    assert _threads() == []
    feed.close()
    assert list(feed) == []
    assert begun == []


def test_the_thread_has_the_context_of_where_the_feed_was_made():
    _who.set("ada")
    feed = _feed(lambda put: put(_who.get()))
    _who.set("bob")
    assert list(feed) == ["ada"]


def test_items_arrive_as_they_are_made():
    more = threading.Event()

    def work(put):
        put(1)
        assert more.wait(10)
        put(2)

    feed = _feed(work)
    assert next(feed) == 1
    more.set()
    assert next(feed) == 2


def test_closing_stops_the_thread_and_waits_for_it(endless):
    feed, ends = endless
    assert next(feed) == "first"
    feed.close()
    feed.close()
    assert len(ends) == 1
    assert list(feed) == []


def test_the_end_of_a_with_block_closes(endless):
    feed, ends = endless
    with feed:
        assert next(feed) == "first"
    assert len(ends) == 1


def test_leaving_a_loop_by_break_closes():
    ends = []

    def work(put):
        put(1)
        try:
            _wait_until_stopped()
        except OllamaCancelledError as error:
            ends.append(error)

    for _ in _feed(work):
        break
    gc.collect()
    assert len(ends) == 1


def test_items_that_come_after_leaving_go_nowhere(endless):
    feed, _ = endless
    next(feed)
    channel = feed._channel
    feed.close()
    channel.put("late")
    assert not channel._items


def test_cancelling_gives_the_error_to_the_consumer(endless):
    feed, ends = endless
    assert next(feed) == "first"
    feed.cancel()
    with pytest.raises(OllamaCancelledError):
        next(feed)
    feed.cancel()
    assert len(ends) == 1


def test_a_feed_cancelled_before_its_start_fails_at_once(endless):
    feed, _ = endless
    feed.cancel()
    assert next(feed) == "first"
    with pytest.raises(OllamaCancelledError):
        next(feed)


def test_a_scope_of_the_caller_stops_the_thread(endless):
    with cancel_scope() as scope:
        feed = _feed(lambda put: _wait_until_stopped())
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, feed)
            scope.cancel()
            with pytest.raises(OllamaCancelledError):
                waiting.result(10)


def test_closing_from_another_thread_ends_the_loop(endless):
    feed, _ = endless
    next(feed)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(list, feed)
        feed.close()
        assert waiting.result(10) == []


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no signals for threads")
def test_a_ctrl_c_while_waiting_stops_the_thread(endless):
    feed, ends = endless
    next(feed)
    with ThreadPoolExecutor(1) as pool:
        waits = threading.Event()
        wait = feed._channel._news.wait
        feed._channel._news.wait = lambda seconds: (waits.set(), wait(seconds))
        sent = pool.submit(lambda: waits.wait(10) and signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                next(feed)
        finally:
            signal.signal(signal.SIGINT, before)
        sent.result(10)
    assert len(ends) == 1


def test_the_event_loop_goes_on_while_the_thread_works():
    async def main():
        go = threading.Event()
        feed = _feed(lambda put: put(go.wait(10)))
        waiting = asyncio.ensure_future(feed.__anext__())
        await asyncio.sleep(0)
        go.set()  # only a loop that goes on comes here
        assert await waiting

    asyncio.run(main())


def test_cancelling_the_task_stops_the_thread_and_ends_after_it(endless):
    feed, ends = endless

    async def main():
        assert await feed.__anext__() == "first"
        task = asyncio.ensure_future(feed.__anext__())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(ends) == 1
        assert [item async for item in feed] == []

    asyncio.run(main())


def test_leaving_an_async_loop_stops_the_thread(endless):
    feed, ends = endless

    async def main():
        async with feed:
            async for _ in feed:
                break
        assert len(ends) == 1
        await feed.aclose()

    asyncio.run(main())


def test_dropping_a_feed_in_an_event_loop_does_not_wait_for_the_thread():
    stopped, go = threading.Event(), threading.Event()

    def work(put):
        put(1)
        with contextlib.suppress(OllamaCancelledError):
            _wait_until_stopped()
        stopped.set()
        assert go.wait(10)

    async def main():
        async for _ in _feed(work):
            break
        gc.collect()
        assert stopped.wait(10)
        go.set()  # a drop that waited for the thread would not come here in time
        assert _threads()

    asyncio.run(main())


def test_a_feed_may_go_on_in_another_loop():
    more = threading.Event()

    def work(put):
        put(1)
        assert more.wait(10)
        put(2)

    feed = _feed(work)

    async def take():
        return await feed.__anext__()

    assert asyncio.run(take()) == 1
    more.set()
    assert asyncio.run(take()) == 2


def test_a_thread_that_does_not_end_is_not_waited_for_for_long(monkeypatch):
    monkeypatch.setattr("griptape_ollama.transport.async_bridge.STOP_SECONDS", 0.01)
    go = threading.Event()

    def work(put):
        put(1)
        assert go.wait(10)

    feed, other = _feed(work), _feed(work)
    next(feed)
    feed.close()

    async def main():
        await other.__anext__()
        await other.aclose()

    asyncio.run(main())
    assert len(_threads()) == 2
    go.set()


def test_what_is_awaited_gives_its_value_or_its_error():
    async def main():
        assert await run_in_thread(lambda: None, name=NAME) is None
        assert await run_in_thread(threading.current_thread, name=NAME) is not threading.current_thread()
        with pytest.raises(LookupError):
            await run_in_thread(lambda: {}["nothing"], name=NAME)

    asyncio.run(main())


def test_a_time_limit_of_asyncio_stops_what_is_awaited():
    begun, stopped = threading.Event(), []

    def work():
        begun.set()
        try:
            _wait_until_stopped()
        finally:
            stopped.append(True)

    async def main():
        task = asyncio.ensure_future(run_in_thread(work, name=NAME))
        await asyncio.to_thread(begun.wait)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.01)
        assert stopped == [True]

    asyncio.run(main())


def test_a_loop_that_was_closed_is_not_waked():
    go = threading.Event()

    def work(put):
        put(1)
        assert go.wait(10)
        put(2)

    feed = _feed(work)

    async def main():
        assert await feed.__anext__() == 1

    asyncio.run(main())
    go.set()
    feed._thread.join(10)
    assert list(feed) == [2]


def test_an_iterator_can_be_read_sync_and_async():
    step = threading.Semaphore(0)

    def work(put):
        for number in range(4):
            assert step.acquire(timeout=10)
            put(number)

    feed = _feed(work)

    async def take():
        waiting = asyncio.ensure_future(feed.__anext__())
        await asyncio.sleep(0)
        step.release()
        return await waiting

    def take_later():
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(next, feed)
            step.release()
            return waiting.result(10)

    async def main():
        return [await take(), await asyncio.to_thread(take_later), await take(), await asyncio.to_thread(take_later)]

    assert asyncio.run(main()) == [0, 1, 2, 3]


def test_an_event_loop_does_not_wait_for_a_thread_that_takes_its_time_to_begin(monkeypatch):
    feeds = [_feed(lambda put: put(1)) for _ in range(3)]
    go = threading.Event()

    def starts_late(start):
        def late():
            assert go.wait(10)
            start()

        return late

    for feed in feeds:
        monkeypatch.setattr(feed._thread, "start", starts_late(feed._thread.start))

    async def main():
        taken = [asyncio.ensure_future(feed.__anext__()) for feed in feeds]
        for _ in range(3):
            await asyncio.sleep(0)
        assert [feed.is_under_way for feed in feeds] == [True] * 3
        go.set()
        return await asyncio.gather(*taken)

    assert asyncio.run(main()) == [1, 1, 1]
    for thread in threading.enumerate():
        if thread.name == starting.THREAD_NAME:
            thread.join(10)
            assert not thread.is_alive()


def test_a_feed_that_was_left_before_its_thread_began_never_begins(monkeypatch):
    due, begun = [], []
    monkeypatch.setattr("griptape_ollama.transport.async_bridge.starter", SimpleNamespace(add=due.append))
    feed = _feed(begun.append)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(feed.__anext__(), 0.01)

    monkeypatch.setattr("griptape_ollama.transport.async_bridge.STOP_SECONDS", 0.01)
    asyncio.run(main())
    due.pop()()
    assert not feed.is_under_way
    feed.close()
    assert begun == []


@pytest.mark.parametrize("take", [list, lambda feed: asyncio.run(_collected(feed))], ids=["sync", "async"])
def test_a_system_without_threads_to_spare_is_an_error_of_the_call(monkeypatch, take):
    feed = _feed(lambda put: put(1))

    def start():
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(feed._thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        take(feed)
    feed.close()


def test_without_a_starter_thread_the_thread_begins_at_once(monkeypatch):
    def add(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("griptape_ollama.transport.async_bridge.starter", SimpleNamespace(add=add))
    assert asyncio.run(_collected(_feed(lambda put: put(1)))) == [1]


def _starter_threads():
    return [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]


def test_functions_are_called_in_their_order_by_one_thread_that_ends():
    starter, calls, go = ThreadStarter(), [], threading.Event()
    starter.add(lambda: go.wait(10))
    (thread,) = _starter_threads()
    for number in range(5):
        starter.add(lambda number=number: calls.append((number, threading.current_thread())))
    assert _starter_threads() == [thread]
    go.set()
    thread.join(10)
    assert calls == [(number, thread) for number in range(5)]
    again = threading.Event()
    starter.add(again.set)
    assert again.wait(10)
    for thread in _starter_threads():
        thread.join(10)


def test_a_forked_process_begins_anew():
    starter = ThreadStarter()
    starter._is_running = True  # by a thread that is gone
    starter._due.append(pytest.fail)
    starter.start_afresh()
    called = threading.Event()
    starter.add(called.set)
    assert called.wait(10)
