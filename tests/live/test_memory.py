"""How long models stay in the memory of a real server: keep_alive of one task, and the planner."""

import time

import pytest
from griptape.artifacts import ErrorArtifact, TextArtifact
from griptape.structures import Agent, Pipeline
from griptape.tasks import CodeExecutionTask, PromptTask
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Schema

from griptape_ollama import (
    ModelLifecycle,
    OllamaEmbeddingDriver,
    OllamaModels,
    OllamaPromptDriver,
)
from griptape_ollama.protocol.model_name import is_same_model


class GetTool(BaseTool):
    """Tool that checks whether the model of its task is still loaded."""

    seen: list

    @activity(config={"description": "Tells the weather in a city", "schema": Schema({Literal("city"): str})})
    def weather(self, city):
        self.seen.append([model.name for model in OllamaModels().loaded()])
        return TextArtifact(f"It is sunny in {city}.")


@pytest.fixture
def tool():
    tool = GetTool(name="get")
    tool.seen = []
    return tool


@pytest.fixture
def models(server):
    return OllamaModels()


@pytest.fixture
def empty(models):
    """Unload all models before and after the test."""
    emptied = []

    def unload(*names):
        for name in names:
            models.unload(name)
            models.wait_until_unloaded(name)
        emptied.extend(names)

    yield unload
    unload(*emptied)


def new_driver(model, **settings):
    return OllamaPromptDriver(model=model, **{"max_tokens": 16, "think": False, "options": {"seed": 1}, **settings})


class TestKeepAliveOfOneTask:
    def test_keep_alive_0_keeps_the_model_between_tool_calls_and_unloads_it_afterwards(
        self, models, tools_model, tool, empty
    ):
        empty(tools_model)
        driver = new_driver(tools_model, max_tokens=1024, think=None)
        task = PromptTask(
            "What is the weather in Paris? Use the tool.",
            prompt_driver=driver.with_settings(keep_alive=0),
            tools=[tool],
        )
        output = Agent(tasks=[task]).run().output
        assert not isinstance(output, ErrorArtifact), output
        assert tool.seen
        assert all(tool.seen), "while the tool ran, no model was in memory"
        assert models.wait_until_unloaded(tools_model) < 30

    def test_another_task_of_the_same_driver_keeps_the_model(self, models, chat_model, empty):
        empty(chat_model)
        driver = new_driver(chat_model, keep_alive="10m")
        Agent(prompt_driver=driver.with_settings(keep_alive=0)).run("Hello")
        models.wait_until_unloaded(chat_model)
        Agent(prompt_driver=driver).run("Hello")
        assert models.unload(chat_model) is True

    def test_batches_of_texts_keep_the_model_until_the_last(self, models, embed_model, empty):
        empty(embed_model)
        driver = OllamaEmbeddingDriver(model=embed_model, keep_alive=0, batch_size=2)
        assert len(driver.embed_batch([f"text {number}" for number in range(5)])) == 5
        models.wait_until_unloaded(embed_model)


class TestPlanner:
    @pytest.fixture
    def uses(self, embed_model):
        """Drivers of functions, which the planner cannot see."""
        return {"vectors": [OllamaEmbeddingDriver(model=embed_model, cache_bytes=0, keep_alive=0)]}

    @pytest.fixture
    def pipeline(self, chat_model, embed_model, uses, empty):
        """Chat, vectors, chat."""
        empty(chat_model, embed_model)
        (embedder,) = uses["vectors"]

        def embed(_):
            return TextArtifact(str(len(embedder.embed("a lighthouse"))))

        driver = new_driver(chat_model, keep_alive=0)
        tasks = [
            PromptTask("Say hello.", prompt_driver=driver),
            CodeExecutionTask(on_run=embed, id="vectors"),
            PromptTask("Say goodbye.", prompt_driver=driver),
        ]
        return Pipeline(tasks=tasks, conversation_memory=None)

    @pytest.mark.parametrize(("room", "chat_loads"), [(1, 2), (2, 1)])
    def test_models_are_loaded_and_unloaded_as_tasks_need_them(self, models, pipeline, uses, room, chat_loads):
        with ModelLifecycle(pipeline, max_models=room, uses=uses) as lifecycle:
            output = pipeline.run().output
            assert not isinstance(output, ErrorArtifact), output
            names = [model.model for model in lifecycle.report.models]
            for name in names:
                models.wait_until_unloaded(name)
        report = lifecycle.report
        assert report.problems == ()
        assert [(model.uses, model.loads, model.unloads) for model in report.models] == [
            (2, chat_loads, chat_loads),
            (1, 1, 1),
        ]
        assert all(model.bytes > 0 for model in report.models)

    def test_the_next_model_is_preloaded_with_its_window(self, models, chat_model, empty):
        empty(chat_model)
        windows = []

        def wait(_):
            deadline = time.monotonic() + 60
            while not windows and time.monotonic() < deadline:
                time.sleep(0.05)  # the server does not report that it has loaded a model
                windows.extend(each.context_length for each in models.loaded() if is_same_model(each.name, chat_model))
            return TextArtifact("done")

        task = PromptTask("Say hello.", prompt_driver=new_driver(chat_model, options={"num_ctx": 2048}))
        pipeline = Pipeline(tasks=[CodeExecutionTask(on_run=wait), task], conversation_memory=None)
        with ModelLifecycle(pipeline, max_models=2, warm_ahead=True) as lifecycle:
            assert not isinstance(pipeline.run().output, ErrorArtifact)
        assert windows == [2048]
        assert lifecycle.report.problems == ()
        assert (lifecycle.report.loads, lifecycle.report.unloads) == (1, 1)
        assert lifecycle.report.ahead_seconds > 0
        models.wait_until_unloaded(chat_model)

    def test_a_model_that_was_loaded_before_keeps_its_expiry(self, models, pipeline, uses, chat_model):
        before = models.warm(chat_model, "10m").loaded
        with ModelLifecycle(pipeline, uses=uses) as lifecycle:
            pipeline.run()
        (after,) = [each for each in models.loaded() if is_same_model(each.name, before.name)]
        assert -60 < (after.expires_at - before.expires_at).total_seconds() < 60
        assert after.context_length == before.context_length
        assert [model.loads for model in lifecycle.report.models] == [0, 1]
