"""Scopes around what Griptape runs: Agents, Pipelines, Workflows, tools, vectors, pulls and images."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from griptape.artifacts import ErrorArtifact, ImageUrlArtifact, ListArtifact, TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.events import EventBus, EventListener, FinishActionsSubtaskEvent, StartPromptEvent, TextChunkEvent
from griptape.structures import Agent, Pipeline, Workflow
from griptape.tasks import PromptTask
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Schema

from griptape_ollama import ModelLifecycle, OllamaCancelledError, OllamaPromptDriver, cancel_scope
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture
def silence():
    """What a reply may wait for that is never to come; set at the end."""
    event = threading.Event()
    yield event
    event.set()


@contextlib.contextmanager
def _cancelled(scope, simulator, *, n=1, path="/api/chat"):
    """Cancels a scope once a request has arrived, from another thread."""

    def cancel():
        simulator.wait_for_request(n, path=path)
        scope.cancel()

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(cancel)
        yield
        done.result(10)


def _assert_was_cancelled(output):
    assert isinstance(output, ErrorArtifact)
    assert isinstance(output.exception, OllamaCancelledError)


@_both_ways
def test_an_agent_ends_with_the_error_and_the_next_run_works(simulator, make_driver, silence, stream):
    simulator.reply("one two three", pause=(1, silence))
    agent = Agent(prompt_driver=make_driver(stream=stream))
    with cancel_scope() as scope, _cancelled(scope, simulator):
        output = agent.run("Count.").output
    _assert_was_cancelled(output)
    simulator.wait_for_disconnect()
    assert len(simulator.chats) == 1
    assert not isinstance(agent.run("Again.").output, ErrorArtifact)


def test_a_direct_caller_gets_the_text_so_far(simulator, make_driver, silence):
    simulator.reply(["one ", "two ", "three"], pause=(2, silence))
    said = []

    def heard(event):
        said.append(event.token)
        if len(said) == 2:
            scope.cancel()

    with cancel_scope() as scope, EventListener(heard, event_types=[TextChunkEvent]):  # noqa: SIM117
        with pytest.raises(OllamaCancelledError) as caught:
            make_driver(stream=True).run(TextArtifact("Count."))
    assert caught.value.partial_text == "one two "


@_both_ways
def test_a_scope_that_was_cancelled_before_the_start_asks_nothing_and_publishes_nothing(
    simulator, make_driver, events, stream
):
    driver = make_driver(stream=stream)
    scope = cancel_scope()
    scope.cancel()
    with scope, pytest.raises(OllamaCancelledError):
        driver.run(TextArtifact("hi"))
    with scope, pytest.raises(OllamaCancelledError):
        next(driver.try_stream(Agent(prompt_driver=driver).task.prompt_stack))
    assert simulator.chats == []
    assert not [event for event in events if isinstance(event, StartPromptEvent)]


@pytest.mark.parametrize("fail_fast", [True, False])
def test_a_pipeline_asks_nothing_more(simulator, make_driver, silence, fail_fast):
    simulator.reply("never", wait=silence)
    tasks = [PromptTask(f"Task {number}.", prompt_driver=make_driver()) for number in range(3)]
    pipeline = Pipeline(tasks=tasks, fail_fast=fail_fast)
    with cancel_scope() as scope, _cancelled(scope, simulator):
        pipeline.run()
    for task in tasks[: 1 if fail_fast else 3]:
        _assert_was_cancelled(task.output)
    assert len(simulator.chats) == 1


def test_all_branches_of_a_workflow_are_stopped_and_nothing_follows(make_driver, silence):
    with OllamaSimulator(num_parallel=2) as simulator:
        simulator.reply("never", wait=silence, times=2)
        driver = make_driver(host=simulator.url)
        branches = [PromptTask("Branch.", prompt_driver=driver) for _ in range(2)]
        last = PromptTask("Last.", prompt_driver=driver)
        last.add_parents(branches)
        workflow = Workflow(tasks=[*branches, last], fail_fast=False)
        with cancel_scope() as scope, _cancelled(scope, simulator, n=2):
            workflow.run()
        for task in (*branches, last):
            _assert_was_cancelled(task.output)
        assert len(simulator.chats) == 2


def test_a_tool_loop_ends_between_its_turns(simulator, make_driver, weather_tool):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    agent = Agent(prompt_driver=make_driver(), tools=[weather_tool])
    with cancel_scope() as scope, EventListener(lambda _: scope.cancel(), event_types=[FinishActionsSubtaskEvent]):
        output = agent.run("How is the weather in Oslo?").output
    _assert_was_cancelled(output)
    assert len(simulator.chats) == 1


class AskingTool(BaseTool):
    """A tool that asks a model itself."""

    @activity(config={"description": "Asks somebody else", "schema": Schema({Literal("question"): str})})
    def ask(self, params):
        return Agent(prompt_driver=OllamaPromptDriver(model="simulator")).run(params["values"]["question"]).output


def test_a_driver_inside_a_tool_is_stopped(simulator, make_driver, silence, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", simulator.url)
    simulator.reply(tool_calls=[("AskingTool_ask", {"question": "Who?"})])
    simulator.reply("never", wait=silence)
    agent = Agent(prompt_driver=make_driver(), tools=[AskingTool()])
    with cancel_scope() as scope, _cancelled(scope, simulator, n=2):
        output = agent.run("Ask.").output
    _assert_was_cancelled(output)
    assert len(simulator.chats) == 2


def test_waiting_for_another_try_is_stopped(simulator, make_driver):
    simulator.reply(status=503, error="server busy")
    waits = threading.Event()
    driver = make_driver(min_retry_delay=60, max_retry_delay=60, after_hook=lambda _: waits.set())
    with cancel_scope() as scope, ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: waits.wait(10) and scope.cancel())
        with pytest.raises(OllamaCancelledError):
            driver.run(TextArtifact("hi"))
        done.result(10)
    assert len(simulator.chats) == 1


def test_facts_are_no_longer_waited_for(simulator, make_driver, silence):
    simulator.reply(path="/api/show", body={}, wait=silence)
    with cancel_scope() as scope, _cancelled(scope, simulator, path="/api/show"):
        output = Agent(prompt_driver=make_driver()).run("hi").output
    _assert_was_cancelled(output)
    assert simulator.chats == []


def test_fetching_an_image_is_stopped(silence):
    models = [SimulatedModel(name="eyes", capabilities=("completion", "vision"))]
    with OllamaSimulator(models=models) as simulator:
        simulator.reply(path="/cat.png", body=b"", wait=silence)
        image = ImageUrlArtifact(f"{simulator.url}/cat.png")
        driver = OllamaPromptDriver(model="eyes", host=simulator.url, allow_private_image_urls=True)
        with cancel_scope() as scope, _cancelled(scope, simulator, path="/cat.png"):  # noqa: SIM117
            with pytest.raises(OllamaCancelledError):
                driver.run(ListArtifact([TextArtifact("What is it?"), image]))
        assert simulator.chats == []


@pytest.mark.parametrize("many", [False, True], ids=["embed", "embed_batch"])
def test_embedding_is_stopped(simulator, embedder, silence, many):
    simulator.reply(path="/api/embed", body={}, wait=silence)
    with cancel_scope() as scope, _cancelled(scope, simulator, path="/api/embed"), pytest.raises(OllamaCancelledError):
        embedder.embed_batch(["a", "b"]) if many else embedder.embed("a")
    assert len(embedder.embed("a")) > 0


def test_filling_a_vector_store_is_stopped_on_all_its_threads(simulator, embedder, silence):
    simulator.reply(path="/api/embed", body={}, wait=silence, times=None)
    store = LocalVectorStoreDriver(embedding_driver=embedder)
    notes = [TextArtifact(f"Note {number}.") for number in range(50)]
    with cancel_scope() as scope, _cancelled(scope, simulator, path="/api/embed"):  # noqa: SIM117
        with pytest.raises(OllamaCancelledError), embedder.prefetch(notes):
            store.upsert_collection(notes)


def test_a_model_that_was_to_be_unloaded_is_unloaded_after_a_cancelled_task(simulator, make_driver, weather_tool):
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    agent = Agent(prompt_driver=make_driver(keep_alive=0), tools=[weather_tool])
    prompts = []

    def heard(event):
        prompts.append(event)
        if len(prompts) == 2:
            scope.cancel()

    EventBus.add_event_listener(EventListener(heard, event_types=[StartPromptEvent]))
    with cancel_scope() as scope:
        _assert_was_cancelled(agent.run("How is the weather in Oslo?").output)
    assert simulator.loaded_models == []


def test_the_planner_unloads_after_a_cancelled_run_and_does_not_complain(simulator, make_driver, silence):
    simulator.reply("one")
    simulator.reply("never", wait=silence)
    pipeline = Pipeline(tasks=[PromptTask("Task.", prompt_driver=make_driver()) for _ in range(2)])
    with cancel_scope() as scope, ModelLifecycle(pipeline, runs=None) as lifecycle, _cancelled(scope, simulator, n=2):
        pipeline.run()
    _assert_was_cancelled(pipeline.tasks[1].output)
    assert simulator.loaded_models == []
    assert lifecycle.report.problems == ()


@pytest.mark.parametrize("wait", ["start", "gathered", "prefetched"])
def test_a_call_that_waits_for_another_gets_the_error_of_its_cancellation(simulator, embedder, silence, wait):
    simulator.reply(path="/api/embed", body={}, wait=silence, times=None)
    scope = cancel_scope()
    if wait == "start":
        scope.cancel()
    with ExitStack() as stack:
        if wait == "gathered":
            pool = stack.enter_context(ThreadPoolExecutor(1))
            stack.callback(embedder.cancel)
            pool.submit(embedder.embed, "of another thread")
            simulator.wait_for_request(1, path="/api/embed")
            stack.enter_context(_cancelled(scope, simulator, n=2, path="/api/embed"))
        if wait == "prefetched":
            stack.enter_context(embedder.prefetch(["a"]))
            stack.enter_context(_cancelled(scope, simulator, path="/api/embed"))
        with scope, pytest.raises(OllamaCancelledError, match="simulator-embed") as caught:
            embedder.embed("a")
    assert (caught.value.host, caught.value.model) == (simulator.url, "simulator-embed")
