"""The read-only endpoints."""

import httpx
import pytest

from griptape_ollama.protocol.options import parse_parameters
from griptape_ollama.testing import OllamaSimulator, SimulatedModel


def show(simulator, name, **body):
    return httpx.post(f"{simulator.url}/api/show", json={"model": name, **body})


def test_show_returns_the_settings_of_the_model():
    model = SimulatedModel(
        name="sim-chat:7b",
        capabilities=("completion", "tools"),
        context_length=1234,
        parameters={"temperature": 0.7, "stop": ["<|im_end|>", 'a "b"'], "num_ctx": 512},
        system="Be brief.",
        family="qwen3",
        model_info={"qwen3.rope.freq_base": 10000.0},
    )
    with OllamaSimulator([model]) as simulator:
        body = show(simulator, "sim-chat:7b").json()
    assert parse_parameters(body["parameters"]) == {
        "temperature": 0.7,
        "stop": ["<|im_end|>", 'a "b"'],
        "num_ctx": 512,
    }
    assert body["model_info"]["qwen3.context_length"] == 1234
    assert body["model_info"]["qwen3.rope.freq_base"] == 10000.0
    assert (body["system"], body["capabilities"]) == ("Be brief.", ["completion", "tools"])
    assert "PARAMETER temperature 0.7" in body["modelfile"]
    assert "SYSTEM Be brief." in body["modelfile"]


def test_show_omits_missing_fields(simulator):
    body = show(simulator, "simulator").json()
    assert not {"parameters", "system", "projector_info"} & body.keys()


def test_show_has_the_vocabulary_only_with_verbose(simulator):
    assert show(simulator, "simulator").json()["model_info"]["tokenizer.ggml.tokens"] is None
    assert show(simulator, "simulator", verbose=True).json()["model_info"]["tokenizer.ggml.tokens"]


def test_each_kind_of_model_has_its_own_template():
    kinds = ("go_template", "builtin", "native")
    with OllamaSimulator([SimulatedModel(name=kind, kind=kind) for kind in kinds]) as simulator:
        templates = [show(simulator, kind).json()["template"] for kind in kinds]
    assert [template[:3] for template in templates] == ["{{-", "{{ ", "{%-"]


def test_tags_omit_capabilities_of_a_native_model():
    model = SimulatedModel(name="native", kind="native", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as simulator:
        (listed,) = httpx.get(f"{simulator.url}/api/tags").json()["models"]
        assert listed["capabilities"] == ["completion"]
        assert show(simulator, "native").json()["capabilities"] == ["completion", "tools", "thinking"]


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/version"])
def test_head_returns_only_headers(simulator, path):
    response = httpx.head(simulator.url + path)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len(httpx.get(simulator.url + path).content)


def test_a_model_with_a_cloud_tag_is_shown_as_remote():
    with OllamaSimulator([SimulatedModel(name=name) for name in ("big:120b-cloud", "weather-cloud")]) as simulator:
        assert show(simulator, "big:120b-cloud").json()["remote_host"] == "https://ollama.com:443"
        assert "remote_host" not in show(simulator, "weather-cloud").json()
