"""The read-only endpoints."""

import httpx
import pytest

from griptape_ollama.protocol.parameters import parse_parameters
from griptape_ollama.testing import OllamaSimulator, SimulatedModel


def show(simulator, name, **body):
    return httpx.post(f"{simulator.url}/api/show", json={"model": name, **body})


def test_show_tells_what_the_model_was_given():
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


def test_show_leaves_out_what_a_model_does_not_have(simulator):
    body = show(simulator, "simulator").json()
    assert not {"parameters", "system", "projector_info"} & body.keys()


def test_show_has_no_vocabulary_unless_asked(simulator):
    assert show(simulator, "simulator").json()["model_info"]["tokenizer.ggml.tokens"] is None
    assert show(simulator, "simulator", verbose=True).json()["model_info"]["tokenizer.ggml.tokens"]


def test_templates_tell_the_kinds_apart():
    kinds = ("go_template", "builtin", "native")
    with OllamaSimulator([SimulatedModel(name=kind, kind=kind) for kind in kinds]) as simulator:
        templates = [show(simulator, kind).json()["template"] for kind in kinds]
    assert [template[:3] for template in templates] == ["{{-", "{{ ", "{%-"]


def test_a_native_model_can_do_more_than_the_list_of_models_says():
    model = SimulatedModel(name="native", kind="native", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as simulator:
        (listed,) = httpx.get(f"{simulator.url}/api/tags").json()["models"]
        assert listed["capabilities"] == ["completion"]
        assert show(simulator, "native").json()["capabilities"] == ["completion", "tools", "thinking"]


@pytest.mark.parametrize("path", ["/", "/api/tags", "/api/version"])
def test_head_gives_the_headers_alone(simulator, path):
    response = httpx.head(simulator.url + path)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) == len(httpx.get(simulator.url + path).content)


def test_a_model_whose_tag_says_cloud_is_shown_as_one_that_runs_elsewhere():
    with OllamaSimulator([SimulatedModel(name=name) for name in ("big:120b-cloud", "weather-cloud")]) as simulator:
        assert show(simulator, "big:120b-cloud").json()["remote_host"] == "https://ollama.com:443"
        assert "remote_host" not in show(simulator, "weather-cloud").json()
