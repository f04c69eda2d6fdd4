"""Windows of simulated models: what loads a model anew, what of a prompt fits, and what tests get to know of it.

The numbers are those of a real server (0.33.0-rc2) with models whose prompts had as many tokens.
"""

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
    with OllamaSimulator(KINDS) as running:
        yield running


@pytest.fixture
def window(simulator):
    """Give the window that `/api/ps` tells."""

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
    """Tell for each request whether it loads the model anew."""
    found = []
    for request in requests:
        before = len(simulator.reloads)
        assert chat(simulator, model="template", **request).status_code == 200
        found.append(len(simulator.reloads) - before)
    return found


class TestReloads:
    def test_the_window_that_is_there_may_be_asked_for_by_its_number(self, simulator, chat):
        requests = [{}, {"options": {"num_ctx": 4096}}, {}, {"options": {"num_ctx": None}}]
        assert reloads(simulator, chat, *requests) == [0, 0, 0, 0]
        assert len(simulator.loads) == 1

    def test_a_request_without_a_window_wants_the_default_back(self, simulator, chat, window):
        assert reloads(simulator, chat, {"options": {"num_ctx": 2048}}, {}, {}) == [0, 1, 0]
        assert window() == 4096

    def test_the_default_is_set_as_by_the_variable_of_a_real_server(self, chat):
        with OllamaSimulator(KINDS, context_length=3000) as simulator:
            chat(simulator, model="template")
            chat(simulator, model="template", options={"num_ctx": 3000})
            assert [load.context_length for load in simulator.loads] == [3000]

    def test_windows_are_told_as_asked_for_and_not_rounded(self, simulator, chat, window):
        for num_ctx in (1000, 5000):
            request = {"options": {"num_ctx": num_ctx}}
            assert reloads(simulator, chat, request, request)[1] == 0
            assert window() == num_ctx

    @pytest.mark.parametrize("beyond", [10_000, 2**31, 2**40, 8192])
    def test_more_than_the_model_has_is_all_that_it_has(self, simulator, chat, window, beyond):
        request = {"options": {"num_ctx": 20_000}}
        assert reloads(simulator, chat, request, {"options": {"num_ctx": beyond}}) == [0, 0]
        assert window() == 8192

    @pytest.mark.parametrize("number", [0, -1, 3, 4, 2**63])
    def test_numbers_that_make_no_window_give_the_smallest_one(self, simulator, chat, window, number):
        reply = chat(simulator, model="template", options={"num_ctx": number}, stream=False).json()
        assert (window(), reply["prompt_eval_count"]) == (4, 3)

    def test_a_window_with_a_fraction_loses_it(self, simulator, chat, window):
        chat(simulator, model="template", options={"num_ctx": 1024.5})
        assert window() == 1024

    def test_a_window_of_the_model_s_own_is_its_default(self, chat):
        with OllamaSimulator([SimulatedModel(name="template", parameters={"num_ctx": 1024})]) as simulator:
            requests = [{}, {"options": {"num_ctx": 2048}}, {}, {"options": {"num_ctx": 1024}}]
            assert reloads(simulator, chat, *requests) == [0, 1, 1, 0]

    def test_a_window_of_the_model_s_own_that_is_no_number_fails_each_chat_but_not_unloading(self, chat):
        with OllamaSimulator([SimulatedModel(name="m", parameters={"num_ctx": "1024"})]) as simulator:
            response = chat(simulator, model="m")
            assert (response.status_code, response.json()["error"]) == (
                500,
                'option "num_ctx" must be of type integer',
            )
            assert chat(simulator, model="m", messages=[], keep_alive=0).status_code == 200

    def test_shift_belongs_to_what_is_loaded(self, simulator, chat):
        requests = [{}, {"shift": True}, {"shift": False}, {"shift": False}, {"shift": True}, {"shift": None}]
        assert reloads(simulator, chat, *requests) == [0, 0, 1, 0, 1, 0]
        assert [load.shift for load in simulator.loads] == [True, False, True]

    def test_a_model_loaded_ahead_with_shift_is_loaded_anew_without_it(self, simulator, chat):
        assert reloads(simulator, chat, {"messages": [], "shift": False}, {}) == [0, 1]

    def test_truncate_and_the_options_of_sampling_load_nothing(self, simulator, chat):
        options = {"temperature": 0.3, "num_predict": 5, "num_keep": 8}
        assert reloads(simulator, chat, {}, {"truncate": False}, {"options": options}) == [0, 0, 0]

    @pytest.mark.parametrize("option", ["num_batch", "num_thread", "num_gpu", "main_gpu"])
    def test_options_of_the_process_load_the_model_anew(self, simulator, chat, option):
        request = {"options": {option: 1}}
        assert reloads(simulator, chat, {}, request, request, {}) == [0, 1, 0, 1]

    def test_a_load_tells_whether_the_model_was_there_before(self, simulator, chat):
        chat(simulator, model="template", keep_alive=0)
        chat(simulator, model="template")
        chat(simulator, model="template", options={"num_ctx": 1024})
        assert [load.is_reload for load in simulator.loads] == [False, False, True]
        assert {load.model for load in simulator.loads} == {"template:latest"}
        assert [request.outcome.window for request in simulator.chats] == [4096, 4096, 1024]
        simulator.reset()
        assert simulator.loads == []

    def test_models_with_the_same_weights_drive_one_another_out_with_their_windows(self, simulator, chat, post):
        post(simulator, "/api/create", model="short", **{"from": "template"}, parameters={"num_ctx": 1024})
        for model in ("template", "short", "template"):
            chat(simulator, model=model)
        assert [load.context_length for load in simulator.reloads] == [1024, 4096]

    def test_requests_side_by_side_have_the_whole_window_each(self, chat):
        with OllamaSimulator(KINDS, num_parallel=2) as simulator:
            reply = chat(simulator, "x" * 504, model="template", options={"num_ctx": 512}, stream=False).json()
            (model,) = httpx.get(f"{simulator.url}/api/ps").json()["models"]
        assert (reply["prompt_eval_count"], model["context_length"]) == (511, 512)

    def test_a_window_for_each_request_at_a_time_takes_its_memory(self, chat):
        sizes = []
        for num_parallel in (1, 2, 4):
            with OllamaSimulator(KINDS, num_parallel=num_parallel) as simulator:
                chat(simulator, model="template")
                sizes.append(httpx.get(f"{simulator.url}/api/ps").json()["models"][0]["size"])
        assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0]) > 0


