"""Live tests: against the server at OLLAMA_HOST, and only when they are asked for.

    OLLAMA_TEST_CHAT_MODEL=qwen3:0.6b pytest tests/live --live

Without -n: the tests load and unload models of one server. Asked for and no server: they fail. A kind of model that is
not named: the tests of that kind are skipped.
"""

import os
from pathlib import Path

import httpx
import pytest

from griptape_ollama.protocol.host import parse_host

HERE = Path(__file__).parent
KINDS = {
    "chat": "any chat model",
    "tools": "a model with tools",
    "thinking": "a model that thinks",
    "vision": "a model that sees images",
    "embed": "an embedding model",
}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name.startswith("OLLAMA_")}
SECONDS = 600  # loading a large model takes its time


def variable_of(kind):
    return f"OLLAMA_TEST_{kind.upper()}_MODEL"


def pytest_addoption(parser):
    group = parser.getgroup("live", "tests against a real Ollama server")
    group.addoption("--live", action="store_true", help="run them, against the server at OLLAMA_HOST")
    for kind, what in KINDS.items():
        group.addoption(f"--{kind}-model", metavar="NAME", help=f"{what}; by default {variable_of(kind)}")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_runtest_setup(item):
    # Without tests/live on the command line this file is read too late for its options to be known.
    if not item.config.getoption("--live", default=False):
        pytest.skip("needs a real server: pytest tests/live --live")


@pytest.fixture(scope="session")
def server():
    """An HTTP client for the server. No server is a failure: somebody asked for these tests."""
    base_url = parse_host(ENVIRONMENT.get("OLLAMA_HOST")).base_url
    with httpx.Client(base_url=base_url, timeout=SECONDS, trust_env=False) as client:
        try:
            version = client.get("/api/version").raise_for_status().json()["version"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            pytest.fail(f"--live was given, but no Ollama server answers at {base_url}: {error!r}", pytrace=False)
        assert version
        yield client


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What other tests are kept from: the settings of whoever asked for these tests."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def model_fixture(kind):
    def model(request, server):
        name = request.config.getoption(f"--{kind}-model", default=None) or ENVIRONMENT.get(variable_of(kind))
        if not name:
            pytest.skip(f"needs {KINDS[kind]}: set {variable_of(kind)}, or pass --{kind}-model")
        return name

    return pytest.fixture(scope="session", name=f"{kind}_model")(model)


chat_model = model_fixture("chat")
tools_model = model_fixture("tools")
thinking_model = model_fixture("thinking")
vision_model = model_fixture("vision")
embed_model = model_fixture("embed")
