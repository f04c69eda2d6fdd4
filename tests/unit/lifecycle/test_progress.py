from griptape_ollama.lifecycle.eviction import Step
from griptape_ollama.lifecycle.progress import Progress

STEPS = [
    Step(id="1", models=frozenset("a")),
    Step(id="2", models=frozenset("b"), after=frozenset("1")),
    Step(id="3", models=frozenset("a"), after=frozenset("2")),
]


def test_before_the_run_all_models_are_to_come():
    assert Progress().coming(STEPS) == {"a": 1, "b": 2}


def test_what_has_begun_is_no_longer_to_come():
    progress = Progress()
    progress.begin_run()
    progress.begin("1")
    assert progress.coming(STEPS) == {"b": 1, "a": 2}
    assert progress.running == {"1"}
    progress.end("1")
    assert progress.running == set()
    progress.begin("2")
    progress.begin("3")
    assert progress.coming(STEPS) == {}


def test_a_run_that_is_over_leaves_nothing_to_come():
    progress = Progress()
    progress.begin_run()
    progress.begin("1")
    progress.end_run()
    assert progress.coming(STEPS) == {}
    assert progress.next_steps(STEPS) == {}
    assert progress.running == {"1"}


def test_runs_that_are_announced_are_to_come():
    progress = Progress(runs=2)
    progress.begin_run()
    for step in "123":
        progress.begin(step)
    assert progress.coming(STEPS) == {"a": 1, "b": 2}
    progress.end_run()
    progress.begin_run()
    for step in "123":
        progress.begin(step)
    assert progress.coming(STEPS) == {}


def test_with_any_number_of_runs_there_is_always_one_to_come():
    progress = Progress(runs=None)
    for _ in range(3):
        progress.begin_run()
        for step in "123":
            progress.begin(step)
        assert progress.coming(STEPS) == {"a": 1, "b": 2}
        progress.end_run()


def test_more_runs_than_announced_are_planned_one_by_one():
    progress = Progress(runs=1)
    progress.begin_run()
    progress.end_run()
    progress.begin_run()
    assert progress.coming(STEPS) == {"a": 1, "b": 2}


def test_a_task_that_runs_twice_at_a_time_runs_until_both_are_over():
    progress = Progress()
    progress.begin("1")
    progress.begin("1")
    progress.end("1")
    assert progress.running == {"1"}
