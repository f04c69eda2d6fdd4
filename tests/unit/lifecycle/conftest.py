import logging

import pytest
from griptape.structures import Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import OllamaEmbeddingDriver, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

GB = 10**9
MODELS = [
    *(SimulatedModel(name=name, size=GB) for name in "abc"),
    SimulatedModel(name="vectors", size=GB // 10, capabilities=("embedding",), embedding_length=8),
]


@pytest.fixture(autouse=True)
def _quiet():
    """Griptape logs each task."""
    logging.getLogger("griptape").setLevel(logging.CRITICAL)


@pytest.fixture
def simulator():
    """A server with the models a, b and c of one gigabyte each, and one that makes vectors."""
    with OllamaSimulator(models=MODELS) as simulator:
        yield simulator


@pytest.fixture
def make_driver(simulator):
    """Makes a driver for a model of the simulator."""

    def make(model, **settings):
        return OllamaPromptDriver(**{"model": model, "host": simulator.host, "max_attempts": 1, **settings})

    return make


@pytest.fixture
def make_embedder(simulator):
    """Makes a driver for the model of the simulator that makes vectors; it asks for each text anew."""

    def make(**settings):
        defaults = {"model": "vectors", "host": simulator.host, "max_attempts": 1, "cache_bytes": 0}
        return OllamaEmbeddingDriver(**{**defaults, **settings})

    return make


@pytest.fixture
def make_task(make_driver):
    """Makes a task that asks a model of the simulator; its id is `task_id`, or the model's name."""

    def make(model, task_id=None, *, driver=None, **settings):
        return PromptTask("hi", prompt_driver=driver or make_driver(model), id=task_id or model, **settings)

    return make


@pytest.fixture
def make_pipeline(make_task):
    """Makes a pipeline of one task for each letter, with the ids 0, 1, 2, ..."""

    def make(models, **settings):
        tasks = [make_task(model, str(number)) for number, model in enumerate(models)]
        return Pipeline(tasks=tasks, conversation_memory=None, **settings)

    return make
