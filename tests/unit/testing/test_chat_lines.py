"""Lines of chat replies."""

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

CALL = ("get_weather", {"city": "Paris"})


@pytest.fixture
def native():
    model = SimulatedModel(name="native", kind="native", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as running:
        yield running


def test_a_reply_without_stream_is_one_message(native, chat):
    native.reply(thinking="Hm well", text="a b", tool_calls=[CALL])
    message = chat(native, model="native", stream=False).json()["message"]
    assert list(message) == ["role", "content", "thinking", "tool_calls"]
    assert (message["content"], message["thinking"]) == ("a b", "Hm well")


def test_two_runs_differ_only_in_times(lines):
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
