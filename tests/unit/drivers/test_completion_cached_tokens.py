"""Tokens of a prompt that the server had in its prompt cache, as servers report them from 0.34."""

import json
import logging

import pytest
from griptape.artifacts import TextArtifact
from griptape.events import BaseEvent
from griptape.structures import Agent

from griptape_ollama import OllamaMetrics, OllamaResponseEvent
from griptape_ollama.testing import OllamaSimulator
from unit.drivers.context_prompts import meta_of, prose

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture
def simulator(request):
    with OllamaSimulator(version="0.40.0") as simulator:
        yield simulator


def _responses(events):
    return [event for event in events if isinstance(event, OllamaResponseEvent)]


@_both_ways
def test_they_are_in_metadata_and_events(simulator, make_driver, events, stream):
    agent = Agent(prompt_driver=make_driver(stream=stream))
    outputs = [agent.run(text).output for text in ("Remember that the ferry leaves at seven.", "When does it leave?")]
    first, second = (output.meta["ollama"] for output in outputs)
    assert first["prompt_eval_cached_count"] == 0
    assert 0 < second["prompt_eval_cached_count"] < second["prompt_eval_count"]
    told = [event.cached_tokens for event in _responses(events)]
    assert told == [0, second["prompt_eval_cached_count"]]
    stored = BaseEvent.from_dict(json.loads(json.dumps(_responses(events)[1].to_dict())))
    assert stored.cached_tokens == told[1]


def test_metrics_add_them_up_and_tell_the_rate(simulator, make_driver):
    driver = make_driver()
    counts = [(100, 0), (200, 150), (50, 90)]
    for read, cached in counts:
        simulator.reply("Yes.", final={"prompt_eval_count": read, "prompt_eval_cached_count": cached})
    simulator.reply("Yes.", final={"prompt_eval_count": 1000, "prompt_eval_cached_count": None})
    with OllamaMetrics() as metrics:
        assert metrics.summary().cache_hit_rate is None
        for _ in range(4):
            driver.run(TextArtifact("Hi"))
    seen = metrics.summary()
    # More than the prompt has cannot have been cached.
    assert (seen.input_tokens, seen.cached_tokens) == (1350, 200)
    assert seen.cache_hit_rate == pytest.approx(200 / 350)
    assert seen.to_dict()["cached_tokens"] == 200
    assert metrics.by_model()[next(iter(metrics.by_model()))] == seen


def test_those_of_several_requests_are_added_up(simulator, make_driver, stack):
    final = {"prompt_eval_count": 20, "prompt_eval_cached_count": 15}
    simulator.reply("", final=final)
    simulator.reply("Yes.", final=final)
    meta = meta_of(make_driver(on_empty="retry_without_thinking").run(stack))
    assert (meta["prompt_eval_count"], meta["prompt_eval_cached_count"], meta["requests"]) == (40, 30, 2)


@_both_ways
@pytest.mark.parametrize("cached", [0, 700, 999])
def test_a_prompt_that_was_cached_is_not_taken_for_one_that_was_cut(simulator, make_driver, caplog, *, cached, stream):
    simulator.reply("Yes.", final={"prompt_eval_count": 1010, "prompt_eval_cached_count": cached})
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        message = make_driver(stream=stream).run(TextArtifact(prose(1000)))
    assert meta_of(message)["truncated"] is False
    assert caplog.text == ""


def test_a_prompt_that_was_cut_is_noticed_whatever_was_cached(simulator, make_driver):
    driver = make_driver()
    driver.run(TextArtifact(prose(10_000)))
    message = driver.run(TextArtifact(prose(10_000)))
    assert meta_of(message)["prompt_eval_cached_count"] > 0
    assert meta_of(message)["truncated"] is True


def test_a_count_that_leaves_out_what_was_cached_is_no_count_of_the_prompt(simulator, make_driver, caplog):
    driver = make_driver()
    prompt = TextArtifact(prose(2000))
    before = driver.tokenizer.count_tokens(prompt.value)
    simulator.reply("Yes.", final={"prompt_eval_count": 40, "prompt_eval_cached_count": 1970}, times=5)
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        for _ in range(5):
            assert meta_of(driver.run(prompt))["truncated"] is False
    assert caplog.text == ""
    assert driver.tokenizer.count_tokens(prompt.value) == before


@pytest.mark.parametrize("version", ["0.33.9", "0.33.0-simulator", "0.9", "unknown", ""])
def test_servers_before_tell_nothing(version, make_driver, events, monkeypatch):
    with OllamaSimulator(version=version) as older:
        meta = meta_of(make_driver(host=older.url).run(TextArtifact("Hi")))
    assert "prompt_eval_cached_count" not in meta
    assert _responses(events)[0].cached_tokens is None


@pytest.mark.parametrize("version", ["0.34", "v0.34.1-rc0", "0.40.0", "1.0"])
def test_servers_from_then_on_do(version, make_driver):
    with OllamaSimulator(version=version) as newer:
        assert meta_of(make_driver(host=newer.url).run(TextArtifact("Hi")))["prompt_eval_cached_count"] == 0
