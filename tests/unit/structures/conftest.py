"""What the tests of whole structures share."""

import gc
import threading

import pytest
from griptape.structures import Agent

from griptape_ollama import OllamaPromptDriver

STREAM_THREAD = "griptape-ollama-stream"


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    yield
    gc.collect()
    for thread in [each for each in threading.enumerate() if each.name == STREAM_THREAD]:
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture
def silence():
    """What a reply may wait for that is never to come; set at the end."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def make_driver(simulator):
    """Makes a driver that talks to the simulator and does not wait before it tries again."""

    def make(**settings):
        return OllamaPromptDriver(**{"model": "simulator", "host": simulator.url, "min_retry_delay": 0, **settings})

    return make


@pytest.fixture
def agent(make_driver):
    return Agent(prompt_driver=make_driver())
