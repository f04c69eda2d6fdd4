from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama import OllamaConnectionError, OllamaModelNotFoundError, OllamaPromptDriver
from griptape_ollama.lifecycle.server_adapter import DriverServer, runner_options
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

GB = 10**9


@pytest.fixture
def server(make_driver):
    """The simulator as the planner sees it."""
    return DriverServer(make_driver("a"))


def test_what_is_loaded_is_listed_with_its_size_window_and_expiry(server, simulator):
    assert server.loaded() == []
    server.warm("a", keep_alive="10m", options={"num_ctx": 1000})
    (model,) = server.loaded()
    assert (model.name, model.size, model.context_length) == ("a:latest", GB + 1000 * 1280, 1000)
    assert timedelta(minutes=9) < model.expires_at - datetime.now(timezone.utc) < timedelta(minutes=11)


@pytest.mark.parametrize("model", ["a", "vectors"])
def test_models_for_text_and_for_vectors_are_loaded_and_unloaded(server, simulator, model):
    seconds = server.warm(model, keep_alive="10m", options={})
    assert 0 <= seconds < 60
    assert simulator.loaded_models == [f"{model}:latest"]
    (loaded,) = server.loaded()
    server.unload(loaded)
    assert simulator.loaded_models == []


def test_unloading_what_has_gone_does_nothing(server, simulator):
    server.warm("a", keep_alive="10m", options={})
    (loaded,) = server.loaded()
    for _ in range(2):
        server.unload(loaded)
    assert simulator.loaded_models == []


def test_what_was_deleted_while_it_was_loaded_cannot_be_unloaded(server, simulator, make_driver):
    server.warm("a", keep_alive="10m", options={})
    (loaded,) = server.loaded()
    make_driver("a").client.delete("a")
    with pytest.raises(OllamaModelNotFoundError, match="was deleted or replaced meanwhile"):
        server.unload(loaded)


def test_loading_and_unloading_leave_what_is_known_of_models_alone(server, simulator):
    server.key("a")
    server.warm("a", keep_alive="10m", options={})
    server.unload(server.loaded()[0])
    server.key("a")
    assert len([each for each in simulator.requests if each.path == "/api/show"]) == 1


def test_a_model_that_does_not_exist_cannot_be_loaded(server):
    with pytest.raises(OllamaModelNotFoundError):
        server.warm("nope", keep_alive=1, options={})


def test_names_of_the_same_weights_are_known_as_one():
    models = [
        SimulatedModel(name="mistral", weights="m"),
        SimulatedModel(name="main", weights="m", parameters={"temperature": 0.5}),
        SimulatedModel(name="other"),
    ]
    with OllamaSimulator(models=models) as simulator:
        server = DriverServer(OllamaPromptDriver(model="main", host=simulator.host))
        keys = [server.key(name) for name in ("mistral", "mistral:latest", "main", "other")]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_without_an_answer_a_model_is_known_by_its_full_name():
    server = DriverServer(OllamaPromptDriver(model="a", host="127.0.0.1:1"))
    names = ["qwen3", "Qwen3:latest", "library/qwen3", "registry.ollama.ai/library/qwen3:latest"]
    assert {server.key(name) for name in names} == {"registry.ollama.ai/library/qwen3:latest"}
    assert server.key("user/qwen3:8b") == "registry.ollama.ai/user/qwen3:8b"


def test_the_size_on_disk_is_known_before_a_model_is_loaded(server):
    assert server.disk_size("a") == GB
    assert server.disk_size("nope") == 0


def test_a_cloud_model_takes_no_memory_here(server, simulator):
    assert server.is_local("a")
    assert not server.is_local("gpt-oss:120b-cloud")
    simulator.reply(path="/api/show", body={"remote_host": "https://ollama.com:443"})
    assert not server.is_local("b")


def test_an_odd_list_is_empty(server, simulator):
    simulator.reply(path="/api/ps", body={"models": None})
    assert server.loaded() == []


def test_a_server_that_is_not_there_is_an_error_of_ours():
    server = DriverServer(OllamaPromptDriver(model="a", host="127.0.0.1:1"))
    with pytest.raises(OllamaConnectionError):
        server.loaded()


def test_the_options_that_a_model_is_loaded_with_are_picked_out():
    driver = OllamaPromptDriver(
        model="a",
        host="127.0.0.1:1",
        options={"num_ctx": 1000, "temperature": 0.5, "num_gpu": 1},
        extra_params={"options": {"num_ctx": 2000, "seed": 1}},
    )
    assert runner_options(driver) == {"num_ctx": 2000, "num_gpu": 1}
