"""Endpoints that a gateway refuses: tried again after a while only, and logged once."""

from types import SimpleNamespace

import pytest

from griptape_ollama.models import circuit_breaker, metadata_cache
from griptape_ollama.models.circuit_breaker import CircuitBreaker
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.models.model_metadata import ModelMetadata
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.connection import Connection

_MODEL = SimulatedModel(name="clever", capabilities=("completion", "tools", "thinking"))


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[_MODEL, SimulatedModel(name="plain", capabilities=("completion",))]) as simulator:
        yield simulator


@pytest.fixture
def metadata(simulator):
    return ServerMetadata(Connection.open(simulator.url))


@pytest.fixture
def clock(monkeypatch):
    """Time as the modules see it; it stands still until a test moves it."""
    clock = SimpleNamespace(now=1000.0)
    for module in (metadata_cache, circuit_breaker):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def _count(simulator, path):
    return sum(request.path == path for request in simulator.requests)


def test_a_breaker_is_open_for_some_seconds(clock):
    breaker = CircuitBreaker()
    assert not breaker.is_open
    breaker.open(5)
    assert breaker.opened_at == clock.now
    clock.now += 4.9
    assert breaker.is_open
    clock.now += 0.1
    assert not breaker.is_open


def test_a_refused_key_is_soon_tried_again(simulator, clock):
    connection = Connection.open(simulator.url, api_key="changed meanwhile")
    simulator.reply(path="/api/show", status=401, error="unauthorized")
    assert ServerMetadata(connection).show("clever").capabilities is None
    clock.now += 10.1
    assert ServerMetadata(connection).show("clever").capabilities is not None


_PAGE = "<html><head><title>no</title></head></html>"
_REFUSALS = [
    {"status": 403, "body": _PAGE},
    {"status": 404, "body": _PAGE},
    {"status": 405, "body": ""},
    {"status": 406, "body": _PAGE},
    {"status": 501, "body": _PAGE},
    {"status": 204, "body": ""},
    {"status": 303, "body": ""},
    {"status": 302, "body": "", "headers": {"Location": "https://login.example.com/start"}},
    {"status": 307, "body": "", "headers": {"Location": "/login"}},
    {"status": 401, "body": _PAGE},
    {"status": 502, "body": _PAGE},
    {"status": 503, "body": ""},
    {"status": 200, "body": _PAGE},
    {"status": 200, "body": "not allowed"},
    {"body": "", "reset": True},
]


@pytest.mark.parametrize("refusal", _REFUSALS, ids=str)
def test_a_refused_endpoint_is_tried_once_for_all_models_and_logged_once(metadata, simulator, clock, caplog, refusal):
    for path in ("/api/show", "/api/ps", "/api/tags", "/api/version"):
        simulator.reply(path=path, times=None, **refusal)
    for model in ("clever", "plain", "nope"):
        assert metadata.show(model) == ModelMetadata()
        assert (metadata.ps(), metadata.loaded(), metadata.tags(), metadata.version()) == ([], None, [], None)
    assert sorted(request.path for request in simulator.requests) == [
        "/api/ps",
        "/api/show",
        "/api/tags",
        "/api/version",
    ]
    assert [record.levelname for record in caplog.records if "does not tell" in record.message] == ["WARNING"]
    assert "/api/show, /api/ps, /api/tags" in caplog.text


@pytest.mark.parametrize("refusal", _REFUSALS, ids=str)
def test_an_endpoint_that_stays_refused_is_tried_once_a_minute(metadata, simulator, clock, refusal):
    simulator.reply(path="/api/show", times=None, **refusal)
    for _ in range(120):
        metadata.show("clever")
        clock.now += 1
    assert 2 <= _count(simulator, "/api/show") <= 3


def test_an_endpoint_that_answers_again_is_used_again(metadata, simulator, clock):
    simulator.reply(path="/api/show", status=403, body=_PAGE)
    assert metadata.show("clever").capabilities is None
    clock.now += 60.1
    assert metadata.show("clever").can("thinking")
    assert metadata.show("plain").capabilities == {"completion"}


def test_a_missing_model_does_not_close_the_endpoint(metadata):
    assert metadata.show("nope").capabilities is None
    assert metadata.show("clever").can("thinking")
