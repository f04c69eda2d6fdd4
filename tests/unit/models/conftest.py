"""What the tests of model management share."""

import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from griptape_ollama import OllamaModels


@pytest.fixture
def manage():
    """Builds OllamaModels of a simulator; its retries do not wait."""

    def make(simulator, **settings):
        return OllamaModels(host=simulator.host, **{"min_retry_delay": 0, **settings})

    return make


@pytest.fixture
def models(simulator, manage):
    return manage(simulator)


@pytest.fixture
def in_background():
    """Call a function in a thread, and return its future."""
    with ThreadPoolExecutor(16) as pool:
        yield pool.submit


@pytest.fixture
def audit(caplog):
    """The audit records so far."""
    caplog.set_level(logging.INFO, logger="griptape_ollama.audit")

    def records():
        return [record.audit for record in caplog.records if record.name == "griptape_ollama.audit"]

    return records


@pytest.fixture
def count():
    """Count the requests for a path."""

    def requests(simulator, path):
        return sum(request.path == path for request in simulator.requests)

    return requests
