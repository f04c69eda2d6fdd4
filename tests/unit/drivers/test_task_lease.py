"""With keep_alive=0, a model stays between the requests of a task and is unloaded once, when the task is over."""

import threading

import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.events import EventBus
from griptape.structures import Agent, Pipeline, Workflow
from griptape.tasks import PromptTask
from pydantic import BaseModel

from griptape_ollama import OllamaCancelledError, OllamaError
from griptape_ollama.models import keep_alive_leases as holds
from griptape_ollama.testing import OllamaSimulator, Reply

_CALL = {"tool_calls": [("WeatherTool_look_up", {"city": "Oslo"})]}


class Answer(BaseModel):
    city: str


@pytest.fixture
def driver(make_driver):
    return make_driver(extra_params={"keep_alive": 0})


@pytest.fixture(autouse=True)
def _nothing_is_left():
    yield
    assert holds._leases == {}


def _sent(simulator):
    """What was asked of the model: its replies by their keep_alive, and that it goes."""
    return [
        "unload" if request.path == "/api/generate" else request.body.get("keep_alive")
        for request in simulator.requests
        if request.path in ("/api/chat", "/api/generate")
    ]


def test_a_task_without_tools_lets_the_server_unload(simulator, driver):
    Agent(prompt_driver=driver).run("Hello")
    assert _sent(simulator) == [0]
    assert simulator.loaded_models == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("zero", [0, 0.0, "0", "0s", "0m"])
def test_the_model_stays_between_the_turns_and_goes_once(simulator, make_driver, weather_tool, stream, zero):
    seen = []
    simulator.reply(**_CALL)
    simulator.reply(lambda _: seen.append(simulator.loaded_models) or "12 degrees.")
    driver = make_driver(keep_alive=zero, stream=stream)
    agent = Agent(prompt_driver=driver, tools=[weather_tool])
    assert str(agent.run("Oslo?").output) == "12 degrees."
    assert seen == [["simulator:latest"]]
    assert _sent(simulator) == [300, 300, "unload"]
    assert simulator.loaded_models == []


def test_other_keep_alives_are_sent_as_they_are(simulator, make_driver, weather_tool):
    simulator.reply(**_CALL)
    simulator.reply("12 degrees.")
    Agent(prompt_driver=make_driver(keep_alive="10s"), tools=[weather_tool]).run("Oslo?")
    assert _sent(simulator) == ["10s", "10s"]


def test_tools_told_in_words_hold_the_model_too(simulator, make_driver, weather_tool):
    call = '[{"tag": "t", "name": "WeatherTool", "path": "look_up", "input": {"values": {"city": "Oslo"}}}]'
    simulator.reply(f"Thought: look\nActions: {call}")
    simulator.reply("Answer: 12 degrees.")
    driver = make_driver(keep_alive=0, use_native_tools=False)
    Agent(prompt_driver=driver, tools=[weather_tool]).run("Oslo?")
    assert _sent(simulator) == [300, 300, "unload"]


def test_a_second_request_of_one_answer_finds_the_model(simulator, driver):
    simulator.reply("no JSON")
    simulator.reply('{"city": "Oslo"}')
    driver.structured_output_strategy = "rule"
    PromptTask("Where?", prompt_driver=driver, output_schema=Answer).run()
    assert _sent(simulator) == [300, 300, "unload"]


def test_a_reply_that_fails_lets_the_model_go(simulator, driver, weather_tool):
    simulator.reply(**_CALL)
    simulator.fault("status", n=2, status=400, error="no")
    output = Agent(prompt_driver=driver, tools=[weather_tool]).run("Oslo?").output
    assert isinstance(output.exception, OllamaError)
    assert _sent(simulator)[-1] == "unload"


def test_a_task_that_ends_at_its_limit_of_subtasks_lets_the_model_go(simulator, driver, weather_tool):
    simulator.reply(**_CALL, times=None)
    agent = Agent(tasks=[PromptTask(prompt_driver=driver, tools=[weather_tool], max_subtasks=2)])
    assert "Exceeded tool limit" in str(agent.run("Oslo?").output)
    assert _sent(simulator) == [300, 300, "unload"]


def test_a_task_that_ends_with_its_tool_lets_the_model_go(simulator, driver, weather_tool):
    simulator.reply(**_CALL)
    task = PromptTask(prompt_driver=driver, tools=[weather_tool], reflect_on_tool_use=False)
    assert "Oslo: 12 degrees" in str(Agent(tasks=[task]).run("Oslo?").output)
    assert _sent(simulator) == [300, "unload"]


def test_a_task_that_vanished_is_noticed_when_the_next_one_starts(simulator, driver, weather_tool):
    class Vanishing(PromptTask):
        def after_run(self):
            raise RuntimeError("it vanished")

    simulator.reply(**_CALL)
    simulator.reply("Next.")
    first = Vanishing("Oslo?", prompt_driver=driver, tools=[weather_tool], reflect_on_tool_use=False)
    pipeline = Pipeline(tasks=[first, PromptTask("Go on.", prompt_driver=driver)], fail_fast=False)
    pipeline.run()
    assert _sent(simulator) == [300, "unload", 0]


