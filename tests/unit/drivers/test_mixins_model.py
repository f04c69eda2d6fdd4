"""The model of a driver: which one is used, how it is pulled, and the audit records of its use."""

import logging

import pytest
from griptape.artifacts import TextArtifact
from griptape.events import EventListener
from griptape.structures import Agent

from griptape_ollama import (
    OllamaCancelledError,
    OllamaContentError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaResponseError,
)
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_HELLO = TextArtifact("Hello")


@pytest.fixture
def audit(caplog):
    """The records that were written."""
    caplog.set_level(logging.INFO, logger="griptape_ollama.audit")
    return lambda: [record.audit for record in caplog.records if record.name == "griptape_ollama.audit"]


def _paths(simulator):
    return [request.path for request in simulator.requests]


def test_the_only_chat_model_is_used_where_none_is_named(simulator, events):
    driver = OllamaPromptDriver(host=simulator.url)
    driver.run(_HELLO)
    assert simulator.last_chat.model == "simulator:latest"
    assert driver.model == "simulator:latest"
    assert events[0].model == "simulator:latest"


def test_an_agent_works_without_a_model(simulator, weather_tool):
    agent = Agent(prompt_driver=OllamaPromptDriver(host=simulator.url), tools=[weather_tool])
    assert agent.run("Hello").output.value


def test_the_environment_names_the_model(simulator, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODEL", "qwen3")
    assert OllamaPromptDriver().model == "qwen3"
    assert OllamaPromptDriver(model="other").model == "other"
    monkeypatch.setenv("OLLAMA_MODEL", "")
    assert OllamaPromptDriver().model == ""


def test_several_chat_models_are_listed_for_the_user_to_choose():
    models = [
        SimulatedModel(name="mistral"),
        SimulatedModel(name="qwen3"),
        SimulatedModel(name="e", capabilities=("embedding",)),
    ]
    with OllamaSimulator(models=models) as simulator:
        with pytest.raises(OllamaModelNotFoundError, match=r"several chat models.*OLLAMA_MODEL.*mistral.*qwen3"):
            OllamaPromptDriver(host=simulator.url).run(_HELLO)
        assert "/api/chat" not in _paths(simulator)


def test_no_chat_model_is_said():
    with (
        OllamaSimulator(models=[SimulatedModel(name="e", capabilities=("embedding",))]) as simulator,
        pytest.raises(OllamaModelNotFoundError, match="no chat model"),
    ):
        OllamaPromptDriver(host=simulator.url).run(_HELLO)


@pytest.mark.parametrize("wrong", [7, b"qwen3", ["qwen3"]])
def test_a_model_is_a_name(wrong):
    with pytest.raises(OllamaContentError, match="model must be the name"):
        OllamaPromptDriver(model=wrong)


def test_a_missing_model_is_an_error_by_default():
    with OllamaSimulator(library=[SimulatedModel(name="mistral")]) as simulator:
        with pytest.raises(OllamaModelNotFoundError, match="ollama pull mistral"):
            OllamaPromptDriver(model="mistral", host=simulator.url).run(_HELLO)
        assert "/api/pull" not in _paths(simulator)


@pytest.mark.parametrize("policy", ["when_missing", "always"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_missing_model_is_pulled_and_the_prompt_goes_on(policy, stream, events):
    with OllamaSimulator(library=[SimulatedModel(name="mistral", pull_bytes_per_second=1e12)]) as simulator:
        driver = OllamaPromptDriver(model="mistral", host=simulator.url, pull_policy=policy, stream=stream)
        assert "You said: Hello" in driver.run(_HELLO).to_text()
        assert "You said: Hello" in driver.run(_HELLO).to_text()
        assert _paths(simulator).count("/api/pull") == 1
    assert {event.action for event in events if isinstance(event, OllamaProgressEvent)} == {"pull"}


def test_the_facts_of_a_model_that_was_pulled_count():
    library = [SimulatedModel(name="mistral", capabilities=("completion", "thinking"))]
    with OllamaSimulator(library=library) as simulator:
        driver = OllamaPromptDriver(model="mistral", host=simulator.url, pull_policy="when_missing", think=True)
        assert driver.use_native_tools  # unknown so far
        driver.run(_HELLO)
        assert not driver.use_native_tools


def test_a_model_that_is_there_is_not_pulled(simulator):
    OllamaPromptDriver(model="simulator", host=simulator.url, pull_policy="when_missing").run(_HELLO)
    assert "/api/pull" not in _paths(simulator)


def test_a_model_that_cannot_be_pulled_is_an_error():
    with OllamaSimulator(library=[]) as simulator:
        driver = OllamaPromptDriver(model="mistral", host=simulator.url, pull_policy="when_missing")
        with pytest.raises(OllamaModelNotFoundError):
            driver.run(_HELLO)


def test_cancelling_the_driver_stops_the_pull():
    library = [SimulatedModel(name="mistral", size=10**12, pull_bytes_per_second=1e6)]
    with OllamaSimulator(library=library) as simulator:
        driver = OllamaPromptDriver(model="mistral", host=simulator.url, pull_policy="when_missing")

        def cancel(event):
            if event.completed:
                driver.cancel()

        with EventListener(cancel, event_types=[OllamaProgressEvent]), pytest.raises(OllamaCancelledError):
            driver.run(_HELLO)


@pytest.mark.parametrize("wrong", ["sometimes", None, True])
def test_a_policy_is_one_of_three(wrong):
    with pytest.raises(OllamaContentError, match="pull_policy"):
        OllamaPromptDriver(model="m", pull_policy=wrong)


def test_requests_are_recorded_where_that_is_wanted(simulator, audit):
    simulator.reply("A secret answer.")
    OllamaPromptDriver(model="simulator", host=simulator.url, audit_requests=True).run(TextArtifact("a secret"))
    (record,) = audit()
    assert (record["action"], record["model"], record["host"]) == ("chat", "simulator", simulator.url)
    assert record["outcome"] == "done"
    assert record["input_tokens"] > 0
    assert record["output_tokens"] > 0
    assert record["seconds"] >= 0
    assert "secret" not in repr(record)


def test_requests_are_not_recorded_by_default(simulator, audit):
    OllamaPromptDriver(model="simulator", host=simulator.url).run(_HELLO)
    assert audit() == []


def test_a_request_that_fails_is_recorded_with_its_outcome(simulator, audit):
    simulator.fault("status", status=400, error="no such thing")
    with pytest.raises(OllamaResponseError):
        OllamaPromptDriver(model="simulator", host=simulator.url, audit_requests=True).run(_HELLO)
    (record,) = audit()
    assert (record["outcome"], record["error"]) == ("failed", "OllamaResponseError 400")


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_stream_that_is_left_is_recorded_as_cancelled(simulator, audit, stack, pieces):
    simulator.reply("One two three four five.")
    driver = OllamaPromptDriver(model="simulator", host=simulator.url, audit_requests=True)
    stream = driver.try_stream(stack)
    for _ in range(pieces):
        next(stream)
    stream.close()
    assert [record["outcome"] for record in audit()] == ["cancelled"]


def test_a_wrong_audit_setting_is_refused():
    with pytest.raises(OllamaContentError, match="audit_requests"):
        OllamaPromptDriver(model="m", audit_requests="yes")
