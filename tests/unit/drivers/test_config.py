"""The drivers of Griptape's components where OllamaDriversConfig is the default."""

import copy
import json
import pickle
import socket
import threading

import ollama
import pytest
from griptape.artifacts import TextArtifact
from griptape.configs import Defaults
from griptape.drivers.embedding.dummy import DummyEmbeddingDriver
from griptape.drivers.prompt.dummy import DummyPromptDriver
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.engines import PromptSummaryEngine
from griptape.engines.rag import RagContext, RagEngine
from griptape.engines.rag.modules import PromptResponseRagModule, VectorStoreRetrievalRagModule
from griptape.engines.rag.stages import ResponseRagStage, RetrievalRagStage
from griptape.memory.structure import SummaryConversationMemory
from griptape.structures import Agent
from griptape.tools import QueryTool

from griptape_ollama import OllamaDriversConfig, OllamaEmbeddingDriver, OllamaPromptDriver, OllamaTimeout
from griptape_ollama.errors import OllamaContentError


@pytest.fixture
def config(simulator):
    return OllamaDriversConfig(prompt_model="simulator", embedding_model="simulator-embed", host=simulator.url)


@pytest.fixture
def default(config, monkeypatch):
    """Makes the config the default one; every way out of this machine is closed, and there are no keys."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    connect = socket.socket.connect

    def connect_here(self, address):
        assert address[0] in ("127.0.0.1", "::1"), f"something reached for {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    with config:
        yield config


def _texts(simulator):
    return [text for request in simulator.requests if request.path == "/api/embed" for text in request.body["input"]]


def test_the_drivers_have_the_models_and_the_settings_of_the_config():
    config = OllamaDriversConfig(
        prompt_model="qwen3",
        embedding_model="nomic-embed-text",
        host="gpu",
        api_key="secret",
        headers={"X-Team": "a"},
        timeout=7,
        max_concurrency=3,
        max_wait=20,
        num_ctx=8192,
        max_num_ctx=16_384,
        on_overflow="trim",
    )
    assert isinstance(config.prompt_driver, OllamaPromptDriver)
    assert isinstance(config.embedding_driver, OllamaEmbeddingDriver)
    for driver, model in ((config.prompt_driver, "qwen3"), (config.embedding_driver, "nomic-embed-text")):
        assert driver.model == model
        assert driver.host == "gpu"
        assert driver.api_key == "secret"
        assert driver.headers == {"X-Team": "a"}
        assert driver.timeout == OllamaTimeout(total=7)
        assert (driver.max_concurrency, driver.max_wait) == (3, 20)
    prompt_driver = config.prompt_driver
    assert (prompt_driver.num_ctx, prompt_driver.max_num_ctx, prompt_driver.on_overflow) == (8192, 16_384, "trim")


def test_the_window_is_chosen_as_by_a_driver_of_its_own():
    driver = OllamaDriversConfig(prompt_model="qwen3").prompt_driver
    alone = OllamaPromptDriver(model="qwen3")
    assert (driver.num_ctx, driver.max_num_ctx, driver.on_overflow) == (
        alone.num_ctx,
        alone.max_num_ctx,
        alone.on_overflow,
    )


def test_a_driver_is_made_once_also_when_threads_ask_at_the_same_time(config):
    together = threading.Barrier(8)
    found = []

    def ask():
        together.wait()
        found.append((config.prompt_driver, config.vector_store_driver))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({(id(prompt), id(store)) for prompt, store in found}) == 1


def test_the_vector_store_uses_the_embedding_driver_and_threads_for_full_batches(config):
    store = config.vector_store_driver
    assert isinstance(store, LocalVectorStoreDriver)
    assert store.embedding_driver is config.embedding_driver
    with store.create_futures_executor() as executor:
        assert executor._max_workers == config.embedding_driver.batch_size == 64


def test_a_client_is_shared_by_the_drivers(simulator):
    client = ollama.Client(host=simulator.url)
    config = OllamaDriversConfig(prompt_model="simulator", embedding_model="simulator-embed", client=client)
    assert config.prompt_driver.client is config.embedding_driver.client is client
    client._client.close()


def test_a_driver_that_is_given_takes_the_place_of_the_one_that_would_be_made(config):
    prompt_driver = OllamaPromptDriver(model="other")
    embedding_driver = OllamaEmbeddingDriver(model="other-embed")
    given = OllamaDriversConfig(prompt_model="m", prompt_driver=prompt_driver, embedding_driver=embedding_driver)
    assert given.prompt_driver is prompt_driver
    assert given.vector_store_driver.embedding_driver is embedding_driver
    store = LocalVectorStoreDriver(embedding_driver=embedding_driver)
    config.prompt_driver, config.embedding_driver, config.vector_store_driver = prompt_driver, embedding_driver, store
    assert (config.prompt_driver, config.embedding_driver) == (prompt_driver, embedding_driver)
    assert config.vector_store_driver is store


def test_a_given_driver_counts_also_where_it_is_empty():
    class Store(LocalVectorStoreDriver):
        def __len__(self):
            return len(self.entries)

    store = Store(embedding_driver=OllamaEmbeddingDriver(model="e"))
    assert OllamaDriversConfig(embedding_model="e", vector_store_driver=store).vector_store_driver is store


def test_what_has_no_model_has_a_dummy_that_says_so():
    config = OllamaDriversConfig()
    assert isinstance(config.prompt_driver, DummyPromptDriver)
    assert isinstance(config.embedding_driver, DummyEmbeddingDriver)
    assert isinstance(config.vector_store_driver.embedding_driver, DummyEmbeddingDriver)
    with config.vector_store_driver.create_futures_executor() as executor:
        assert executor._max_workers > 0


def test_wrong_settings_are_refused_at_once():
    with pytest.raises(OllamaContentError, match="host must be a text"):
        OllamaDriversConfig(host=7)
    with pytest.raises(OllamaContentError, match="timeout"):
        OllamaDriversConfig(timeout="soon")
    with pytest.raises(OllamaContentError, match="num_ctx"):
        OllamaDriversConfig(num_ctx="large")
    with pytest.raises(OllamaContentError, match="on_overflow"):
        OllamaDriversConfig(on_overflow="ignore")


@pytest.mark.parametrize("num_ctx", ["auto", None, 8192])
def test_the_window_is_stored_with_the_config(num_ctx):
    config = OllamaDriversConfig(prompt_model="qwen3", num_ctx=num_ctx, max_num_ctx=16_384, on_overflow="error")
    loaded = OllamaDriversConfig.from_dict(json.loads(json.dumps(config.to_dict()))).prompt_driver
    assert (loaded.num_ctx, loaded.max_num_ctx, loaded.on_overflow) == (num_ctx, 16_384, "error")


@pytest.mark.parametrize("used", [False, True])
def test_a_config_can_be_stored_and_loaded_without_secrets(used):
    config = OllamaDriversConfig(
        prompt_model="qwen3", embedding_model="e", host="http://me:hush@gpu:1", api_key="hush", timeout=(1, 2)
    )
    if used:
        assert config.prompt_driver.model == "qwen3"
        assert config.vector_store_driver.embedding_driver.model == "e"
    stored = json.dumps(config.to_dict())
    assert "hush" not in stored
    assert "hush" not in repr(config)
    loaded = OllamaDriversConfig.from_dict(json.loads(stored))
    assert (loaded.prompt_model, loaded.embedding_model, loaded.timeout) == ("qwen3", "e", OllamaTimeout.of((1, 2)))
    assert type(loaded.prompt_driver) is OllamaPromptDriver
    assert loaded.embedding_driver.host == "http://gpu:1"


def test_a_given_driver_is_stored_with_the_config():
    config = OllamaDriversConfig(prompt_driver=OllamaPromptDriver(model="given", options={"seed": 1}))
    loaded = OllamaDriversConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert loaded.prompt_driver == config.prompt_driver


def test_the_default_of_before_comes_back(config):
    before = Defaults.drivers_config
    with config:
        assert Defaults.drivers_config is config
    assert Defaults.drivers_config is before


@pytest.mark.usefixtures("default")
@pytest.mark.parametrize("stream", [False, True])
def test_an_agent_without_settings_answers(stream):
    agent = Agent(stream=stream)
    assert agent.tasks[0].prompt_driver.stream is stream
    assert "You said: Hello" in str(agent.run("Hello").output)


@pytest.mark.usefixtures("default")
def test_an_off_prompt_tool_stores_its_result_in_the_local_vector_store(simulator, weather_tool):
    weather_tool.off_prompt = True
    simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
    simulator.reply("Done.")
    agent = Agent(tools=[weather_tool, QueryTool()])
    assert str(agent.run("What is the weather?").output) == "Done."
    assert _texts(simulator) == ["Oslo: 12 degrees"]
    (storage,) = agent.task_memory.namespace_storage.values()
    assert storage.vector_store_driver is Defaults.drivers_config.vector_store_driver


def test_a_rag_engine_finds_and_answers(simulator, default):
    default.vector_store_driver.upsert_collection([TextArtifact("Llamas eat grass."), TextArtifact("The sky is blue.")])
    simulator.reply("Grass.")
    engine = RagEngine(
        retrieval_stage=RetrievalRagStage(
            retrieval_modules=[VectorStoreRetrievalRagModule(query_params={"count": 1})], max_chunks=1
        ),
        response_stage=ResponseRagStage(response_modules=[PromptResponseRagModule()]),
    )
    context = engine.process(RagContext(query="What do llamas eat?"))
    assert [str(output) for output in context.outputs] == ["Grass."]
    assert [chunk.value for chunk in context.text_chunks] == ["Llamas eat grass."]


@pytest.mark.usefixtures("default")
def test_summaries_and_memory_use_the_prompt_model(simulator):
    simulator.reply("A summary.")
    assert str(PromptSummaryEngine().summarize_text("Llamas eat grass.")) == "A summary."
    agent = Agent(conversation_memory=SummaryConversationMemory(offset=0))
    agent.run("Hello")
    assert {request.body["model"] for request in simulator.requests if request.path == "/api/chat"} == {"simulator"}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])  # noqa: S301
@pytest.mark.parametrize("used", [False, True])
def test_a_copy_makes_drivers_of_its_own(again, used):
    config = OllamaDriversConfig(prompt_model="qwen3", embedding_model="e", host="gpu", api_key="k")
    if used:
        assert config.vector_store_driver.embedding_driver is config.embedding_driver
    twin = again(config)
    assert twin == config
    assert twin.prompt_driver is not config.prompt_driver
    assert (twin.prompt_driver.model, twin.prompt_driver.host, twin.api_key) == ("qwen3", "gpu", "k")
    assert twin.vector_store_driver.embedding_driver is twin.embedding_driver
