"""The only chat model of a server, for a driver without a model."""

import pytest

from griptape_ollama import OllamaConnectionError, OllamaModelNotFoundError
from griptape_ollama.models.catalogue import choose_chat_model
from griptape_ollama.models.types import ModelInfo
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

EMBED = SimulatedModel(name="embed", capabilities=("embedding",), family="bert")


def _server(*models):
    return OllamaSimulator(models=models)


def test_the_only_chat_model_is_meant(manage):
    with _server(EMBED, SimulatedModel(name="chat:8b")) as simulator:
        assert manage(simulator).only_chat_model() == "chat:8b"


def test_several_names_of_one_model_are_one(manage):
    with _server(SimulatedModel(name="chat")) as simulator:
        models = manage(simulator)
        models.alias("main", "chat")
        assert models.only_chat_model() == "chat:latest"


def test_of_several_none_is_meant_and_the_error_lists_them(manage):
    several = r"several chat models: name one.*It has a:latest, b:latest"
    two = (SimulatedModel(name="a"), SimulatedModel(name="b"))
    with _server(*two) as simulator, pytest.raises(OllamaModelNotFoundError, match=several):
        manage(simulator).only_chat_model()


def test_a_server_without_a_chat_model_says_what_it_has(manage):
    with _server(EMBED) as simulator, pytest.raises(OllamaModelNotFoundError, match=r"no chat model.*embed:latest"):
        manage(simulator).only_chat_model()


def test_an_empty_server_says_how_to_get_one(manage):
    with _server() as simulator, pytest.raises(OllamaModelNotFoundError, match=r"has no models.*ollama pull"):
        manage(simulator).only_chat_model()


def test_a_server_that_does_not_answer_is_not_taken_for_an_empty_one(manage):
    simulator = OllamaSimulator().start()
    models = manage(simulator)
    simulator.stop()
    with pytest.raises(OllamaConnectionError):
        models.only_chat_model()


def test_a_long_list_is_cut():
    installed = [ModelInfo(f"model-{number}:latest", str(number)) for number in range(25)]
    with pytest.raises(OllamaModelNotFoundError, match=r"model-0:latest, .*model-19:latest and 5 more\.$"):
        choose_chat_model(installed, lambda _: True, "http://gpu:11434")


def test_an_old_server_that_tells_no_capabilities_is_known_by_the_architecture():
    installed = [ModelInfo("nomic-embed-text:latest", "1", family="nomic-bert"), ModelInfo("llama3:latest", "2")]
    assert choose_chat_model(installed, lambda _: True, "http://gpu:11434") == "llama3:latest"
