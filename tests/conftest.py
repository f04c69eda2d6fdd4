"""What every test starts from: nothing known of servers and models, no settings or listeners of another test."""

import gc
import os
import re
import socket
import threading
from pathlib import Path

import certifi
import pytest
from griptape.events import EventBus
from hypothesis import settings

from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing import OllamaSimulator

# A busy machine is not a failure.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

_SETTINGS = re.compile(r"OLLAMA_.*|(?:ALL|HTTP|HTTPS|NO)_PROXY", re.IGNORECASE)


@pytest.fixture(autouse=True, scope="session")
def _one_certificate(tmp_path_factory):
    """Trust one certificate of certifi's, not all of them: parsing 140 takes 20 ms for each HTTP client of a test."""
    end = "-----END CERTIFICATE-----"
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + f"{end}\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


def pytest_collection_finish():
    """Exclude imported modules and collected tests from garbage collection, which takes 0.5 s with them."""
    gc.collect()
    gc.freeze()


def _simulators():
    return [thread for thread in threading.enumerate() if thread.name == "ollama-simulator"]


@pytest.fixture(autouse=True)
def _clean_slate(monkeypatch):
    for name in filter(_SETTINGS.fullmatch, list(os.environ)):
        monkeypatch.delenv(name)
    reset_shared_state()
    EventBus.clear_event_listeners()
    before = set(_simulators())
    yield
    EventBus.clear_event_listeners()
    reset_shared_state()
    assert set(_simulators()) <= before, "the test left a simulator behind"


@pytest.fixture
def unused_port():
    """A port at which nothing listens. It is bound meanwhile, so that no other test gets it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


@pytest.fixture
def simulator():
    """A server of its own for the test; it answers by itself where the test scripts nothing."""
    with OllamaSimulator() as simulator:
        yield simulator
