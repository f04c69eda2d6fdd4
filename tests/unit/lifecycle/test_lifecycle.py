import threading

import pytest
from attrs import define
from griptape.artifacts import ErrorArtifact, TextArtifact
from griptape.drivers.vector.local import LocalVectorStoreDriver
from griptape.memory.structure import SummaryConversationMemory
from griptape.structures import Agent, Pipeline, Workflow
from griptape.tasks import CodeExecutionTask, PromptTask
from griptape.tools import BaseTool, QueryTool
from griptape.utils.decorators import activity
from schema import Literal, Schema

from griptape_ollama import ModelLifecycle, OllamaContentError, OllamaEmbeddingDriver, OllamaPromptDriver
from griptape_ollama.models.connection_settings import OllamaServerMixin
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.call import Call

GB = 10**9


@define(kw_only=True, slots=False)
class SilentDriver(OllamaServerMixin):
    """A custom driver that publishes no events."""

    model: str = "vectors"

    def embed(self):
        """Request a vector."""
        return Call(self.connection, "/api/embed", {"model": self.model, "input": "hi"}).document()["embeddings"][0]


class AskTool(BaseTool):
    """A tool with a model of its own."""

    driver: OllamaPromptDriver

    @activity(config={"description": "Asks", "schema": Schema({Literal("text"): str})})
    def ask(self, params):
        return TextArtifact(self.driver.run(TextArtifact(params["values"]["text"])).to_text())


class EmbedTool(BaseTool):
    """A tool that requests a vector."""

    driver: OllamaEmbeddingDriver

    @activity(config={"description": "Embeds", "schema": Schema({Literal("text"): str})})
    def ask(self, _):
        return TextArtifact(str(len(self.driver.embed("hi"))))


def _fail(_):
    raise RuntimeError("broken")


def _run(structure, **settings):
    """Run a structure in a ModelLifecycle."""
    with ModelLifecycle(structure, **settings) as lifecycle:
        structure.run()
    return lifecycle


def _loads(lifecycle):
    return {model.model: model.loads for model in lifecycle.report.models}


def _history(simulator):
    """Chats and unloads that the server received: `a` for a chat, `-a` for an unload."""
    received = [
        request
        for request in simulator.requests
        if request.path == "/api/chat" or (request.path == "/api/generate" and request.body.get("keep_alive") == 0)
    ]
    return [("" if each.is_chat else "-") + each.model.removesuffix(":latest") for each in received]


def _seen(simulator, seen):
    """Script a reply that records what is in memory."""

    def reply(_):
        seen.append(simulator.loaded_models)
        return "Yes."

    simulator.reply(reply, times=None)
    return seen


@pytest.mark.parametrize(
    ("models", "settings", "history"),
    [
        ("aab", {}, ["a", "a", "-a", "b", "-b"]),
        ("aba", {}, ["a", "b", "-b", "a", "-a"]),
        # For c, b is evicted: a is needed sooner.
        ("abcab", {"max_models": 2}, ["a", "b", "-b", "c", "-c", "a", "-a", "b", "-b"]),
    ],
    ids=["after its last use", "not while a coming task needs it", "for another model"],
)
def test_a_model_is_unloaded(simulator, make_pipeline, models, settings, history):
    pipeline = make_pipeline(models)
    with ModelLifecycle(pipeline, **settings) as lifecycle:
        pipeline.run()
        assert simulator.loaded_models == []
    assert _history(simulator) == history
    unloads = len([each for each in history if each.startswith("-")])
    assert (lifecycle.report.loads, lifecycle.report.unloads) == (unloads, unloads)


def test_the_memory_in_bytes_is_never_exceeded(simulator, make_pipeline):
    seen = _seen(simulator, [])
    lifecycle = _run(make_pipeline("abcab"), memory=int(2.5 * GB))
    assert max(map(len, seen)) == 2
    assert 2 * GB < lifecycle.report.peak_bytes < 2.5 * GB


@pytest.mark.parametrize("own", [{"keep_alive": 0}, {"extra_params": {"keep_alive": 0}}, {"keep_alive": -1}, {}])
def test_requests_of_the_structure_have_a_long_keep_alive_in_place_of_that_of_drivers(
    simulator, make_task, make_driver, own
):
    driver = make_driver("a", **own)
    lifecycle = _run(Pipeline(tasks=[make_task("a", str(number), driver=driver) for number in range(2)]))
    driver.run(TextArtifact("afterwards"))
    own_keep_alive = own.get("keep_alive", own.get("extra_params", {}).get("keep_alive"))
    assert [chat.body.get("keep_alive") for chat in simulator.chats] == ["1h", "1h", own_keep_alive]
    assert _loads(lifecycle) == {"a": 1}


