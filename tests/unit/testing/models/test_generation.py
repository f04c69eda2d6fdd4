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


def test_a_given_done_reason_means_that_nothing_is_cut(simulator, lines):
    simulator.reply("one two three", done_reason="stop")
    assert contents(lines(simulator, options={"num_predict": 1, "stop": ["two"]})) == ["one", " two", " three", ""]


def test_stop_cuts_before_the_first_stop_sequence(simulator, lines):
    simulator.reply("one two three four", tool_calls=[CALL])
    found = lines(simulator, options={"stop": ["four", "o thr", ""]})
    assert contents(found) == ["one", " tw", ""]
    assert found[-1]["done_reason"] == "stop"


def test_the_stop_of_a_model_holds_until_a_request_brings_its_own(say):
    model = SimulatedModel(name="m", parameters={"stop": ["two"]})
    with OllamaSimulator([model]) as simulator:
        simulator.reply("one two three", times=None)
        assert say(simulator, model="m") == "one "
        assert say(simulator, model="m", options={"stop": ["three"]}) == "one two "
        assert say(simulator, model="m", options={"stop": []}) == "one two three"


def test_template_models_lose_a_call_that_was_cut(simulator, lines):
    simulator.reply("Well", tool_calls=[CALL, CALL])
    found = lines(simulator, options={"num_predict": 20})
    assert sum("tool_calls" in line["message"] for line in found) == 1
    assert found[-1]["done_reason"] == "length"


def test_native_models_fail_over_a_call_that_was_cut(native, chat, lines):
    native.reply(tool_calls=[CALL])
    response = chat(native, model="native", options={"num_predict": 5})
    assert response.status_code == 500
    assert "invalid tool call arguments" in response.json()["error"]
    native.reply(thinking="Hm", tool_calls=[CALL])
    thought, error = lines(native, model="native", options={"num_predict": 5})
    assert thought["message"]["thinking"] == "Hm"
    assert "invalid tool call arguments" in error["error"]


def test_template_models_number_their_calls_in_lines_of_their_own(simulator, lines):
    simulator.reply(tool_calls=[CALL, CALL])
    calls = [call for line in lines(simulator) for call in line["message"].get("tool_calls", [])]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert all(re.fullmatch(r"call_[a-z0-9]{8}", call["id"]) for call in calls)
    assert calls[0]["id"] != calls[1]["id"]


def test_native_models_put_their_calls_into_the_last_line(native, lines):
    native.reply(thinking="Hm", tool_calls=[CALL, CALL])
    thought, last = lines(native, model="native")
    assert "thinking" in thought["message"]
    assert last["done"] is True
    calls = last["message"]["tool_calls"]
    assert [call["function"]["index"] for call in calls] == [0, 1]
    assert all(re.fullmatch(r"[A-Za-z0-9]{32}", call["id"]) for call in calls)


def test_a_plain_reply_has_everything_in_one_message(native, chat):
    native.reply(thinking="Hm well", text="a b", tool_calls=[CALL])
    message = chat(native, model="native", stream=False).json()["message"]
    assert list(message) == ["role", "content", "thinking", "tool_calls"]
    assert (message["content"], message["thinking"]) == ("a b", "Hm well")


def test_two_runs_are_the_same_but_for_their_times(lines):
    def run():
        with OllamaSimulator() as simulator:
            simulator.reply("Well", tool_calls=[CALL])
            return [line["message"] for line in lines(simulator)]

    assert run() == run()


def test_log_probabilities_come_with_each_token(simulator, lines, chat):
    simulator.reply("one two", times=None)
    first = lines(simulator, logprobs=True, top_logprobs=2)[0]["logprobs"][0]
    assert (first["token"], first["bytes"], len(first["top_logprobs"])) == ("one", [111, 110, 101], 2)
    assert [entry["token"] for entry in chat(simulator, logprobs=True, stream=False).json()["logprobs"]] == [
        "one",
        " two",
    ]
    assert "logprobs" not in chat(simulator, stream=False).json()


def test_durations_add_up(simulator, lines):
    last = lines(simulator)[-1]
    parts = last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]
    assert 0 < parts <= last["total_duration"]


def test_longer_prompts_have_more_tokens(simulator, lines):
    short, long = (lines(simulator, "x" * length)[-1]["prompt_eval_count"] for length in (4, 404))
    assert long - short == 100


def test_old_messages_go_first_when_the_prompt_is_too_long(simulator, say, lines):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "My name is Ada. " + "x" * 1000},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "What is my name?"},
    ]
    assert say(simulator, messages=messages) == "Your name is Ada."
    assert "Ada" not in say(simulator, messages=messages, options={"num_ctx": 100})
    assert lines(simulator, messages=messages, options={"num_ctx": 100})[-1]["prompt_eval_count"] <= 100


def test_a_single_overlong_message_loses_its_front(simulator, lines, say):
    text = "front " + "x " * 1000 + "back"
    assert lines(simulator, text, options={"num_ctx": 100})[-1]["prompt_eval_count"] == 53
    assert "front" not in say(simulator, text, options={"num_ctx": 100})


def test_native_models_and_truncate_false_refuse_overlong_prompts(simulator, native, chat):
    text = "x " * 1000
    response = chat(native, text, model="native", options={"num_ctx": 100})
    assert response.status_code == 400
    assert "exceeds the available context size (256 tokens)" in response.json()["error"]
    assert chat(simulator, text, options={"num_ctx": 100}, truncate=False).status_code == 400
