import threading

import pytest
from griptape.structures import Pipeline
from griptape.tasks import PromptTask

from griptape_ollama import ModelLifecycle, OllamaPromptDriver
from griptape_ollama.lifecycle.eviction import Step
from griptape_ollama.lifecycle.scheduler import RunProgress
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

GB = 10**9

STEPS = [
    Step(id="1", models=frozenset("a")),
    Step(id="2", models=frozenset("b"), after=frozenset("1")),
    Step(id="3", models=frozenset("a"), after=frozenset("2")),
]


def test_before_the_run_all_uses_are_left():
    assert RunProgress().next_uses(STEPS) == {"a": 1, "b": 2}


def test_a_step_that_has_begun_is_no_next_use():
    progress = RunProgress()
    progress.begin_run()
    progress.begin("1")
    assert progress.next_uses(STEPS) == {"b": 1, "a": 2}
    assert progress.running == {"1"}
    progress.end("1")
    assert progress.running == set()
    progress.begin("2")
    progress.begin("3")
    assert progress.next_uses(STEPS) == {}


def test_a_run_that_has_ended_has_no_next_use():
    progress = RunProgress()
    progress.begin_run()
    progress.begin("1")
    progress.end_run()
    assert progress.next_uses(STEPS) == {}
    assert progress.next_steps(STEPS) == {}
    assert progress.running == {"1"}


def test_the_next_use_may_be_in_a_run_that_is_left():
    progress = RunProgress(runs=2)
    progress.begin_run()
    for step in "123":
        progress.begin(step)
    assert progress.next_uses(STEPS) == {"a": 1, "b": 2}
    progress.end_run()
    progress.begin_run()
    for step in "123":
        progress.begin(step)
    assert progress.next_uses(STEPS) == {}


def test_with_any_number_of_runs_there_is_always_a_next_use():
    progress = RunProgress(runs=None)
    for _ in range(3):
        progress.begin_run()
        for step in "123":
            progress.begin(step)
        assert progress.next_uses(STEPS) == {"a": 1, "b": 2}
        progress.end_run()


def test_runs_beyond_the_announced_number_are_planned_one_by_one():
    progress = RunProgress(runs=1)
    progress.begin_run()
    progress.end_run()
    progress.begin_run()
    assert progress.next_uses(STEPS) == {"a": 1, "b": 2}


def test_a_task_that_runs_twice_at_a_time_runs_until_both_have_ended():
    progress = RunProgress()
    progress.begin("1")
    progress.begin("1")
    progress.end("1")
    assert progress.running == {"1"}


def test_the_model_of_the_next_task_is_loaded_while_the_current_one_runs():
    models = [SimulatedModel(name=name, size=GB, load_seconds=5) for name in "ab"]
    with OllamaSimulator(models=models, time_scale=0) as simulator:
        tasks = [PromptTask("hi", prompt_driver=OllamaPromptDriver(model=name, host=simulator.host)) for name in "ab"]
        ahead = threading.Event()

        def wait(_):
            simulator.wait_for_sleeper()
            assert [each.model for each in simulator.requests if each.path == "/api/generate"] == ["b"]
            simulator.advance(5)
            ahead.set()
            return "Yes."

        simulator.reply(wait, model="a")
        pipeline = Pipeline(tasks=tasks, conversation_memory=None)
        with ModelLifecycle(pipeline, max_models=2, warm_ahead=True) as lifecycle:
            running = threading.Thread(target=pipeline.run)
            running.start()
            simulator.wait_for_sleeper()
            simulator.advance(5)
            running.join(10)
        assert ahead.is_set()
        assert [chat.outcome.load_seconds for chat in simulator.chats] == [5, 0]
        assert lifecycle.report.loads == 2
        assert lifecycle.report.ahead_seconds > 0


def test_nothing_is_loaded_ahead_without_memory_or_without_warm_ahead(simulator, make_pipeline):
    for settings in ({"max_models": 1, "warm_ahead": True}, {"max_models": 2}):
        pipeline = make_pipeline("ab")
        with ModelLifecycle(pipeline, **settings) as lifecycle:
            pipeline.run()
        assert lifecycle.report.ahead_seconds == 0
    assert not [each for each in simulator.requests if each.path == "/api/generate" and each.body["keep_alive"]]


def test_nothing_is_loaded_ahead_for_a_run_that_has_ended(simulator, make_pipeline):
    simulator.reply(status=400, error="no", model="a")
    pipeline = make_pipeline("ab")
    with ModelLifecycle(pipeline, max_models=2, warm_ahead=True):
        pipeline.run()
        for thread in threading.enumerate():
            if thread.name == "ollama-lifecycle-preload":
                thread.join(10)
    assert [each for each in simulator.requests if each.path == "/api/generate"] == []


def test_a_load_ahead_under_way_is_cancelled_at_the_end():
    models = [SimulatedModel(name="a", size=GB), SimulatedModel(name="b", size=GB, load_seconds=1000)]
    with OllamaSimulator(models=models) as simulator:
        tasks = [PromptTask("hi", prompt_driver=OllamaPromptDriver(model=name, host=simulator.host)) for name in "ab"]

        def fail(_):
            simulator.wait_for_sleeper()
            raise KeyboardInterrupt

        tasks[0].on_after_run = fail
        with (
            pytest.raises(KeyboardInterrupt),
            ModelLifecycle(pipeline := Pipeline(tasks=tasks), max_models=2, warm_ahead=True),
        ):
            pipeline.run()
        simulator.wait_for_disconnect(timeout=30)
        assert simulator.loaded_models == []


def test_a_model_is_loaded_ahead_with_the_options_of_its_driver(make_task):
    models = [SimulatedModel(name=name, size=GB) for name in "ab"]
    with OllamaSimulator(models=models) as simulator:
        ahead = threading.Event()
        first = OllamaPromptDriver(model="a", host=simulator.host)
        second = OllamaPromptDriver(model="b", host=simulator.host, options={"num_ctx": 1000, "seed": 1})

        def wait(_):
            simulator.wait_for_request(path="/api/generate")
            ahead.set()
            return "Yes."

        simulator.reply(wait, model="a")
        pipeline = Pipeline(tasks=[PromptTask("hi", prompt_driver=driver) for driver in (first, second)])
        with ModelLifecycle(pipeline, max_models=2, warm_ahead=True) as lifecycle:
            pipeline.run()
        (warm,) = [each for each in simulator.requests if each.path == "/api/generate" and each.body["keep_alive"]]
        assert warm.body["options"] == {"num_ctx": 1000}
        assert [model.loads for model in lifecycle.report.models] == [1, 1]
        assert ahead.is_set()
