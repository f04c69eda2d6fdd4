"""Runs of structures that are streamed, and left."""

import asyncio
import gc
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.artifacts import ErrorArtifact, TextArtifact
from griptape.events import BaseEvent, EventBus, EventListener, TextChunkEvent
from griptape.structures import Agent, Pipeline, Workflow
from griptape.tasks import CodeExecutionTask, PromptTask
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Schema

from griptape_ollama import (
    OllamaBusyError,
    OllamaCancelledError,
    OllamaContentError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaStream,
    cancel_scope,
)


def _remembered(agent):
    return [(run.input.value, run.output.value) for run in agent.conversation_memory.runs]


@pytest.fixture
def spoken(simulator, silence):
    """Lets the next reply say two words and then no more, until the end of the test."""
    simulator.reply(["one ", "two ", "three"], pause=(2, silence))


@pytest.mark.parametrize("stream", [False, True])
def test_chunks_are_the_answer_whatever_the_driver_streams_by_itself(simulator, make_driver, stream):
    simulator.reply("one two three")
    agent = Agent(prompt_driver=make_driver(stream=stream))
    streamed = OllamaStream(agent)
    assert streamed.output is None
    chunks = list(streamed.run("Count."))
    assert len(chunks) > 1
    assert "".join(chunks) == "one two three" == streamed.output.value
    assert _remembered(agent) == [("Count.", "one two three")]
    assert simulator.last_chat.messages[-1]["content"] == "Count."


def test_chunks_arrive_while_the_model_speaks(agent, spoken, silence):
    run = OllamaStream(agent).run("Count.")
    assert next(run) == "one "
    assert run.output is None
    silence.set()
    assert list(run) == ["two ", "three"]
    assert run.output.value == "one two three"


def test_an_async_loop_gives_the_same(simulator, agent):
    simulator.reply(["one ", "two"])
    streamed = OllamaStream(agent)

    async def main():
        return [chunk async for chunk in streamed.run("Count.")]

    assert asyncio.run(main()) == ["one ", "two"]
    assert streamed.output.value == "one two"


def test_reasoning_is_given_where_it_is_wanted(simulator, make_driver):
    simulator.reply(thinking="Hm.", text="Hello.", times=2)
    agent = Agent(prompt_driver=make_driver(think=None))
    assert "".join(OllamaStream(agent).run("hi")) == "Hello."
    chunks = list(OllamaStream(agent, reasoning=True).run("hi"))
    assert [(chunk.value, chunk.is_reasoning) for chunk in chunks] == [("Hm.", True), ("Hello.", False)]


def test_answers_of_several_prompts_are_set_apart(simulator, make_driver, silence):
    simulator.reply("one")
    simulator.reply("two")
    pipeline = Pipeline(tasks=[PromptTask("Task.", prompt_driver=make_driver()) for _ in range(2)])
    assert list(OllamaStream(pipeline).run()) == ["one", "\n", "two"]


def test_a_run_sees_the_context_and_the_listeners_of_where_it_was_made(simulator, agent):
    tokens = []
    with EventListener(lambda event: tokens.append(event.token), event_types=[TextChunkEvent]):
        run = OllamaStream(agent).run("hi")
    assert "".join(run) == "".join(tokens)


@pytest.mark.parametrize("how", ["break", "close", "with", "drop"])
def test_leaving_early_stops_the_server_and_the_next_run_knows_nothing_of_it(simulator, agent, spoken, how):
    simulator.reply("Hello.")
    streamed = OllamaStream(agent)
    if how == "break":
        for _ in streamed.run("Count."):
            break
    elif how == "with":
        with streamed.run("Count.") as run:
            next(run)
    else:
        run = streamed.run("Count.")
        next(run)
        if how == "close":
            run.close()
        del run
    gc.collect()
    simulator.wait_for_disconnect()
    assert isinstance(streamed.output.exception, OllamaCancelledError)
    assert _remembered(agent) == []
    assert list(streamed.run("Hi.")) == ["Hello."]
    assert [message["content"] for message in simulator.last_chat.messages if message["role"] != "system"] == ["Hi."]
    assert agent._event_queue.empty()
    assert EventBus.event_listeners == []


def test_leaving_early_in_an_event_loop_stops_the_server(simulator, agent, spoken):
    simulator.reply("Hello.")

    async def main():
        async with OllamaStream(agent).run("Count.") as run:
            async for _ in run:
                break
        assert isinstance(run.output.exception, OllamaCancelledError)
        await asyncio.to_thread(simulator.wait_for_disconnect)
        return [chunk async for chunk in OllamaStream(agent).run("Hi.")]

    assert asyncio.run(main()) == ["Hello."]
    assert _remembered(agent) == [("Hi.", "Hello.")]


