"""Fixtures: a simulator for a test, and drivers that use it."""

import importlib
import os
from collections.abc import Generator
from typing import Any

import pytest

_MARKER = (
    "ollama_simulator(**settings): settings of the `ollama_simulator` fixture, "
    "see griptape_ollama.testing.OllamaSimulator"
)

_SIMULATOR: pytest.StashKey[Any] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line("markers", _MARKER)


# Last: it runs after a test that passed. Not a wrapper, since those of old and new pluggy differ.
@pytest.hookimpl(trylast=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Fail a test that sent requests which its script did not expect."""
    simulator = item.stash.get(_SIMULATOR, None)
    if simulator is not None:
        simulator.verify()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """Add the requests that the script did not expect to the report of a failed test: they may be the cause."""
    simulator = item.stash.get(_SIMULATOR, None)
    if simulator is None or call.when != "call" or call.excinfo is None:
        return
    try:
        simulator.verify()
    except AssertionError as error:
        item.add_report_section("call", "ollama_simulator", str(error))


@pytest.fixture
def ollama_simulator(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[Any, None, None]:
    """Yield an `OllamaSimulator` that serves while the test runs.

    The `OLLAMA_*` variables are removed from the environment, and `OLLAMA_HOST` is set to the simulator: code that
    names no host uses it too, and never a real server.
    """
    settings: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("ollama_simulator"))):
        if marker.args:
            raise TypeError(
                "@pytest.mark.ollama_simulator takes settings by name, such as models=[...], "
                f"not {', '.join(map(repr, marker.args))}"
            )
        settings.update(marker.kwargs)
    for name in [name for name in os.environ if name.startswith("OLLAMA_")]:
        monkeypatch.delenv(name)
    simulator = importlib.import_module("griptape_ollama.testing").OllamaSimulator(**settings).start()
    monkeypatch.setenv("OLLAMA_HOST", simulator.url)
    request.node.stash[_SIMULATOR] = simulator
    try:
        yield simulator
    finally:
        # This reports requests after the test itself, such as those of fixtures that clean up.
        simulator.stop()


@pytest.fixture
def ollama_prompt_driver(ollama_simulator: Any) -> Generator[Any, None, None]:
    """Yield an `OllamaPromptDriver` for the simulator's first chat model."""
    model = ollama_simulator.first_model("completion")
    driver = importlib.import_module("griptape_ollama").OllamaPromptDriver(
        model=model, host=ollama_simulator.url, min_retry_delay=0
    )
    yield driver
    driver.connection.close()


@pytest.fixture
def ollama_embedding_driver(ollama_simulator: Any) -> Generator[Any, None, None]:
    """Yield an `OllamaEmbeddingDriver` for the simulator's first embedding model."""
    model = ollama_simulator.first_model("embedding")
    driver = importlib.import_module("griptape_ollama").OllamaEmbeddingDriver(
        model=model, host=ollama_simulator.url, min_retry_delay=0
    )
    yield driver
    driver.connection.close()
