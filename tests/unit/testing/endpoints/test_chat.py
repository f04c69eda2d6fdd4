"""The chat endpoint."""

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel, UnexpectedRequestError


@pytest.mark.parametrize(
    ("kind", "status"), [("go_template", 400), ("native", 500)]
)  # fmt: skip
def test_images_need_a_vision_model(chat, kind, status):
    with OllamaSimulator([SimulatedModel(name="m", kind=kind)]) as simulator:
        message = {"role": "user", "content": "see", "images": ["aGVsbG8="]}
        assert chat(simulator, model="m", messages=[message]).status_code == status


def test_tools_and_thinking_need_a_model_with_the_capability(chat):
    with OllamaSimulator([SimulatedModel(name="a/b/m", capabilities=["completion"])]) as simulator:
        response = chat(simulator, model="a/b/m", tools=[{"type": "function"}])
        assert response.json() == {"error": "a/b/m:latest does not support tools"}
        response = chat(simulator, model="a/b/m", think="low")
        assert response.json() == {"error": '"a/b/m" does not support thinking'}
        assert chat(simulator, model="a/b/m", tools=[], think=False).status_code == 200


def test_a_rejected_request_uses_no_generated_reply(simulator, chat, chat_text):
    simulator.reply("kept")
    assert chat(simulator, options={"num_predict": "many"}).status_code == 500
    assert chat(simulator, model="other").status_code == 404
    assert chat_text(simulator) == "kept"


def test_a_scripted_body_is_sent_for_any_request(simulator, chat):
    simulator.reply(lines=[{"done": True}])
    assert chat(simulator, model="no such model").json() == {"done": True}


def test_check_changes_whether_requests_are_checked(simulator, chat):
    simulator.reply(lines=[{"done": True}], check=True)
    assert chat(simulator, model="other").status_code == 404
    assert chat(simulator).json() == {"done": True}


def test_loading_a_model_uses_no_reply(simulator, chat, chat_text):
    simulator.reply("kept")
    assert chat(simulator, messages=[]).json()["done_reason"] == "load"
    assert chat_text(simulator) == "kept"


def test_without_plausible_answers_an_unscripted_chat_fails_and_stop_reports_it(chat):
    simulator = OllamaSimulator(plausible=False).start()
    simulator.reply("scripted")
    assert chat(simulator, "first").status_code == 200
    response = chat(simulator, "second")
    assert response.status_code == 400
    assert "the script is exhausted: its 1 replies are used up" in response.json()["error"]
    assert "'second'" in response.json()["error"]
    assert httpx.get(f"{simulator.url}/api/tags").status_code == 200
    with pytest.raises(UnexpectedRequestError, match=r"1\. POST /api/chat model='simulator' .*'second'") as caught:
        simulator.stop()
    assert caught.value.requests[0].messages[-1]["content"] == "second"
    assert isinstance(caught.value, AssertionError)
    simulator.stop()
