"""The prompt cache of a loaded model."""

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.testing.models.memory import PromptCache

LETTERS = {"count_tokens": len, "context_length": 8192}

KINDS = [
    SimulatedModel(name="template", **LETTERS),
    SimulatedModel(name="parser", kind="builtin", capabilities=("completion", "thinking"), **LETTERS),
    SimulatedModel(name="native", kind="native", **LETTERS),
    SimulatedModel(name="vision", capabilities=("completion", "vision"), tokens_per_image=16, **LETTERS),
]

PIXEL = "iVBORw0KGgo="

LAST = {"role": "user", "content": "x" * 43}


@pytest.fixture
def simulator():
    with OllamaSimulator([*KINDS, SimulatedModel(name="simulator")]) as running:
        yield running


class TestPromptCache:
    def test_an_earlier_prompt_stays_cached_after_other_prompts(self, simulator, chat):
        for letter in "abcdea":
            chat(simulator, letter * 1000, model="template")
        first, *middle, again = [request.outcome.evaluated_tokens for request in simulator.chats]
        assert first == 1007
        assert again == 1
        assert min(middle) > 900
        assert simulator.evaluated_tokens == first + sum(middle) + again

    def test_a_reload_clears_the_prompt_cache(self, simulator, chat):
        for options in ({}, {}, {"num_ctx": 5000}):
            chat(simulator, "a" * 1000, model="template", options=options)
        assert [request.outcome.evaluated_tokens for request in simulator.chats] == [1007, 1, 1007]

    def test_a_changed_first_turn_costs_the_whole_prompt(self, simulator, chat):
        for first in ("a", "b"):
            messages = [{"role": "user", "content": first * 1000}, {"role": "assistant", "content": "ok"}, LAST]
            chat(simulator, model="template", messages=messages)
        known, changed = [request.outcome for request in simulator.chats]
        assert changed.evaluated_tokens > 0.95 * known.evaluated_tokens

    def test_tool_calls_of_a_reply_are_cached(self, simulator, chat):
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


def test_a_cached_prefix_is_not_evaluated_again(simulator, lines):
    history = [{"role": "user", "content": "tell me all about lighthouses, please " * 20}]
    simulator.reply("They shine.")
    first = lines(simulator, messages=history)[-1]
    history += [{"role": "assistant", "content": "They shine."}, {"role": "user", "content": "And then?"}]
    second = lines(simulator, messages=history)[-1]
    evaluated = [request.outcome.evaluated_tokens for request in simulator.chats]
    assert evaluated[0] == first["prompt_eval_count"]
    assert evaluated[1] < 20 < second["prompt_eval_count"]
    assert second["prompt_eval_duration"] < first["prompt_eval_duration"] / 5


def test_the_same_prompt_again_counts_in_full_but_costs_one_token(simulator, lines):
    counts = [lines(simulator, "a long question " * 50)[-1]["prompt_eval_count"] for _ in range(2)]
    assert counts[0] == counts[1] > 100
    assert simulator.last_chat.outcome.evaluated_tokens == 1
    assert simulator.last_chat.outcome.prompt_tokens == counts[1]


def test_unloading_clears_the_prompt_cache(simulator, lines):
    for _ in range(2):
        count = lines(simulator, "a long question " * 50, keep_alive=0)[-1]["prompt_eval_count"]
    assert simulator.last_chat.outcome.evaluated_tokens == count


def test_two_conversations_share_a_prompt_cache():
    cache = PromptCache(2)
    one, other = "a" * 400, "b" * 400
    assert [cache.evaluate(text, 100) for text in (one, other, one, other)] == [100, 100, 1, 1]
    # A third one takes the place of the oldest.
    assert [cache.evaluate(text, 100) for text in ("c" * 400, one)] == [100, 100]
    assert PromptCache(1).evaluate("", 0) == 0


def test_the_text_of_a_reply_is_cached():
    cache = PromptCache(1)
    cache.evaluate("a" * 40, 10)
    cache.extend("a" * 40, "b" * 40)
    assert cache.evaluate("a" * 40 + "b" * 40 + "c" * 40, 30) == 10
    cache.extend("unknown", "x")
    assert cache.evaluate("x" * 40, 10) == 10