class TestOverlongPrompts:
    @pytest.mark.parametrize("model", CUT_KINDS)
    @pytest.mark.parametrize(("tokens", "left"), [(510, 510), (511, 511), (512, 259), (513, 259), (3000, 259)])
    def test_one_message_that_fills_the_window_is_cut_to_about_half(self, ask, model, tokens, left):
        assert ask(tokens, model)["prompt_eval_count"] == left

    @pytest.mark.parametrize(("num_ctx", "left"), [(1000, 503), (2048, 1027), (4096, 2051), (5, 4), (4, 3)])
    def test_other_windows_are_halved_likewise(self, ask, num_ctx, left):
        assert ask(9000, num_ctx=num_ctx)["prompt_eval_count"] == left

    @pytest.mark.parametrize(("num_keep", "left"), [(100, 307), (-1, 511), (4, 259)])
    def test_num_keep_says_how_much_of_the_beginning_stays(self, ask, num_keep, left):
        assert ask(622, options={"num_keep": num_keep})["prompt_eval_count"] == left

    @pytest.mark.parametrize("more", [{"truncate": False}, {"truncate": False, "shift": False}])
    @pytest.mark.parametrize("model", [*CUT_KINDS, "native"])
    def test_without_truncation_what_fills_the_window_is_refused(self, ask, model, more):
        assert ask(511, model, **more)["prompt_eval_count"] == 511
        error = ask(512, model, **more)["error"]
        assert '"n_prompt_tokens":512,"n_ctx":512' in error
        assert "request (512 tokens) exceeds the available context size (512 tokens), try increasing it" in error

    @pytest.mark.parametrize("model", [*CUT_KINDS, "native"])
    def test_without_truncation_the_window_is_rounded_up(self, ask, model):
        assert ask(1023, model, num_ctx=1000, truncate=False)["prompt_eval_count"] == 1023
        assert "(1024 tokens), try" in ask(1024, model, num_ctx=1000, truncate=False)["error"]

    @pytest.mark.parametrize("model", CUT_KINDS)
    def test_without_shift_what_would_be_cut_is_refused_without_numbers(self, ask, model):
        assert ask(511, model, shift=False)["prompt_eval_count"] == 511
        assert ask(512, model, shift=False)["error"].startswith("the prompt is longer than the context length")

    @pytest.mark.parametrize("more", [{}, {"shift": False}])
    def test_a_native_model_refuses_a_message_that_is_too_long(self, ask, more):
        assert ask(511, "native", **more)["prompt_eval_count"] == 511
        assert "request (512 tokens)" in ask(512, "native", **more)["error"]

    @pytest.mark.parametrize("shift", [True, False])
    @pytest.mark.parametrize("model", [*CUT_KINDS, "native"])
    def test_turns_go_oldest_first_whatever_the_kind_and_shift(self, simulator, chat, model, shift):
        reply = chat(
            simulator, model=model, messages=[*TURNS, LAST], options={"num_ctx": 512}, shift=shift, stream=False
        ).json()
        outcome = simulator.last_chat.outcome
        assert reply["prompt_eval_count"] == 3 + 47 + 9 * 50
        assert (outcome.prompt_tokens, outcome.whole_prompt_tokens) == (500, 2050)
        assert (outcome.dropped_messages, outcome.was_truncated) == (31, True)

    def test_turns_that_just_fill_the_window_are_not_dropped_but_cut(self, simulator, chat):
        messages = [*TURNS[:9], {"role": "user", "content": "x" * 55}]
        reply = chat(simulator, model="template", messages=messages, options={"num_ctx": 512}, stream=False).json()
        assert (simulator.last_chat.outcome.whole_prompt_tokens, reply["prompt_eval_count"]) == (512, 259)
        assert simulator.last_chat.outcome.dropped_messages == 0

    def test_the_system_prompt_stays_and_is_cut_only_with_what_is_left(self, simulator, chat):
        system = {"role": "system", "content": "x" * 200}
        options = {"num_ctx": 512}
        chat(simulator, model="template", messages=[system, *TURNS, LAST], options=options)
        outcome = simulator.last_chat.outcome
        assert (outcome.prompt_tokens, outcome.dropped_messages) == (3 + 204 + 47 + 5 * 50, 35)
        system["content"] = "x" * 600
        reply = chat(simulator, model="template", messages=[system, *TURNS, LAST], options=options, stream=False).json()
        assert (reply["prompt_eval_count"], simulator.last_chat.outcome.dropped_messages) == (259, 40)
        assert chat(simulator, model="native", messages=[system, LAST], options=options).status_code == 400

    def test_tools_count_and_are_cut_like_the_rest(self, ask, simulator):
        tool = {"type": "function", "function": {"name": "f", "description": "x" * 600, "parameters": {}}}
        assert ask(50, tools=[tool])["prompt_eval_count"] == 259
        assert simulator.last_chat.outcome.whole_prompt_tokens > 650
        assert "exceeds the available context size" in ask(50, "native", tools=[tool])["error"]

    def test_the_end_of_what_was_cut_is_what_the_model_reads(self, simulator, say):
        said = say(simulator, "x" * 2000 + "y" * 300, model="template", options={"num_ctx": 512})
        assert "yyy" in said
        assert "xx" not in said

    def test_prompts_with_images_are_never_cut(self, simulator, chat):
        message = {"role": "user", "content": "x" * 3000, "images": [PIXEL]}
        options = {"num_ctx": 2048}
        refused = chat(simulator, model="vision", messages=[message], options=options)
        assert (refused.status_code, "request (3023 tokens)" in refused.json()["error"]) == (400, True)
        message["content"] = "x" * 2000
        reply = chat(simulator, model="vision", messages=[message], options=options, stream=False).json()
        assert reply["prompt_eval_count"] == OVERHEAD + 2000 + 16

    def test_an_image_is_taken_for_768_tokens_when_messages_go(self, simulator, chat):
        seen = {"role": "user", "content": "one", "images": [PIXEL]}
        messages = [seen, {"role": "assistant", "content": "ok"}, seen, {"role": "assistant", "content": "ok"}, seen]
        chat(simulator, model="vision", messages=messages, options={"num_ctx": 2048})
        assert simulator.last_chat.outcome.dropped_messages == 1
        chat(simulator, model="vision", messages=messages)
        assert simulator.last_chat.outcome.dropped_messages == 0

    @pytest.mark.parametrize("model", ["template", "native"])
    @pytest.mark.parametrize("more", [{}, {"raw": True}])
    def test_generate_cuts_for_every_kind(self, simulator, post, model, more):
        body = {"model": model, "prompt": "x" * 600, "options": {"num_ctx": 512}, "stream": False, **more}
        assert post(simulator, "/api/generate", **body).json()["prompt_eval_count"] == 259
        assert post(simulator, "/api/generate", **body, truncate=False).status_code == 400

    def test_what_fits_was_not_truncated(self, ask, simulator):
        ask(511)
        assert not simulator.last_chat.outcome.was_truncated
        assert simulator.last_chat.outcome.dropped_messages == 0


