"""The drivers in an event loop."""

import asyncio
import contextlib
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from griptape.artifacts import TextArtifact
from griptape.events import EventListener, TextChunkEvent
from griptape.structures import Agent

from griptape_ollama import (
    OllamaBlockingWarning,
    OllamaBusyError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaEmbeddingError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaStreamError,
    OllamaTimeout,
    OllamaTimeoutError,
    cancel_scope,
)
from griptape_ollama.drivers.mixins import THREAD_NAME
from griptape_ollama.transport import async_bridge as feed
from unit.embeddings.serving import refuse, vector


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    for thread in [each for each in threading.enumerate() if each.name == THREAD_NAME]:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def silence():
    """What a reply may wait for that is never to come; set at the end."""
    event = threading.Event()
    yield event
    event.set()


async def _arrived(simulator, n=1, path="/api/chat"):
    await asyncio.to_thread(simulator.wait_for_request, n, path=path)


def _without_times(message):
    """What a message says, without what differs from run to run."""
    meta = message.content[0].artifact.meta["ollama"]
    return message.to_text(), message.usage, sorted(meta), meta["done_reason"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_arun_returns_what_run_returns_with_its_events(simulator, make_driver, stack, stream):
    driver = make_driver(stream=stream)
    simulator.reply("one two", times=2)
    said = driver.run(stack)
    tokens = []

    async def main():
        with EventListener(lambda event: tokens.append(event.token), event_types=[TextChunkEvent]):
            return await driver.arun(stack)

    assert _without_times(asyncio.run(main())) == _without_times(said)
    assert "".join(tokens) == ("one two" if stream else "")
    one, other = simulator.chats
    assert one.body == other.body


def test_astream_yields_what_try_stream_yields(simulator, make_driver, stack):
    driver = make_driver()
    simulator.reply("one two three", times=2)
    deltas = list(driver.try_stream(stack))

    async def main():
        return [delta async for delta in driver.astream(stack)]

    found = asyncio.run(main())
    assert [delta.content and delta.content.text for delta in found] == [
        delta.content and delta.content.text for delta in deltas
    ]
    assert found[-1].usage == deltas[-1].usage


def test_deltas_arrive_while_the_model_generates(simulator, make_driver, silence):
    simulator.reply(["one ", "two"], pause=(1, silence))

    async def main():
        async with make_driver().astream(TextArtifact("Count.")) as deltas:
            assert (await deltas.__anext__()).content.text == "one "
            silence.set()
            assert (await deltas.__anext__()).content.text == "two"

    asyncio.run(main())


def test_vectors_equal_those_of_the_synchronous_calls(make_embedder):
    one, other = make_embedder(), make_embedder()
    progress = []

    async def main():
        thread = threading.current_thread()

        def on_progress(done, total):
            assert threading.current_thread() is thread
            progress.append((done, total))

        lone = await one.aembed("a", vector_operation="query")
        many = await one.aembed_batch(["a", "b"], on_progress=on_progress)
        array = await one.aembed_batch(["a", "b"], as_numpy=True)
        assert await one.aembed_batch([]) == []
        return lone, many, array

    lone, many, array = asyncio.run(main())
    assert lone == other.embed("a", vector_operation="query")
    assert many == other.embed_batch(["a", "b"])
    assert array.shape == (2, len(lone))
    assert progress[-1] == (2, 2)


def test_vectors_one_by_one_are_those_of_the_synchronous_call(simulator, make_embedder):
    driver, progress, threads = make_embedder(batch_size=2), [], set()

    def on_progress(done, total):
        progress.append((done, total))
        threads.add(threading.current_thread())

    async def main():
        threads.add(threading.current_thread())
        texts = (f"text {number}" for number in range(5))
        found = [each async for each in driver.aiter_embed_batch(texts, "upsert", on_progress=on_progress)]
        arrays = [each async for each in driver.aiter_embed_batch(["a"], as_numpy=True)]
        assert [each async for each in driver.aiter_embed_batch([])] == []
        return found, arrays

    found, (array,) = asyncio.run(main())
    assert found == make_embedder().embed_batch([f"text {number}" for number in range(5)], "upsert")
    assert array.shape == (len(found[0]),)
    assert progress == [(2, None), (4, None), (5, None)]
    assert len(threads) == 1


def test_texts_are_read_when_the_vectors_of_those_before_were_taken(make_embedder):
    read = []

    def texts():
        for number in itertools.count():
            read.append(number)
            yield f"text {number}"

    async def main():
        found = make_embedder(batch_size=4).aiter_embed_batch(texts())
        async with contextlib.aclosing(found):
            assert read == []
            for number in range(8):
                await found.__anext__()
                assert len(read) == 4 * (number // 4 + 1)

    asyncio.run(main())


def test_the_vectors_before_a_text_that_has_none_are_given_first(simulator, make_embedder):
    refuse(simulator, lambda text: text == "bad", status=400, error="no")
    found = make_embedder().aiter_embed_batch(["a", "b", "bad", "c"])

    async def main():
        given = [await found.__anext__() for _ in range(2)]
        with pytest.raises(OllamaEmbeddingError, match="Text 2 of 4"):
            await found.__anext__()
        return given

    assert asyncio.run(main()) == [vector("a"), vector("b")]


def test_cancelling_the_driver_ends_an_iteration_between_two_requests(simulator, make_embedder):
    driver = make_embedder(batch_size=1)

    async def main():
        found = driver.aiter_embed_batch(["a", "b"])
        await found.__anext__()
        driver.cancel()
        with pytest.raises(OllamaCancelledError):
            await found.__anext__()

    asyncio.run(main())
    assert len([request for request in simulator.requests if request.path == "/api/embed"]) == 1


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": 503, "error": "server busy", "times": None}, OllamaBusyError),
        ({"status": 404, "error": "model 'simulator' not found"}, OllamaModelNotFoundError),
        ({"text": "one two", "cut": 1}, OllamaStreamError),
        ({"reset": True, "times": None}, OllamaConnectionError),
    ],
)
def test_errors_keep_their_class(simulator, make_driver, stack, reply, error):
    simulator.reply(**reply)

    async def run():
        await make_driver().arun(stack)

    async def stream():
        async for _ in make_driver().astream(stack):
            pass

    with pytest.raises(error):
        asyncio.run(run())
    simulator.reply(**reply)
    with pytest.raises(error):
        asyncio.run(stream())


