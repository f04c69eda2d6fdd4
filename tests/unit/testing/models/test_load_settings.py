"""Settings that a model is loaded with, and what reloads it."""

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

LETTERS = {"count_tokens": len, "context_length": 8192}

KINDS = [
    SimulatedModel(name="template", **LETTERS),
    SimulatedModel(name="parser", kind="builtin", capabilities=("completion", "thinking"), **LETTERS),
    SimulatedModel(name="native", kind="native", **LETTERS),
    SimulatedModel(name="vision", capabilities=("completion", "vision"), tokens_per_image=16, **LETTERS),
]

OVERHEAD = 7  # tokens of a prompt with one message, besides its letters


@pytest.fixture
def simulator():
    with OllamaSimulator([*KINDS, SimulatedModel(name="simulator")]) as running:
        yield running


@pytest.fixture
def window(simulator):
    """Return the window that `/api/ps` reports."""

    def ask():
        (model,) = httpx.get(f"{simulator.url}/api/ps").json()["models"]
        return model["context_length"]

    return ask


@pytest.fixture
def ask(simulator, chat):
    """Send a prompt that has so many tokens; give the decoded reply."""

    def send(tokens, model="template", num_ctx=512, options=None, **body):
        options = {"num_ctx": num_ctx, **(options or {})}
        text = "x" * (tokens - OVERHEAD)
        return chat(simulator, text, model=model, options=options, stream=False, **body).json()

    return send


def reloads(simulator, chat, *requests):
    """Return for each request whether it reloads the model."""
    found = []
    for request in requests:
        before = len(simulator.reloads)
        assert chat(simulator, model="template", **request).status_code == 200
        found.append(len(simulator.reloads) - before)
    return found


def load(chat, simulator, name, **body):
    response = chat(simulator, model=name, messages=[], **body)
    assert response.status_code == 200, response.text


def ps(simulator):
    return httpx.get(f"{simulator.url}/api/ps").json()["models"]