class TestLongReplies:
    def test_the_window_moves_on_while_the_reply_is_written(self, ask, simulator):
        simulator.reply("word " * 400)
        reply = ask(20, num_ctx=64)
        assert (reply["done_reason"], reply["prompt_eval_count"]) == ("stop", 20)
        assert simulator.last_chat.outcome.has_shifted

    @pytest.mark.parametrize("num_predict", [-1, 5000])
    def test_ten_windows_are_the_longest_reply(self, ask, simulator, num_predict):
        simulator.reply("word " * 1000)
        reply = ask(20, num_ctx=64, options={"num_predict": num_predict})
        assert (reply["done_reason"], reply["eval_count"]) == ("length", 640)

    @pytest.mark.parametrize(("tokens", "num_ctx", "said"), [(26, 64, 230), (511, 512, 1)])
    def test_without_shift_the_reply_ends_with_the_rounded_window(self, ask, simulator, tokens, num_ctx, said):
        simulator.reply("word " * 400)
        reply = ask(tokens, num_ctx=num_ctx, shift=False)
        assert (reply["done_reason"], reply["eval_count"]) == ("length", said)
        assert not simulator.last_chat.outcome.has_shifted

    def test_after_the_window_moved_on_the_prompt_is_read_anew(self, ask, simulator):
        simulator.reply("word " * 400)
        for _ in range(2):
            ask(60, num_ctx=64)
        assert [request.outcome.evaluated_tokens for request in simulator.chats] == [60, 60]


