from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama import OllamaConnectionError, OllamaModelNotFoundError, OllamaPromptDriver
from griptape_ollama.lifecycle.server_adapter import ServerAdapter
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

GB = 10**9


@pytest.fixture
def server(make_driver):
    """An adapter for the simulator."""
    return ServerAdapter(make_driver("a"))


def test_what_is_loaded_is_listed_with_its_size_window_and_expiry(server, simulator):
    assert server.loaded_models() == []
    server.load("a", keep_alive="10m", options={"num_ctx": 1000})
    (model,) = server.loaded_models()
    assert (model.name, model.size, model.context_length) == ("a:latest", GB + 1000 * 1280, 1000)
    assert timedelta(minutes=9) < model.expires_at - datetime.now(timezone.utc) < timedelta(minutes=11)


@pytest.mark.parametrize("model", ["a", "vectors"])
def test_models_for_text_and_for_vectors_are_loaded_and_unloaded(server, simulator, model):
    seconds = server.load(model, keep_alive="10m", options={})
    assert 0 <= seconds < 60
    assert simulator.loaded_models == [f"{model}:latest"]
    (loaded,) = server.loaded_models()
    server.unload(loaded)
    assert simulator.loaded_models == []


def test_unloading_a_model_that_is_gone_does_nothing(server, simulator):
    server.load("a", keep_alive="10m", options={})
    (loaded,) = server.loaded_models()
    for _ in range(2):
        server.unload(loaded)
    assert simulator.loaded_models == []


def test_what_was_deleted_while_it_was_loaded_cannot_be_unloaded(server, simulator, make_driver):
    server.load("a", keep_alive="10m", options={})
    (loaded,) = server.loaded_models()
    make_driver("a").client.delete("a")
    with pytest.raises(OllamaModelNotFoundError, match="was deleted or replaced meanwhile"):
        server.unload(loaded)


def test_loading_and_unloading_keep_the_metadata_cached(server, simulator):
    server.memory_key("a")
    server.load("a", keep_alive="10m", options={})
    server.unload(server.loaded_models()[0])
    server.memory_key("a")
    assert len([each for each in simulator.requests if each.path == "/api/show"]) == 1


def test_a_model_that_does_not_exist_cannot_be_loaded(server):
    with pytest.raises(OllamaModelNotFoundError):
        server.load("nope", keep_alive=1, options={})


def test_names_of_the_same_weights_have_one_memory_key():
    models = [
        SimulatedModel(name="mistral", weights="m"),
        SimulatedModel(name="main", weights="m", parameters={"temperature": 0.5}),
        SimulatedModel(name="other"),
    ]
    with OllamaSimulator(models=models) as simulator:
        server = ServerAdapter(OllamaPromptDriver(model="main", host=simulator.host))
        keys = [server.memory_key(name) for name in ("mistral", "mistral:latest", "main", "other")]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_without_metadata_the_memory_key_is_the_full_name():
    server = ServerAdapter(OllamaPromptDriver(model="a", host="127.0.0.1:1"))
    names = ["qwen3", "Qwen3:latest", "library/qwen3", "registry.ollama.ai/library/qwen3:latest"]
    assert {server.memory_key(name) for name in names} == {"registry.ollama.ai/library/qwen3:latest"}
    assert server.memory_key("user/qwen3:8b") == "registry.ollama.ai/user/qwen3:8b"


def test_the_size_on_disk_is_known_before_a_load(server):
    assert server.disk_size("a") == GB
    assert server.disk_size("nope") == 0


def test_a_cloud_model_is_not_local(server, simulator):
    assert server.is_local("a")
    assert not server.is_local("gpt-oss:120b-cloud")
    simulator.reply(path="/api/show", body={"remote_host": "https://ollama.com:443"})
    assert not server.is_local("b")


def test_an_invalid_list_of_loaded_models_is_empty(server, simulator):
    simulator.reply(path="/api/ps", body={"models": None})
    assert server.loaded_models() == []


def test_a_missing_server_is_a_connection_error():
    server = ServerAdapter(OllamaPromptDriver(model="a", host="127.0.0.1:1"))
    with pytest.raises(OllamaConnectionError):
        server.loaded_models()
