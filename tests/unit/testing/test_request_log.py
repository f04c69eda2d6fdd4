"""Recorded requests, and requests that do not fit the script."""

import pickle
import threading

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, UnexpectedRequestError


def test_a_request_is_recorded_with_headers_body_and_time(simulator, chat):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    chat(simulator, "hello", options={"seed": 1}, tools=[tool])
    (request,) = simulator.requests
    assert (request.method, request.path, request.model) == ("POST", "/api/chat", "simulator")
    assert request.messages == [{"role": "user", "content": "hello"}]
    assert (request.options, request.tools) == ({"seed": 1}, [tool])
    assert request.headers["content-TYPE"] == "application/json"
    assert request.body["model"] == "simulator"
    assert b'"simulator"' in request.raw


def test_a_body_that_is_not_json_is_recorded(simulator):
    httpx.post(f"{simulator.url}/api/chat?x=1", content=b"\xff{")
    (request,) = simulator.requests
    assert (request.body, request.raw, request.messages, request.model) == (None, b"\xff{", [], "")
    assert request.path == "/api/chat"


def test_chats_contain_only_chat_requests(simulator, chat):
    with pytest.raises(LookupError, match="no chat request"):
        _ = simulator.last_chat
    httpx.get(f"{simulator.url}/api/tags")
    chat(simulator, "one")
    chat(simulator, "two")
    assert [request.messages[-1]["content"] for request in simulator.chats] == ["one", "two"]
    assert simulator.last_chat.messages[-1]["content"] == "two"
    assert len(simulator.requests) == 3


def test_a_recorded_request_is_immutable(simulator, chat):
    chat(simulator)
    with pytest.raises(AttributeError):
        simulator.last_chat.path = "/"
    simulator.requests.clear()
    assert len(simulator.requests) == 1


def test_waiting_for_a_request_returns_it(simulator, chat):
    thread = threading.Thread(target=lambda: [chat(simulator, "one"), chat(simulator, "two")])
    thread.start()
    assert simulator.wait_for_request(2).messages[-1]["content"] == "two"
    thread.join()


def test_waiting_for_a_path_counts_only_that_path(simulator, chat):
    httpx.get(f"{simulator.url}/api/tags")
    chat(simulator)
    assert simulator.wait_for_request(path="/api/chat").is_chat


def test_waiting_for_a_missing_request_times_out(simulator):
    with pytest.raises(TimeoutError, match=r"0 of 3 requests arrived in 0\.01 s"):
        simulator.wait_for_request(3, timeout=0.01)


def test_a_request_with_the_expected_fields_gets_its_reply(simulator, chat):
    messages = [{"role": "user", "content": "hi"}]
    simulator.reply("Hello", expect={"model": "simulator", "messages": messages})
    assert "Hello" in chat(simulator, options={"seed": 1}).text
    simulator.verify()


def test_a_request_without_the_expected_fields_fails_with_a_diff(chat):
    simulator = OllamaSimulator().start()
    simulator.reply("Hello", expect={"messages": [{"role": "user", "content": "Hello"}], "stream": False})
    response = chat(simulator, "Good day")
    assert response.status_code == 400
    assert "it is not what the scripted reply expects" in response.json()["error"]
    with pytest.raises(UnexpectedRequestError) as caught:
        simulator.stop()
    text = str(caught.value)
    for line in ('-      "content": "Hello"', '+      "content": "Good day"', '-  "stream": false'):
        assert line in text
    assert caught.value.reasons[0] in text


def test_fields_that_are_not_expected_may_have_any_value(simulator, chat):
    simulator.reply("Hello", expect={"model": "simulator"}, times=2)
    assert chat(simulator).status_code == chat(simulator, "other", tools=[]).status_code == 200


def test_expect_works_for_other_paths(simulator, post):
    simulator.reply(path="/api/show", body={}, expect={"model": "a"})
    assert post(simulator, "/api/show", model="b").status_code == 400
    with pytest.raises(UnexpectedRequestError, match=r'\+  "model": "b"'):
        simulator.verify()


def test_an_exhausted_script_shows_the_diff_to_the_last_request_with_a_reply(chat):
    simulator = OllamaSimulator(plausible=False).start()
    simulator.reply("one")
    chat(simulator, "first")
    chat(simulator, "second")
    with pytest.raises(UnexpectedRequestError) as caught:
        simulator.stop()
    assert "its 1 replies are used up" in str(caught.value)
    assert '-      "content": "first"' in str(caught.value)
    assert '+      "content": "second"' in str(caught.value)


def test_an_equal_request_is_reported_as_equal(chat):
    simulator = OllamaSimulator(plausible=False).start()
    simulator.reply("one")
    chat(simulator)
    chat(simulator)
    with pytest.raises(UnexpectedRequestError, match=r"\(they are equal\)"):
        simulator.stop()


def test_unexpected_requests_are_reported_once(chat):
    with OllamaSimulator(plausible=False) as simulator:
        chat(simulator)
        with pytest.raises(UnexpectedRequestError):
            simulator.verify()
        simulator.verify()


def test_the_error_survives_pickling(chat):
    simulator = OllamaSimulator(plausible=False).start()
    chat(simulator)
    with pytest.raises(UnexpectedRequestError) as caught:
        simulator.stop()
    again = UnexpectedRequestError(())
    assert pickle.loads(pickle.dumps(again)).requests == ()  # noqa: S301  our own
    assert len(caught.value.requests) == 1
