"""Limits that a tokenizer sets, beside those of the window."""

import pytest
from griptape.artifacts import TextArtifact
from griptape.memory.structure import ConversationMemory, Run
from griptape.structures import Agent

from griptape_ollama import OllamaPromptDriver, OllamaTokenizer

_TURN = "The pump in the lower hall was checked before noon, and nobody found a fault. " * 5


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
