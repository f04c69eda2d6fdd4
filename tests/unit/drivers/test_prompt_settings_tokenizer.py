"""A tokenizer that a driver is given: its limits, and its counts."""

import pytest
from attrs import define
from griptape.artifacts import TextArtifact
from griptape.memory.structure import ConversationMemory, Run
from griptape.structures import Agent
from griptape.tokenizers import SimpleTokenizer

from griptape_ollama import OllamaPromptDriver, OllamaTokenizer

_TURN = "The pump in the lower hall was checked before noon, and no fault was found. " * 5
_LIMITS = {"characters_per_token": 4, "max_input_tokens": 5_000, "max_output_tokens": 500}


def _agent(simulator, **settings):
    runs = [Run(input=TextArtifact(f"{turn} {_TURN}"), output=TextArtifact(f"{turn} {_TURN}")) for turn in range(40)]
    driver = OllamaPromptDriver(model="simulator", host=simulator.url, **settings)
    return Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=runs))


@pytest.mark.parametrize("limit", [600, 2000])
def test_a_memory_is_cut_to_what_an_ollama_tokenizer_allows(simulator, limit):
    agent = _agent(simulator, tokenizer=OllamaTokenizer(model="simulator", max_input_tokens=limit))

    output = agent.run("And now?").output

    assert limit / 3 < output.meta["ollama"]["prompt_eval_count"] <= limit
    assert output.meta["ollama"]["context"]["dropped_messages"] > 0
    assert "num_ctx" not in simulator.last_chat.body["options"]


def test_a_memory_is_cut_to_the_window_where_the_tokenizer_sets_no_limit(simulator):
    output = _agent(simulator, num_ctx=4096).run("And now?").output

    assert 1000 < output.meta["ollama"]["prompt_eval_count"] <= 4096 - 1024


def test_a_memory_without_autoprune_is_not_cut_to_it(simulator):
    agent = _agent(simulator, tokenizer=OllamaTokenizer(model="simulator", max_input_tokens=600))
    agent.conversation_memory.autoprune = False

    agent.run("And now?")

    assert len(simulator.last_chat.body["messages"]) == 2 * 40 + 1


@define(kw_only=True)
class _ThousandTokens(SimpleTokenizer):
    def count_tokens(self, text):
        return 1_000


def _estimated(simulator, tokenizer):
    driver = OllamaPromptDriver(model="simulator", host=simulator.host, tokenizer=tokenizer)
    return driver.preview(TextArtifact("Hello!")).estimate.tokens


def test_a_tokenizer_that_counts_is_used_for_the_prompt(simulator):
    assert _estimated(simulator, _ThousandTokens(**_LIMITS)) > 500


def test_a_tokenizer_that_divides_the_characters_is_not_used_for_the_prompt(simulator):
    wrong = SimpleTokenizer(**{**_LIMITS, "characters_per_token": 0.001})
    assert _estimated(simulator, wrong) < 100
