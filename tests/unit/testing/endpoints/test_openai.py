"""The little of the OpenAI-compatible side that there is."""

import json

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}


def ask(simulator, **body):
    request = {"model": "simulator", "messages": [{"role": "user", "content": "hi"}], **body}
    return httpx.post(f"{simulator.url}{PATH}", json=request)


def events(response):
    assert response.headers["content-type"] == "text/event-stream"
    found = [line.removeprefix("data: ") for line in response.text.split("\n") if line]
    assert found.pop() == "[DONE]"
    return [json.loads(event) for event in found]


def test_a_chat_is_streamed_only_on_request(simulator):
    simulator.reply("Hello, Ada.", path=PATH)
    body = ask(simulator).json()
    assert body["choices"] == [
        {"index": 0, "message": {"role": "assistant", "content": "Hello, Ada."}, "finish_reason": "stop"}
    ]
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]


def test_a_stream_is_server_sent_events_with_usage_on_request(simulator):
    simulator.reply("one two", path=PATH, times=2)
    *said, stop, usage = events(ask(simulator, stream=True, stream_options={"include_usage": True}))
    assert [event["choices"][0]["delta"]["content"] for event in said] == ["one", " two"]
    assert said[0]["choices"][0]["delta"]["role"] == "assistant"
    assert stop["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 3
    assert "usage" not in events(ask(simulator, stream=True))[-1]


@pytest.mark.parametrize("kind", ["go_template", "native"])
def test_tool_calls_and_reasoning_have_their_fields(kind):
    model = SimulatedModel(name="simulator", capabilities=("completion", "tools", "thinking"), kind=kind)
    with OllamaSimulator([model]) as simulator:
        simulator.reply(Reply(thinking="Hm.", tool_calls=[("get_weather", {"city": "Paris"})]), path=PATH, times=2)
        choice = ask(simulator, tools=[TOOL]).json()["choices"][0]
        streamed = events(ask(simulator, tools=[TOOL], stream=True))
    assert choice["message"]["reasoning"] == "Hm."
    assert choice["finish_reason"] == streamed[-1]["choices"][0]["finish_reason"] == "tool_calls"
    for call in (choice["message"]["tool_calls"][0], streamed[-2]["choices"][0]["delta"]["tool_calls"][0]):
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}


def test_content_parts_and_tool_calls_are_parsed(simulator):
    call = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "My name is "}, {"type": "text", "text": "Ada."}]},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "sunny", "tool_call_id": "1"},
        {"role": "user", "content": "What is my name?"},
    ]
    assert "Ada" in ask(simulator, messages=messages).json()["choices"][0]["message"]["content"]


def test_options_and_formats_are_converted(simulator):
    simulator.reply("one two three, four", path=PATH, times=2)
    choice = ask(simulator, max_tokens=2).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("one two", "length")
    assert ask(simulator, stop=",").json()["choices"][0]["message"]["content"] == "one two three"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    assert json.loads(ask(simulator, response_format=form).json()["choices"][0]["message"]["content"])["n"] >= 0
    free = ask(simulator, response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"]
    assert isinstance(json.loads(free), dict)


def test_an_error_inside_a_stream_is_an_event(simulator):
    simulator.reply("one two", error_line=(1, "broken"), path=PATH)
    response = ask(simulator, stream=True)
    last = [line for line in response.text.split("\n") if line][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["message"] == "broken"


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"messages": []}, 400, "[] is too short - 'messages'"),
        ({"model": "nope"}, 404, "model 'nope' not found"),
        ({"options": {}, "seed": "x"}, 500, 'option "seed" must be of type integer'),
    ],
)
def test_error_responses_have_the_form_of_openai(simulator, body, status, text):
    response = ask(simulator, **body)
    assert response.status_code == status
    assert response.json()["error"]["message"] == text


def test_a_scripted_error_keeps_its_status(simulator):
    simulator.reply("x", error_line="broken", path=PATH)
    simulator.reply(status=503, error="busy", path=PATH)
    response = ask(simulator)
    assert (response.status_code, response.json()["error"]["message"]) == (500, "broken")
    assert ask(simulator).status_code == 503


def test_models_and_embeddings(simulator):
    listed = httpx.get(f"{simulator.url}/v1/models").json()["data"]
    assert [(entry["id"], entry["owned_by"]) for entry in listed] == [
        ("simulator:latest", "library"), ("simulator-embed:latest", "library")
    ]  # fmt: skip
    body = {"model": "simulator-embed", "input": ["a", "b"]}
    found = httpx.post(f"{simulator.url}/v1/embeddings", json=body).json()
    assert [entry["index"] for entry in found["data"]] == [0, 1]
    assert len(found["data"][0]["embedding"]) == 64
