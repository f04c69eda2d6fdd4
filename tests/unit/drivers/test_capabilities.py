"""What is done where a model cannot do what a request asks for: levels of thinking, and models that do not think."""

import logging

import httpx
import pytest

from griptape_ollama import (
    OllamaModels,
    OllamaResponseError,
)
from griptape_ollama.models.types import ModelDetails
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
_CAPABILITIES = ("completion", "tools", "thinking")


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="template", capabilities=_CAPABILITIES),
        SimulatedModel(name="builtin", capabilities=_CAPABILITIES, kind="builtin"),
        SimulatedModel(name="native", capabilities=_CAPABILITIES, kind="native"),
        SimulatedModel(name="plain", capabilities=("completion", "tools")),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


@pytest.mark.parametrize("where", ["field", "extra_params"])
def test_an_unlisted_level_is_sent_as_it_is(simulator, make_driver, stack, caplog, where):
    settings = {"think": "minimal"} if where == "field" else {"extra_params": {"think": "minimal"}}
    caplog.set_level(logging.WARNING, logger="griptape_ollama")
    with pytest.raises(OllamaResponseError, match="invalid think value") as caught:
        make_driver(model="template", **settings).run(stack)
    assert "Use a think level that the model knows" in str(caught.value)
    assert [request.body["think"] for request in simulator.chats] == ["minimal"]
    assert "lists no think level" not in caplog.text


class TestLevelsOfAModel:
    @pytest.fixture
    def simulator(self):
        levels = {"think_levels": ("none", "low", "extra high"), "default_think_level": "low"}
        with OllamaSimulator(
            models=[
                SimulatedModel(name="template", capabilities=_CAPABILITIES, **levels),
                SimulatedModel(name="mute", capabilities=_CAPABILITIES, think_levels=()),
            ]
        ) as simulator:
            yield simulator

    @_both_ways
    @pytest.mark.parametrize("think", ["none", "low", "extra high", True, False, None])
    def test_listed_levels_are_sent(self, simulator, make_driver, stack, caplog, *, think, stream):
        with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
            assert make_driver(model="template", think=think, stream=stream).run(stack).to_text()
        assert simulator.last_chat.body.get("think") == think
        assert caplog.text == ""

    def test_another_level_is_sent_with_one_warning(self, simulator, make_driver, stack, caplog):
        with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
            for _ in range(2):
                with pytest.raises(OllamaResponseError, match="invalid think value"):
                    make_driver(model="template", think="high").run(stack)
        assert [request.body["think"] for request in simulator.chats] == ["high", "high"]
        said = [record.message for record in caplog.records if "think level" in record.message]
        assert said == [
            "Model 'template' lists no think level 'high', only 'none', 'low', 'extra high'; it is sent as it is."
        ]

    def test_a_model_with_an_empty_list_gets_no_warning(self, simulator, make_driver, stack, caplog):
        caplog.set_level(logging.WARNING, logger="griptape_ollama")
        with pytest.raises(OllamaResponseError, match="invalid think value"):
            make_driver(model="mute", think="low").run(stack)
        assert "think level" not in caplog.text

    def test_show_returns_them(self, simulator):
        details = OllamaModels(host=simulator.url).show("template")
        assert details.think_levels == ("none", "low", "extra high")
        assert details.default_think_level == "low"

    def test_generate_accepts_the_same(self, simulator):
        def generate(think):
            body = {"model": "template", "prompt": "Hi", "think": think, "stream": False}
            return httpx.post(f"{simulator.url}/api/generate", json=body)

        assert generate("extra high").json()["response"]
        refused = generate("high")
        assert (refused.status_code, refused.json()["error"]) == (
            400,
            'invalid think value: "high" (must be "none", "low", "extra high", true, or false)',
        )


@pytest.mark.parametrize("thinking", [None, "low", [], {"values": "low"}, {"values": {"low": 1}}, {"values": None}])
def test_an_odd_list_of_levels_is_none(thinking):
    details = ModelDetails.from_show("m", {"thinking": thinking})
    assert details.think_levels is None
    assert details.default_think_level is None


def test_a_list_of_levels_may_have_booleans_too():
    details = ModelDetails.from_show("m", {"thinking": {"values": [False, True, "low"], "default": True}})
    assert details.think_levels == ("low",)
    assert details.default_think_level is True


@_both_ways
def test_a_model_that_does_not_think_is_asked_without_think_and_that_is_logged_once(
    simulator, make_driver, stack, caplog, *, stream
):
    with caplog.at_level(logging.INFO, logger="griptape_ollama"):
        for think in (True, "high", False, True):
            make_driver(model="plain", think=think, stream=stream).run(stack)
    assert [request.body.get("think") for request in simulator.chats] == [None, None, False, None]
    said = [record.message for record in caplog.records if "does not think" in record.message]
    assert said == ["Model 'plain' does not think: asked without think."]


@_both_ways
def test_a_capability_that_only_a_refusal_denies_is_known_to_later_runs(simulator, make_driver, stack, stream):
    simulator.reply(path="/api/show", status=404, error="page not found", times=None)
    driver = make_driver(model="plain", think=True, stream=stream)
    with pytest.raises(Exception, match="does not support thinking"):
        driver.run(stack)
    assert driver.run(stack).to_text()
