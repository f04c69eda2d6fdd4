"""Tokenizers that users give to a driver."""

from attrs import define
from griptape.artifacts import TextArtifact
from griptape.tokenizers import SimpleTokenizer

from griptape_ollama import OllamaPromptDriver

LIMITS = {"characters_per_token": 4, "max_input_tokens": 5_000, "max_output_tokens": 500}


@define(kw_only=True)
class ThousandForEach(SimpleTokenizer):
    def count_tokens(self, text):
        return 1_000


def _estimated(simulator, tokenizer):
    driver = OllamaPromptDriver(model="simulator", host=simulator.host, tokenizer=tokenizer)
    return driver.preview(TextArtifact("Hello!")).estimate.tokens


def test_a_subclass_that_counts_is_used_for_the_prompt(ollama_simulator):
    assert _estimated(ollama_simulator, ThousandForEach(**LIMITS)) > 500


def test_one_that_divides_the_characters_is_not(ollama_simulator):
    wrong = SimpleTokenizer(**{**LIMITS, "characters_per_token": 0.001})
    assert _estimated(ollama_simulator, wrong) < 100