def test_drivers_are_not_changed(simulator, make_task, make_driver):
    class Guarded(OllamaPromptDriver):
        def __setattr__(self, name, value):
            if not name.startswith("_"):
                changed.append(name)
            super().__setattr__(name, value)

    changed = []
    driver = Guarded(model="a", host=simulator.host, keep_alive=0, extra_params={"keep_alive": 0})
    pipeline = Pipeline(tasks=[make_task("a", driver=driver)])
    changed.clear()
    _run(pipeline)
    assert changed == []
    assert (driver.keep_alive, driver.extra_params) == (0, {"keep_alive": 0})


def test_a_driver_keeps_its_own_keep_alive_outside_of_the_structure(simulator, make_task, make_driver):
    driver = make_driver("a", keep_alive="7m")
    outside = Agent(prompt_driver=driver)
    answered = []

    def reply(_):
        # The thread of the agent is not in the context of the task.
        thread = threading.Thread(target=lambda: answered.append(outside.run("outside").output))
        thread.start()
        simulator.wait_for_request(2, path="/api/chat")
        threads.append(thread)
        return "inside"

    threads = []
    simulator.reply(reply)
    simulator.reply("outside")
    pipeline = Pipeline(tasks=[make_task("a", driver=driver)], conversation_memory=None)
    with ModelLifecycle(pipeline):
        pipeline.run()
        threads[0].join(10)
        outside.run("in the context, but not in the structure")
    assert [chat.body["keep_alive"] for chat in simulator.chats] == ["1h", "7m", "7m"]
    assert str(answered[0]) == "outside"


def test_a_keep_alive_of_0_does_not_unload_between_or_after_the_turns_of_a_planned_task(
    simulator, make_task, make_driver
):
    simulator.reply(tool_calls=[("AskTool_ask", {"text": "hi"})], model="a")
    simulator.reply("Yes.", model="b")
    simulator.reply("Done.", model="a")
    tool = AskTool()
    tool.driver = make_driver("b", keep_alive=0)
    driver = make_driver("a", keep_alive=0)
    tasks = [make_task("a", "0", driver=driver, tools=[tool]), make_task("a", "1", driver=driver)]
    lifecycle = _run(Pipeline(tasks=tasks, conversation_memory=None))
    assert {chat.body["keep_alive"] for chat in simulator.chats} == {"1h"}
    assert _history(simulator) == ["a", "b", "a", "-b", "a", "-a"]
    assert _loads(lifecycle) == {"a": 1, "b": 1}


def test_requests_for_an_unplanned_model_have_the_keep_alive_of_the_driver(simulator, make_task, make_driver):
    hidden = make_driver("c", keep_alive=0)
    code = CodeExecutionTask(on_run=lambda _: hidden.run(TextArtifact("hi")).to_artifact())
    pipeline = Pipeline(tasks=[make_task("a"), code], conversation_memory=None)
    with ModelLifecycle(pipeline):
        pipeline.run()
        assert simulator.loaded_models == []
    assert [chat.body["keep_alive"] for chat in simulator.chats] == ["1h", 0]


def test_a_driver_without_a_model_is_planned_for_if_the_server_has_one_chat_model():
    models = [SimulatedModel(name="a"), SimulatedModel(name="vectors", capabilities=("embedding",))]
    with OllamaSimulator(models=models) as simulator:
        task = PromptTask("hi", prompt_driver=OllamaPromptDriver(host=simulator.host))
        pipeline = Pipeline(tasks=[task], conversation_memory=None)
        with ModelLifecycle(pipeline) as lifecycle:
            pipeline.run()
            assert simulator.loaded_models == []
        assert simulator.last_chat.body["keep_alive"] == "1h"
        assert _loads(lifecycle) == {"a:latest": 1}


def test_a_driver_without_a_model_is_an_error_of_its_task_if_the_server_has_several(simulator):
    task = PromptTask("hi", prompt_driver=OllamaPromptDriver(host=simulator.host))
    pipeline = Pipeline(tasks=[task], conversation_memory=None)
    with ModelLifecycle(pipeline) as lifecycle:
        assert "several chat models" in str(pipeline.run().output)
    assert lifecycle.report.models == ()


