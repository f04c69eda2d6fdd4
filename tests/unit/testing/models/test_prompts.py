"""Prompts: rendering, dropped messages, truncation and long replies."""

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

CUT_KINDS = ["template", "parser"]

OVERHEAD = 7  # tokens of a prompt with one message, besides its letters

PIXEL = "iVBORw0KGgo="

TURNS = [{"role": role, "content": "x" * 46} for _ in range(20) for role in ("user", "assistant")]

LAST = {"role": "user", "content": "x" * 43}


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


@pytest.fixture
def native():
    model = SimulatedModel(name="native", kind="native", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator([model]) as running:
        yield running


def load(chat, simulator, name, **body):
    response = chat(simulator, model=name, messages=[], **body)
    assert response.status_code == 200, response.text


class TestOverlongPrompts:
    @pytest.mark.parametrize("model", CUT_KINDS)
    @pytest.mark.parametrize(("tokens", "left"), [(510, 510), (511, 511), (512, 259), (513, 259), (3000, 259)])
    def test_a_message_that_fills_the_window_is_truncated_to_about_half(self, ask, model, tokens, left):
        assert ask(tokens, model)["prompt_eval_count"] == left

    @pytest.mark.parametrize(("num_ctx", "left"), [(1000, 503), (2048, 1027), (4096, 2051), (5, 4), (4, 3)])
    def test_truncation_halves_windows_of_any_size(self, ask, num_ctx, left):
        assert ask(9000, num_ctx=num_ctx)["prompt_eval_count"] == left

    @pytest.mark.parametrize(("num_keep", "left"), [(100, 307), (-1, 511), (4, 259)])
    def test_num_keep_tokens_of_the_beginning_stay(self, ask, num_keep, left):
        assert ask(622, options={"num_keep": num_keep})["prompt_eval_count"] == left

    @pytest.mark.parametrize("more", [{"truncate": False}, {"truncate": False, "shift": False}])
    @pytest.mark.parametrize("model", [*CUT_KINDS, "native"])
    def test_without_truncation_a_prompt_that_fills_the_window_is_rejected(self, ask, model, more):
        assert ask(511, model, **more)["prompt_eval_count"] == 511
        error = ask(512, model, **more)["error"]
        assert '"n_prompt_tokens":512,"n_ctx":512' in error
        assert "request (512 tokens) exceeds the available context size (512 tokens), try increasing it" in error

    @pytest.mark.parametrize("model", [*CUT_KINDS, "native"])
    def test_without_truncation_the_window_is_rounded_up(self, ask, model):
        assert ask(1023, model, num_ctx=1000, truncate=False)["prompt_eval_count"] == 1023
        assert "(1024 tokens), try" in ask(1024, model, num_ctx=1000, truncate=False)["error"]

    @pytest.mark.parametrize("model", CUT_KINDS)
    def test_without_shift_a_prompt_to_truncate_is_rejected(self, ask, model):
        assert ask(511, model, shift=False)["prompt_eval_count"] == 511
        assert ask(512, model, shift=False)["error"].startswith("the prompt is longer than the context length")

    @pytest.mark.parametrize("more", [{}, {"shift": False}])
    def test_a_native_model_rejects_a_message_that_is_too_long(self, ask, more):
        assert ask(511, "native", **more)["prompt_eval_count"] == 511
        assert "request (512 tokens)" in ask(512, "native", **more)["error"]

    @pytest.mark.parametrize("shift", [True, False])
    @pytest.mark.parametrize("model", [*CUT_KINDS, "native"])
    def test_the_oldest_messages_are_dropped_first_for_every_kind_and_shift(self, simulator, chat, model, shift):
        reply = chat(
            simulator, model=model, messages=[*TURNS, LAST], options={"num_ctx": 512}, shift=shift, stream=False
        ).json()
        outcome = simulator.last_chat.outcome
        assert reply["prompt_eval_count"] == 3 + 47 + 9 * 50
        assert (outcome.prompt_tokens, outcome.whole_prompt_tokens) == (500, 2050)
        assert (outcome.dropped_messages, outcome.was_truncated) == (31, True)

    def test_messages_that_just_fill_the_window_are_truncated_and_not_dropped(self, simulator, chat):
        messages = [*TURNS[:9], {"role": "user", "content": "x" * 55}]
        reply = chat(simulator, model="template", messages=messages, options={"num_ctx": 512}, stream=False).json()
        assert (simulator.last_chat.outcome.whole_prompt_tokens, reply["prompt_eval_count"]) == (512, 259)
        assert simulator.last_chat.outcome.dropped_messages == 0

    def test_the_system_prompt_is_not_dropped_but_truncated_with_the_rest(self, simulator, chat):
        system = {"role": "system", "content": "x" * 200}
        options = {"num_ctx": 512}
        chat(simulator, model="template", messages=[system, *TURNS, LAST], options=options)
        outcome = simulator.last_chat.outcome
        assert (outcome.prompt_tokens, outcome.dropped_messages) == (3 + 204 + 47 + 5 * 50, 35)
        system["content"] = "x" * 600
        reply = chat(simulator, model="template", messages=[system, *TURNS, LAST], options=options, stream=False).json()
        assert (reply["prompt_eval_count"], simulator.last_chat.outcome.dropped_messages) == (259, 40)
        assert chat(simulator, model="native", messages=[system, LAST], options=options).status_code == 400

    def test_tools_count_and_are_truncated_with_the_rest(self, ask, simulator):
        tool = {"type": "function", "function": {"name": "f", "description": "x" * 600, "parameters": {}}}
        assert ask(50, tools=[tool])["prompt_eval_count"] == 259
        assert simulator.last_chat.outcome.whole_prompt_tokens > 650
        assert "exceeds the available context size" in ask(50, "native", tools=[tool])["error"]

    def test_the_model_reads_the_end_of_a_truncated_prompt(self, simulator, chat_text):
        said = chat_text(simulator, "x" * 2000 + "y" * 300, model="template", options={"num_ctx": 512})
        assert "yyy" in said
        assert "xx" not in said

    def test_prompts_with_images_are_never_truncated(self, simulator, chat):
        message = {"role": "user", "content": "x" * 3000, "images": [PIXEL]}
        options = {"num_ctx": 2048}
        refused = chat(simulator, model="vision", messages=[message], options=options)
        assert (refused.status_code, "request (3023 tokens)" in refused.json()["error"]) == (400, True)
        message["content"] = "x" * 2000
        reply = chat(simulator, model="vision", messages=[message], options=options, stream=False).json()
        assert reply["prompt_eval_count"] == OVERHEAD + 2000 + 16

    def test_an_image_counts_768_tokens_when_messages_are_dropped(self, simulator, chat):
        seen = {"role": "user", "content": "one", "images": [PIXEL]}
        messages = [seen, {"role": "assistant", "content": "ok"}, seen, {"role": "assistant", "content": "ok"}, seen]
        chat(simulator, model="vision", messages=messages, options={"num_ctx": 2048})
        assert simulator.last_chat.outcome.dropped_messages == 1
        chat(simulator, model="vision", messages=messages)
        assert simulator.last_chat.outcome.dropped_messages == 0

    @pytest.mark.parametrize("model", ["template", "native"])
    @pytest.mark.parametrize("more", [{}, {"raw": True}])
    def test_generate_truncates_for_every_kind(self, simulator, post, model, more):
        body = {"model": model, "prompt": "x" * 600, "options": {"num_ctx": 512}, "stream": False, **more}
        assert post(simulator, "/api/generate", **body).json()["prompt_eval_count"] == 259
        assert post(simulator, "/api/generate", **body, truncate=False).status_code == 400

    def test_what_fits_was_not_truncated(self, ask, simulator):
        ask(511)
        assert not simulator.last_chat.outcome.was_truncated
        assert simulator.last_chat.outcome.dropped_messages == 0


class TestLongReplies:
    def test_the_window_shifts_during_generation(self, ask, simulator):
        simulator.reply("word " * 400)
        reply = ask(20, num_ctx=64)
        assert (reply["done_reason"], reply["prompt_eval_count"]) == ("stop", 20)
        assert simulator.last_chat.outcome.has_shifted

    @pytest.mark.parametrize("num_predict", [-1, 5000])
    def test_a_reply_has_ten_windows_at_most(self, ask, simulator, num_predict):
        simulator.reply("word " * 1000)
        reply = ask(20, num_ctx=64, options={"num_predict": num_predict})
        assert (reply["done_reason"], reply["eval_count"]) == ("length", 640)

    @pytest.mark.parametrize(("tokens", "num_ctx", "said"), [(26, 64, 230), (511, 512, 1)])
    def test_without_shift_the_reply_ends_with_the_rounded_window(self, ask, simulator, tokens, num_ctx, said):
        simulator.reply("word " * 400)
        reply = ask(tokens, num_ctx=num_ctx, shift=False)
        assert (reply["done_reason"], reply["eval_count"]) == ("length", said)
        assert not simulator.last_chat.outcome.has_shifted

    def test_after_a_shift_the_prompt_is_evaluated_again(self, ask, simulator):
        simulator.reply("word " * 400)
        for _ in range(2):
            ask(60, num_ctx=64)
        assert [request.outcome.evaluated_tokens for request in simulator.chats] == [60, 60]


class TestRendering:
    def test_the_prompt_is_rendered_and_no_scripted_reply_is_used(self, chat):
        with OllamaSimulator(KINDS, plausible=False) as simulator:
            simulator.reply("Hello")
            response = chat(simulator, "hi", model="template", _debug_render_only=True)
            assert response.headers["content-type"] == "application/json; charset=utf-8"
            body = response.json()
            assert list(body) == ["model", "created_at", "message", "done", "_debug_info"]
            assert body["message"] == {"role": "", "content": ""}
            assert body["done"] is False
            text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
            assert body["_debug_info"] == {"rendered_template": text}
            assert simulator.unused_replies == 1

    def test_rendering_loads_the_model(self, simulator, chat, window):
        chat(simulator, model="template", options={"num_ctx": 1000}, shift=False, _debug_render_only=True)
        assert (window(), simulator.loads[0].shift) == (1000, False)
        assert simulator.last_chat.outcome.evaluated_tokens is None

    @pytest.mark.parametrize("model", ["template", "native"])
    def test_rendering_drops_messages_but_does_not_truncate_or_reject(self, simulator, chat, model):
        def shown(messages, **body):
            body.update(model=model, options={"num_ctx": 512}, _debug_render_only=True)
            return chat(simulator, messages=messages, **body).json()["_debug_info"]["rendered_template"]

        assert shown([*TURNS, LAST]).count("<|im_start|>") == 11
        assert shown([*TURNS, LAST], truncate=False).count("<|im_start|>") == 42
        assert len(shown([{"role": "user", "content": "x" * 3000}])) > 3000

    def test_the_rendered_prompt_has_tools_thinking_and_calls(self, simulator, chat):
        tool = {"type": "function", "function": {"name": "look", "description": "Looks there.", "parameters": {}}}
        call = {"function": {"name": "look", "arguments": {"where": "there"}}}
        messages = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "", "thinking": "Hm.", "tool_calls": [call]},
            {"role": "tool", "content": "a sea"},
        ]
        body = chat(simulator, model="template", messages=messages, tools=[tool], _debug_render_only=True).json()
        text = body["_debug_info"]["rendered_template"]
        for part in ("Looks there.", "<think>\nHm.\n</think>", '{"name": "look", "arguments": {"where": "there"}}'):
            assert part in text

    def test_images_are_numbered_in_place(self, simulator, chat):
        messages = [
            {"role": "user", "content": "one", "images": [PIXEL]},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": "two [img] and", "images": [PIXEL]},
        ]
        shown = chat(simulator, model="vision", messages=messages, _debug_render_only=True).json()["_debug_info"]
        assert shown["image_count"] == 2
        assert "user\n[img-0]one<" in shown["rendered_template"]
        assert "user\ntwo [img-1] and<" in shown["rendered_template"]

    def test_a_last_assistant_message_stays_open(self, simulator, chat):
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I was"}]
        body = chat(simulator, model="template", messages=messages, _debug_render_only=True).json()
        assert body["_debug_info"]["rendered_template"].endswith("<|im_start|>assistant\nI was")

    def test_generate_renders_its_prompt(self, simulator, post):
        body = {"model": "template", "prompt": "hi", "_debug_render_only": True}
        shown = post(simulator, "/api/generate", **body).json()
        assert list(shown) == ["model", "created_at", "response", "done", "_debug_info"]
        assert "user\nhi<" in shown["_debug_info"]["rendered_template"]
        raw = post(simulator, "/api/generate", **body, raw=True).json()
        assert raw["_debug_info"] == {"rendered_template": "hi"}

    def test_without_messages_the_model_is_loaded(self, simulator, chat):
        body = chat(simulator, model="template", messages=[], _debug_render_only=True).json()
        assert (body["done"], body["done_reason"]) == (True, "load")


