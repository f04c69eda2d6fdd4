"""Messages of a prompt on the wire: what templates refuse is never sent."""

import pytest
from griptape.artifacts import TextArtifact
from griptape.memory.structure import ConversationMemory, Run
from griptape.structures import Agent
from griptape.tasks import PromptTask

from griptape_ollama.testing import OllamaSimulator
from unit.drivers.context_prompts import LARGE_WINDOW, prose, stack_of, texts

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[LARGE_WINDOW]) as simulator:
        yield simulator


@_both_ways
def test_several_system_messages_arrive_as_one_in_order_before_all_others(simulator, make_driver, stream):
    stack = stack_of(("system", "A"), ("user", "1"), ("assistant", "2"), ("system", "B"), ("user", "3"))
    make_driver(model="roomy", stream=stream).run(stack)
    assert texts(simulator.last_chat) == [("system", "A\n\nB"), ("user", "1"), ("assistant", "2"), ("user", "3")]


def test_the_task_itself_stays_where_a_late_system_message_moved_and_the_memory_is_cut(simulator, make_driver):
    def system_template(_):
        return ""

    memory = ConversationMemory(
        runs=[Run(input=TextArtifact(f"{i} {prose(300, i)}"), output=TextArtifact(prose(300, i))) for i in range(10)]
    )
    driver = make_driver(model="roomy", num_ctx=2048, on_overflow="trim", max_tokens=100)
    task = PromptTask(generate_system_template=system_template, prompt_driver=driver)
    stack = Agent(tasks=[task], conversation_memory=memory).task.prompt_stack
    stack.add_user_message("The question")
    stack.add_system_message("A late rule")
    driver.run(stack)
    sent = texts(simulator.last_chat)
    assert sent[0] == ("system", "A late rule")
    assert sent[-1] == ("user", "The question")
    assert [role for role, _ in sent].count("system") == 1
    assert len(sent) < 20
