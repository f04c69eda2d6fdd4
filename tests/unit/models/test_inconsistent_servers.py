"""Several servers behind one address: their replies contradict each other, and those of one server never do."""

import itertools
from datetime import datetime, timedelta, timezone

import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import OllamaEmbeddingDriver, OllamaModels, OllamaPromptDriver
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.connection import Connection
from unit.nginx import needs_nginx, nginx

_HI = TextArtifact("Hi")
_START = datetime(2026, 5, 1, tzinfo=timezone.utc)


def _warnings(caplog):
    return [record.getMessage() for record in caplog.records if "several servers" in record.getMessage()]


def _tags(digest, hours=None):
    times = {} if hours is None else {"modified_at": (_START + timedelta(hours=hours)).isoformat()}
    return {"models": [{"name": "qwen3:latest", "digest": digest * 64, **times}]}


def _ps(*names, minutes=0):
    expires = (_START + timedelta(minutes=minutes)).isoformat()
    return {"models": [{"name": name, "digest": "a" * 64, "expires_at": expires} for name in names]}


def _ask(simulator, path, *bodies):
    """Reply with the bodies one after the other, to requests with and without the cache."""
    models = OllamaModels(host=simulator.url)
    for number, body in enumerate(bodies):
        simulator.reply(path=path, body=body)
        if path == "/api/tags":
            models.list()
        elif path == "/api/ps":
            models.loaded()
        elif path == "/api/version":
            metadata = ServerMetadata(Connection.open(simulator.url))
            metadata.forget()
            metadata.version()
        else:
            models.show("qwen3" if number % 2 else "QWEN3:latest")


@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        ("/api/tags", [_tags("a", 1), _tags("b", 2), _tags("a", 1)]),
        ("/api/tags", [_tags("a"), _tags("b"), _tags("a")]),
        ("/api/tags", [_tags("a", 1), _tags("a", 2), _tags("a", 1)]),
        ("/api/tags", [_tags("a", 1), {"models": []}, _tags("a", 1)]),
        ("/api/tags", [_tags("a", 1), _tags("b", 2), _tags("c", 3), _tags("b", 2)]),
        ("/api/ps", [_ps("qwen3:latest"), {"models": []}, _ps("qwen3:latest")]),
        ("/api/ps", [_ps("qwen3:latest"), _ps("qwen3:latest", minutes=3), _ps("qwen3:latest")]),
        ("/api/version", [{"version": "0.33.0"}, {"version": "0.40.1"}, {"version": "0.33.0"}]),
        ("/api/show", [{"modified_at": text, "modelfile": "FROM x"} for text in ("a", "b", "a")]),
    ],
    ids=str,
)
def test_a_replaced_state_that_comes_back_is_logged_once(simulator, caplog, path, bodies):
    _ask(simulator, path, *bodies[:2])
    assert _warnings(caplog) == []
    _ask(simulator, path, *bodies[2:], *bodies, *bodies)
    (said,) = _warnings(caplog)
    assert simulator.url in said
    assert path in said
    assert "docs/production.md" in said


@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        ("/api/tags", [_tags("a", 1), _tags("b", 2), _tags("a", 3)]),  # pulled anew, and then as it was
        ("/api/tags", [_tags("a", 1), {"models": []}, _tags("a", 2)]),  # deleted and pulled
        ("/api/tags", [_tags("a", 1), _tags("a", 1), _tags("b", 2), _tags("b", 2)]),
        ("/api/ps", [_ps("qwen3:latest"), {"models": []}, _ps("qwen3:latest", minutes=9)]),  # unloaded and loaded
        ("/api/ps", [_ps("qwen3:latest"), _ps("other:latest", minutes=1), _ps("qwen3:latest", minutes=2)]),  # evicted
        ("/api/ps", [{"models": [{"name": "qwen3"}]}, {"models": []}, {"models": [{"name": "qwen3"}]}]),
        ("/api/version", [{"version": "0.33.0"}, {"version": "0.40.1"}, {"version": "0.40.1"}]),
        ("/api/version", [{}, {"version": 7}, {}]),
        ("/api/tags", [{"models": None}, {"models": [7, {}, {"name": 7}]}, {}]),
    ],
    ids=str,
)
def test_changes_of_one_server_are_no_contradiction(simulator, caplog, path, bodies):
    _ask(simulator, path, *bodies)
    assert _warnings(caplog) == []


