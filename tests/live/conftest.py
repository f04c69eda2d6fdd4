"""One suite of scenarios for two servers: the simulator, always, and the server at OLLAMA_HOST, with --live.

    OLLAMA_TEST_CHAT_MODEL=qwen3:0.6b pytest tests/live --live

Run the real server without -n, and without other clients: the tests load and unload its models. With --live and without
a server they fail. Tests of a kind of model without a name are skipped.
"""

import os
from pathlib import Path

import httpx
import pytest

from griptape_ollama.protocol.host import parse_host
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

SIMULATED, REAL = "simulator", "server"
HERE = Path(__file__).parent
KINDS = {
    "chat": "any chat model",
    "tools": "a model with tools",
    "thinking": "a model that thinks",
    "vision": "a model that sees images",
    "embed": "an embedding model",
}
MODELS = {kind: f"simulated-{kind}" for kind in KINDS}
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
        if item.path.is_relative_to(HERE) and item.callspec.params.get("target") == REAL:
            item.add_marker(pytest.mark.live)
            item.add_marker(pytest.mark.timeout(SECONDS))


def pytest_runtest_setup(item):
    # Without tests/live on the command line this file is read too late for its options to be known.
    if item.get_closest_marker("live") and not item.config.getoption("--live", default=False):
        pytest.skip("needs a real server: pytest tests/live --live")


@pytest.fixture(scope="session", params=[SIMULATED, REAL])
def target(request):
    """The server of the scenario."""
    return request.param


@pytest.fixture(scope="session")
def base_url(target):
    """Address of the server."""
    if target == REAL:
        yield parse_host(ENVIRONMENT.get("OLLAMA_HOST")).base_url
        return
    models = [
        # It takes a moment to load, so that replies tell whether it was.
        SimulatedModel(name=MODELS["chat"], capabilities=("completion",), load_seconds=0.1),
        SimulatedModel(name=MODELS["tools"]),
        SimulatedModel(name=MODELS["thinking"], capabilities=("completion", "tools", "thinking")),
        SimulatedModel(name=MODELS["vision"], capabilities=("completion", "vision")),
        SimulatedModel(name=MODELS["embed"], capabilities=("embedding",), embedding_length=64, context_length=512),
    ]
    # At a pace at which a reply can still be left, or cut off, in its middle.
    with OllamaSimulator(models, tokens_per_second=200) as simulator:
        yield simulator.url


@pytest.fixture(scope="session")
def server(base_url, target):
    """An HTTP client for the server. A missing server is a failure, as --live asks for it."""
    with httpx.Client(base_url=base_url, timeout=SECONDS, trust_env=False) as client:
        try:
            response = client.get("/api/version").raise_for_status()
            version = response.json()["version"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            pytest.fail(f"--live was given, but no Ollama server answers at {base_url}: {error!r}", pytrace=False)
        assert version
        assert (target == SIMULATED) == ("x-ollama-simulator" in response.headers), "this is not the server asked for"
        yield client


@pytest.fixture(autouse=True)
def environment(monkeypatch, server, base_url, target):
    """The address of the server; for a real one with the environment of the caller."""
    for name, value in (ENVIRONMENT if target == REAL else {"OLLAMA_HOST": base_url}).items():
        monkeypatch.setenv(name, value)


def model_fixture(kind):
    def model(request, target):
        if target == SIMULATED:
            return MODELS[kind]
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