class TestPromptCache:
    def test_an_earlier_prompt_is_still_known_after_others(self, simulator, chat):
        for letter in "abcdea":
            chat(simulator, letter * 1000, model="template")
        first, *others, again = [request.outcome.evaluated_tokens for request in simulator.chats]
        assert first == 1007
        assert again == 1
        assert min(others) > 900
        assert simulator.evaluated_tokens == first + sum(others) + again

    def test_a_model_that_was_loaded_anew_has_forgotten_all(self, simulator, chat):
        for options in ({}, {}, {"num_ctx": 5000}):
            chat(simulator, "a" * 1000, model="template", options=options)
        assert [request.outcome.evaluated_tokens for request in simulator.chats] == [1007, 1, 1007]

    def test_a_changed_first_turn_costs_the_whole_prompt(self, simulator, chat):
        for first in ("a", "b"):
            messages = [{"role": "user", "content": first * 1000}, {"role": "assistant", "content": "ok"}, LAST]
            chat(simulator, model="template", messages=messages)
        known, changed = [request.outcome for request in simulator.chats]
        assert changed.evaluated_tokens > 0.95 * known.evaluated_tokens

    def test_what_was_called_belongs_to_the_next_prompt(self, simulator, chat):
        asked = {"role": "user", "content": "x" * 1000}
        answered = {"role": "tool", "content": "a sea", "tool_name": "look"}
        evaluated = []
        for where in ("there", "elsewhere"):
            simulator.reply(tool_calls=[("look", {"where": "there"})])
            chat(simulator, model="template", messages=[asked])
            calls = [{"function": {"name": "look", "arguments": {"where": where}}}]
            called = {"role": "assistant", "content": "", "tool_calls": calls}
            chat(simulator, model="template", messages=[asked, called, answered])
            evaluated.append(simulator.last_chat.outcome.evaluated_tokens)
        assert evaluated[0] < evaluated[1] < 100

    def test_another_image_is_another_prompt(self, simulator, chat):
        for image in (PIXEL, PIXEL, "AAAA" + PIXEL):
            message = {"role": "user", "content": "x" * 500, "images": [image]}
            chat(simulator, model="vision", messages=[message])
        whole, same, other = [request.outcome.evaluated_tokens for request in simulator.chats]
        assert same == 1
        assert other > 0.9 * whole


