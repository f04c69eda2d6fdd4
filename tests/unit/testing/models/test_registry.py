"""The registry that models are pulled from."""

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

MB = 1_000_000

BIG = SimulatedModel(name="big:8b", size=100 * MB, pull_bytes_per_second=10 * MB)


def show(post, simulator, name):
    response = post(simulator, "/api/show", model=name)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nope", "pull model manifest: file does not exist"),
        ("127.0.0.1:9/x/y:z", 'pull model manifest: Get "https://127.0.0.1:9/v2/x/y/manifests/z": dial tcp'),
    ],
)
def test_a_model_that_the_registry_does_not_have_is_an_error(simulator, post, post_lines, name, text):
    lines = post_lines(simulator, "/api/pull", model=name)
    assert lines[0] == {"status": "pulling manifest"}
    assert lines[1]["error"].startswith(text)
    assert post(simulator, "/api/pull", model=name, stream=False).status_code == 500


def test_without_a_library_the_registry_is_unreachable(post_lines):
    with OllamaSimulator(library=None) as simulator:
        error = post_lines(simulator, "/api/pull", model="qwen3:1b")[-1]["error"]
    assert "/v2/library/qwen3/manifests/1b" in error
    assert error.endswith("no such host")


def test_a_local_registry_without_tls_needs_insecure(post_lines):
    local = SimulatedModel(name="localhost:5000/me/mine")
    with OllamaSimulator(library=[local]) as simulator:
        refused = post_lines(simulator, "/api/pull", model="localhost:5000/me/mine")[-1]
        assert "TLS handshake" in refused["error"]
        assert post_lines(simulator, "/api/pull", model="localhost:5000/me/mine", insecure=True)[-1] == {
            "status": "success"
        }
        missing = post_lines(simulator, "/api/pull", model="localhost:5000/me/other", insecure=True)[-1]
        assert missing["error"].endswith("file does not exist")


def test_the_default_library_has_models_of_several_sizes(post):
    with OllamaSimulator(time_scale=10_000) as simulator:
        for name in ("library-small", "library-thinking", "library-embed"):
            assert post(simulator, "/api/pull", name=name, stream=False).json() == {"status": "success"}
            assert f"{name}:latest" in simulator.models
