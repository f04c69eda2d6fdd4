"""Drivers that users derive from ours, in each way that attrs knows."""

import copy
import pickle
import threading

import attrs
import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack

from griptape_ollama import OllamaCancelledError, OllamaPromptDriver


@attrs.define
class Slotted(OllamaPromptDriver):
    tone: str = attrs.field(default="plain", kw_only=True)


@attrs.define(kw_only=True, slots=False)
class Plain(OllamaPromptDriver):
    tone: str = attrs.field(default="plain", metadata={"serializable": True})
    max_tokens: int | None = attrs.field(default=77, metadata={"serializable": True})


class ByHand(OllamaPromptDriver):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.tone = "plain"


@pytest.mark.parametrize("kind", [Slotted, Plain, ByHand])
def test_a_subclass_runs_and_keeps_what_it_adds_when_copied_and_pickled(simulator, kind):
    driver = kind(model="simulator", host=simulator.url, temperature=0.3)
    driver.tone = "warm"
    assert driver.run(TextArtifact("Hi")).to_text()
    for twin in (copy.copy(driver), copy.deepcopy(driver), pickle.loads(pickle.dumps(driver))):  # noqa: S301
        assert type(twin) is kind
        assert (twin.tone, twin.temperature, twin.host) == ("warm", 0.3, simulator.url)
        assert twin.run(TextArtifact("Hi")).to_text()


def test_a_temperature_of_a_subclass_counts(simulator):
    Slotted(model="simulator", host=simulator.url, temperature=0.3).run(TextArtifact("Hi"))
    assert simulator.last_chat.options["temperature"] == 0.3


def test_a_subclass_is_stored_and_loaded_as_itself():
    driver = Plain(model="m", temperature=0.3, tone="warm")
    back = Plain.from_dict(driver.to_dict())
    assert type(back) is Plain
    assert (back.tone, back.temperature) == ("warm", 0.3)


def test_evolve_changes_one_setting_and_keeps_the_others():
    driver = attrs.evolve(Slotted(model="m", temperature=0.3, tone="warm"), stream=True)
    assert (driver.stream, driver.temperature, driver.tone) == (True, 0.3, "warm")


def test_a_token_provider_that_holds_a_lock_does_not_hinder_a_copy():
    class Provider:
        def __init__(self):
            self.lock = threading.Lock()

        def headers(self):
            return {}

    driver = OllamaPromptDriver(model="m", headers=Provider().headers)
    assert copy.deepcopy(driver).headers == driver.headers


@pytest.mark.parametrize("stream", [True, False])
def test_a_cancelled_run_of_a_subclass_leaves_nothing_to_the_next_one(simulator, stream):
    class Stopping(OllamaPromptDriver):
        def before_run(self, prompt_stack):  # without what it inherits, which would take up the run
            self.cancel()

        def try_run(self, prompt_stack):
            raise OllamaCancelledError("not even begun")

    with pytest.raises(OllamaCancelledError):
        Stopping(model="simulator", host=simulator.url, stream=stream).run(TextArtifact("Hi"))
    stack = PromptStack.from_artifact(TextArtifact("Hi"))
    assert OllamaPromptDriver(model="simulator", host=simulator.url).try_run(stack).to_text()
