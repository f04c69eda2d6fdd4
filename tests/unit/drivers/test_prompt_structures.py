"""The driver in Agents, Pipelines and Workflows."""

import json

import pytest
from griptape.artifacts import ErrorArtifact, ImageArtifact, JsonArtifact, ModelArtifact, TextArtifact
from griptape.events import (
    ActionChunkEvent,
    FinishActionsSubtaskEvent,
    FinishPromptEvent,
    StartPromptEvent,
    TextChunkEvent,
)
from griptape.rules import Rule
from griptape.structures import Agent, Pipeline, Workflow
from griptape.tasks import PromptTask
from pydantic import BaseModel
from schema import Schema

from griptape_ollama import OllamaModelNotFoundError, OllamaResponseEvent
from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


class _Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="simulator", parameters={"stop": ["<|im_end|>"]}),
        SimulatedModel(name="native", kind="native"),
        SimulatedModel(name="eyes", capabilities=("completion", "vision")),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


def _call(city):
    return ("WeatherTool_look_up", {"city": city})


def _of(events, kind):
    return [event for event in events if type(event) is kind]


def _said(request):
    return [(message["role"], message["content"]) for message in request.messages]


@_both_ways
def test_an_agent_answers(simulator, make_driver, stream):
    simulator.reply("Hello")
    agent = Agent(prompt_driver=make_driver(stream=stream))
    assert agent.run("Hi").output.value == "Hello"
    assert _said(simulator.last_chat) == [("user", "Hi")]


@_both_ways
def test_the_output_of_an_agent_carries_what_the_server_told(simulator, make_driver, stream):
    output = Agent(prompt_driver=make_driver(stream=stream)).run("Hi").output
    assert output.meta["ollama"]["model"] == "simulator"
    assert output.meta["ollama"]["done_reason"] == "stop"
    assert output.meta["ollama"]["host"] == simulator.url


@_both_ways
def test_an_agent_remembers_the_conversation(simulator, make_driver, stream):
    agent = Agent(prompt_driver=make_driver(stream=stream), rules=[Rule("Be brief.")])
    for number in range(3):
        simulator.reply(f"Answer {number}")
        agent.run(f"Question {number}")
    system, *rest = _said(simulator.last_chat)
    assert system[0] == "system"
    assert "Be brief." in system[1]
    assert rest == [
        ("user", "Question 0"),
        ("assistant", "Answer 0"),
        ("user", "Question 1"),
        ("assistant", "Answer 1"),
        ("user", "Question 2"),
    ]


@_both_ways
@pytest.mark.parametrize("model", ["simulator", "native"])
def test_an_agent_uses_a_tool_and_the_result_says_which_call_it_answers(
    simulator, make_driver, weather_tool, *, stream, model
):
    simulator.reply(text="Let me look. ", tool_calls=[_call("Oslo"), _call("Rome")])
    simulator.reply("Both have 12 degrees.")
    agent = Agent(prompt_driver=make_driver(model=model, stream=stream), tools=[weather_tool])
    assert agent.run("The weather in Oslo and Rome?").output.value == "Both have 12 degrees."
    first, second = simulator.chats
    assert [tool["function"]["name"] for tool in first.tools] == ["WeatherTool_look_up"]
    asked, said, *results = second.messages[1:]
    assert asked["role"] == "user"
    assert (said["role"], said["content"]) == ("assistant", "Let me look. ")
    ids = [call["id"] for call in said["tool_calls"]]
    assert len(set(ids)) == 2
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == [
        {"city": "Oslo"},
        {"city": "Rome"},
    ]
    assert results[:2] == [
        {"role": "tool", "content": "Oslo: 12 degrees", "tool_name": "WeatherTool_look_up", "tool_call_id": ids[0]},
        {"role": "tool", "content": "Rome: 12 degrees", "tool_name": "WeatherTool_look_up", "tool_call_id": ids[1]},
    ]


@_both_ways
def test_the_tool_loop_goes_on_for_as_many_turns_as_the_model_wants(simulator, make_driver, weather_tool, stream):
    cities = ["Oslo", "Rome", "Lyon", "Bonn"]
    for city in cities:
        simulator.reply(tool_calls=[_call(city)])
    simulator.reply("Done.")
    agent = Agent(prompt_driver=make_driver(stream=stream), tools=[weather_tool])
    assert agent.run("Go on").output.value == "Done."
    messages = simulator.last_chat.messages
    results = [(message["tool_call_id"], message["content"]) for message in messages if message["role"] == "tool"]
    calls = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    assert [content for _, content in results] == [f"{city}: 12 degrees" for city in cities]
    assert [tag for tag, _ in results] == calls
    assert len(set(calls)) == 4