def test_a_store_that_threads_fill_within_a_task_has_the_planned_keep_alive(simulator, make_task, make_embedder):
    texts = [TextArtifact(f"llama {number}") for number in range(20)]
    driver = make_embedder(keep_alive=0)
    store = LocalVectorStoreDriver(embedding_driver=driver)

    def fill(_):
        store.upsert_collection(texts)
        with driver.prefetch(texts):
            store.upsert_collection(texts)
        return TextArtifact(str(len(driver.embed_batch(texts))))

    code = CodeExecutionTask(on_run=fill, id="code")
    pipeline = Pipeline(tasks=[code, make_task("a")], conversation_memory=None)
    with ModelLifecycle(pipeline, uses={"code": [store]}) as lifecycle:
        assert not isinstance(pipeline.run().output, ErrorArtifact)
    embeds = [each.body["keep_alive"] for each in simulator.requests if each.path == "/api/embed"]
    assert set(embeds) == {"1h"}
    assert _history(simulator) == ["-vectors", "a", "-a"]
    assert _loads(lifecycle) == {"vectors": 1, "a": 1}


@pytest.mark.parametrize(
    ("models", "fail_fast", "history"),
    [
        ("Ab", True, ["a", "-a"]),
        ("aBa", True, ["a", "b", "-a", "-b"]),
        ("aBa", False, ["a", "b", "-b", "a", "-a"]),
    ],
    ids=["its own model", "models of tasks that will not run", "no model of tasks that still run"],
)
def test_a_failed_task_unloads(simulator, make_pipeline, models, fail_fast, history):
    """The task with the capital letter fails."""
    pipeline = make_pipeline(models.lower(), fail_fast=fail_fast)
    next(task for task, model in zip(pipeline.tasks, models, strict=True) if model.isupper()).on_after_run = _fail
    with ModelLifecycle(pipeline) as lifecycle:
        pipeline.run()
        assert simulator.loaded_models == []
    assert _history(simulator) == history
    assert lifecycle.report.problems == ()


def test_an_exception_unloads_models_and_removes_the_hooks(simulator, make_pipeline):
    pipeline = make_pipeline("aba")

    def stop(_):
        raise KeyboardInterrupt

    pipeline.tasks[1].on_before_run = stop
    with pytest.raises(KeyboardInterrupt), ModelLifecycle(pipeline):
        pipeline.run()
    assert simulator.loaded_models == []
    assert "run" not in vars(pipeline)


def test_foreign_models_stay_loaded(simulator, make_pipeline, make_driver):
    make_driver("a", keep_alive=-1).run(TextArtifact("hi"))
    make_driver("c", keep_alive="2m").run(TextArtifact("hi"))
    lifecycle = _run(make_pipeline("ab"), max_models=1)
    assert sorted(simulator.loaded_models) == ["a:latest", "c:latest"]
    assert _loads(lifecycle) == {"a": 0, "b": 1}
    assert [model.was_loaded_before for model in lifecycle.report.models] == [True, False]


def test_unload_foreign_unloads_foreign_models(simulator, make_pipeline, make_driver):
    make_driver("a").run(TextArtifact("hi"))
    _run(make_pipeline("ab"), unload_foreign=True)
    assert simulator.loaded_models == []


def test_a_task_that_is_added_while_running_is_planned_for(simulator, make_pipeline, make_task):
    pipeline = make_pipeline("ab")

    def add(_):
        pipeline.add_task(make_task("a", "late"))

    pipeline.tasks[0].on_after_run = add
    lifecycle = _run(pipeline)
    assert _history(simulator) == ["a", "b", "-b", "a", "-a"]
    assert _loads(lifecycle)["a"] == 1
    assert lifecycle.report.tasks == 3
    assert "run" not in vars(pipeline.tasks[2])


def test_a_driver_that_is_changed_while_running_is_planned_for(simulator, make_pipeline, make_driver):
    pipeline = make_pipeline("ab")

    def change(_):
        pipeline.tasks[1].prompt_driver = make_driver("c")

    pipeline.tasks[0].on_after_run = change
    lifecycle = _run(pipeline)
    assert simulator.last_chat.body["keep_alive"] == "1h"
    assert _loads(lifecycle) == {"a": 1, "b": 0, "c": 1}
    assert simulator.loaded_models == []


