"""The tokenizer that Griptape gets."""

import copy
import logging
import pickle

import pytest
from griptape.tokenizers import BaseTokenizer
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.tokenizer import OllamaTokenizer, StackText
from griptape_ollama.context.tokens import features
from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.context.tokens.regression import TokenEstimate

TEXT = "It is unknown why the pump ran for nine hours."


def _pickled(what):
    return pickle.loads(pickle.dumps(what))  # noqa: S301 - our own


class Driver:
    """What a tokenizer asks."""

    def __init__(self):
        self.window = (8_192, 512)
        self.known = PromptEstimator()

    def limits(self):
        return self.window

    def estimator(self):
        return self.known

    def tokenizer(self, **settings):
        return OllamaTokenizer(model="qwen3", limits=self.limits, estimator=self.estimator, **settings)


class TestLimits:
    def test_alone_it_has_the_servers_default_window(self):
        tokenizer = OllamaTokenizer(model="qwen3")

        assert (tokenizer.max_input_tokens, tokenizer.max_output_tokens) == (4_096, 1_024)

    def test_what_is_given_wins(self):
        tokenizer = Driver().tokenizer(max_input_tokens=100, max_output_tokens=10)

        assert (tokenizer.max_input_tokens, tokenizer.max_output_tokens) == (100, 10)

    def test_the_drivers_are_live_and_not_asked_for_before_they_are_needed(self):
        driver = Driver()
        driver.window = None
        tokenizer = driver.tokenizer()
        for driver.window in ((8_192, 512), (32_768, 1_000)):
            assert (tokenizer.max_input_tokens, tokenizer.max_output_tokens) == driver.window

    def test_they_can_be_set_and_taken_back(self):
        tokenizer = Driver().tokenizer()

        tokenizer.max_input_tokens = 100
        assert tokenizer.max_input_tokens == 100
        tokenizer.max_input_tokens = None
        assert tokenizer.max_input_tokens == 8_192

    @pytest.mark.parametrize("wrong", [0, -5, "many", 1.5, True])
    def test_what_is_no_limit_is_replaced_with_one_word_in_the_log(self, wrong, caplog):
        tokenizer = OllamaTokenizer(model="qwen3", max_input_tokens=wrong)
        with caplog.at_level(logging.WARNING):
            assert [tokenizer.max_input_tokens for _ in range(3)] == [4_096] * 3

        assert len(caplog.records) == 1
        assert repr(wrong) in caplog.text

    @pytest.mark.parametrize("told", [None, (), (None, None), (0, -1), ("a", "b")])
    def test_an_impossible_limit_of_a_driver_is_no_error(self, told, caplog):
        driver = Driver()
        driver.window = told
        with caplog.at_level(logging.WARNING):
            tokenizer = driver.tokenizer()
            assert (tokenizer.max_input_tokens, tokenizer.max_output_tokens) == (4_096, 1_024)

        assert len(caplog.records) == 2


