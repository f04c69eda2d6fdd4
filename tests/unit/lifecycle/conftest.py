import logging

import pytest
from griptape.structures import Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import OllamaEmbeddingDriver, OllamaPromptDriver
from griptape_ollama.lifecycle.keep_alive_replay import RecordedUse
from griptape_ollama.lifecycle.usage import ModelLoad, UsageRecorder
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
    """A server with the models a, b and c of one gigabyte each, and an embedding model."""
    with OllamaSimulator(models=MODELS) as simulator:
        yield simulator


@pytest.fixture
def make_driver(simulator):
    """Return a function that creates a driver for a model of the simulator."""

    def make(model, **settings):
        return OllamaPromptDriver(**{"model": model, "host": simulator.host, "max_attempts": 1, **settings})

    return make


@pytest.fixture
def make_embedder(simulator):
    """Return a function that creates a driver for the embedding model, without a cache."""

    def make(**settings):
        defaults = {"model": "vectors", "host": simulator.host, "max_attempts": 1, "cache_bytes": 0}
        return OllamaEmbeddingDriver(**{**defaults, **settings})

    return make


@pytest.fixture
def make_task(make_driver):
    """Return a function that creates a task for a model; its id is `task_id`, or the name of the model."""

    def make(model, task_id=None, *, driver=None, **settings):
        return PromptTask("hi", prompt_driver=driver or make_driver(model), id=task_id or model, **settings)

    return make


@pytest.fixture
def make_pipeline(make_task):
    """Return a function that creates a pipeline of one task for each letter, with the ids 0, 1, 2, ..."""

    def make(models, **settings):
        tasks = [make_task(model, str(number)) for number, model in enumerate(models)]
        return Pipeline(tasks=tasks, conversation_memory=None, **settings)

    return make


@pytest.fixture
def usage():
    """Two models of one server, used in turns."""
    usage = UsageRecorder()
    for model in "ab":
        usage.add_model("http://one", model, f"model-{model}")
    for number, model in enumerate("abab"):
        usage.record_use("http://one", RecordedUse(model=model, begin=number, end=number + 0.5))
    usage.record_load("http://one", "a", ModelLoad(4.0))
    usage.record_load("http://one", "b", ModelLoad(6.0, is_ahead=True))
    usage.record_unload("http://one", "a", is_eviction=False)
    usage.record_unload("http://one", "b", is_eviction=True)
    usage.record_memory("http://one", {"a": 3_000_000_000, "b": 1500})
    return usage
