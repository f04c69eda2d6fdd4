from typing import Any

import ollama
import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.events import EventBus, EventListener
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Schema

from griptape_ollama import OllamaEmbeddingDriver, OllamaPromptDriver


class WeatherTool(BaseTool):
    """A tool whose answers a test can tell apart."""

    @activity(
        config={
            "description": "Tells the weather of a city",
            "schema": Schema({Literal("city", description="Name of the city"): str}),
        }
    )
    def look_up(self, params: dict[str, Any]):
        return TextArtifact(f"{params['values']['city']}: 12 degrees")


@pytest.fixture
def weather_tool():
    return WeatherTool()


@pytest.fixture
def make_driver(simulator):
    """Makes a driver that talks to the simulator and does not wait before it tries again."""

    def make(**settings):
        return OllamaPromptDriver(**{"model": "simulator", "host": simulator.url, "min_retry_delay": 0, **settings})

    return make


@pytest.fixture
def make_embedder(simulator):
    """Makes an embedding driver that talks to the simulator and does not wait before it tries again."""

    def make(**settings):
        defaults = {"model": "simulator-embed", "host": simulator.url, "min_retry_delay": 0}
        return OllamaEmbeddingDriver(**{**defaults, **settings})

    return make


@pytest.fixture
def embedder(make_embedder):
    return make_embedder()


@pytest.fixture
def make_client(simulator):
    """Makes clients of the `ollama` package that talk to the simulator; they are closed at the end."""
    clients: list[ollama.Client] = []

    def make(**settings):
        clients.append(ollama.Client(host=simulator.url, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client._client.close()


@pytest.fixture
def events():
    """Everything that is published, in order."""
    heard: list[Any] = []
    EventBus.add_event_listener(EventListener(heard.append))
    return heard


@pytest.fixture
def stack():
    """A conversation of a system and a user message."""
    stack = PromptStack()
    stack.add_system_message("Be brief.")
    stack.add_user_message("Hi")
    return stack
