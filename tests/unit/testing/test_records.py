import threading

import httpx
import pytest


def test_requests_are_recorded_with_everything_in_them(simulator, chat):
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    chat(simulator, "hello", options={"seed": 1}, tools=[tool])
    (request,) = simulator.requests
    assert (request.method, request.path, request.model) == ("POST", "/api/chat", "simulator")
    assert request.messages == [{"role": "user", "content": "hello"}]
    assert (request.options, request.tools) == ({"seed": 1}, [tool])
    assert request.headers["content-TYPE"] == "application/json"
    assert request.body["model"] == "simulator"
    assert b'"simulator"' in request.raw


def test_bodies_that_are_not_json_are_recorded_too(simulator):
    httpx.post(f"{simulator.url}/api/chat?x=1", content=b"\xff{")
    (request,) = simulator.requests
    assert (request.body, request.raw, request.messages, request.model) == (None, b"\xff{", [], "")
    assert request.path == "/api/chat"


def test_chats_are_the_chat_requests_alone(simulator, chat):
    with pytest.raises(LookupError, match="no chat request"):
        _ = simulator.last_chat
    httpx.get(f"{simulator.url}/api/tags")
    chat(simulator, "one")
    chat(simulator, "two")
    assert [request.messages[-1]["content"] for request in simulator.chats] == ["one", "two"]
    assert simulator.last_chat.messages[-1]["content"] == "two"
    assert len(simulator.requests) == 3


def test_a_record_cannot_be_changed(simulator, chat):
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


def test_waiting_for_a_path_counts_that_path_alone(simulator, chat):
    httpx.get(f"{simulator.url}/api/tags")
    chat(simulator)
    assert simulator.wait_for_request(path="/api/chat").is_chat


def test_waiting_in_vain_is_a_timeout(simulator):
    with pytest.raises(TimeoutError, match=r"0 of 3 requests arrived in 0\.01 s"):
        simulator.wait_for_request(3, timeout=0.01)