def test_a_driver_that_is_changed_between_runs_is_planned_for(simulator, make_pipeline, make_driver):
    pipeline = make_pipeline("ab")
    with ModelLifecycle(pipeline):
        pipeline.run()
        pipeline.tasks[1].prompt_driver = make_driver("a")
        pipeline.run()
    assert _history(simulator) == ["a", "-a", "b", "-b", "a", "a", "-a"]


def test_the_model_of_a_tool_evicts_another_when_the_tool_runs(simulator, make_task, make_driver):
    simulator.reply("Yes.", model="c")
    simulator.reply(tool_calls=[("AskTool_ask", {"text": "hi"})], model="a")
    simulator.reply("Yes.", model="b")
    simulator.reply("Done.", model="a")
    tool = AskTool()
    tool.driver = make_driver("b")
    tasks = [make_task("c", "0"), make_task("a", "1", tools=[tool]), make_task("c", "2")]
    lifecycle = _run(Pipeline(tasks=tasks, conversation_memory=None), max_models=2)
    # The model of the task stays through its turns; c is evicted though it is needed again.
    assert _history(simulator)[:5] == ["c", "a", "-c", "b", "a"]
    assert _loads(lifecycle) == {"c": 2, "a": 1, "b": 1}


def test_a_model_of_a_tool_that_is_not_called_is_not_loaded(simulator, make_task, make_driver):
    simulator.reply("No tool needed.")
    task = make_task("a", tools=[QueryTool(prompt_driver=make_driver("b"))])
    lifecycle = _run(Pipeline(tasks=[task]))
    assert _loads(lifecycle) == {"a": 1, "b": 0}


def test_the_model_of_a_summary_memory_stays_until_the_summary_is_written(simulator, make_task, make_driver):
    memory = SummaryConversationMemory(prompt_driver=make_driver("b"), offset=0)
    pipeline = Pipeline(tasks=[make_task("b", "0"), make_task("a", "1")], conversation_memory=memory)
    with ModelLifecycle(pipeline) as lifecycle:
        pipeline.run()
        assert simulator.loaded_models == []
    assert _history(simulator) == ["b", "a", "-a", "b", "-b"]
    assert _loads(lifecycle) == {"b": 1, "a": 1}


def test_the_model_of_a_summary_memory_evicts_another(simulator, make_task, make_driver):
    memory = SummaryConversationMemory(prompt_driver=make_driver("b"), offset=0)
    _run(Pipeline(tasks=[make_task("a")], conversation_memory=memory), max_models=1, runs=2)
    assert _history(simulator) == ["a", "-a", "b", "-b"]


def test_the_embedding_model_of_a_tool_is_reserved_when_the_tool_runs(simulator, make_task, make_embedder):
    simulator.reply("Yes.", model="b")
    simulator.reply(tool_calls=[("EmbedTool_ask", {"text": "hi"})], model="a")
    simulator.reply("Done.", model="a")
    simulator.reply("Yes.", model="b")
    tool = EmbedTool()
    tool.driver = make_embedder()
    tasks = [make_task("b", "0"), make_task("a", "1", tools=[tool]), make_task("b", "2")]
    lifecycle = _run(Pipeline(tasks=tasks, conversation_memory=None), max_models=2)
    assert _history(simulator)[:4] == ["b", "a", "-b", "a"]
    assert _loads(lifecycle) == {"b": 2, "a": 1, "vectors": 1}
    assert simulator.loaded_models == []


def test_branches_at_the_same_time_never_lose_a_model_in_use(simulator, make_task):
    both = threading.Barrier(2, timeout=10)
    seen = []

    def meet(_):
        both.wait()
        seen.append(sorted(simulator.loaded_models))
        return "Yes."

    simulator.reply("Top.", model="a")
    simulator.reply(meet, model="b")
    simulator.reply(meet, model="c")
    simulator.reply("Bottom.", model="a")
    top, left, right, bottom = (make_task(model, name) for model, name in zip("abca", "tlrb", strict=True))
    top.add_children([left, right])
    bottom.add_parents([left, right])
    lifecycle = _run(Workflow(tasks=[top, left, right, bottom], conversation_memory=None), max_models=3)
    assert seen == [["a:latest", "b:latest", "c:latest"]] * 2
    assert _loads(lifecycle) == {"a": 1, "b": 1, "c": 1}
    assert simulator.loaded_models == []


