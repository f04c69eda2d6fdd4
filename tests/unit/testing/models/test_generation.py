"""Generated replies: limits, stop sequences and tool calls."""

import re

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

CALL = ("get_weather", {"city": "Paris"})


@pytest.fixture
def native():
    model = SimulatedModel(name="native", kind="native", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as running:
        yield running


def contents(found):
    return [line["message"]["content"] for line in found]


def test_num_predict_cuts_the_answer(simulator, lines):
    simulator.reply("one two three four")
    found = lines(simulator, options={"num_predict": 2})
    assert contents(found) == ["one", " two", ""]
    assert (found[-1]["done_reason"], found[-1]["eval_count"]) == ("length", 2)


@pytest.mark.parametrize("limit", [0, -1, -2, 100, None])
def test_a_num_predict_that_limits_nothing_cuts_nothing(simulator, lines, limit):
    simulator.reply("one two")
    found = lines(simulator, options={"num_predict": limit})
    assert contents(found) == ["one", " two", ""]
    assert (found[-1]["done_reason"], found[-1]["eval_count"]) == ("stop", 3)


def test_num_predict_counts_thinking(native, lines):
    native.reply(thinking="a b c", text="d")
    found = lines(native, model="native", options={"num_predict": 3})
    assert [line["message"].get("thinking") for line in found] == ["a", " b", " c", None]
    assert found[-1]["done_reason"] == "length"


def test_with_a_scripted_done_reason_nothing_is_cut(simulator, lines):
    simulator.reply("one two three", done_reason="stop")
    assert contents(lines(simulator, options={"num_predict": 1, "stop": ["two"]})) == ["one", " two", " three", ""]


def test_stop_cuts_before_the_first_stop_sequence(simulator, lines):
    simulator.reply("one two three four", tool_calls=[CALL])
    found = lines(simulator, options={"stop": ["four", "o thr", ""]})
    assert contents(found) == ["one", " tw", ""]
    assert found[-1]["done_reason"] == "stop"


def test_stop_of_the_request_replaces_that_of_the_model(chat_text):
    model = SimulatedModel(name="m", parameters={"stop": ["two"]})
    with OllamaSimulator([model]) as simulator:
        simulator.reply("one two three", times=None)
        assert chat_text(simulator, model="m") == "one "
        assert chat_text(simulator, model="m", options={"stop": ["three"]}) == "one two "
        assert chat_text(simulator, model="m", options={"stop": []}) == "one two three"


def test_template_models_drop_a_cut_tool_call(simulator, lines):
    simulator.reply("Well", tool_calls=[CALL, CALL])
    found = lines(simulator, options={"num_predict": 20})
    assert sum("tool_calls" in line["message"] for line in found) == 1
    assert found[-1]["done_reason"] == "length"


def test_native_models_fail_on_a_cut_tool_call(native, chat, lines):
    native.reply(tool_calls=[CALL])
    response = chat(native, model="native", options={"num_predict": 5})
    assert response.status_code == 500
    assert "invalid tool call arguments" in response.json()["error"]
    native.reply(thinking="Hm", tool_calls=[CALL])
    thought, error = lines(native, model="native", options={"num_predict": 5})
    assert thought["message"]["thinking"] == "Hm"
    assert "invalid tool call arguments" in error["error"]


def test_template_models_send_each_tool_call_in_its_own_line(simulator, lines):
    simulator.reply(tool_calls=[CALL, CALL])
    calls = [call for line in lines(simulator) for call in line["message"].get("tool_calls", [])]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert all(re.fullmatch(r"call_[a-z0-9]{8}", call["id"]) for call in calls)
    assert calls[0]["id"] != calls[1]["id"]


def test_native_models_send_tool_calls_in_the_last_line(native, lines):
    native.reply(thinking="Hm", tool_calls=[CALL, CALL])
    thought, last = lines(native, model="native")
    assert "thinking" in thought["message"]
    assert last["done"] is True
    calls = last["message"]["tool_calls"]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", call["id"]) for call in calls)
