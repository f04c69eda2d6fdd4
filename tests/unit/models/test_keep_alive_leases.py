"""Leases keep a model loaded until the last holder has released it; overrides take the place of a keep_alive."""

from types import SimpleNamespace

import pytest

from griptape_ollama.models import keep_alive_leases
from griptape_ollama.models.keep_alive_leases import (
    LEASE_SECONDS,
    acquire_lease,
    is_leased,
    is_unloading,
    keep_alive_override,
    leased,
    overriding_keep_alives,
    release_lease,
)
from griptape_ollama.testing import OllamaSimulator
from griptape_ollama.transport.connection import Connection

MODEL = "simulator"


@pytest.fixture
def simulator():
    with OllamaSimulator() as simulator:
        yield simulator


@pytest.fixture
def connection(simulator):
    return Connection.open(simulator.host)


def _unloads(simulator):
    return [request.body for request in simulator.requests if request.path == "/api/generate"]


@pytest.mark.parametrize(
    ("keep_alive", "unloads"), [(0, True), ("0s", True), (None, False), (-1, False), ("5m", False)]
)
def test_only_a_keep_alive_of_0_unloads(keep_alive, unloads):
    assert is_unloading(keep_alive) == unloads


def test_the_last_holder_unloads_the_model(simulator, connection):
    with leased(connection, MODEL):
        with leased(connection, f"{MODEL}:latest"):
            assert is_leased(connection, MODEL.upper())
        assert is_leased(connection, MODEL)
        assert _unloads(simulator) == []
    assert not is_leased(connection, MODEL)
    assert _unloads(simulator) == [{"model": MODEL, "keep_alive": 0, "stream": False}]


def test_a_lease_that_is_not_released_expires(connection, monkeypatch):
    now = SimpleNamespace(value=1000.0)
    monkeypatch.setattr(keep_alive_leases, "time", SimpleNamespace(monotonic=lambda: now.value))
    holder = object()
    acquire_lease(connection, MODEL, holder)
    now.value += LEASE_SECONDS - 1
    assert is_leased(connection, MODEL)
    now.value += 2
    assert not is_leased(connection, MODEL)
    release_lease(connection, MODEL, holder)


def test_a_server_that_is_gone_fails_no_release(simulator, connection):
    with leased(connection, MODEL):
        simulator.stop()
    assert not is_leased(connection, MODEL)


def test_an_inner_override_decides_first_and_leaves_the_rest_to_the_outer_one(connection):
    with overriding_keep_alives(lambda _, model: {"a": 1, "b": 1}.get(model)):
        with overriding_keep_alives(lambda _, model: {"b": 2}.get(model)):
            assert [keep_alive_override(connection, model) for model in "abc"] == [1, 2, None]
        assert keep_alive_override(connection, "b") == 1
    assert keep_alive_override(connection, "a") is None