def test_the_model_of_a_failed_branch_is_unloaded_while_the_other_branch_runs(simulator, make_task):
    seen = []

    def wait(_):
        unload = simulator.wait_for_request(path="/api/generate", timeout=10)
        seen.append((unload.model.removesuffix(":latest"), unload.body["keep_alive"]))
        return "Yes."

    simulator.reply(wait, model="a")
    tasks = [make_task("a"), make_task("b")]
    tasks[1].on_after_run = _fail
    _run(Workflow(tasks=list(tasks), conversation_memory=None, fail_fast=False))
    assert seen == [("b", 0)]


def test_a_failed_branch_that_ends_the_run_keeps_no_models(simulator, make_task):
    seen = []

    def wait(_):
        seen.append(simulator.wait_for_request(path="/api/generate", timeout=10).model.removesuffix(":latest"))
        return "Yes."

    simulator.reply(wait, model="a")
    left, right, bottom = make_task("a", "left"), make_task("b", "right"), make_task("b", "bottom")
    right.on_after_run = _fail
    bottom.add_parents([left, right])
    _run(Workflow(tasks=[left, right, bottom], conversation_memory=None))
    assert seen == ["b"]


def test_an_agent_keeps_its_model_for_the_given_number_of_runs(simulator, make_driver):
    agent = Agent(prompt_driver=make_driver("a"))
    with ModelLifecycle(agent, runs=2) as lifecycle:
        agent.run("one")
        assert simulator.loaded_models == ["a:latest"]
        agent.run("two")
        assert simulator.loaded_models == []
    assert _loads(lifecycle) == {"a": 1}


def test_with_any_number_of_runs_models_stay_until_the_end(simulator, make_driver):
    agent = Agent(prompt_driver=make_driver("a"))
    with ModelLifecycle(agent, runs=None):
        for text in ("one", "two", "three"):
            agent.run(text)
            assert simulator.loaded_models == ["a:latest"]
    assert simulator.loaded_models == []


def test_each_server_has_its_own_memory(simulator, make_task):
    with OllamaSimulator(models=[SimulatedModel(name="a"), SimulatedModel(name="b")]) as other:
        there = [OllamaPromptDriver(model=name, host=other.host) for name in "ab"]
        tasks = [make_task("a", "0"), make_task("a", "1", driver=there[0]), make_task("a", "2")]
        tasks += [make_task("a", "3", driver=there[0])]
        lifecycle = _run(Pipeline(tasks=tasks, conversation_memory=None), max_models=1)
        assert {(model.host, model.model): model.loads for model in lifecycle.report.models} == {
            (simulator.host, "a"): 1,
            (other.host, "a"): 1,
        }
        assert other.loaded_models == simulator.loaded_models == []


def test_two_names_of_the_same_weights_are_one_model_in_memory():
    models = [SimulatedModel(name="mistral", weights="m"), SimulatedModel(name="main", weights="m", system="Be brief.")]
    with OllamaSimulator(models=models) as simulator:
        names = ("mistral", "main", "mistral")
        drivers = [OllamaPromptDriver(model=name, host=simulator.host) for name in names]
        lifecycle = _run(Pipeline(tasks=[PromptTask("hi", prompt_driver=driver) for driver in drivers]), max_models=1)
        assert lifecycle.report.loads == 1
        assert simulator.loaded_models == []


def test_loads_of_one_model_with_two_windows_are_counted():
    with OllamaSimulator(models=[SimulatedModel(name="a", load_seconds=0.2)]) as simulator:
        drivers = [
            OllamaPromptDriver(model="a", host=simulator.host, options={"num_ctx": size}) for size in (512, 1024)
        ]
        tasks = [PromptTask("hi", prompt_driver=driver) for driver in (*drivers, *drivers, drivers[1])]
        lifecycle = _run(Pipeline(tasks=tasks, conversation_memory=None))
        assert (lifecycle.report.loads, lifecycle.report.unloads) == (4, 1)
        assert 0.8 <= lifecycle.report.load_seconds < 5


def test_a_declared_model_of_a_function_is_planned_for(simulator, make_task, make_driver):
    driver = make_driver("a")
    code = CodeExecutionTask(on_run=lambda _: driver.run(TextArtifact("hi")).to_artifact(), id="code")
    pipeline = Pipeline(tasks=[make_task("a", "0"), make_task("b", "1"), code], conversation_memory=None)
    lifecycle = _run(pipeline, uses={"code": [driver]})
    assert _loads(lifecycle) == {"a": 1, "b": 1}
    assert simulator.loaded_models == []