def test_longer_prompts_have_more_tokens(simulator, lines):
    short, long = (lines(simulator, "x" * length)[-1]["prompt_eval_count"] for length in (4, 404))
    assert long - short == 100


def test_old_messages_are_dropped_first_when_the_prompt_is_too_long(simulator, chat_text, lines):
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "My name is Ada. " + "x" * 1000},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": "What is my name?"},
    ]
    assert chat_text(simulator, messages=messages) == "Your name is Ada."
    assert "Ada" not in chat_text(simulator, messages=messages, options={"num_ctx": 100})
    assert lines(simulator, messages=messages, options={"num_ctx": 100})[-1]["prompt_eval_count"] <= 100


def test_a_single_message_that_is_too_long_is_truncated(simulator, lines, chat_text):
    text = "front " + "x " * 1000 + "back"
    assert lines(simulator, text, options={"num_ctx": 100})[-1]["prompt_eval_count"] == 53
    assert "front" not in chat_text(simulator, text, options={"num_ctx": 100})


def test_native_models_and_truncate_false_reject_prompts_that_are_too_long(simulator, native, chat):
    text = "x " * 1000
    response = chat(native, text, model="native", options={"num_ctx": 100})
    assert response.status_code == 400
    assert "exceeds the available context size (256 tokens)" in response.json()["error"]
    assert chat(simulator, text, options={"num_ctx": 100}, truncate=False).status_code == 400


def test_without_shift_a_reply_ends_where_the_window_does(simulator, lines):
    # The runner rounds its window up to 256 tokens.
    simulator.reply("word " * 400, times=2)
    options = {"num_ctx": 64}
    cut = lines(simulator, options=options, shift=False)[-1]
    assert (cut["done_reason"], cut["eval_count"] + cut["prompt_eval_count"]) == ("length", 256)
    assert lines(simulator, options=options)[-1]["done_reason"] == "stop"


def test_without_shift_a_prompt_that_is_too_long_is_rejected(simulator, chat):
    response = chat(simulator, "word " * 3000, options={"num_ctx": 64}, shift=False)
    assert response.status_code == 400
    assert response.json()["error"].startswith("the prompt is longer than the context length currently available")
