"""Awaited calls are counted, wait for a slot, and have spans, as synchronous calls do."""

import asyncio
import contextlib
import threading

import pytest
from griptape.artifacts import TextArtifact
from griptape.observability import Observability

from griptape_ollama import OllamaCancelledError, OllamaMetrics, OllamaModelNotFoundError, OllamaSlotError
from griptape_ollama.transport.concurrency import SlotRequest, slots_of
from unit.drivers.test_tracing import Spans, _parent

_HI = TextArtifact("Hi")


@pytest.fixture
def metrics():
    with OllamaMetrics() as metrics:
        yield metrics


@pytest.fixture
def spans():
    spans = Spans()
    with Observability(observability_driver=spans):
        yield spans


@pytest.fixture
def silence():
    """What a reply may wait for that is never to come; set at the end."""
    event = threading.Event()
    yield event
    event.set()


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
def queued(slots, monkeypatch):
    """Waits until so many calls are in the queue; the event loop goes on meanwhile."""
    entered = threading.Semaphore(0)
    enter = slots.enter

    def counted(ticket):
        enter(ticket)
        entered.release()

    monkeypatch.setattr(slots, "enter", counted)

    async def queued(count):
        for _ in range(count):
            assert await asyncio.to_thread(entered.acquire, timeout=10)
        assert slots.waiting == count

    return queued


async def _all_of(deltas):
    async for _ in deltas:
        pass


def test_awaited_calls_are_counted(simulator, make_driver, embedder, metrics):
    driver = make_driver()

    async def main():
        message = await driver.arun(_HI)
        await _all_of(driver.astream(_HI))
        await embedder.aembed("a")
        await embedder.aembed_batch(["b", "c"])
        await _all_of(embedder.aiter_embed_batch(["d"]))
        return message

    message = asyncio.run(main())
    seen = metrics.summary()
    assert (seen.calls, seen.succeeded) == (5, 5)
    chats = metrics.summary(model="simulator")
    assert chats.input_tokens == 2 * message.usage.input_tokens
    assert chats.time_to_first_token.count == 2


@pytest.mark.parametrize("what", ["arun", "astream"])
def test_a_task_that_was_cancelled_is_no_failure_and_an_error_is_one(simulator, make_driver, metrics, silence, what):
    simulator.reply(["one ", "two"], pause=(1, silence))
    driver = make_driver()

    async def main():
        task = asyncio.ensure_future(driver.arun(_HI) if what == "arun" else _all_of(driver.astream(_HI)))
        await asyncio.to_thread(simulator.wait_for_request, 1, path="/api/chat")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OllamaModelNotFoundError):
            await make_driver(model="nope").arun(_HI)

    asyncio.run(main())
    seen = metrics.summary()
    assert (seen.calls, seen.cancelled, seen.failed) == (2, 1, 1)


def test_awaited_calls_wait_for_a_slot_and_the_event_loop_goes_on(simulator, make_driver, metrics, taken, queued):
    driver = make_driver(max_concurrency=1)

    async def main():
        tasks = [asyncio.ensure_future(driver.arun(_HI)) for _ in range(5)]
        await queued(5)
        assert simulator.chats == []
        taken()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(simulator.chats) == 5
    assert metrics.summary().in_queue.count == 5


@pytest.mark.parametrize("by", ["task", "driver"])
def test_a_call_that_is_cancelled_in_the_queue_leaves_it(make_driver, slots, taken, queued, by):
    driver = make_driver(max_concurrency=1)

    async def main():
        task = asyncio.ensure_future(driver.arun(_HI))
        await queued(1)
        task.cancel() if by == "task" else driver.cancel()
        with pytest.raises(asyncio.CancelledError if by == "task" else OllamaCancelledError):
            await task
        assert slots.waiting == 0
        taken()
        await driver.arun(_HI)

    asyncio.run(main())


def test_a_call_that_waits_too_long_for_a_slot_fails(make_driver, taken):
    with pytest.raises(OllamaSlotError):
        asyncio.run(make_driver(max_concurrency=1, max_wait=0).arun(_HI))


def test_a_stream_that_is_left_gives_its_slot_back(simulator, make_driver, slots, silence):
    simulator.reply(["one ", "two"], pause=(1, silence))
    driver = make_driver(max_concurrency=1)

    async def main():
        async with driver.astream(_HI) as deltas:
            await deltas.__anext__()
            assert slots.under_way == 1
        assert slots.under_way == 0
        await driver.arun(_HI)

    asyncio.run(main())


def test_the_spans_of_an_awaited_run_belong_to_the_one_around_it(make_driver, spans):
    async def main():
        _parent.set("mine")
        await make_driver().arun(_HI)

    asyncio.run(main())
    assert spans.log == [
        ("begin", "run", "mine", "OllamaPromptDriver"),
        ("begin", "try_run", "run", "OllamaPromptDriver"),
        ("end", "try_run"),
        ("end", "run"),
    ]


def test_the_span_of_an_awaited_stream_lasts_until_its_last_piece(simulator, make_driver, spans, silence):
    simulator.reply(["one ", "two"], pause=(1, silence))

    async def main():
        _parent.set("mine")
        async with make_driver().astream(_HI) as deltas:
            assert spans.log == []
            await deltas.__anext__()
            assert spans.log == [("begin", "try_stream", "mine", "OllamaPromptDriver")]
            silence.set()
            await _all_of(deltas)

    asyncio.run(main())
    assert spans.of("try_stream") == ["begin", "end"]


def test_the_span_of_an_awaited_stream_that_is_left_ends_with_it(simulator, make_driver, spans, silence):
    simulator.reply(["one ", "two"], pause=(1, silence))

    async def main():
        async with contextlib.aclosing(make_driver().astream(_HI)) as deltas:
            await deltas.__anext__()

    asyncio.run(main())
    assert [entry[:2] for entry in spans.log] == [("begin", "try_stream"), ("fail", "try_stream")]
    assert isinstance(spans.log[-1][2], OllamaCancelledError)