def test_an_agent_within_a_tool_does_not_take_the_model_away(simulator, driver, weather_tool):
    simulator.reply(**_CALL)
    simulator.reply(**_CALL)
    simulator.reply("The inner answer.")
    simulator.reply("The outer answer.")
    inner = Agent(prompt_driver=driver, tools=[type(weather_tool)()])

    class Outer(type(weather_tool)):
        def run(self, activity, subtask, action):
            inner.run("And?")
            return super().run(activity, subtask, action)

    outer = Outer(name="WeatherTool")
    assert str(Agent(prompt_driver=driver, tools=[outer]).run("Oslo?").output) == "The outer answer."
    assert _sent(simulator) == [300, 300, 300, 300, "unload"]


def test_a_branch_that_is_done_leaves_the_model_to_one_that_is_not(make_driver, weather_tool):
    quick_is_done, slow_called = threading.Event(), threading.Event()

    class Slow(type(weather_tool)):
        def run(self, activity, subtask, action):
            assert quick_is_done.wait(30)
            return super().run(activity, subtask, action)

    class Quick(PromptTask):
        def after_run(self):
            super().after_run()
            quick_is_done.set()

    def answer(request):
        if "slow" in request.body["messages"][-1]["content"]:
            slow_called.set()
            return Reply(**_CALL)
        if "quick" in request.body["messages"][-1]["content"]:
            assert slow_called.wait(30)
            return "Quick."
        return "Slow."

    with OllamaSimulator(num_parallel=2) as simulator:
        driver = make_driver(keep_alive=0, host=simulator.url)
        simulator.reply(answer, times=None)
        tasks = [
            PromptTask("slow", id="slow", prompt_driver=driver, tools=[Slow(name="WeatherTool")]),
            Quick("quick", id="quick", prompt_driver=driver, tools=[weather_tool]),
        ]
        Workflow(tasks=tasks).run()
        assert _sent(simulator) == [300, 300, 300, "unload"]


def test_leaving_a_stream_early_lets_the_model_go(simulator, driver, weather_tool):
    simulator.reply("A long answer of several words.")
    stack = PromptStack(tools=[weather_tool])
    stack.add_user_message("Oslo?")
    stream = driver.try_stream(stack)
    next(stream)
    stream.close()
    assert _sent(simulator) == [300, "unload"]


def test_cancelling_lets_the_model_go(simulator, driver, weather_tool):
    def cancel(_):
        driver.cancel()
        return "Too late."

    simulator.reply(cancel)
    stack = PromptStack(tools=[weather_tool])
    stack.add_user_message("Oslo?")
    with pytest.raises(OllamaCancelledError):
        driver.run(stack)
    assert _sent(simulator) == [300, "unload"]


def test_a_server_that_does_not_unload_fails_no_run(simulator, driver, weather_tool):
    simulator.fault("status", status=500, error="no", path="/api/generate", times=None)
    simulator.reply("12 degrees.")
    assert str(Agent(prompt_driver=driver, tools=[weather_tool]).run("Oslo?").output) == "12 degrees."


def test_no_listener_stays_behind(simulator, driver, weather_tool, events):
    before = list(EventBus.event_listeners)
    simulator.reply(**_CALL)
    simulator.reply("12 degrees.")
    Agent(prompt_driver=driver, tools=[weather_tool]).run("Oslo?")
    assert EventBus.event_listeners == before


def test_a_driver_with_other_settings_shares_the_connection(make_driver):
    driver = make_driver(temperature=0.7, options={"seed": 1})
    twin = driver.with_settings(keep_alive=0, stream=True, temperature=0.2)
    assert (twin.keep_alive, twin.stream, twin.temperature, twin.options) == (0, True, 0.2, {"seed": 1})
    assert (driver.keep_alive, driver.stream, driver.temperature) == (None, False, 0.7)
    assert twin.connection is driver.connection
    assert type(twin) is type(driver)


def test_a_driver_with_another_server_has_its_own_connection(make_driver):
    driver = make_driver()
    assert driver.with_settings(host="http://127.0.0.1:1").connection is not driver.connection
    assert driver.with_settings(api_key="k").connection is not driver.connection


def test_a_client_that_was_given_is_shared(make_driver, make_client):
    client = make_client()
    assert make_driver(client=client).with_settings(keep_alive=0).client is client


def test_cancelling_one_driver_leaves_the_other_alone(simulator, make_driver):
    driver = make_driver()
    twin = driver.with_settings(stream=True)
    simulator.reply(lambda _: driver.cancel() or "Whole.")
    assert twin.run(TextArtifact("Hi")).to_text() == "Whole."


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"keep_alive": "soon"}, OllamaError, "keep_alive='soon'"),
        ({"keepalive": 0}, TypeError, "no setting 'keepalive'"),
        ({"_temperature": 0}, TypeError, "no setting '_temperature'"),
    ],
)
def test_wrong_settings_are_refused_at_once(make_driver, wrong, error, text):
    with pytest.raises(error, match=text):
        make_driver().with_settings(**wrong)
