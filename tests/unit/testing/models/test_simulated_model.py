"""Installed models, their names and token counts."""

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

OVERHEAD = 7  # tokens of a prompt with one message, besides its letters


@pytest.mark.parametrize(
    ("settings", "error"), [({"pull_bytes_per_second": 0}, ValueError), ({"license": "mine"}, TypeError)]
)
def test_invalid_model_settings_raise_an_error(settings, error):
    with pytest.raises(error):
        SimulatedModel(name="m", **settings)


class TestCounters:
    def test_count_tokens_applies_to_models_without_their_own(self, chat, post):
        models = [SimulatedModel(name="m"), SimulatedModel(name="own", count_tokens=len)]
        with OllamaSimulator(models, count_tokens=lambda text: len(text.split())) as simulator:
            counts = [
                chat(simulator, "one two three", model=model, stream=False).json()["prompt_eval_count"]
                for model in ("m", "own")
            ]
            post(simulator, "/api/copy", source="own", destination="copy")
            copied = chat(simulator, "one two three", model="copy", stream=False).json()["prompt_eval_count"]
        assert counts == [OVERHEAD + 3, OVERHEAD + 13]
        assert copied == counts[1]

    def test_count_tokens_applies_to_embeddings(self, post):
        embedder = SimulatedModel(name="e", capabilities=("embedding",), context_length=10, count_tokens=len)
        with OllamaSimulator([embedder]) as simulator:
            counts = [
                post(simulator, "/api/embed", model="e", input="x" * length).json()["prompt_eval_count"]
                for length in (3, 8, 9)
            ]
            assert post(simulator, "/api/embed", model="e", input="x" * 9, truncate=False).status_code == 400
        assert counts == [5, 10, 10]

    def test_the_window_of_embeddings_is_the_requested_one_and_at_most_a_batch(self, post):
        embedder = SimulatedModel(name="e", capabilities=("embedding",), context_length=8192, count_tokens=len)
        with OllamaSimulator([embedder]) as simulator:

            def count(**options):
                body = {"model": "e", "input": "x" * 9000, "options": options}
                return post(simulator, "/api/embed", **body).json()["prompt_eval_count"]

            assert count() == 2048
            assert count(num_ctx=64) == 64
            assert count(num_ctx=8192) == 2048
            assert count(num_ctx=8192, num_batch=8192) == 8192
            assert [load.context_length for load in simulator.loads] == [4096, 64, 8192, 8192]

    def test_each_text_is_counted_once_unless_it_is_very_long(self, chat):
        asked = []
        with OllamaSimulator(count_tokens=lambda text: asked.append(text) or 1) as simulator:
            for _ in range(3):
                chat(simulator, "short")
                chat(simulator, "x" * 30_000)
        assert asked.count("short") == 1
        assert asked.count("x" * 30_000) == 3

    @pytest.mark.parametrize("wrong", [-1, 1.5, None, True])
    def test_a_counter_that_returns_no_number_is_reported(self, chat, wrong):
        with OllamaSimulator(count_tokens=lambda _: wrong) as simulator:
            response = chat(simulator, "hi")
        assert response.status_code == 500
        assert f"count_tokens gave {wrong!r} for a text" in response.json()["error"]

    @pytest.mark.parametrize("arguments", [{"count_tokens": 4}, {"tokens_per_image": -1}])
    def test_invalid_settings_raise_an_error(self, arguments):
        with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
            SimulatedModel(name="m", **arguments)


def test_the_default_models_chat_with_tools_and_embed(simulator):
    models = httpx.get(f"{simulator.url}/api/tags").json()["models"]
    assert [(model["name"], model["capabilities"]) for model in models] == [
        ("simulator:latest", ["completion", "tools"]),
        ("simulator-embed:latest", ["embedding"]),
    ]


@pytest.mark.parametrize(
    "name", ["simulator", "simulator:latest", "Simulator", "library/simulator", "registry.ollama.ai/library/simulator"]
)
def test_a_model_is_found_under_all_its_names(simulator, lines, name):
    assert lines(simulator, model=name)[0]["model"] == name


def test_another_tag_is_another_model(simulator, chat):
    assert chat(simulator, model="simulator:7b").json() == {"error": "model 'simulator:7b' not found"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "no name"}, ValueError, "not a model name"),
        ({"name": "a", "capabilities": "tools"}, TypeError, "sequence of texts"),
        ({"name": "a", "kind": "other"}, ValueError, "kind='other'"),
        ({"name": "a", "context_length": 0}, ValueError, "are positive"),
        ({"name": "a", "embed_seconds": -1}, ValueError, "not negative"),
        ({"name": "a", "embed_seconds_per_text": float("nan")}, ValueError, "not negative"),
    ],
)
def test_invalid_models_raise_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        SimulatedModel(**arguments)
