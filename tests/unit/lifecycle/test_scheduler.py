from griptape_ollama.lifecycle.eviction import Step
from griptape_ollama.lifecycle.scheduler import RunProgress

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