class TestRendering:
    def test_the_prompt_is_shown_and_no_answer_is_taken(self, chat):
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

    def test_it_loads_the_model_as_asked(self, simulator, chat, window):
        chat(simulator, model="template", options={"num_ctx": 1000}, shift=False, _debug_render_only=True)
        assert (window(), simulator.loads[0].shift) == (1000, False)
        assert simulator.last_chat.outcome.evaluated_tokens is None

    @pytest.mark.parametrize("model", ["template", "native"])
    def test_messages_go_as_they_would_but_nothing_is_cut_or_refused(self, simulator, chat, model):
        def shown(messages, **body):
            body.update(model=model, options={"num_ctx": 512}, _debug_render_only=True)
            return chat(simulator, messages=messages, **body).json()["_debug_info"]["rendered_template"]

        assert shown([*TURNS, LAST]).count("<|im_start|>") == 11
        assert shown([*TURNS, LAST], truncate=False).count("<|im_start|>") == 42
        assert len(shown([{"role": "user", "content": "x" * 3000}])) > 3000

    def test_tools_thinking_and_calls_are_in_it(self, simulator, chat):
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

    def test_images_are_numbered_where_they_stand(self, simulator, chat):
        messages = [
            {"role": "user", "content": "one", "images": [PIXEL]},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": "two [img] and", "images": [PIXEL]},
        ]
        shown = chat(simulator, model="vision", messages=messages, _debug_render_only=True).json()["_debug_info"]
        assert shown["image_count"] == 2
        assert "user\n[img-0]one<" in shown["rendered_template"]
        assert "user\ntwo [img-1] and<" in shown["rendered_template"]

    def test_an_assistant_that_goes_on_has_no_end(self, simulator, chat):
        messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "I was"}]
        body = chat(simulator, model="template", messages=messages, _debug_render_only=True).json()
        assert body["_debug_info"]["rendered_template"].endswith("<|im_start|>assistant\nI was")

    def test_generate_shows_its_prompt_too(self, simulator, post):
        body = {"model": "template", "prompt": "hi", "_debug_render_only": True}
        shown = post(simulator, "/api/generate", **body).json()
        assert list(shown) == ["model", "created_at", "response", "done", "_debug_info"]
        assert "user\nhi<" in shown["_debug_info"]["rendered_template"]
        raw = post(simulator, "/api/generate", **body, raw=True).json()
        assert raw["_debug_info"] == {"rendered_template": "hi"}

    def test_without_messages_the_model_is_loaded(self, simulator, chat):
        body = chat(simulator, model="template", messages=[], _debug_render_only=True).json()
        assert (body["done"], body["done_reason"]) == (True, "load")


class TestCounters:
    def test_a_counter_counts_for_all_models_that_have_none(self, chat, post):
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

    def test_a_counter_counts_for_vectors_as_well(self, post):
        embedder = SimulatedModel(name="e", capabilities=("embedding",), context_length=10, count_tokens=len)
        with OllamaSimulator([embedder]) as simulator:
            counts = [
                post(simulator, "/api/embed", model="e", input="x" * length).json()["prompt_eval_count"]
                for length in (3, 8, 9)
            ]
            assert post(simulator, "/api/embed", model="e", input="x" * 9, truncate=False).status_code == 400
        assert counts == [5, 10, 10]

    def test_the_window_for_vectors_is_what_is_asked_for_and_a_batch_at_most(self, post):
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
    def test_a_counter_that_gives_no_number_is_told_of(self, chat, wrong):
        with OllamaSimulator(count_tokens=lambda _: wrong) as simulator:
            response = chat(simulator, "hi")
        assert response.status_code == 500
        assert f"count_tokens gave {wrong!r} for a text" in response.json()["error"]

    @pytest.mark.parametrize("arguments", [{"count_tokens": 4}, {"tokens_per_image": -1}])
    def test_settings_that_make_no_sense_are_refused(self, arguments):
        with pytest.raises((TypeError, ValueError), match=next(iter(arguments))):
            SimulatedModel(name="m", **arguments)