def test_limits_and_retries_are_those_of_the_driver(simulator, make_driver, stack, silence):
    simulator.reply(status=503, error="server busy")
    simulator.reply("At the second try.")
    assert asyncio.run(make_driver().arun(stack)).to_text() == "At the second try."
    simulator.reply("never", wait=silence)
    with pytest.raises(OllamaTimeoutError):
        asyncio.run(make_driver(timeout=OllamaTimeout(first_token=0.05)).arun(stack))


def test_what_cannot_be_sent_is_refused(embedder, make_driver):
    with pytest.raises(OllamaContentError):
        asyncio.run(embedder.aembed(7))
    with pytest.raises(OllamaContentError):
        asyncio.run(embedder.aembed_batch("one text"))


@pytest.mark.parametrize("what", ["arun", "astream", "aembed", "aembed_batch", "aiter_embed_batch"])
def test_cancelling_the_task_stops_the_server_and_the_next_call_works(simulator, make_driver, embedder, silence, what):
    driver, stack = make_driver(), TextArtifact("hi")
    path = "/api/embed" if "embed" in what else "/api/chat"
    if "embed" in what:
        simulator.reply(path=path, body={}, wait=silence)
    else:
        simulator.reply("one two", pause=(1, silence))

    async def stream():
        return [delta async for delta in driver.astream(stack)]

    async def iterate():
        return [vector async for vector in embedder.aiter_embed_batch(["a", "b"])]

    def call():
        return {
            "arun": lambda: driver.arun(stack),
            "astream": stream,
            "aembed": lambda: embedder.aembed("a"),
            "aembed_batch": lambda: embedder.aembed_batch(["a", "b"]),
            "aiter_embed_batch": iterate,
        }[what]()

    async def main():
        task = asyncio.ensure_future(call())
        await _arrived(simulator, path=path)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(simulator.wait_for_disconnect)
        assert await call()

    asyncio.run(main())


def test_a_time_limit_of_asyncio_stops_the_server(simulator, make_driver, stack, silence):
    simulator.reply("never", wait=silence)
    driver = make_driver()

    async def main():
        task = asyncio.ensure_future(driver.arun(stack))
        await asyncio.to_thread(simulator.wait_for_request, path="/api/chat")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, 0.01)

    asyncio.run(main())
    simulator.wait_for_disconnect()


def test_an_event_loop_that_ends_stops_the_server(simulator, make_driver, stack, silence):
    simulator.reply("never", wait=silence)
    driver, left = make_driver(), []

    async def main():
        left.append(asyncio.ensure_future(driver.arun(stack)))
        await _arrived(simulator)

    asyncio.run(main())
    assert left[0].cancelled()
    simulator.wait_for_disconnect()


