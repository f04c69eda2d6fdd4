import logging
import threading

import pytest
from griptape.artifacts import ErrorArtifact, TextArtifact
from griptape.events import EventBus
from griptape.structures import Pipeline, Workflow
from griptape.tasks import CodeExecutionTask

from griptape_ollama.lifecycle.structure_hooks import Watch


class Notes:
    """An observer that writes down what it is told."""

    def __init__(self):
        self.all = []

    def run_begins(self):
        self.all.append("run")

    def run_ends(self):
        self.all.append("run over")

    def task_begins(self, task):
        self.all.append(f"{task.id}")

    def task_ends(self, task):
        self.all.append(f"{task.id} over")

    def prompt_begins(self, task, model):
        self.all.append(f"{task.id} asks {model}")

    def tools_begin(self, task, names):
        self.all.append(f"{task.id} runs {names}")

    def answered(self, event):
        self.all.append(f"{event.model} answers")


@pytest.fixture
def watched():
    """Runs a structure while it is watched, and gives the notes."""

    def run(structure, runner=None):
        notes = Notes()
        watch = Watch(structure, notes, _leaves_open)
        watch.begin()
        try:
            (runner or structure.run)()
        finally:
            watch.end()
        return notes.all

    return run


def _leaves_open(_host, _model):
    return None


def _code(task_id, function=None):
    return CodeExecutionTask(on_run=function or (lambda _: TextArtifact("done")), id=task_id)


def _fail(_):
    raise RuntimeError("broken")


def test_beginnings_prompts_replies_and_ends_are_told_in_order(watched, make_pipeline):
    assert watched(make_pipeline("ab")) == [
        "run",
        *("0", "0 asks a", "a answers", "0 over"),
        *("1", "1 asks b", "b answers", "1 over"),
        "run over",
    ]


def test_a_task_that_fails_is_told_to_be_over(watched):
    assert watched(Pipeline(tasks=[_code("x", _fail), _code("y")])) == ["run", "x", "x over", "run over"]
    going_on = Pipeline(tasks=[_code("x", _fail), _code("y")], fail_fast=False)
    assert watched(going_on) == ["run", "x", "x over", "y", "y over", "run over"]


def test_a_run_that_is_interrupted_is_told_to_be_over(watched):
    def interrupt(_):
        raise KeyboardInterrupt

    heard = []
    pipeline = Pipeline(tasks=[_code("x", interrupt)])
    notes = Notes()
    watch = Watch(pipeline, notes, _leaves_open)
    watch.begin()
    with pytest.raises(KeyboardInterrupt):
        pipeline.run()
    watch.end()
    assert notes.all == ["run", "x", "x over", "run over"]
    assert heard == []


def test_a_run_in_a_thread_that_knows_no_listeners_is_heard(watched, make_pipeline):
    pipeline = make_pipeline("a")

    def in_thread():
        thread = threading.Thread(target=pipeline.run)
        thread.start()
        thread.join()

    assert watched(pipeline, in_thread) == ["run", "0", "0 asks a", "a answers", "0 over", "run over"]


def test_a_streamed_run_is_heard(watched, make_pipeline):
    pipeline = make_pipeline("a")
    assert watched(pipeline, lambda: list(pipeline.run_stream()))[-1] == "run over"


def test_parallel_tasks_are_told_apart(watched, make_task):
    barrier = threading.Barrier(2, timeout=10)

    def meet(task):
        barrier.wait()
        return TextArtifact(task.id)

    told = watched(Workflow(tasks=[_code("x", meet), _code("y", meet)]))
    assert sorted(told[1:3]) == ["x", "y"]
    assert sorted(told[3:5]) == ["x over", "y over"]


def test_a_task_that_is_added_is_followed_from_then_on():
    pipeline = Pipeline(tasks=[_code("x")])
    notes = Notes()
    watch = Watch(pipeline, notes, _leaves_open)
    watch.begin()
    pipeline.add_task(_code("y"))
    watch.follow()
    pipeline.run()
    watch.end()
    assert notes.all == ["run", "x", "x over", "y", "y over", "run over"]


def test_what_was_watched_is_left_as_it_was(watched, make_pipeline):
    pipeline = make_pipeline("a")
    watched(pipeline)
    assert "run" not in vars(pipeline)
    assert "run" not in vars(pipeline.tasks[0])
    assert EventBus.event_listeners == []


def test_two_can_watch_the_same_structure():
    pipeline = Pipeline(tasks=[_code("x")])
    notes = [Notes(), Notes()]
    watches = [Watch(pipeline, each, _leaves_open) for each in notes]
    for watch in watches:
        watch.begin()
    pipeline.run()
    for watch in reversed(watches):
        watch.end()
    assert notes[0].all == notes[1].all == ["run", "x", "x over", "run over"]
    assert "run" not in vars(pipeline)


def test_an_observer_that_fails_does_not_fail_the_run(caplog):
    pipeline = Pipeline(tasks=[_code("x")])
    notes = Notes()
    notes.task_begins = notes.task_ends = notes.run_begins = notes.run_ends = _fail
    watch = Watch(pipeline, notes, _leaves_open)
    watch.begin()
    with caplog.at_level(logging.ERROR, "griptape_ollama.lifecycle"):
        assert str(pipeline.run().output) == "done"
    watch.end()
    assert "since the planner failed" in caplog.text


def test_the_result_of_a_task_is_what_it_would_be_without_a_watch():
    pipeline = Pipeline(tasks=[_code("x", _fail)])
    watch = Watch(pipeline, Notes(), _leaves_open)
    watch.begin()
    output = pipeline.run().output
    watch.end()
    assert isinstance(output, ErrorArtifact)
    assert str(output) == "broken"
