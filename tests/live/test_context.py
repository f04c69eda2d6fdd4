"""Windows of models on a real server: when a model is reloaded, and what of a prompt the model reads.

What is asserted is what drivers rely on. The prompts are far longer than the windows that are asked for.
"""

import base64
import itertools
import time

import pytest
from griptape.artifacts import ImageArtifact, ListArtifact, TextArtifact
from griptape.common import PromptStack

from griptape_ollama import OllamaContextError, OllamaPromptDriver
from griptape_ollama.context.window_state import window_registry
from griptape_ollama.lifecycle.server_adapter import ServerAdapter

WINDOW = 512
CELLS = 256  # the process that runs a model rounds its window up to a multiple of this
LOADED_NS = 50_000_000  # a model that is there is found in about a millisecond
LONG = "The lighthouse stood on the rock and shone over the sea. " * 400
TURNS = [
    message
    for number in range(60)
    for message in (
        {"role": "user", "content": f"Tell me about lighthouse number {number}, please."},
        {"role": "assistant", "content": f"Lighthouse number {number} stands on a rock in the sea."},
    )
]
HELLO = {"role": "user", "content": "Say hello."}
SENTENCE = "The lighthouse stood on the rock and shone over the sea. "
WORDS = (
    "Ships pass the harbour at night, and the keeper writes down their names.",
    "def light(hours: int) -> bool:\n    return hours > 18 or hours < 6\n",
    '{"tower": {"height": 42, "built": 1887, "lamps": ["red", "white"]}}',
    "Is it dark? No! Storm, rain, 12.5 knots; the bell rings 3 times.",
)
IMAGE = (
    "iVBORw0KGgoAAAANSUhEUgAAAFAAAAA8CAIAAAB+RarbAAAAJElEQVR4nO3BMQEAAADCoPVP7WkJoAAAAAAAAAAAAAAAAAAAbjh8AAFOgZ4b"
    "AAAAAElFTkSuQmCC"
)


@pytest.fixture
def ask(server, chat_model):
    """Send a chat request, and return the response."""

    def send(*messages, num_ctx=WINDOW, model=chat_model, num_predict=4, **body):
        options = {"num_predict": num_predict, **({} if num_ctx is None else {"num_ctx": num_ctx})}
        request = {"model": model, "messages": list(messages) or [HELLO], "options": options, "stream": False}
        return server.post("/api/chat", json={**request, **body})

    return send


@pytest.fixture
def is_loaded_by(ask):
    """Return whether a request loads the model."""

    def tell(**body):
        return ask(**body).raise_for_status().json()["load_duration"] > LOADED_NS

    return tell


@pytest.fixture
def window(server, chat_model):
    """Return the window that `/api/ps` reports."""

    def find():
        name = chat_model.removesuffix(":latest")
        models = server.get("/api/ps").json()["models"]
        return {model["name"].removesuffix(":latest"): model["context_length"] for model in models}[name]

    return find


