"""Metadata of a server and its models: requested once, shared, and never a reason for a prompt to fail."""

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import ollama
import pytest
from cachetools import LRUCache

from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.models import circuit_breaker, metadata_cache, model_metadata
from griptape_ollama.models.metadata_cache import DEFAULT_WINDOW, LoadedList, ServerMetadata
from griptape_ollama.models.model_metadata import UNKNOWN_MODEL, ModelMetadata, is_cloud_model
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

_RECORDINGS = Path(__file__).parents[2] / "contract" / "recordings" / "0.33.0-rc2"
_MODEL = SimulatedModel(
    name="clever",
    capabilities=("completion", "tools", "thinking"),
    context_length=32_768,
    parameters={"temperature": 0.6, "num_ctx": 2048, "stop": ["<|im_end|>", "<|im_start|>"]},
)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[_MODEL, SimulatedModel(name="plain", capabilities=("completion",))]) as simulator:
        yield simulator


@pytest.fixture
def metadata(simulator):
    return ServerMetadata(Connection.open(simulator.url))


@pytest.fixture
def clock(monkeypatch):
    """Time as the module sees it; it stands still until a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    for module in (metadata_cache, model_metadata, circuit_breaker):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def _count(simulator, path):
    return sum(request.path == path for request in simulator.requests)


def test_show_returns_capabilities_and_parameters(metadata):
    clever = metadata.show("clever")
    assert clever.capabilities == {"completion", "tools", "thinking"}
    assert clever.parameters == {"temperature": 0.6, "num_ctx": 2048, "stop": ["<|im_end|>", "<|im_start|>"]}
    assert clever.context_length == 32_768
    assert clever.remote_host is None
    assert clever.raw["details"]["family"] == "llama"
    assert clever.can("thinking")
    assert not clever.can("vision")


def test_a_model_without_parameters_has_none(metadata):
    assert metadata.show("plain").parameters == {}


def test_a_model_is_requested_once(metadata, simulator):
    assert metadata.show("clever") == metadata.show("clever")
    assert _count(simulator, "/api/show") == 1


def test_each_model_has_its_own_request(metadata, simulator):
    assert metadata.show("clever").can("tools")
    assert not metadata.show("plain").can("tools")
    metadata.show("clever")
    assert [request.model for request in simulator.requests] == ["clever", "plain"]


def test_two_connections_to_one_server_share_the_cache(metadata, simulator):
    metadata.show("clever")
    ServerMetadata(Connection.open(simulator.url)).show("clever")
    ServerMetadata(Connection.open(f"{simulator.url}/")).show("clever")
    assert _count(simulator, "/api/show") == 1


def test_two_servers_do_not_share_the_cache(metadata, simulator):
    with OllamaSimulator(models=[SimulatedModel(name="clever", capabilities=("completion",))]) as other:
        assert metadata.show("clever").can("tools")
        assert not ServerMetadata(Connection.open(other.url)).show("clever").can("tools")
        assert (_count(simulator, "/api/show"), _count(other, "/api/show")) == (1, 1)


def test_tags_ps_and_version_are_cached(metadata, simulator):
    for _ in range(2):
        assert {model["name"] for model in metadata.tags()} == {"clever:latest", "plain:latest"}
        assert metadata.ps() == []
        assert metadata.version() == "0.33.0-simulator"
    assert [request.path for request in simulator.requests] == ["/api/tags", "/api/ps", "/api/version"]


def test_threads_share_one_request(metadata, simulator):
    go_on = threading.Event()
    simulator.reply(path="/api/show", body={"capabilities": ["tools"]}, wait=go_on)
    start = threading.Barrier(16)

    def ask():
        start.wait()
        return metadata.show("clever")

    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(ask) for _ in range(16)]
        simulator.wait_for_request(path="/api/show")
        go_on.set()
        assert {answer.result().capabilities for answer in answers} == {frozenset({"tools"})}
    assert _count(simulator, "/api/show") == 1


def test_no_other_thread_sends_the_request_while_its_answer_is_stored(metadata, monkeypatch):
    waiting = []

    class Watched(LRUCache):
        def __setitem__(self, key, value):
            waiting.append(key in metadata_cache._cache._waiting)
            super().__setitem__(key, value)

    monkeypatch.setattr(metadata_cache._cache, "_answers", Watched(9))
    metadata.show("clever")
    assert waiting == [True]


def test_a_slow_request_does_not_delay_one_for_another_model(metadata, simulator):
    go_on = threading.Event()
    simulator.reply(path="/api/show", model="clever", body={}, wait=go_on)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(metadata.show, "clever")
        simulator.wait_for_request(path="/api/show")
        assert metadata.show("plain").can("completion")
        assert not slow.done()
        go_on.set()
        slow.result()


@pytest.mark.parametrize(
    ("ask", "seconds"),
    [(lambda f: f.show("clever"), 60), (lambda f: f.tags(), 60), (lambda f: f.version(), 60), (lambda f: f.ps(), 5)],
    ids=["show", "tags", "version", "ps"],
)
def test_answers_expire(metadata, simulator, clock, ask, seconds):
    ask(metadata)
    clock.now += seconds - 0.01
    ask(metadata)
    assert len(simulator.requests) == 1
    clock.now += 0.02
    ask(metadata)
    assert len(simulator.requests) == 2


def test_a_failure_is_cached_for_two_seconds(metadata, simulator, clock):
    simulator.reply(path="/api/show", status=500, error="out of luck")
    assert metadata.show("clever") == ModelMetadata()
    clock.now += 1.9
    assert metadata.show("clever") == ModelMetadata()
    assert _count(simulator, "/api/show") == 1
    clock.now += 0.2
    assert metadata.show("clever").can("thinking")
    assert _count(simulator, "/api/show") == 2


def test_the_loaded_list_has_the_time_of_its_request(metadata, clock):
    assert metadata.loaded() == LoadedList([], asked_at=1000.0)
    clock.now += 4
    assert metadata.loaded() == LoadedList([], asked_at=1000.0)
    clock.now += 2
    assert metadata.loaded() == LoadedList([], asked_at=1006.0)


def test_nothing_loaded_is_not_the_same_as_no_answer(metadata, simulator):
    simulator.reply(path="/api/ps", status=500, error="out of luck")
    assert metadata.loaded() is None
    assert metadata.ps() == []


def test_the_address_has_no_secrets(simulator):
    address = simulator.url.replace("://", "://user:secret@")
    assert ServerMetadata(Connection.open(address)).address == simulator.url


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "gpt-oss:cloud", "Gpt-Oss:Cloud"])
def test_a_model_is_one_of_the_cloud_by_its_name_or_by_where_it_runs(name):
    assert is_cloud_model(name, UNKNOWN_MODEL)
    assert is_cloud_model("mine", ModelMetadata(remote_host="https://ollama.com:443"))
    assert not is_cloud_model("cloud:latest", UNKNOWN_MODEL)
    assert not is_cloud_model("weather-cloud", UNKNOWN_MODEL)
    assert is_cloud_model("llama3", ModelMetadata(is_cloud=True))


def test_a_model_that_the_server_has_a_file_of_is_none_of_the_cloud_whatever_its_name():
    local = ModelMetadata(raw={"details": {"format": "gguf"}})
    assert not is_cloud_model("mine:big-cloud", local)
    assert is_cloud_model("mine:big-cloud", ModelMetadata(raw={"details": {"family": "gptoss"}}))


@pytest.mark.parametrize(
    ("host", "is_cloud"),
    [
        ("https://ollama.com", True),
        ("https://eu.ollama.com/", True),
        ("http://ollama.com", False),
        ("https://ollama.com.example.org", False),
        ("http://127.0.0.1:1", False),
    ],
)
def test_every_model_behind_ollama_com_is_one_of_the_cloud(host, is_cloud):
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"details": {"format": "gguf"}}))
    connection = Connection(ollama.Client(host=host, transport=transport))
    assert is_cloud_model("llama3", ServerMetadata(connection).show("llama3")) is is_cloud


def test_quirks_are_kept_until_the_model_changes(simulator):
    metadata = ServerMetadata(Connection.open(simulator.url))
    known = metadata.show("plain")
    assert metadata.record_quirk("plain", known, "bites")
    assert not metadata.record_quirk("Plain:latest", known, "bites")
    assert metadata.show("plain").quirks == {"bites"}
    assert ServerMetadata(Connection.open(simulator.url, api_key="k")).show("plain").quirks == set()
    assert metadata.record_quirk("plain", replace(known, raw={"modified_at": "later"}), "bites")
    assert metadata.show("plain").quirks == set()
    metadata.record_quirk("plain", known, "bites")
    metadata.forget_quirk("plain", "bites")
    assert metadata.show("plain").quirks == set()


def test_of_an_unknown_model_everything_is_assumed(metadata):
    unknown = metadata.show("nope")
    assert unknown == ModelMetadata()
    assert unknown.capabilities is None
    assert unknown.can("tools")
    assert unknown.can("vision")
    assert (unknown.parameters, unknown.context_length) == ({}, None)
    assert DEFAULT_WINDOW == 4096


@pytest.mark.parametrize(
    "reply",
    [
        {"body": []},
        {"body": "not json"},
        {"body": b"\xff\xfe"},
        {"body": b""},
        {"body": '"text"'},
        {"status": 404, "error": "no"},
        {"status": 401, "body": ""},
        {"status": 500, "error": "boom"},
        {"status": 503, "error": "busy"},
        {"raw": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"},
        {"raw": b"garbage\r\n\r\n"},
        {"reset": True},
    ],
    ids=str,
)
def test_a_server_without_answers_leaves_the_defaults(metadata, simulator, reply):
    simulator.reply(path=None, times=None, **reply)
    assert metadata.show("clever") == ModelMetadata()
    assert metadata.tags() == []
    assert metadata.ps() == []
    assert metadata.version() is None


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        ({}, ModelMetadata()),
        ({"capabilities": "tools", "parameters": ["num_ctx 1"], "model_info": []}, ModelMetadata()),
        ({"capabilities": None, "parameters": None, "model_info": None, "remote_host": None}, ModelMetadata()),
        ({"capabilities": []}, ModelMetadata(capabilities=frozenset())),
        ({"capabilities": ["tools", 7, None]}, ModelMetadata(capabilities=frozenset({"tools", "7", "None"}))),
        ({"capabilities": [["tools"]]}, ModelMetadata(capabilities=frozenset({"['tools']"}))),
        (
            {"model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960}},
            ModelMetadata(context_length=40960),
        ),
        ({"model_info": {"qwen3.context_length": 40960}}, ModelMetadata()),
        ({"model_info": {"general.architecture": "qwen3", "qwen3.context_length": "40960"}}, ModelMetadata()),
        ({"model_info": {"general.architecture": ["x"]}}, ModelMetadata()),
        ({"remote_host": "https://ollama.com:443"}, ModelMetadata(remote_host="https://ollama.com:443")),
        ({"remote_host": 7}, ModelMetadata()),
        ({"parameters": "num_ctx 2048\n???"}, ModelMetadata(parameters={"num_ctx": 2048})),
    ],
)
def test_an_odd_reply_of_show_is_read_as_far_as_it_goes(reply, told):
    metadata = ModelMetadata.from_show(reply)
    assert metadata.raw is reply
    assert (metadata.capabilities, metadata.parameters, metadata.context_length, metadata.remote_host) == (
        told.capabilities,
        told.parameters,
        told.context_length,
        told.remote_host,
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("show_tiny-chat", ({"completion"}, {"temperature": 0}, 8192)),
        ("show_derived", ({"completion"}, {"num_ctx": 2048, "stop": ["x"], "temperature": 0.2}, 8192)),
        ("show_tiny-native", ({"completion", "tools", "thinking"}, {}, 8192)),
        ("show_tiny-qwen3", ({"completion", "tools", "thinking"}, {}, 8192)),
        ("show_tiny-thinktools", ({"completion", "tools", "thinking"}, {}, 8192)),
        ("show_tiny-vision", ({"completion", "vision"}, {}, 8192)),
        ("show_tiny-embed", ({"embedding"}, {}, 512)),
        ("show_verbose", ({"embedding"}, {}, 512)),
    ],
)
def test_recorded_replies_of_show_are_read(name, told):
    reply = json.loads((_RECORDINGS / f"{name}.json").read_text())["response"]["body"]
    metadata = ModelMetadata.from_show(reply)
    assert (metadata.capabilities, metadata.parameters, metadata.context_length) == told
    assert metadata.remote_host is None


@pytest.mark.parametrize("reply", [{"models": None}, {"models": {}}, {"models": [[], 1]}, {}, {"version": 7}])
def test_odd_replies_of_other_endpoints_are_empty(metadata, simulator, reply):
    simulator.reply(path=None, times=None, body=reply)
    assert (metadata.tags(), metadata.ps(), metadata.version()) == ([], [], None)


def test_everything_is_forgotten_if_the_server_is_gone(metadata, simulator, clock):
    metadata.show("clever")
    metadata.tags()
    metadata.version()
    port = int(simulator.url.rsplit(":", 1)[1])
    simulator.stop()
    assert metadata.version() == "0.33.0-simulator"  # from the cache
    assert metadata.ps() == []  # requested, and the server was gone
    assert metadata.version() is None
    assert metadata.show("clever") == ModelMetadata()
    with OllamaSimulator(models=[SimulatedModel(name="clever", capabilities=("vision",))], port=port):
        assert metadata.show("clever").capabilities == {"vision"}


def test_an_absent_server_is_tried_again_at_once():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        metadata = ServerMetadata(Connection.open(f"127.0.0.1:{port}"))
        assert metadata.version() is None
    with OllamaSimulator(port=port):
        assert metadata.version() == "0.33.0-simulator"


def test_timeouts_of_the_caller_apply_to_metadata(simulator):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence)
    try:
        metadata = ServerMetadata(Connection.open(simulator.url), Run(OllamaTimeout(first_token=0.05)))
        assert metadata.show("clever") == ModelMetadata()
    finally:
        silence.set()


def test_a_cancelled_request_is_not_cached(metadata, simulator):
    silence = threading.Event()
    run = Run()
    simulator.reply(path="/api/show", body={}, wait=silence)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ServerMetadata(Connection.open(simulator.url), run).show, "clever")
        simulator.wait_for_request(path="/api/show")
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            asking.result(10)
    silence.set()
    assert metadata.show("clever").can("thinking")


def test_forgetting_one_server_keeps_the_rest(metadata, simulator):
    with OllamaSimulator() as other:
        others = ServerMetadata(Connection.open(other.url))
        metadata.version()
        others.version()
        metadata.forget()
        metadata.version()
        others.version()
        assert (len(simulator.requests), len(other.requests)) == (2, 1)


def test_everything_can_be_forgotten(metadata, simulator):
    metadata.version()
    reset_shared_state()
    metadata.version()
    assert len(simulator.requests) == 2


def test_the_memory_is_bounded(metadata, monkeypatch):
    monkeypatch.setattr(metadata_cache, "_MAX_ENTRIES", 3)
    monkeypatch.setattr(metadata_cache, "_cache", metadata_cache._Cache())
    for name in "abcde":
        metadata.show(name)
    assert [key[2] for key in metadata_cache._cache._answers] == [model_key(name) for name in "cde"]


def test_metadata_requests_do_not_load_a_model(metadata, simulator):
    metadata.show("clever")
    metadata.tags()
    assert simulator.loaded_models == []


def test_two_api_keys_do_not_share_the_cache(simulator):
    simulator.reply(path="/api/show", status=401, error="unauthorized")
    assert ServerMetadata(Connection.open(simulator.url, api_key="wrong")).show("clever").parameters == {}
    assert ServerMetadata(Connection.open(simulator.url, api_key="right")).show("clever").can("thinking")
    assert _count(simulator, "/api/show") == 2


def test_a_server_that_hangs_is_not_tried_again(simulator):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence, times=None)
    connection = Connection.open(simulator.url)
    for _ in range(3):
        assert ServerMetadata(connection, Run(OllamaTimeout(first_token=0.05))).show("clever").capabilities is None
    silence.set()
    assert _count(simulator, "/api/show") == 1


def test_waiting_for_another_thread_keeps_to_the_limits_of_the_one_that_waits(metadata, simulator):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(metadata.show, "clever")
        simulator.wait_for_request(path="/api/show")
        patient = ServerMetadata(Connection.open(simulator.url), Run(OllamaTimeout(total=0.05)))
        assert patient.show("clever").capabilities is None
        assert not slow.done()
        silence.set()
        slow.result()


def test_waiting_for_another_thread_can_be_cancelled(metadata, simulator):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence)
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(metadata.show, "clever")
        simulator.wait_for_request(path="/api/show")
        run = Run()
        waiting = pool.submit(ServerMetadata(Connection.open(simulator.url), run).show, "clever")
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            waiting.result(10)
        silence.set()
        slow.result()


def test_a_waiting_thread_sends_the_request_of_a_cancelled_one(metadata, simulator):
    silence = threading.Event()
    simulator.reply(path="/api/show", body={}, wait=silence)
    with ThreadPoolExecutor(2) as pool:
        run = Run()
        asking = pool.submit(ServerMetadata(Connection.open(simulator.url), run).show, "clever")
        simulator.wait_for_request(path="/api/show")
        waiting = pool.submit(metadata.show, "clever")
        run.cancel()
        with pytest.raises(OllamaCancelledError):
            asking.result(10)
        assert waiting.result(10).can("thinking")
    silence.set()


class TestEmbeddingModels:
    @pytest.fixture
    def simulator(self):
        models = [SimulatedModel(name="small:v1", capabilities=["embedding"], embedding_length=384), _MODEL]
        with OllamaSimulator(models=models) as simulator:
            yield simulator

    def test_show_tells_how_many_numbers_a_vector_has(self, metadata):
        assert metadata.show("small:v1").embedding_length == 384
        assert metadata.show("nope").embedding_length is None

    @pytest.mark.parametrize("info", [None, {}, {"general.architecture": "bert"}, {"bert.embedding_length": 384}])
    def test_a_size_that_is_not_told_is_none(self, info):
        assert ModelMetadata.from_show({"model_info": info}).embedding_length is None

    @pytest.mark.parametrize("size", ["384", 0, -1, True, 1.5, [384]])
    def test_a_size_that_is_no_number_is_none(self, size):
        info = {"general.architecture": "bert", "bert.embedding_length": size, "bert.context_length": size}
        told = ModelMetadata.from_show({"model_info": info})
        assert (told.embedding_length, told.context_length) == (None, None)

    @pytest.mark.parametrize("name", ["small:v1", "SMALL:v1", "clever", "clever:latest"])
    def test_a_model_has_the_digest_that_the_list_has_for_its_name(self, simulator, metadata, name):
        digests = {entry["name"]: entry["digest"] for entry in metadata.tags()}
        full = name.lower() if ":" in name else f"{name}:latest"
        assert metadata.digest(name) == digests[full]
        assert _count(simulator, "/api/tags") == 1

    @pytest.mark.parametrize("name", ["small", "small:v2", "nope", ""])
    def test_a_model_that_is_not_listed_has_none(self, metadata, name):
        assert metadata.digest(name) is None

    @pytest.mark.parametrize(
        "entry",
        [
            {"name": "m:latest"},
            {"name": "m:latest", "digest": ""},
            {"name": "m:latest", "digest": 5},
            {"digest": "abc"},
            {},
        ],
        ids=str,
    )
    def test_a_digest_that_is_not_told_is_none(self, simulator, metadata, entry):
        simulator.reply(path="/api/tags", body={"models": [entry]})
        assert metadata.digest("m") is None

    def test_old_servers_name_a_model_by_its_name_only(self, simulator, metadata):
        simulator.reply(path="/api/tags", body={"models": [{"name": "m:latest", "digest": "abc"}]})
        assert metadata.digest("m") == "abc"

    def test_a_server_that_lists_nothing_has_no_digests(self, simulator, metadata):
        simulator.reply(path="/api/tags", status=500, error="no")
        assert metadata.digest("small:v1") is None
