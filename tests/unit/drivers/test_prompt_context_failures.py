"""Windows and failures: no memory, stopped runs, many threads, models that are unloaded meanwhile."""

import asyncio
import contextlib
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.common import PromptStack
from griptape.events import EventBus, EventListener
from griptape.structures import Agent, Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import (
    ModelLifecycle,
    OllamaCancelledError,
    OllamaContextError,
    OllamaContextEvent,
    OllamaError,
    OllamaModels,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaStream,
)
from griptape_ollama.context.window_state import window_registry
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

LONG = "many words " * 4000  # about 8,000 tokens


def _stack(text="Hello"):
    stack = PromptStack()
    stack.add_user_message(text)
    return stack


def _meta(message):
    return message.content[0].artifact.meta["ollama"]["context"]


@pytest.fixture
def simulator():
    with OllamaSimulator([SimulatedModel(name="roomy", context_length=131_072)]) as simulator:
        yield simulator


@pytest.fixture
def make_driver(simulator):
    def make(**settings):
        return OllamaPromptDriver(**{"model": "roomy", "host": simulator.host, "min_retry_delay": 0, **settings})

    return make


@pytest.fixture
def is_loading(simulator):
    """Whether drivers take the model for being loaded at the moment."""

    def tell():
        with window_registry.lock:
            return window_registry.server(simulator.host).state("roomy").is_loading

    return tell


def _sent(simulator):
    return [request.body["options"].get("num_ctx") for request in simulator.requests if request.path == "/api/chat"]


@pytest.fixture
def small():
    """A server with so little memory that the model has room for a window of 8,192 tokens."""
    taken = {}
    for window in (8192, 16_384):
        with OllamaSimulator([SimulatedModel(name="roomy", context_length=131_072)]) as other:
            OllamaPromptDriver(model="roomy", host=other.host, num_ctx=window).run(_stack())
            (taken[window],) = (entry.size for entry in _ps(other))
    with OllamaSimulator(
        [SimulatedModel(name="roomy", context_length=131_072)], memory=sum(taken.values()) // 2
    ) as simulator:
        yield simulator


def _ps(simulator):
    return OllamaModels(host=simulator.host).loaded()


class TestNoRoom:
    def test_a_smaller_window_is_asked_for_in_the_same_run(self, small, caplog):
        driver = OllamaPromptDriver(model="roomy", host=small.host, max_tokens=6000)
        heard = []
        EventBus.add_event_listener(EventListener(heard.append, event_types=[OllamaContextEvent]))
        reply = driver.run(_stack("many words " * 1500))
        assert reply.to_text()
        assert _sent(small) == [16_384, 8192]
        assert _meta(reply)["window"] == 8192
        assert [event.window for event in heard if event.kind == "grown"] == [16_384, 8192]
        assert sum("no room in memory" in record.message for record in caplog.records) == 1

    def test_the_next_run_does_not_try_again(self, small):
        driver = OllamaPromptDriver(model="roomy", host=small.host)
        for _ in range(2):
            driver.run(_stack(LONG))
        assert _sent(small) == [16_384, 8192, 8192]

    def test_what_must_not_be_cut_fails_with_what_the_server_said(self, small):
        driver = OllamaPromptDriver(model="roomy", host=small.host, on_overflow="error")
        for number in range(1, 6):  # so that it is sure of its estimates
            driver.run(_stack("many words " * 200 * number))
        with pytest.raises(OllamaResponseError, match="requires more system memory") as caught:
            driver.run(_stack("many words " * 9000))
        assert not isinstance(caught.value, OllamaContextError)

    def test_what_may_be_dropped_is_dropped(self, small):
        driver = OllamaPromptDriver(model="roomy", host=small.host, on_overflow="trim")
        stack = PromptStack()
        for _ in range(12):
            stack.add_user_message("many words " * 600)
            stack.add_assistant_message("Yes.")
        stack.add_user_message("Hello")
        reply = driver.run(stack)
        assert _sent(small) == [32_768, 16_384, 8192]
        assert _meta(reply)["dropped_messages"] > 0

    def test_a_window_that_was_named_is_not_changed(self, small):
        with pytest.raises(OllamaResponseError, match="requires more system memory"):
            OllamaPromptDriver(model="roomy", host=small.host, num_ctx=16_384).run(_stack())
        assert _sent(small) == [16_384]

    def test_where_the_model_itself_has_no_room_it_ends(self):
        with OllamaSimulator([SimulatedModel(name="roomy", context_length=131_072)], memory=1000) as simulator:
            driver = OllamaPromptDriver(model="roomy", host=simulator.host)
            with pytest.raises(OllamaResponseError, match="requires more system memory"):
                driver.run(_stack(LONG * 2))
            sent = _sent(simulator)
        assert sent[-1] is None
        assert len(sent) <= 5

    def test_memory_that_runs_out_in_mid_reply_shows_no_text_twice(self, simulator, make_driver):
        simulator.reply(
            lines=[
                {"model": "roomy", "message": {"role": "assistant", "content": "Once upon"}, "done": False},
                {"error": "cudaMalloc failed: out of memory"},
            ]
        )
        pieces = []

        with pytest.raises(OllamaError) as caught:
            pieces.extend(delta.content.text for delta in make_driver().try_stream(_stack(LONG)))

        assert pieces == [caught.value.partial_text] == ["Once upon"]
        assert _sent(simulator) == [16_384]

    def test_a_stream_shows_the_answer_once(self, small):
        small.reply("One answer.", times=None)
        text = "".join(OllamaStream(Agent(prompt_driver=OllamaPromptDriver(model="roomy", host=small.host))).run(LONG))
        assert text == "One answer."