class TestReloads:
    def test_an_explicit_window_equal_to_the_loaded_one_does_not_reload(self, ask, is_loaded_by, window):
        ask(num_ctx=1000).raise_for_status()
        assert window() == 1000
        assert not is_loaded_by(num_ctx=1000)

    def test_a_request_without_a_window_reloads_with_the_default(self, ask, is_loaded_by, window):
        ask(num_ctx=None).raise_for_status()
        default = window()
        assert not is_loaded_by(num_ctx=default)
        assert is_loaded_by(num_ctx=default // 2)
        assert window() == default // 2
        assert is_loaded_by(num_ctx=None)
        assert window() == default

    def test_shift_reloads_the_model_and_truncate_does_not(self, ask, is_loaded_by):
        ask().raise_for_status()
        assert not is_loaded_by(truncate=False)
        assert not is_loaded_by(shift=True)
        assert is_loaded_by(shift=False)
        assert not is_loaded_by(shift=False, truncate=False)
        assert is_loaded_by()


class TestOverlongPrompts:
    def test_a_message_that_is_too_long_is_truncated_to_half_the_window_or_rejected(self, ask):
        response = ask({"role": "user", "content": LONG})
        if response.status_code == 400:  # a native model
            assert "exceeds the available context size" in response.json()["error"]
        else:
            # A token less where the model puts none at the beginning.
            assert response.json()["prompt_eval_count"] in (258, 259)

    @pytest.mark.parametrize("shift", [True, False])
    def test_without_truncation_it_is_rejected_with_both_numbers(self, ask, shift):
        response = ask({"role": "user", "content": LONG}, truncate=False, shift=shift)
        assert response.status_code == 400
        assert f'"n_ctx":{WINDOW}' in response.json()["error"]

    @pytest.mark.parametrize("shift", [True, False])
    def test_old_messages_are_dropped_without_a_notice(self, ask, shift):
        reply = ask(*TURNS, HELLO, shift=shift).raise_for_status().json()
        assert WINDOW // 2 < reply["prompt_eval_count"] <= WINDOW
        whole = ask(*TURNS, HELLO, num_ctx=8192).raise_for_status().json()
        assert whole["prompt_eval_count"] > WINDOW
        assert whole.keys() == reply.keys()

    def test_a_prompt_counts_in_full_whether_cached_or_not(self, ask):
        first, second = (ask(*TURNS[:6], HELLO).raise_for_status().json() for _ in range(2))
        assert first["prompt_eval_count"] == second["prompt_eval_count"]

    def test_a_driver_reports_a_prompt_that_does_not_fit(self, chat_model):
        driver = OllamaPromptDriver(model=chat_model, truncate=False, options={"num_ctx": WINDOW}, max_attempts=1)
        stack = PromptStack()
        stack.add_user_message(LONG)
        with pytest.raises(OllamaContextError, match=f"{WINDOW} tokens"):
            driver.run(stack)


class TestLongReplies:
    def test_without_shift_a_reply_ends_where_the_rounded_window_does(self, ask):
        story = {"role": "user", "content": "Write a very long story about a lighthouse. Do not stop."}
        reply = ask(story, num_ctx=CELLS, shift=False, num_predict=-1, think=False).raise_for_status().json()
        tokens = reply["prompt_eval_count"] + reply["eval_count"]
        assert tokens == CELLS if reply["done_reason"] == "length" else tokens < CELLS


class TestRendering:
    def test_a_rendered_prompt_is_that_of_the_model(self, ask, window):
        shown = ask(HELLO, num_ctx=1000, _debug_render_only=True).raise_for_status().json()
        assert HELLO["content"] in shown["_debug_info"]["rendered_template"]
        assert "eval_count" not in shown
        assert window() == 1000

    def test_messages_that_would_be_dropped_are_not_rendered(self, ask):
        def shown(**body):
            reply = ask(*TURNS, HELLO, _debug_render_only=True, **body).raise_for_status().json()
            return reply["_debug_info"]["rendered_template"]

        first = TURNS[0]["content"]
        assert first not in shown()
        assert first in shown(truncate=False)


class TestImages:
    def test_an_image_counts_as_tokens_of_the_prompt(self, ask, vision_model):
        counts = [
            ask({**HELLO, **images}, model=vision_model, num_ctx=4096).raise_for_status().json()["prompt_eval_count"]
            for images in ({}, {"images": [IMAGE]})
        ]
        assert counts[1] > counts[0] + 1


def stack_of(*texts, system=None):
    """A conversation of user messages, each but the last of which was answered."""
    stack = PromptStack()
    if system is not None:
        stack.add_system_message(system)
    for text in texts[:-1]:
        stack.add_user_message(text)
        stack.add_assistant_message("Yes.")
    stack.add_user_message(texts[-1])
    return stack


def told(message):
    """Return the metadata of the reply."""
    return message.content[0].artifact.meta["ollama"]


def was_loaded(message):
    return told(message)["load_seconds"] * 1e9 > LOADED_NS


@pytest.fixture
def unload(server, chat_model):
    """Unload the chat model."""

    def do():
        server.post("/api/generate", json={"model": chat_model, "keep_alive": 0}).raise_for_status()
        name, deadline = chat_model.removesuffix(":latest"), time.monotonic() + 20
        while any(each["name"].removesuffix(":latest") == name for each in server.get("/api/ps").json()["models"]):
            assert time.monotonic() < deadline, "the model stays loaded"
            time.sleep(0.05)

    return do


@pytest.fixture
def make(chat_model, unload):
    """Return a function that builds drivers of the chat model, which is not loaded at first."""
    unload()

    def made(**settings):
        return OllamaPromptDriver(**{"model": chat_model, "max_tokens": 4, **settings})

    return made


@pytest.fixture
def text_of(ask, unload):
    """Return a text of about a number of tokens for the chat model."""
    counts = [
        ask({"role": "user", "content": SENTENCE * times}, num_ctx=2048).raise_for_status().json()["prompt_eval_count"]
        for times in (5, 20)
    ]
    unload()
    return lambda tokens: SENTENCE * max(1, round(tokens * 15 / (counts[1] - counts[0])))


@pytest.fixture
def default(ask, window, unload):
    """The window that the model is loaded with by default."""
    ask(num_ctx=None).raise_for_status()
    tokens = window()
    unload()
    return tokens


@pytest.fixture
def make_taught(make, text_of, unload):
    """Return a function that builds drivers whose estimator is calibrated."""
    for tokens in (50, 100, 200, 400, 600, 800):
        make().run(stack_of(text_of(tokens)))
    unload()
    # What was learned of tokens stays.
    make().facts.forget()
    window_registry.clear()
    return make


class TestDriversWindow:
    def test_num_ctx_is_not_sent_if_the_default_is_enough(self, make, default, window):
        driver = make()
        first, second = driver.run(stack_of("Hello")), driver.run(stack_of("Hello again"))
        assert was_loaded(first)
        assert not was_loaded(second)
        assert "num_ctx" not in told(first)["context"]
        assert "num_ctx" not in told(second)["context"]
        assert window() == default

    def test_a_long_prompt_enlarges_the_window_once_for_all_drivers(self, make_taught, default, text_of, window):
        driver, other = make_taught(max_num_ctx=2 * default), make_taught(max_num_ctx=2 * default)
        long = text_of(1.2 * default)
        driver.run(stack_of("Hello"))
        grown = driver.run(stack_of(long))
        assert was_loaded(grown)
        assert told(grown)["context"]["grown_from"] == default
        assert window() == told(grown)["context"]["num_ctx"] == 2 * default
        assert told(grown)["prompt_eval_count"] > default
        for each in (driver, other):
            for text in ("Hello", long):
                reply = each.run(stack_of(text))
                assert not was_loaded(reply)
                assert not told(reply)["truncated"]
        assert window() == 2 * default

    def test_a_conversation_that_outgrows_the_default_window_is_loaded_twice(self, make, default, text_of):
        driver, stack, replies = make(max_num_ctx=2 * default), PromptStack(), []
        turn = text_of(default / 75)
        while not replies or told(replies[-1])["prompt_eval_count"] < 1.2 * default:
            stack.add_user_message(f"{len(replies)}. {turn}")
            replies.append(driver.run(stack))
            stack.add_assistant_message("Yes.")
        assert len(replies) > 40
        asked = [told(reply)["context"].get("num_ctx") for reply in replies]
        assert [num_ctx for num_ctx, _ in itertools.groupby(asked)] == [None, 2 * default]
        # Where the machine is busy, finding the model may take as long as loading it.
        assert 2 <= sum(map(was_loaded, replies)) <= 3
        assert not any(told(reply)["truncated"] for reply in replies)

    def test_a_preloaded_model_is_not_reloaded(self, make, chat_model):
        for settings in ({"on_overflow": "error"}, {"num_ctx": 2048}, {}):
            driver = make(**settings)
            ServerAdapter(driver).load(chat_model, keep_alive=60, options=driver.load_options())
            assert not was_loaded(driver.run(stack_of("Hello")))


class TestDriversGuard:
    def test_a_prompt_that_the_server_truncates_is_reported(self, make_taught, default, text_of):
        reply = make_taught(num_ctx=None).run(stack_of(*[text_of(default / 2)] * 20))
        assert told(reply)["truncated"] is True
        assert told(reply)["prompt_eval_count"] <= default

    def test_a_prompt_that_cannot_fit_is_not_sent(self, make_taught, window, text_of):
        driver = make_taught(num_ctx=WINDOW, on_overflow="error")
        with pytest.raises(OllamaContextError, match="Nothing was sent") as caught:
            driver.run(stack_of(text_of(24 * WINDOW)))
        assert caught.value.tokens_wanted > caught.value.tokens_available == WINDOW
        with pytest.raises(KeyError):
            window()

    def test_a_prompt_that_may_fit_is_sent(self, make, text_of):
        driver = make(num_ctx=WINDOW, on_overflow="error")
        with pytest.raises(OllamaContextError, match="refused") as caught:
            driver.run(stack_of(text_of(1.2 * WINDOW)))
        assert caught.value.status == 400
        assert caught.value.tokens_wanted > caught.value.tokens_available == WINDOW

    def test_the_oldest_messages_are_dropped_and_the_rest_fits(self, make_taught, text_of):
        driver = make_taught(num_ctx=2 * WINDOW, on_overflow="trim")
        stack = stack_of(*[text_of(WINDOW / 4)] * 20, "Say goodbye.", system="Be kind.")
        rendered = driver.preview(stack, render=True).rendered
        reply = driver.run(stack)
        assert told(reply)["truncated"] is False
        assert told(reply)["context"]["dropped_messages"] > 0
        assert WINDOW / 2 < told(reply)["prompt_eval_count"] < 2 * WINDOW
        assert "Be kind." in rendered
        assert "Say goodbye." in rendered

    def test_a_reply_of_max_tokens_is_not_complete(self, make):
        reply = make(max_tokens=2).run(stack_of("Write a very long story about a lighthouse. Do not stop."))
        assert told(reply)["done_reason"] == "length"
        assert told(reply)["complete"] is False
        assert told(reply)["cut_by"] == "max_tokens"


class TestDriversEstimates:
    def test_estimates_are_close_after_ten_replies(self, make):
        driver = make()

        def prompt(number):
            return stack_of("\n".join(WORDS[(number + place) % 4] for place in range(4 + 3 * number)))

        for number in range(10):
            driver.run(prompt(number))
        estimate = driver.preview(prompt(10)).estimate
        counted = told(driver.run(prompt(10)))["prompt_eval_count"]
        assert estimate.low <= counted <= estimate.high
        assert estimate.tokens == pytest.approx(counted, rel=0.1)
        assert driver.tokenizer.replies >= 10

    def test_a_preview_shows_the_rendered_prompt(self, make, window):
        driver = make(num_ctx=1000)
        preview = driver.preview(stack_of("Say hello.", system="Be kind."), render=True)
        assert "Say hello." in preview.rendered
        assert preview.window.tokens == window() == 1000
        assert not was_loaded(driver.run(stack_of("Say hello.", system="Be kind.")))

    def test_images_count_as_tokens(self, make, vision_model):
        driver = make(model=vision_model, keep_alive=0)
        image = ImageArtifact(base64.b64decode(IMAGE), format="png", width=80, height=60)
        stack = PromptStack()
        stack.add_user_message(ListArtifact([TextArtifact("Say what you see."), image]))
        reply = driver.run(stack)
        assert told(reply)["truncated"] is False
        assert told(reply)["context"]["window"] >= 2048
        with_image = driver.preview(stack).estimate.tokens
        assert with_image > driver.preview(stack_of("Say what you see.")).estimate.tokens