@pytest.mark.parametrize("by", ["driver", "scope"])
def test_a_run_that_is_cancelled_otherwise_fails_with_the_text_so_far(simulator, make_driver, stack, silence, by):
    simulator.reply(["one ", "two"], pause=(1, silence))
    driver = make_driver(stream=True)

    async def main():
        loop, spoke = asyncio.get_running_loop(), asyncio.Event()

        def heard(_):
            loop.call_soon_threadsafe(spoke.set)

        with cancel_scope() as scope, EventListener(heard, event_types=[TextChunkEvent]):
            task = asyncio.ensure_future(driver.arun(stack))
            await spoke.wait()
            driver.cancel() if by == "driver" else scope.cancel()
            with pytest.raises(OllamaCancelledError) as caught:
                await task
        assert caught.value.partial_text == "one "

    asyncio.run(main())


@pytest.fixture
def begin(monkeypatch):
    """Lets the thread of an awaited call begin, which none does by itself; waits until there is one."""
    due = asyncio.Queue()
    monkeypatch.setattr(feed, "starter", SimpleNamespace(add=due.put_nowait))

    async def begin(*, after=lambda: None):
        start = await due.get()
        after()
        start()

    return begin


@pytest.mark.parametrize("what", ["arun", "astream", "aembed"])
def test_cancelling_the_driver_stops_what_is_awaited_before_its_thread_has_begun(
    simulator, make_driver, make_embedder, begin, what
):
    driver = make_embedder() if what == "aembed" else make_driver()
    calls = {
        "arun": lambda: driver.arun(TextArtifact("hi")),
        "astream": lambda: driver.astream(TextArtifact("hi")).__anext__(),
        "aembed": lambda: driver.aembed("a"),
    }

    async def main():
        task = asyncio.ensure_future(calls[what]())
        await begin(after=driver.cancel)
        with pytest.raises(OllamaCancelledError):
            await task

    asyncio.run(main())
    assert [request for request in simulator.requests if request.path in {"/api/chat", "/api/embed"}] == []


def test_a_stream_without_a_reader_is_not_under_way(make_driver, begin):
    driver = make_driver()

    async def main():
        async with driver.astream(TextArtifact("hi")) as deltas:
            driver.cancel()
            task = asyncio.ensure_future(deltas.__anext__())
            await begin()
            assert await task

    asyncio.run(main())


def test_one_driver_serves_several_event_loops_and_threads(simulator, make_driver):
    simulator.reply(lambda request: request.messages[-1]["content"], times=None)
    driver = make_driver()

    async def ask(number):
        return (await driver.arun(TextArtifact(f"Number {number}."))).to_text()

    async def main(start):
        return await asyncio.gather(*(ask(number) for number in range(start, start + 5)))

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda start: asyncio.run(main(start)), (0, 5, 10)))
    assert [text for each in answers for text in each] == [f"Number {number}." for number in range(15)]


def test_calls_that_wait_do_not_block_the_event_loop_or_each_other(simulator, make_driver, stack):
    # Each answer waits for what comes after it in the loop, so that nothing would end if one of them blocked it.
    gates = [threading.Event() for _ in range(3)]
    for gate in gates:
        simulator.reply("now", wait=gate)
    drivers = [make_driver() for _ in gates]

    async def main():
        tasks = [asyncio.ensure_future(driver.arun(stack)) for driver in drivers]
        await _arrived(simulator, n=1)
        for gate in gates:
            gate.set()
        return await asyncio.gather(*tasks)

    assert [message.to_text() for message in asyncio.run(main())] == ["now"] * 3


def test_a_synchronous_run_inside_an_event_loop_works_and_warns_once(simulator, make_driver):
    driver = make_driver()

    async def main():
        driver.run(TextArtifact("hi"))
        return Agent(prompt_driver=driver).run("hi").output

    with pytest.warns(OllamaBlockingWarning) as said:
        assert asyncio.run(main()).value
    assert [each.filename for each in said] == [__file__]


def test_awaited_calls_do_not_warn(make_driver, embedder, stack):
    async def main():
        await make_driver().arun(stack)
        await embedder.aembed("a")
        async with contextlib.aclosing(make_driver().astream(stack)) as deltas:
            async for _ in deltas:
                pass

    asyncio.run(main())  # a warning is an error


def test_a_driver_that_was_never_asked_has_no_thread():
    driver = OllamaPromptDriver(model="simulator", host="http://127.0.0.1:1")
    stream = driver.astream(TextArtifact("hi"))
    assert not [each for each in threading.enumerate() if each.name == THREAD_NAME]
    stream.close()