def test_servers_without_ids_get_ids_of_ours(simulator, make_driver, weather_tool):
    call = {"function": {"name": "WeatherTool_look_up", "arguments": {"city": "Oslo"}}}
    for _ in range(2):
        simulator.reply(tool_calls=[call, call])
    simulator.reply("Done.")
    Agent(prompt_driver=make_driver(), tools=[weather_tool]).run("Go on")
    messages = simulator.last_chat.messages
    calls = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    assert len(set(calls)) == 4
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == calls


@_both_ways
def test_events_of_an_agent_with_a_tool(simulator, make_driver, weather_tool, events, stream):
    simulator.reply(tool_calls=[_call("Oslo")])
    simulator.reply("12 degrees.")
    Agent(prompt_driver=make_driver(stream=stream), tools=[weather_tool]).run("The weather in Oslo?")
    for kind in (StartPromptEvent, OllamaResponseEvent, FinishPromptEvent):
        assert len(_of(events, kind)) == 2
    assert len(_of(events, FinishActionsSubtaskEvent)) == 1
    assert len(_of(events, ActionChunkEvent)) == int(stream)
    assert "".join(event.token for event in _of(events, TextChunkEvent)) == ("12 degrees." if stream else "")


@_both_ways
def test_without_native_tools_the_react_text_is_used_and_ends_where_it_should(
    simulator, make_driver, weather_tool, stream
):
    action = {"tag": "a", "name": "WeatherTool", "path": "look_up", "input": {"city": "Oslo"}}
    simulator.reply(f"Thought: I look it up.\nActions: {json.dumps([action])}")
    simulator.reply("Answer: 12 degrees in Oslo.")
    driver = make_driver(use_native_tools=False, stream=stream)
    agent = Agent(prompt_driver=driver, tools=[weather_tool])
    assert agent.run("The weather in Oslo?").output.value == "12 degrees in Oslo."
    for request in simulator.chats:
        assert request.tools == []
        assert request.options["stop"] == ["<|Response|>", "<|im_end|>"]
    assert "Oslo: 12 degrees" in simulator.last_chat.messages[-1]["content"]


def test_native_prompts_send_no_stop_even_after_many_tasks_have_left_theirs(simulator, make_driver, weather_tool):
    driver = make_driver()
    for _ in range(3):
        Agent(prompt_driver=driver, tools=[weather_tool]).run("Hi")
    assert "<|Response|>" in driver.tokenizer.stop_sequences
    assert all("stop" not in request.options for request in simulator.chats)


@_both_ways
def test_a_pipeline_hands_answers_on(simulator, make_driver, stream):
    simulator.reply("one")
    simulator.reply("two")
    driver = make_driver(stream=stream)
    pipeline = Pipeline(
        tasks=[
            PromptTask("First: {{ args[0] }}", prompt_driver=driver, id="first"),
            PromptTask("Then: {{ parent_output }}", prompt_driver=driver, id="then"),
        ]
    )
    assert pipeline.run("go").output.value == "two"
    assert [request.messages[-1]["content"] for request in simulator.chats] == ["First: go", "Then: one"]


@_both_ways
def test_tasks_of_a_workflow_share_a_driver_at_the_same_time(simulator, make_driver, stream):
    def answer(request):
        return Reply(text=[f"{request.messages[-1]['content']} "] * 10)

    simulator.reply(answer, times=None)
    driver = make_driver(stream=stream)
    tasks = [PromptTask(f"task {number}", prompt_driver=driver, id=str(number)) for number in range(20)]
    workflow = Workflow(tasks=[*tasks], conversation_memory=None)
    workflow.run()
    assert [task.output.value for task in tasks] == [f"task {number} " * 10 for number in range(20)]
    assert len(simulator.chats) == 20


