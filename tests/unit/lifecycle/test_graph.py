import pytest
from attrs import define, field
from griptape.artifacts import TextArtifact
from griptape.drivers.prompt.dummy import DummyPromptDriver
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.engines import PromptSummaryEngine
from griptape.engines.rag import RagEngine
from griptape.engines.rag.modules import (
    PromptResponseRagModule,
    TranslateQueryRagModule,
    VectorStoreRetrievalRagModule,
)
from griptape.engines.rag.stages import QueryRagStage, ResponseRagStage, RetrievalRagStage
from griptape.memory import TaskMemory
from griptape.memory.structure import SummaryConversationMemory
from griptape.memory.task.storage import TextArtifactStorage
from griptape.structures import Agent, Pipeline, Workflow
from griptape.tasks import CodeExecutionTask, PromptTask, RagTask, TextSummaryTask, ToolTask
from griptape.tools import BaseTool, QueryTool, RagTool, VectorStoreTool
from griptape.utils.decorators import activity
from schema import Schema

from griptape_ollama import OllamaPromptDriver
from griptape_ollama.lifecycle.graph import find_drivers, find_memory_drivers, find_task_drivers, tasks_of
from griptape_ollama.lifecycle.server_adapter import model_of
from griptape_ollama.models.connection_settings import OllamaServerMixin


@define(kw_only=True, slots=False)
class Vectors(OllamaServerMixin):
    """Stands for any driver with a server and a model, such as one that makes vectors."""

    model: str = field()


class HandMadeTool(BaseTool):
    """A tool that keeps its driver in an attribute of its own."""

    def use(self, driver):
        self.helper = driver
        return self

    @activity(config={"description": "Helps", "schema": Schema({})})
    def help(self):
        return TextArtifact("yes")


def _driver(model, **settings):
    return OllamaPromptDriver(model=model, host="127.0.0.1:1", **settings)


def _store(model):
    return LocalVectorStoreDriver(embedding_driver=Vectors(model=model))


def _engine():
    return RagEngine(
        query_stage=QueryRagStage(query_modules=[TranslateQueryRagModule(prompt_driver=_driver("ask"), language="en")]),
        retrieval_stage=RetrievalRagStage(
            retrieval_modules=[VectorStoreRetrievalRagModule(vector_store_driver=_store("vectors"))]
        ),
        response_stage=ResponseRagStage(response_modules=[PromptResponseRagModule(prompt_driver=_driver("answer"))]),
    )


def _models(drivers):
    return [model_of(driver) for driver in drivers]


def _read(task):
    return _models(find_task_drivers(task).all)


def test_a_prompt_task_uses_its_driver():
    assert _read(PromptTask("hi", prompt_driver=_driver("a"))) == ["a"]


def test_other_drivers_are_ignored():
    assert _read(PromptTask("hi", prompt_driver=DummyPromptDriver())) == []


def test_a_rag_task_uses_the_models_of_its_stages_in_their_order():
    assert _read(RagTask("hi", rag_engine=_engine())) == ["ask", "vectors", "answer"]


def test_a_summary_task_uses_the_model_of_its_engine():
    assert _read(TextSummaryTask("hi", summary_engine=PromptSummaryEngine(prompt_driver=_driver("a")))) == ["a"]


def test_tools_use_their_models_after_that_of_the_task():
    tools = [
        QueryTool(prompt_driver=_driver("query")),
        RagTool(description="d", rag_engine=_engine()),
        VectorStoreTool(description="d", vector_store_driver=_store("store")),
        HandMadeTool().use(_driver("helper")),
    ]
    drivers = find_task_drivers(PromptTask("hi", prompt_driver=_driver("main"), tools=tools))
    assert _models(drivers.all) == ["main", "query", "ask", "vectors", "answer", "store", "helper"]
    assert _models(drivers.own) == ["main"]
    assert {name: _models(used) for name, used in drivers.tools.items()} == {
        "QueryTool": ["query"],
        "RagTool": ["ask", "vectors", "answer"],
        "VectorStoreTool": ["store"],
        "HandMadeTool": ["helper"],
    }


def test_the_tool_of_a_tool_task_is_found():
    task = ToolTask("hi", prompt_driver=_driver("main"), tool=HandMadeTool().use(_driver("helper")))
    assert _read(task) == ["main", "helper"]


@pytest.mark.parametrize(("off_prompt", "found"), [(True, ["main", "vectors"]), (False, ["main"])])
def test_the_task_memory_is_used_by_tools_that_are_off_prompt(off_prompt, found):
    memory = TaskMemory(artifact_storages={TextArtifact: TextArtifactStorage(vector_store_driver=_store("vectors"))})
    task = PromptTask("hi", prompt_driver=_driver("main"), tools=[HandMadeTool(off_prompt=off_prompt)])
    Pipeline(tasks=[task], task_memory=memory)
    assert _read(task) == found


def test_a_summary_memory_is_used_after_the_last_task():
    memory = SummaryConversationMemory(prompt_driver=_driver("summary"))
    task = PromptTask("hi", prompt_driver=_driver("main"))
    pipeline = Pipeline(tasks=[task], conversation_memory=memory)
    assert _models(find_memory_drivers(pipeline)) == ["summary"]
    assert _read(task) == ["main"]


def test_a_summary_memory_per_task_is_used_by_each_task():
    memory = SummaryConversationMemory(prompt_driver=_driver("summary"))
    task = PromptTask("hi", prompt_driver=_driver("main"))
    pipeline = Pipeline(tasks=[task], conversation_memory=memory, conversation_memory_strategy="per_task")
    assert find_memory_drivers(pipeline) == ()
    assert _read(task) == ["main", "summary"]


def test_what_a_function_uses_has_to_be_declared():
    driver = _driver("hidden")
    task = CodeExecutionTask(on_run=lambda _: TextArtifact(driver.model))
    assert _read(task) == []
    assert _models(find_task_drivers(task, [driver]).all) == ["hidden"]


def test_a_driver_that_is_used_twice_counts_once():
    driver = _driver("a")
    task = PromptTask("hi", prompt_driver=driver, tools=[QueryTool(prompt_driver=driver)])
    assert find_task_drivers(task).all == (driver,)


def test_a_task_does_not_use_what_other_tasks_of_its_structure_use():
    tasks = [PromptTask("hi", prompt_driver=_driver(model)) for model in "ab"]
    Pipeline(tasks=list(tasks))
    assert [_read(task) for task in tasks] == [["a"], ["b"]]


def test_the_task_of_an_agent_uses_the_driver_of_the_agent():
    (task,) = tasks_of(Agent(prompt_driver=_driver("a")))
    assert _read(task) == ["a"]


def test_the_model_in_the_extra_parameters_is_the_one_that_is_used():
    assert model_of(_driver("a", extra_params={"model": "b"})) == "b"


def test_a_driver_without_a_model_has_none():
    assert model_of(Vectors(model=None)) is None


def test_skipped_tasks_of_a_workflow_are_left_out():
    tasks = [PromptTask("hi", prompt_driver=_driver(model)) for model in "ab"]
    workflow = Workflow(tasks=list(tasks))
    tasks[0].state = PromptTask.State.SKIPPED
    assert tasks_of(workflow) == [tasks[1]]


def test_long_lists_are_not_searched():
    assert list(find_drivers([_driver("a")])) != []
    assert list(find_drivers([_driver("a")] * 101)) == []


def test_a_list_that_contains_itself_is_searched_once():
    driver = _driver("a")
    loop = [driver]
    loop.append(loop)
    assert list(find_drivers(loop)) == [driver]