@pytest.mark.parametrize("own", [{}, {"keep_alive": 0}, {"extra_params": {"keep_alive": 0}}])
def test_an_embedding_model_is_kept_and_unloaded_like_a_chat_model(simulator, make_task, make_embedder, own):
    driver = make_embedder(**own)

    def embed(_):
        return TextArtifact(str(len(driver.embed("hi"))))

    tasks = [CodeExecutionTask(on_run=embed, id="0"), make_task("a", "1"), CodeExecutionTask(on_run=embed, id="2")]
    pipeline = Pipeline(tasks=tasks, conversation_memory=None)
    with ModelLifecycle(pipeline, max_models=2, uses={"0": [driver], "2": [driver]}) as lifecycle:
        assert str(pipeline.run().output) == "8"
        assert simulator.loaded_models == []
    assert _loads(lifecycle) == {"vectors": 1, "a": 1}
    assert lifecycle.report.unloads == 2
    assert [each.body["keep_alive"] for each in simulator.requests if each.path == "/api/embed"] == ["1h", "1h"]


def test_uses_and_loads_of_an_embedding_model_are_in_the_report():
    model = SimulatedModel(name="vectors", size=GB, capabilities=("embedding",), embedding_length=8, load_seconds=30)
    with OllamaSimulator(models=[model], time_scale=1000) as simulator:
        driver = OllamaEmbeddingDriver(model="vectors", host=simulator.host, batch_size=2)
        texts = [str(number) for number in range(6)]
        code = CodeExecutionTask(on_run=lambda _: TextArtifact(str(len(driver.embed_batch(texts)))), id="code")
        lifecycle = _run(Pipeline(tasks=[code], conversation_memory=None), uses={"code": [driver]})
    (report,) = lifecycle.report.models
    assert (report.uses, report.loads) == (3, 1)
    assert 30 <= report.load_seconds < 300
    costs = {cost.policy: cost.loads for cost in lifecycle.report.policies}
    assert costs["keep_alive=0"] == 3


def test_a_model_without_events_is_found_and_unloaded_when_its_task_ends(simulator):
    driver = SilentDriver(host=simulator.host)
    code = CodeExecutionTask(on_run=lambda _: TextArtifact(str(len(driver.embed()))), id="code")
    pipeline = Pipeline(tasks=[code])
    with ModelLifecycle(pipeline, uses={"code": [driver]}) as lifecycle:
        pipeline.run()
        assert simulator.loaded_models == []
        assert _loads(lifecycle) == {"vectors": 1}


def test_a_cloud_model_is_not_planned_for():
    with OllamaSimulator(models=[SimulatedModel(name="big:cloud")]) as simulator:
        driver = OllamaPromptDriver(model="big:cloud", host=simulator.host)
        lifecycle = _run(Pipeline(tasks=[PromptTask("hi", prompt_driver=driver)]), memory=1)
        assert lifecycle.report.models == ()
        assert _history(simulator) == ["big:cloud"]


def test_all_models_that_a_task_uses_in_any_case_are_reserved_when_it_starts(
    simulator, make_task, make_driver, make_embedder
):
    vectors = make_embedder()
    answer = make_driver("b")

    def search(_):
        vectors.embed("hi")
        assert simulator.loaded_models == ["vectors:latest"]
        return answer.run(TextArtifact("hi")).to_artifact()

    tasks = [make_task("a", "0"), CodeExecutionTask(on_run=search, id="1"), make_task("a", "2")]
    pipeline = Pipeline(tasks=tasks, conversation_memory=None)
    lifecycle = _run(pipeline, max_models=2, uses={"1": [vectors, answer]})
    assert str(pipeline.tasks[1].output) != ""
    assert _loads(lifecycle) == {"a": 2, "vectors": 1, "b": 1}
    assert simulator.loaded_models == []