class TestStoppedRuns:
    def test_a_stream_that_is_left_right_after_it_grew_has_its_window(self, simulator, make_driver, is_loading):
        driver = make_driver()
        with contextlib.closing(driver.try_stream(_stack(LONG))) as deltas:
            next(deltas)
        assert not is_loading()
        assert _meta(driver.run(_stack()))["num_ctx"] == 16_384
        assert len(simulator.reloads) == 0

    def test_a_listener_that_raises_leaves_no_window_in_doubt(self, make_driver, is_loading):
        def fail(_):
            raise KeyboardInterrupt

        listener = EventListener(fail, event_types=[OllamaContextEvent])
        EventBus.add_event_listener(listener)
        with pytest.raises(KeyboardInterrupt):
            make_driver().run(_stack(LONG))
        EventBus.remove_event_listener(listener)
        assert not is_loading()
        assert "num_ctx" not in _meta(make_driver().run(_stack()))

    def test_a_request_that_cannot_be_made_leaves_no_window_in_doubt(self, make_driver, is_loading):
        with pytest.raises(ValueError, match="JSON"):
            make_driver(extra_params={"odd": float("nan")}).run(_stack(LONG))
        assert not is_loading()
        assert "num_ctx" not in _meta(make_driver().run(_stack()))

    def test_a_run_that_is_cancelled_while_the_window_grows(self, simulator, make_driver, is_loading):
        driver = make_driver()
        simulator.fault("slow_headers", seconds=60)
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(driver.run, _stack(LONG))
            simulator.wait_for_request(path="/api/chat")
            assert is_loading()
            driver.cancel()
            with pytest.raises(OllamaCancelledError):
                running.result(timeout=10)
        assert not is_loading()
        assert driver.run(_stack()).to_text()

    def test_a_task_that_is_cancelled_while_the_window_grows(self, simulator, make_driver, is_loading):
        async def main():
            task = asyncio.ensure_future(make_driver().arun(_stack(LONG)))
            await asyncio.to_thread(simulator.wait_for_request, path="/api/chat")
            assert is_loading()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        simulator.fault("slow_headers", seconds=60)
        asyncio.run(main())
        simulator.wait_for_disconnect()
        assert make_driver().run(_stack()).to_text()
        assert not is_loading()

    def test_a_run_that_is_cancelled_while_it_waits_for_a_slot(self, simulator, make_driver, is_loading, monkeypatch):
        # It is to wait for a slot, not for the other to be answered.
        monkeypatch.setattr("griptape_ollama.context.window.ARRIVAL_SECONDS", 0)
        one, other = make_driver(max_concurrency=1), make_driver(max_concurrency=1)
        one.run(_stack())
        simulator.fault("slow_headers", seconds=60)
        grown = threading.Event()
        EventBus.add_event_listener(EventListener(lambda _: grown.set(), event_types=[OllamaContextEvent]))
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(one.run, _stack())
            simulator.wait_for_request(2, path="/api/chat")
            second = pool.submit(contextvars.copy_context().run, other.run, _stack(LONG))
            assert grown.wait(10)
            assert is_loading()
            other.cancel()
            with pytest.raises(OllamaCancelledError):
                second.result(timeout=10)
            one.cancel()
            with pytest.raises(OllamaCancelledError):
                first.result(timeout=10)
        assert len(simulator.chats) == 2
        assert not is_loading()

    def test_a_reply_that_breaks_and_is_tried_again_has_the_window(self, simulator, make_driver, is_loading):
        simulator.fault("reset", at="before_headers")
        assert _meta(make_driver().run(_stack(LONG)))["window"] == 16_384
        assert not is_loading()


