"""Conversation memories after runs that went wrong."""

import json

import pytest
from griptape.artifacts import TextArtifact
from griptape.drivers.memory.conversation.local import LocalConversationMemoryDriver
from griptape.memory.structure import ConversationMemory, Run, SummaryConversationMemory
from griptape.structures import Agent, Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import OllamaCancelledError, OllamaError, OllamaStream
from griptape_ollama.structures.memory_rollback import MemoryRollback


def _run(text):
    return Run(input=TextArtifact("Say it."), output=TextArtifact(text))


def _texts(memory):
    return [run.output.value for run in memory.runs]


def _fail(structure, simulator):
    simulator.reply(status=404, error="model 'simulator' not found")
    with pytest.raises(OllamaError):
        list(OllamaStream(structure).run("Fail."))


def test_exactly_the_failed_run_is_removed_also_where_another_is_equal(make_driver):
    memory = ConversationMemory()
    agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
    twin = _run("same")
    memory.add_run(twin)
    rollback = MemoryRollback(agent)
    gone, other = _run("same"), _run("other")
    memory.add_run(gone)
    memory.add_run(other)
    rollback.remove([gone.output])
    assert [id(run) for run in memory.runs] == [id(twin), id(other)]
    rollback.remove([gone.output])
    assert len(memory.runs) == 2


def test_a_run_that_was_dropped_for_a_failed_run_is_restored(simulator, make_driver):
    memory = ConversationMemory(max_runs=2)
    agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
    for text in ("one", "two"):
        memory.add_run(_run(text))
    _fail(agent, simulator)
    assert _texts(memory) == ["one", "two"]


def test_a_run_that_was_dropped_for_another_run_stays_dropped(make_driver):
    memory = ConversationMemory(max_runs=2)
    agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
    for text in ("one", "two"):
        memory.add_run(_run(text))
    rollback = MemoryRollback(agent)
    gone = _run("gone")
    memory.add_run(_run("of another"))
    memory.add_run(gone)
    rollback.remove([gone.output])
    assert _texts(memory) == ["of another"]


def test_what_is_stored_is_what_is_remembered(simulator, make_driver, tmp_path):
    file = tmp_path / "memory.json"
    memory = ConversationMemory(conversation_memory_driver=LocalConversationMemoryDriver(persist_file=str(file)))
    agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
    simulator.reply("Hello.")
    list(OllamaStream(agent).run("Hi."))
    _fail(agent, simulator)
    stored = json.loads(file.read_text())
    assert [run["output"]["value"] for run in stored["runs"]] == ["Hello."]


def test_a_summary_is_what_it_was_before_a_run_that_was_left(simulator, make_driver, silence):
    memory = SummaryConversationMemory(prompt_driver=make_driver(stream=True), offset=1)
    agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
    simulator.reply("Hello.")
    assert list(OllamaStream(agent).run("Hi.")) == ["Hello."]
    simulator.reply(["one ", "two"], pause=(1, silence))
    with OllamaStream(agent).run("Count.") as run:
        next(run)
    assert _texts(memory) == ["Hello."]
    assert (memory.summary, memory.summary_index) == (None, 0)
    assert isinstance(run.output.exception, OllamaCancelledError)


def test_what_memory_says_when_it_sums_up_is_not_what_the_structure_says(simulator, make_driver):
    memory = SummaryConversationMemory(prompt_driver=make_driver(stream=True), offset=1)
    agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
    simulator.reply("Hello.")
    simulator.reply("Hello again.")
    simulator.reply("They said hello.")
    assert list(OllamaStream(agent).run("Hi.")) == ["Hello."]
    assert "".join(OllamaStream(agent).run("Hi.")) == "Hello again."
    assert memory.summary == "They said hello."


def test_tasks_that_remember_by_themselves_keep_what_was_answered(simulator, make_driver):
    tasks = [PromptTask("Task.", prompt_driver=make_driver()) for _ in range(2)]
    pipeline = Pipeline(tasks=tasks, conversation_memory_strategy="per_task")
    simulator.reply("one")
    _fail(pipeline, simulator)
    assert _texts(pipeline.conversation_memory) == ["one"]


def test_what_was_left_is_forgotten_with_all_its_tasks(simulator, make_driver, silence):
    tasks = [PromptTask("Task.", prompt_driver=make_driver()) for _ in range(2)]
    pipeline = Pipeline(tasks=tasks, conversation_memory_strategy="per_task")
    simulator.reply("one")
    simulator.reply(["two ", "three"], pause=(1, silence))
    with OllamaStream(pipeline).run() as run:
        assert [next(run) for _ in range(3)] == ["one", "\n", "two "]
    assert _texts(pipeline.conversation_memory) == []


def test_a_structure_without_memory_forgets_nothing(simulator, make_driver):
    agent = Agent(prompt_driver=make_driver(), conversation_memory=None)
    _fail(agent, simulator)