class TestCounting:
    def test_it_counts_as_the_drivers_model_does(self):
        driver = Driver()
        tokenizer = driver.tokenizer()
        before = tokenizer.count_tokens(TEXT * 20)
        for number in range(10):
            driver.known.learn([{"role": "user", "content": f"{number} {TEXT * 20}"}], (), 5 * before)

        assert tokenizer.count_tokens(TEXT * 20) > before * 2
        assert tokenizer.replies == 10
        assert tokenizer.uncertainty == driver.known.uncertainty

    def test_it_says_how_sure_it_is(self):
        estimate = OllamaTokenizer(model="qwen3").estimate(TEXT)

        assert isinstance(estimate, TokenEstimate)
        assert estimate.low < estimate.tokens == OllamaTokenizer(model="qwen3").count_tokens(TEXT) < estimate.high

    def test_estimates_that_cannot_be_had_are_no_failure(self, caplog):
        tokenizer = OllamaTokenizer(model="qwen3", estimator=lambda: 1 / 0)
        with caplog.at_level(logging.WARNING):
            assert tokenizer.count_tokens(TEXT) == OllamaTokenizer(model="qwen3").count_tokens(TEXT)
            tokenizer.count_tokens(TEXT)

        assert len(caplog.records) == 1

    @given(st.one_of(st.none(), st.text(st.characters(codec=None)), st.integers(), st.binary()))
    def test_nothing_makes_it_raise(self, text):
        tokenizer = OllamaTokenizer(model="qwen3")

        assert tokenizer.count_tokens(text) >= 0
        assert tokenizer.count_input_tokens_left(text) >= 0
        assert tokenizer.count_output_tokens_left(text) >= 0

    def test_fifty_megabytes_are_counted_and_known_the_next_time(self, monkeypatch):
        tokenizer, text = OllamaTokenizer(model="qwen3"), "a plain word, " * 3_600_000
        tokens = tokenizer.count_tokens(text)
        monkeypatch.setattr(features, "count_features", None)

        assert tokenizer.count_tokens(text) == tokens > 10_000_000

    def test_tokens_left_are_counted_as_by_griptape(self):
        tokenizer = OllamaTokenizer(model="qwen3", max_input_tokens=100)
        used = tokenizer.count_tokens(TEXT)

        assert tokenizer.count_input_tokens_left(TEXT) == 100 - used
        assert tokenizer.count_input_tokens_left(TEXT * 50) == 0
        assert tokenizer.count_input_tokens_left(TEXT * 50) == BaseTokenizer.count_input_tokens_left(
            tokenizer, TEXT * 50
        )


class TestStackText:
    def test_a_stack_has_the_tokens_that_it_says(self):
        assert OllamaTokenizer(model="qwen3").count_tokens(StackText("x", 77)) == 77

    def test_there_is_always_room_for_a_stack(self):
        tokenizer = OllamaTokenizer(model="qwen3", max_input_tokens=100)

        assert tokenizer.count_input_tokens_left(StackText("x", 77)) == 23
        assert tokenizer.count_input_tokens_left(StackText("x", 5_000)) == 1

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
    def test_a_copy_says_the_same(self, copied):
        text = copied(StackText("x", 77))

        assert (text, text.tokens, type(text)) == ("x", 77, StackText)


class TestCopies:
    def test_settings_survive_being_stored_and_what_the_driver_says_is_not_stored(self):
        tokenizer = Driver().tokenizer(max_output_tokens=10, stop_sequences=["END"])

        stored = tokenizer.to_dict()
        loaded = OllamaTokenizer.from_dict(stored)

        assert stored["max_input_tokens"] is None
        assert stored["max_output_tokens"] == 10
        assert loaded == tokenizer
        assert loaded.stop_sequences == ["END"]
        assert type(loaded) is OllamaTokenizer
        assert OllamaTokenizer.from_json(tokenizer.to_json()) == tokenizer

    def test_it_is_loaded_as_a_tokenizer_of_any_kind(self):
        assert type(BaseTokenizer.from_dict(OllamaTokenizer(model="qwen3").to_dict())) is OllamaTokenizer

    def test_it_shows_its_settings_alone(self):
        assert "Driver" not in repr(Driver().tokenizer())
        assert Driver().tokenizer() == OllamaTokenizer(model="qwen3")

    @pytest.mark.parametrize("copied", [copy.deepcopy, _pickled])
    def test_a_copy_knows_no_driver_until_one_takes_it(self, copied):
        tokenizer = OllamaTokenizer(
            model="qwen3", max_output_tokens=5, limits=lambda: (9, 9), estimator=PromptEstimator
        )
        tokenizer.count_tokens(TEXT)

        other = copied(tokenizer)

        assert other == tokenizer
        assert other.max_input_tokens == 4_096
        assert other.count_tokens(TEXT) == tokenizer.count_tokens(TEXT)