def test_a_workflow_with_tools_keeps_conversations_apart(simulator, make_driver, weather_tool):
    cities = ["Oslo", "Rome", "Lyon", "Bonn", "Bern", "Graz"]

    def answer(request):
        city = next(city for city in cities if city in request.messages[1]["content"])
        if request.messages[-1]["role"] != "tool":
            return Reply(tool_calls=[_call(city)])
        return Reply(text=f"{city} it is: {request.messages[-1]['content']}")

    simulator.reply(answer, times=None)
    driver = make_driver()
    tasks = [
        PromptTask(f"The weather in {city}?", prompt_driver=driver, tools=[weather_tool], id=city) for city in cities
    ]
    Workflow(tasks=[*tasks], conversation_memory=None).run()
    assert [task.output.value for task in tasks] == [f"{city} it is: {city}: 12 degrees" for city in cities]


def test_a_stream_of_an_agent_gives_tokens_as_text(simulator, make_driver):
    simulator.reply(text=["Hel", "lo"])
    agent = Agent(prompt_driver=make_driver(stream=True))
    tokens = [event.token for event in agent.run_stream("Hi", event_types=[TextChunkEvent])]
    assert tokens == ["Hel", "lo"]


@_both_ways
def test_an_image_is_sent_along(simulator, make_driver, stream):
    image = ImageArtifact(b"\x89PNG\r\n\x1a\n", format="png", width=1, height=1)
    simulator.reply("A cat.")
    agent = Agent(prompt_driver=make_driver(model="eyes", stream=stream))
    assert agent.run([TextArtifact("What is it?"), image]).output.value == "A cat."
    assert simulator.last_chat.messages[-1] == {"role": "user", "content": "What is it?", "images": [image.base64]}


@_both_ways
@pytest.mark.parametrize("strategy", ["native", "rule"])
@pytest.mark.parametrize("schema", [_Weather, Schema({"city": str, "degrees": int})], ids=["pydantic", "schema"])
def test_structured_output_as_text(simulator, make_driver, *, stream, strategy, schema):
    simulator.reply('{"city": "Oslo", "degrees": 12}')
    driver = make_driver(structured_output_strategy=strategy, stream=stream)
    output = Agent(prompt_driver=driver, output_schema=schema).run("The weather in Oslo?").output
    if schema is _Weather:
        assert isinstance(output, ModelArtifact)
        assert output.value == _Weather(city="Oslo", degrees=12)
    else:
        assert isinstance(output, JsonArtifact)
        assert output.value == {"city": "Oslo", "degrees": 12}
    assert ("format" in simulator.last_chat.body) is (strategy == "native")
    assert len(simulator.chats) == 1


@_both_ways
def test_structured_output_by_tool(simulator, make_driver, stream):
    simulator.reply(tool_calls=[("StructuredOutputTool_provide_output", {"city": "Oslo", "degrees": 12})])
    driver = make_driver(structured_output_strategy="tool", stream=stream)
    output = Agent(prompt_driver=driver, output_schema=_Weather).run("The weather in Oslo?").output
    assert output.value == _Weather(city="Oslo", degrees=12)


def test_structured_output_that_does_not_fit_is_asked_for_again(simulator, make_driver):
    simulator.reply('{"city": "Oslo"}')
    simulator.reply('{"city": "Oslo", "degrees": 12}')
    driver = make_driver(structured_output_strategy="native")
    assert Agent(prompt_driver=driver, output_schema=_Weather).run("The weather in Oslo?").output.value.degrees == 12
    assert len(simulator.chats) == 2


@_both_ways
def test_a_failure_is_the_output_of_the_task_and_says_what_to_do(make_driver, stream):
    output = Agent(prompt_driver=make_driver(model="nope", stream=stream)).run("Hi").output
    assert isinstance(output, ErrorArtifact)
    assert "ollama pull nope" in output.value
    assert isinstance(output.exception, OllamaModelNotFoundError)


@_both_ways
def test_a_cut_reply_is_an_error_and_not_an_answer(simulator, make_driver, stream):
    simulator.reply(text=["Hel", "lo"], cut=1)
    output = Agent(prompt_driver=make_driver(stream=stream)).run("Hi").output
    assert isinstance(output, ErrorArtifact)
    assert output.exception.partial_text == "Hel"


def test_a_whole_conversation_without_a_script(make_driver, weather_tool):
    agent = Agent(prompt_driver=make_driver(stream=True), tools=[weather_tool])
    agent.run("My name is Ada.")
    assert "Oslo" in agent.run("What is the weather in the city of Oslo?").output.value
    assert "Ada" in agent.run("What is my name?").output.value