class TestManyAtOnce:
    def test_fifty_threads_with_growing_prompts_end_with_the_largest_window(self, simulator, make_driver, is_loading):
        driver = make_driver()
        with ThreadPoolExecutor(50) as pool:
            replies = list(pool.map(lambda number: driver.run(_stack("many words " * 100 * number)), range(50)))
        assert all(reply.to_text() for reply in replies)
        # Requests overtake one another on the way, so that the server may load it in another order.
        largest = max(load.context_length for load in simulator.loads)
        loads = len(simulator.loads)
        driver.run(_stack("many words " * 4900))
        assert _meta(driver.run(_stack()))["window"] == largest
        assert len(simulator.loads) <= loads + 1
        assert not is_loading()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    @pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
    def test_a_forked_process_finds_its_locks_free(self, make_driver):
        driver = make_driver()
        driver.run(_stack(LONG))
        is_held = threading.Event()
        done = threading.Event()

        def keep():
            with window_registry.lock:
                is_held.set()
                done.wait()

        thread = threading.Thread(target=keep)
        thread.start()
        is_held.wait()
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if driver.run(_stack(LONG)).to_text() else 2
            os._exit(code)
        done.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def test_a_model_that_was_unloaded_between_two_prompts_starts_afresh(self, simulator, make_driver):
        driver = make_driver(keep_alive=0)
        driver.run(_stack(LONG))
        driver.facts.forget_loaded()  # as five seconds do
        assert "num_ctx" not in _meta(driver.run(_stack()))

    def test_a_window_that_was_loaded_to_render_a_preview_is_seen(self, simulator, make_driver):
        driver = make_driver()
        driver.run(_stack())
        driver.preview(_stack(LONG), render=True)
        assert _meta(driver.run(_stack()))["num_ctx"] == 16_384
        assert len(simulator.reloads) == 1

    def test_without_a_keep_alive_each_prompt_has_the_window_that_it_needs(self, simulator, make_driver):
        driver = make_driver(keep_alive=0)
        for text in (LONG, "Hello", LONG):
            assert not driver.run(_stack(text)).content[0].artifact.meta["ollama"]["truncated"]
        assert all(load.context_length >= 4096 for load in simulator.loads)


class TestModelsThatAreLoadedAhead:
    SETTINGS = ({"on_overflow": "error"}, {"shift": False}, {"num_ctx": 8192}, {"num_ctx": "auto"}, {"num_ctx": None})

    @pytest.mark.parametrize("settings", SETTINGS, ids=str)
    def test_what_prompts_of_a_driver_ask_for_is_not_loaded_twice(self, settings):
        models = [SimulatedModel(name="one"), SimulatedModel(name="two", load_seconds=0.05)]
        with OllamaSimulator(models) as simulator:
            drivers = [OllamaPromptDriver(model=name, host=simulator.host, **settings) for name in ("one", "two")]
            pipeline = Pipeline(tasks=[PromptTask("Hi", prompt_driver=driver) for driver in drivers])
            simulator.reply("One. " * 8, model="one")
            simulator.fault("slow_tokens", seconds=0.1)
            with ModelLifecycle(pipeline, max_models=2, warm_ahead=True):
                pipeline.run()
            warmed = [request.body["model"] for request in simulator.requests if request.path == "/api/generate"]
            assert "two" in warmed, "nothing was loaded ahead"
            assert [load.model for load in simulator.loads] == ["one:latest", "two:latest"]
            assert simulator.reloads == []

    def test_one_that_grew_is_loaded_ahead_with_what_it_was_asked_for_last(self, simulator, make_driver):
        driver = make_driver()
        assert driver.load_options() == {}
        driver.run(_stack(LONG))
        assert driver.load_options() == {"num_ctx": 16_384}
        assert make_driver(num_ctx=None).load_options() == {}
        assert make_driver(options={"num_ctx": 512}).load_options() == {"num_ctx": 512}