def test_metadata_requests_detect_it_as_well(simulator, caplog):
    for digest in "aba":
        simulator.reply(path="/api/tags", body=_tags(digest))
        metadata = ServerMetadata(Connection.open(simulator.url))
        metadata.forget()
        metadata.tags()
    assert len(_warnings(caplog)) == 1


class TestUsedButMissing:
    """A model answers without being loaded, and the list of loaded models is empty."""

    @staticmethod
    def _use(simulator, *, times, keep_alive="5m", load_seconds=0.001, listed=()):
        driver = OllamaPromptDriver(model="simulator", host=simulator.url, keep_alive=keep_alive)
        models = OllamaModels(host=simulator.url)
        simulator.reply(path="/api/ps", body={"models": list(listed)}, times=None)
        for _ in range(times):
            line = {"message": {"role": "assistant", "content": "Hello"}, "done": True, "done_reason": "stop"}
            simulator.reply(lines=[{**line, "load_duration": int(load_seconds * 1e9)}])
            driver.run(_HI)
            models.loaded()

    @pytest.mark.parametrize("keep_alive", ["5m", -1, None])
    def test_it_is_said(self, simulator, caplog, keep_alive):
        self._use(simulator, times=4, keep_alive=keep_alive)
        (said,) = _warnings(caplog)
        assert "'simulator:latest' answers without being loaded" in said

    @pytest.mark.parametrize(
        "settings",
        [
            {"keep_alive": 0},
            {"keep_alive": "100ms"},
            {"load_seconds": 2.0},  # it was unloaded, and is loaded for each reply
            {"load_seconds": 0.3, "keep_alive": None},  # the server's own may be 0
            {"listed": [{"name": "another"}]},  # which may have taken its memory, or be it
        ],
        ids=str,
    )
    def test_a_model_that_was_unloaded_is_no_contradiction(self, simulator, caplog, settings):
        self._use(simulator, times=6, **settings)
        assert _warnings(caplog) == []

    def test_a_model_of_the_cloud_is_never_loaded(self, simulator, caplog):
        simulator.reply(path="/api/show", body={"remote_host": "https://ollama.com:443"}, times=None)
        self._use(simulator, times=6)
        assert _warnings(caplog) == []


@pytest.mark.parametrize("keep_alive", [0, "5m", -1, None])
def test_one_server_that_evicts_and_unloads_is_not_taken_for_several(caplog, keep_alive):
    names = ("one", "two", "three")
    with OllamaSimulator(models=[SimulatedModel(name=name) for name in names], max_loaded_models=1) as server:
        models = OllamaModels(host=server.url)
        drivers = [OllamaPromptDriver(model=name, host=server.url, keep_alive=keep_alive) for name in names]
        for driver in itertools.chain(drivers, reversed(drivers), drivers):
            driver.run(_HI)
            models.loaded()
            models.list()
            models.unload(driver.model)
            models.loaded()
        models.copy("one", "four")
        models.delete("four")
        models.copy("two", "four")
        models.list()
    assert _warnings(caplog) == []


@needs_nginx
def test_two_servers_behind_nginx_are_detected(tmp_path, caplog):
    with OllamaSimulator() as one, OllamaSimulator() as other:
        servers = " ".join(f"server {each.url.removeprefix('http://')};" for each in (one, other))
        passed = "proxy_pass http://u; proxy_set_header Host localhost;"
        block = f"upstream u {{ {servers} }} server {{ listen 127.0.0.1:PORT; location / {{ {passed} }} }}"
        with nginx(tmp_path, block) as proxy:
            driver = OllamaPromptDriver(model="simulator", host=proxy.url)
            embedder = OllamaEmbeddingDriver(model="simulator-embed", host=proxy.url)
            models = OllamaModels(host=proxy.url)
            for number in range(8):  # three requests each, so that both servers are asked for everything
                driver.run(_HI)
                embedder.embed(f"text {number}")
                models.list()
    assert len(_warnings(caplog)) == 1


def test_it_is_logged_once_for_each_address(simulator, caplog):
    bodies = [_tags("a"), _tags("b"), _tags("a"), _tags("b")]
    _ask(simulator, "/api/tags", *bodies)
    with OllamaSimulator() as other:
        _ask(other, "/api/tags", *bodies)
    assert len(_warnings(caplog)) == 2
    reset_shared_state()
