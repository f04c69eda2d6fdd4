import contextlib
import logging
import threading

import pytest
from griptape.artifacts import ErrorArtifact, TextArtifact
from griptape.events import EventBus
from griptape.structures import Pipeline, Workflow
from griptape.tasks import CodeExecutionTask

from griptape_ollama.lifecycle.structure_hooks import StructureHooks


class Recorder:
    """An observer that records its calls."""

    def __init__(self):
        self.calls = []

    def on_run_start(self):
        self.calls.append("run starts")

    def on_run_end(self):
        self.calls.append("run ends")

    def on_task_start(self, task):
        self.calls.append(task.id)

    def on_task_end(self, task):
        self.calls.append(f"{task.id} ends")

    def on_prompt(self, task, model):
        self.calls.append(f"{task.id} asks {model}")

    def on_tools(self, task, names):
        self.calls.append(f"{task.id} runs {names}")

    def on_response(self, event):
        self.calls.append(f"{event.model} answers")


def _no_keep_alive(_host, _model):
    return None


@contextlib.contextmanager
def _hooks(structure, recorder=None):
    """Install hooks with a recorder, and yield both."""
    recorder = recorder or Recorder()
    hooks = StructureHooks(structure, recorder, _no_keep_alive)
    hooks.install()
    try:
        yield hooks, recorder
    finally:
        hooks.uninstall()


def _run_with_hooks(structure, runner=None):
    """Run a structure with hooks, and return the calls of the observer."""
    with _hooks(structure) as (_, recorder):
        (runner or structure.run)()
    return recorder.calls


def _code(task_id, function=None):
    return CodeExecutionTask(on_run=function or (lambda _: TextArtifact("done")), id=task_id)


def _fail(_):
    raise RuntimeError("broken")


def test_starts_prompts_responses_and_ends_are_reported_in_order(make_pipeline):
    assert _run_with_hooks(make_pipeline("ab")) == [
        "run starts",
        *("0", "0 asks a", "a answers", "0 ends"),
        *("1", "1 asks b", "b answers", "1 ends"),
        "run ends",
    ]


@pytest.mark.parametrize("fail_fast", [True, False])
def test_the_end_of_a_failed_task_is_reported(fail_fast):
    calls = _run_with_hooks(Pipeline(tasks=[_code("x", _fail), _code("y")], fail_fast=fail_fast))
    assert calls == ["run starts", "x", "x ends", *([] if fail_fast else ["y", "y ends"]), "run ends"]


def test_the_end_of_an_interrupted_run_is_reported():
    def interrupt(_):
        raise KeyboardInterrupt

    pipeline = Pipeline(tasks=[_code("x", interrupt)])
    with pytest.raises(KeyboardInterrupt), _hooks(pipeline) as (_, recorder):
        pipeline.run()
    assert recorder.calls == ["run starts", "x", "x ends", "run ends"]


def test_a_run_in_a_thread_without_listeners_is_reported(make_pipeline):
    pipeline = make_pipeline("a")

    def in_thread():
        thread = threading.Thread(target=pipeline.run)
        thread.start()
        thread.join()

    assert _run_with_hooks(pipeline, in_thread) == ["run starts", "0", "0 asks a", "a answers", "0 ends", "run ends"]


def test_a_streamed_run_is_reported(make_pipeline):
    pipeline = make_pipeline("a")
    assert _run_with_hooks(pipeline, lambda: list(pipeline.run_stream()))[-1] == "run ends"


def test_parallel_tasks_are_reported_each():
    barrier = threading.Barrier(2, timeout=10)

    def meet(task):
        barrier.wait()
        return TextArtifact(task.id)

    calls = _run_with_hooks(Workflow(tasks=[_code("x", meet), _code("y", meet)]))
    assert sorted(calls[1:3]) == ["x", "y"]
    assert sorted(calls[3:5]) == ["x ends", "y ends"]


def test_a_task_that_is_added_is_reported_once_it_is_wrapped():
    pipeline = Pipeline(tasks=[_code("x")])
    with _hooks(pipeline) as (hooks, recorder):
        pipeline.add_task(_code("y"))
        hooks.wrap_new_tasks()
        pipeline.run()
    assert recorder.calls == ["run starts", "x", "x ends", "y", "y ends", "run ends"]


def test_uninstalling_restores_run_and_listeners(make_pipeline):
    pipeline = make_pipeline("a")
    _run_with_hooks(pipeline)
    assert "run" not in vars(pipeline)
    assert "run" not in vars(pipeline.tasks[0])
    assert EventBus.event_listeners == []


def test_a_structure_can_have_two_hooks():
    pipeline = Pipeline(tasks=[_code("x")])
    with _hooks(pipeline) as (_, first), _hooks(pipeline) as (_, second):
        pipeline.run()
    assert first.calls == second.calls == ["run starts", "x", "x ends", "run ends"]
    assert "run" not in vars(pipeline)


def test_an_observer_that_fails_does_not_fail_the_run(caplog):
    pipeline, recorder = Pipeline(tasks=[_code("x")]), Recorder()
    recorder.on_task_start = recorder.on_task_end = recorder.on_run_start = recorder.on_run_end = _fail
    with caplog.at_level(logging.ERROR, "griptape_ollama.lifecycle"), _hooks(pipeline, recorder):
        assert str(pipeline.run().output) == "done"
    assert "since the planner failed" in caplog.text


def test_the_output_of_a_task_is_the_same_as_without_hooks():
    pipeline = Pipeline(tasks=[_code("x", _fail)])
    with _hooks(pipeline):
        output = pipeline.run().output
    assert isinstance(output, ErrorArtifact)
    assert str(output) == "broken"