def test_a_run_that_was_dropped_in_an_event_loop_does_not_disturb_the_next(simulator, agent, spoken):
    simulator.reply("Hello.")

    async def main():
        async for _ in OllamaStream(agent).run("Count."):
            break
        return [chunk async for chunk in OllamaStream(agent).run("Hi.")]

    assert asyncio.run(main()) == ["Hello."]
    assert _remembered(agent) == [("Hi.", "Hello.")]


def test_cancelling_the_task_stops_the_server(simulator, agent, spoken):
    async def consume(begun):
        async for _ in OllamaStream(agent).run("Count."):
            begun.set()

    async def main():
        begun = asyncio.Event()
        task = asyncio.ensure_future(consume(begun))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    simulator.wait_for_disconnect()
    assert _remembered(agent) == []


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this system has no signals for threads")
def test_a_ctrl_c_while_waiting_for_a_chunk_stops_the_server(simulator, agent, spoken):
    def count():
        for number, _ in enumerate(OllamaStream(agent).run("Count.")):
            if number == 1:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            count()
    finally:
        signal.signal(signal.SIGINT, before)
    simulator.wait_for_disconnect()
    assert _remembered(agent) == []


@pytest.mark.parametrize("by", ["run", "driver", "scope"])
def test_who_cancels_elsewhere_ends_the_loop_with_the_error(simulator, make_driver, spoken, by):
    driver = make_driver()
    agent = Agent(prompt_driver=driver)
    with cancel_scope() as scope:
        run = OllamaStream(agent).run("Count.")
    assert [next(run), next(run)] == ["one ", "two "]
    with ThreadPoolExecutor(1) as pool:
        pool.submit({"run": run.cancel, "driver": driver.cancel, "scope": scope.cancel}[by])
        with pytest.raises(OllamaCancelledError) as caught:
            next(run)
    assert caught.value.partial_text == "one two "
    assert run.output.exception is caught.value
    assert _remembered(agent) == []


def test_a_run_in_a_cancelled_scope_asks_nothing(simulator, agent):
    scope = cancel_scope()
    scope.cancel()
    with scope, pytest.raises(OllamaCancelledError):
        list(OllamaStream(agent).run("hi"))
    assert simulator.chats == []


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"status": 404, "error": "model 'simulator' not found"}, OllamaModelNotFoundError),
        ({"status": 503, "error": "server busy", "times": None}, OllamaBusyError),
    ],
)
def test_an_error_is_raised_and_not_remembered(simulator, agent, reply, error):
    simulator.reply("Hello.")
    assert list(OllamaStream(agent).run("Hi.")) == ["Hello."]
    simulator.reply(**reply)
    streamed = OllamaStream(agent)
    with pytest.raises(error):
        list(streamed.run("Count."))
    assert isinstance(streamed.output, ErrorArtifact)
    assert _remembered(agent) == [("Hi.", "Hello.")]


def test_the_error_of_a_pipeline_is_that_of_its_task(simulator, make_driver):
    simulator.reply("one")
    simulator.reply(status=404, error="model 'simulator' not found")
    tasks = [PromptTask("Task.", prompt_driver=make_driver()) for _ in range(3)]
    streamed = OllamaStream(Pipeline(tasks=tasks))
    run = streamed.run()
    assert next(run) == "one"
    with pytest.raises(OllamaModelNotFoundError):
        next(run)
    assert streamed.output is tasks[1].output


def test_a_task_that_failed_in_a_workflow_that_goes_on_is_no_error(simulator, make_driver):
    simulator.reply(status=404, error="model 'simulator' not found")
    simulator.reply("All the same.")
    first, last = (PromptTask("Task.", prompt_driver=make_driver()) for _ in range(2))
    last.add_parent(first)
    streamed = OllamaStream(Workflow(tasks=[first, last], fail_fast=False))
    assert "".join(streamed.run()) == "All the same."
    assert streamed.output.value == "All the same."


def test_an_error_without_an_exception_is_one_of_ours():
    task = CodeExecutionTask(on_run=lambda _: ErrorArtifact("It went wrong."))
    with pytest.raises(OllamaError, match="It went wrong"):
        list(OllamaStream(Agent(tasks=[task])).run())


def test_what_a_structure_raises_reaches_the_consumer(agent):
    def broken(_: BaseEvent):
        raise LookupError("the listener is broken")

    EventBus.add_event_listener(EventListener(broken))
    with pytest.raises(LookupError):
        list(OllamaStream(agent).run("hi"))