def test_memory_that_is_less_than_a_model_is_an_error_before_anything_runs(simulator, make_pipeline):
    pipeline = make_pipeline("ab")
    with pytest.raises(OllamaContentError) as caught, ModelLifecycle(pipeline, memory=GB // 2):
        pytest.fail("entered")
    assert "memory=500,000,000 is less than model 'a'" in str(caught.value)
    assert "1,000,000,000 bytes on disk" in str(caught.value)
    assert caught.value.model == "a"
    assert "run" not in vars(pipeline)
    assert simulator.loaded_models == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_models": 0}, "max_models=0 must be a whole number from 1"),
        ({"max_models": 1.5}, "max_models=1.5"),
        ({"max_models": True}, "max_models=True"),
        ({"memory": -1}, "memory=-1"),
        ({"memory": "8GB"}, "memory='8GB'"),
        ({"runs": 0}, "runs=0"),
        ({"keep_alive": "60"}, "has no unit"),
    ],
)
def test_a_wrong_setting_is_an_error(make_pipeline, settings, said):
    with pytest.raises(OllamaContentError, match=said):
        ModelLifecycle(make_pipeline("a"), **settings)


def test_only_a_structure_can_be_planned_for(make_task):
    with pytest.raises(OllamaContentError, match="an Agent, a Pipeline or a Workflow"):
        ModelLifecycle(make_task("a"))


def test_one_lifecycle_is_not_used_twice_at_a_time(make_pipeline):
    with ModelLifecycle(make_pipeline("a")) as lifecycle, pytest.raises(OllamaContentError, match="in use already"):
        lifecycle.__enter__()


def test_a_lifecycle_can_be_used_again_and_begins_a_new_report(simulator, make_pipeline):
    pipeline = make_pipeline("a")
    lifecycle = ModelLifecycle(pipeline)
    for _ in range(2):
        with lifecycle:
            pipeline.run()
        assert lifecycle.report.loads == 1


def test_a_missing_server_fails_the_tasks_and_not_the_planner():
    driver = OllamaPromptDriver(model="a", host="127.0.0.1:1", max_attempts=1)
    pipeline = Pipeline(tasks=[PromptTask("hi", prompt_driver=driver)])
    lifecycle = _run(pipeline, max_models=1)
    assert "No Ollama server answers" in str(pipeline.output)
    assert "Going on without it" in lifecycle.report.problems[0]


@pytest.mark.parametrize("path", ["/api/ps", "/api/generate", "/api/tags", "/api/show"])
def test_a_refused_request_of_the_planner_does_not_fail_the_run(simulator, make_pipeline, path):
    simulator.fault("status", path=path, times=None, status=500, error="broken")
    pipeline = make_pipeline("aba")
    with ModelLifecycle(pipeline, max_models=1, warm_ahead=True):
        output = pipeline.run().output
    assert not isinstance(output, Exception)
    assert len(simulator.chats) == 3
    assert all(chat.outcome.status == 200 for chat in simulator.chats)


def test_a_structure_without_ollama_drivers_runs():
    pipeline = Pipeline(tasks=[CodeExecutionTask(on_run=lambda _: TextArtifact("done"))])
    with ModelLifecycle(pipeline) as lifecycle:
        assert str(pipeline.run().output) == "done"
    assert lifecycle.report.models == ()
    assert lifecycle.report.tasks == 1


def test_a_structure_that_cannot_be_read_runs(simulator, make_task, caplog):
    class Odd(CodeExecutionTask):
        @property
        def prompt_driver(self):
            raise RuntimeError("odd")

    task = make_task("a")
    pipeline = Pipeline(tasks=[task, Odd(on_run=lambda _: TextArtifact("done"))], conversation_memory=None)
    with ModelLifecycle(pipeline) as lifecycle:
        assert str(pipeline.run().output) == "done"
    assert "cannot be read" in caplog.text
    assert lifecycle.report.tasks == 0


def test_a_missing_model_is_an_error_of_its_task(simulator, make_driver):
    pipeline = Pipeline(tasks=[PromptTask("hi", prompt_driver=make_driver("nope"))])
    _run(pipeline, memory=GB)
    assert "ollama pull nope" in str(pipeline.output)
    assert simulator.loaded_models == []


def test_the_report_compares_with_plain_keep_alive(simulator, make_pipeline):
    lifecycle = _run(make_pipeline("abcabc"), max_models=2)
    assert lifecycle.report.loads == 4
    costs = {cost.policy: cost.loads for cost in lifecycle.report.policies}
    assert costs["keep_alive=0"] == 6
    assert min(costs.values()) >= 4
    assert lifecycle.report.tasks == 6
    assert lifecycle.report.planner_seconds > 0
