"""When `ensure` pulls a model."""

import pytest

from griptape_ollama import OllamaContentError, OllamaModelNotFoundError
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

BIG = SimulatedModel(name="big:8b", size=100_000_000, pull_bytes_per_second=10_000_000)
HERE = SimulatedModel(name="here")


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[HERE], library=[BIG, HERE], time_scale=2000) as simulator:
        yield simulator


def test_an_installed_model_is_not_pulled(simulator, models, count):
    for policy in ("never", "when_missing"):
        assert models.ensure("here", policy).name == "here:latest"
    assert count(simulator, "/api/pull") == 0


def test_never_raises_an_error_with_the_pull_command(simulator, models, count):
    with pytest.raises(OllamaModelNotFoundError, match=r"Get it with: ollama pull big:8b\. It has here:latest"):
        models.ensure("big:8b", "never")
    assert count(simulator, "/api/pull") == 0


def test_a_missing_model_is_pulled(simulator, models):
    assert models.ensure("big:8b").name == "big:8b"
    assert "big:8b" in simulator.models


def test_always_pulls_an_installed_model_too(simulator, models, count):
    models.ensure("here", "always")
    assert count(simulator, "/api/pull") == 1


def test_another_policy_is_refused(models):
    with pytest.raises(OllamaContentError, match="'never', 'when_missing', 'always'"):
        models.ensure("here", "sometimes")


def test_the_error_of_an_empty_server_lists_no_models(manage):
    nothing = pytest.raises(OllamaModelNotFoundError, match=r"Get it with: ollama pull here$")
    with OllamaSimulator(models=[]) as simulator, nothing:
        manage(simulator).ensure("here", "never")