def test_a_run_that_was_over_before_it_was_left_is_forgotten_all_the_same(simulator, agent):
    simulator.reply(["one ", "two"], times=2)
    run = OllamaStream(agent).run("Count.")
    next(run)
    run._thread.join(10)
    assert len(_remembered(agent)) == 1
    run.close()
    assert _remembered(agent) == []

    async def main():
        run = OllamaStream(agent).run("Count.")
        await run.__anext__()
        await asyncio.to_thread(run._thread.join, 10)
        assert len(_remembered(agent)) == 1
        await run.aclose()

    asyncio.run(main())
    assert _remembered(agent) == []


def test_a_run_that_was_heard_to_its_end_is_kept_whatever_is_closed_then(simulator, agent):
    run = OllamaStream(agent).run("hi")
    list(run)
    run.cancel()
    run.close()
    del run
    gc.collect()
    assert len(_remembered(agent)) == 1


def test_runs_of_one_structure_wait_for_each_other(simulator, agent, spoken, silence):
    simulator.reply("Hello.")
    first = OllamaStream(agent).run("Count.")
    assert next(first) == "one "
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(list, OllamaStream(agent).run("Hi."))
        silence.set()
        assert list(first) == ["two ", "three"]
        assert second.result(10) == ["Hello."]
    assert _remembered(agent) == [("Count.", "one two three"), ("Hi.", "Hello.")]


def test_a_run_that_waits_for_another_can_be_cancelled(simulator, agent, spoken):
    first = OllamaStream(agent).run("Count.")
    next(first)
    second = OllamaStream(agent).run("Hi.")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, second)
        second.cancel()
        with pytest.raises(OllamaCancelledError):
            waiting.result(10)
    first.close()
    assert len(simulator.chats) == 1


class AskingTool(BaseTool):
    """A tool that asks a model itself."""

    @activity(config={"description": "Asks somebody else", "schema": Schema({Literal("question"): str})})
    def ask(self, params):
        driver = OllamaPromptDriver(model="simulator", stream=True)
        return driver.run(TextArtifact(params["values"]["question"])).to_artifact()

    @activity(config={"description": "Streams somebody else", "schema": Schema({Literal("question"): str})})
    def stream(self, params):
        agent = Agent(prompt_driver=OllamaPromptDriver(model="simulator"))
        return TextArtifact(" and ".join(OllamaStream(agent).run(params["values"]["question"])))


@pytest.mark.parametrize("way", ["ask", "stream"])
def test_what_is_said_inside_a_tool_is_not_what_the_agent_says(simulator, make_driver, monkeypatch, way):
    monkeypatch.setenv("OLLAMA_HOST", simulator.url)
    simulator.reply(text="Let me ask.", tool_calls=[(f"AskingTool_{way}", {"question": "Who?"})])
    simulator.reply(["so", "mebody"])
    simulator.reply("They know.")
    agent = Agent(prompt_driver=make_driver(), tools=[AskingTool()])
    assert "".join(OllamaStream(agent).run("Who?")) == "Let me ask.\nThey know."
    result = simulator.last_chat.messages[-1]["content"]
    assert result == ("somebody" if way == "ask" else "so and mebody")


def test_an_agent_that_streams_itself_inside_a_task_does_not_wait_for_itself():
    calls = []

    def once(task):
        calls.append(task)
        if len(calls) == 1:
            assert list(OllamaStream(outer).run()) == []
        return TextArtifact("done")

    outer = Agent(tasks=[CodeExecutionTask(on_run=once)])
    assert list(OllamaStream(outer).run()) == []
    assert len(calls) == 2


def test_leaving_a_workflow_stops_all_its_branches(simulator, make_driver, silence):
    simulator.reply(["one ", "two"], pause=(1, silence))
    simulator.reply("never", wait=silence)
    tasks = [PromptTask("Branch.", prompt_driver=make_driver()) for _ in range(2)]
    with OllamaStream(Workflow(tasks=tasks)).run() as run:
        assert next(run) == "one "
    for task in tasks:
        assert isinstance(task.output.exception, OllamaCancelledError)


def test_only_structures_are_streamed(make_driver):
    with pytest.raises(OllamaContentError, match="must be an Agent"):
        OllamaStream(make_driver())


def test_a_run_that_is_never_asked_for_a_chunk_asks_nothing(simulator, agent):
    OllamaStream(agent).run("hi")
    with OllamaStream(agent).run("hi"):
        pass
    gc.collect()
    assert simulator.requests == []
    assert threading.active_count() < 50
