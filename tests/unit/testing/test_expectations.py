"""Requests that a test did not foresee, and what it is told about them."""

import pickle

import pytest

from griptape_ollama.testing import OllamaSimulator, UnexpectedRequestError


def test_a_request_that_is_as_expected_gets_its_reply(simulator, chat):
    messages = [{"role": "user", "content": "hi"}]
    simulator.reply("Hello", expect={"model": "simulator", "messages": messages})
    assert "Hello" in chat(simulator, options={"seed": 1}).text
    simulator.verify()


def test_a_request_that_is_not_as_expected_fails_with_a_diff(chat):
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


def test_fields_that_are_not_named_may_be_anything(simulator, chat):
    simulator.reply("Hello", expect={"model": "simulator"}, times=2)
    assert chat(simulator).status_code == chat(simulator, "other", tools=[]).status_code == 200


def test_a_reply_for_another_path_can_expect_something_too(simulator, post):
    simulator.reply(path="/api/show", body={}, expect={"model": "a"})
    assert post(simulator, "/api/show", model="b").status_code == 400
    with pytest.raises(UnexpectedRequestError, match=r'\+  "model": "b"'):
        simulator.verify()


def test_an_exhausted_script_says_how_the_request_differs_from_the_last_one_that_had_a_reply(chat):
    simulator = OllamaSimulator(plausible=False).start()
    simulator.reply("one")
    chat(simulator, "first")
    chat(simulator, "second")
    with pytest.raises(UnexpectedRequestError) as caught:
        simulator.stop()
    assert "its 1 replies are used up" in str(caught.value)
    assert '-      "content": "first"' in str(caught.value)
    assert '+      "content": "second"' in str(caught.value)


def test_the_same_request_twice_is_said_to_be_equal(chat):
    simulator = OllamaSimulator(plausible=False).start()
    simulator.reply("one")
    chat(simulator)
    chat(simulator)
    with pytest.raises(UnexpectedRequestError, match=r"\(they are equal\)"):
        simulator.stop()


def test_what_was_reported_once_is_not_reported_again(chat):
    with OllamaSimulator(plausible=False) as simulator:
        chat(simulator)
        with pytest.raises(UnexpectedRequestError):
            simulator.verify()
        simulator.verify()


def test_closing_reports_nothing(chat):
    simulator = OllamaSimulator(plausible=False).start()
    chat(simulator)
    simulator.close()
    assert not simulator.is_serving


def test_the_error_survives_pickling(chat):
    simulator = OllamaSimulator(plausible=False).start()
    chat(simulator)
    with pytest.raises(UnexpectedRequestError) as caught:
        simulator.stop()
    again = UnexpectedRequestError(())
    assert pickle.loads(pickle.dumps(again)).requests == ()  # noqa: S301  our own
    assert len(caught.value.requests) == 1


@pytest.mark.parametrize("answer", ["text", lambda request: "text"])
def test_a_script_for_a_model_that_is_not_there_says_so_at_once(simulator, answer):
    with pytest.raises(ValueError, match=r"model='qwen3': the simulator has no such model, only simulator:latest"):
        simulator.reply(answer, model="qwen3")
    simulator.reply("later", model="library-small")
    assert simulator.unused_replies == 1


def test_models_can_be_found_by_what_they_can(simulator):
    assert simulator.first_model("completion") == "simulator:latest"
    assert simulator.first_model("embedding") == "simulator-embed:latest"
    with pytest.raises(LookupError, match="can do 'vision'"):
        simulator.first_model("vision")