class TestReloads:
    def test_an_explicit_window_equal_to_the_loaded_one_does_not_reload(self, simulator, chat):
        requests = [{}, {"options": {"num_ctx": 4096}}, {}, {"options": {"num_ctx": None}}]
        assert reloads(simulator, chat, *requests) == [0, 0, 0, 0]
        assert len(simulator.loads) == 1

    def test_a_request_without_a_window_reloads_with_the_default(self, simulator, chat, window):
        assert reloads(simulator, chat, {"options": {"num_ctx": 2048}}, {}, {}) == [0, 1, 0]
        assert window() == 4096

    def test_context_length_sets_the_default_window(self, chat):
        with OllamaSimulator(KINDS, context_length=3000) as simulator:
            chat(simulator, model="template")
            chat(simulator, model="template", options={"num_ctx": 3000})
            assert [load.context_length for load in simulator.loads] == [3000]

    def test_ps_reports_the_requested_window_without_rounding(self, simulator, chat, window):
        for num_ctx in (1000, 5000):
            request = {"options": {"num_ctx": num_ctx}}
            assert reloads(simulator, chat, request, request)[1] == 0
            assert window() == num_ctx

    @pytest.mark.parametrize("beyond", [10_000, 2**31, 2**40, 8192])
    def test_a_window_above_that_of_the_model_is_limited_to_it(self, simulator, chat, window, beyond):
        request = {"options": {"num_ctx": 20_000}}
        assert reloads(simulator, chat, request, {"options": {"num_ctx": beyond}}) == [0, 0]
        assert window() == 8192

    @pytest.mark.parametrize("number", [0, -1, 3, 4, 2**63])
    def test_invalid_window_sizes_give_the_smallest_window(self, simulator, chat, window, number):
        reply = chat(simulator, model="template", options={"num_ctx": number}, stream=False).json()
        assert (window(), reply["prompt_eval_count"]) == (4, 3)

    def test_a_fractional_window_is_truncated(self, simulator, chat, window):
        chat(simulator, model="template", options={"num_ctx": 1024.5})
        assert window() == 1024

    def test_num_ctx_of_the_model_is_its_default_window(self, chat):
        with OllamaSimulator([SimulatedModel(name="template", parameters={"num_ctx": 1024})]) as simulator:
            requests = [{}, {"options": {"num_ctx": 2048}}, {}, {"options": {"num_ctx": 1024}}]
            assert reloads(simulator, chat, *requests) == [0, 1, 1, 0]

    def test_an_invalid_num_ctx_of_the_model_fails_chats_but_not_unloading(self, chat):
        with OllamaSimulator([SimulatedModel(name="m", parameters={"num_ctx": "1024"})]) as simulator:
            response = chat(simulator, model="m")
            assert (response.status_code, response.json()["error"]) == (
                500,
                'option "num_ctx" must be of type integer',
            )
            assert chat(simulator, model="m", messages=[], keep_alive=0).status_code == 200

    def test_another_shift_reloads_the_model(self, simulator, chat):
        requests = [{}, {"shift": True}, {"shift": False}, {"shift": False}, {"shift": True}, {"shift": None}]
        assert reloads(simulator, chat, *requests) == [0, 0, 1, 0, 1, 0]
        assert [load.shift for load in simulator.loads] == [True, False, True]

    def test_a_model_preloaded_with_shift_is_reloaded_without_it(self, simulator, chat):
        assert reloads(simulator, chat, {"messages": [], "shift": False}, {}) == [0, 1]

    def test_truncate_and_sampling_options_do_not_reload(self, simulator, chat):
        options = {"temperature": 0.3, "num_predict": 5, "num_keep": 8}
        assert reloads(simulator, chat, {}, {"truncate": False}, {"options": options}) == [0, 0, 0]

    @pytest.mark.parametrize("option", ["num_batch", "num_thread", "num_gpu", "main_gpu"])
    def test_runner_options_reload_the_model(self, simulator, chat, option):
        request = {"options": {option: 1}}
        assert reloads(simulator, chat, {}, request, request, {}) == [0, 1, 0, 1]

    def test_a_load_records_whether_it_is_a_reload(self, simulator, chat):
        chat(simulator, model="template", keep_alive=0)
        chat(simulator, model="template")
        chat(simulator, model="template", options={"num_ctx": 1024})
        assert [load.is_reload for load in simulator.loads] == [False, False, True]
        assert {load.model for load in simulator.loads} == {"template:latest"}
        assert [request.outcome.window for request in simulator.chats] == [4096, 4096, 1024]
        simulator.reset()
        assert simulator.loads == []

    def test_models_with_the_same_weights_and_other_windows_reload_each_other(self, simulator, chat, post):
        post(simulator, "/api/create", model="short", **{"from": "template"}, parameters={"num_ctx": 1024})
        for model in ("template", "short", "template"):
            chat(simulator, model=model)
        assert [load.context_length for load in simulator.reloads] == [1024, 4096]

    def test_each_parallel_request_has_the_whole_window(self, chat):
        with OllamaSimulator(KINDS, num_parallel=2) as simulator:
            reply = chat(simulator, "x" * 504, model="template", options={"num_ctx": 512}, stream=False).json()
            (model,) = httpx.get(f"{simulator.url}/api/ps").json()["models"]
        assert (reply["prompt_eval_count"], model["context_length"]) == (511, 512)

    def test_parallel_windows_take_memory(self, chat):
        sizes = []
        for num_parallel in (1, 2, 4):
            with OllamaSimulator(KINDS, num_parallel=num_parallel) as simulator:
                chat(simulator, model="template")
                sizes.append(httpx.get(f"{simulator.url}/api/ps").json()["models"][0]["size"])
        assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0]) > 0


def test_a_vision_model_has_a_window_of_at_least_2048(chat):
    with OllamaSimulator([SimulatedModel(name="m", capabilities=("completion", "vision"))]) as simulator:
        chat(simulator, model="m", options={"num_ctx": 64})
        assert httpx.get(f"{simulator.url}/api/ps").json()["models"][0]["context_length"] == 2048


@pytest.mark.parametrize(
    ("asked", "parameters", "window"),
    [
        (None, {}, 2048),
        (512, {}, 512),
        (100_000, {}, 8192),
        (None, {"num_ctx": 1024}, 1024),
        (64, {"num_ctx": 1024}, 64),
    ],
)
def test_the_window_is_the_requested_one_up_to_that_of_the_model(chat, asked, parameters, window):
    with OllamaSimulator([SimulatedModel(name="m", parameters=parameters)], context_length=2048) as simulator:
        chat(simulator, model="m", options={"num_ctx": asked} if asked else {})
        assert ps(simulator)[0]["context_length"] == window
