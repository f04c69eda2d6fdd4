from griptape_ollama.lifecycle.eviction import MemoryLimits
from griptape_ollama.lifecycle.keep_alive_replay import RecordedUse
from griptape_ollama.lifecycle.report import ModelReport
from griptape_ollama.lifecycle.usage import ModelLoad


def test_sums_are_those_of_the_models(usage):
    report = usage.report(MemoryLimits())
    assert (report.loads, report.load_seconds, report.unloads) == (2, 10.0, 2)
    assert report.ahead_seconds == 6.0
    assert report.peak_bytes == 3_000_001_500
    assert report.models[1] == ModelReport(
        model="model-b", host="http://one", uses=2, loads=1, load_seconds=6.0, unloads=1, evictions=1, bytes=1500
    )


def test_the_cost_of_plain_keep_alive_depends_on_the_limits(usage):
    costs = {cost.policy: (cost.loads, cost.load_seconds) for cost in usage.report(MemoryLimits()).policies}
    assert costs == {
        "keep_alive default (5 min)": (2, 10.0),
        "keep_alive=0": (4, 20.0),
        "keep_alive=-1": (2, 10.0),
    }
    assert [cost.loads for cost in usage.report(MemoryLimits(max_models=1)).policies] == [4, 4, 4]


def test_the_cost_of_plain_keep_alive_is_added_up_over_servers(usage):
    usage.add_model("http://two", "a", "model-a")
    usage.record_use("http://two", RecordedUse(model="a", begin=0, end=1))
    usage.record_load("http://two", "a", ModelLoad(1.0))
    assert [cost.loads for cost in usage.report(MemoryLimits(max_models=1)).policies] == [5, 5, 5]
    assert "at http://two" in str(usage.report(MemoryLimits()))


def test_the_peak_is_the_most_at_a_time(usage):
    usage.record_memory("http://one", {"a": 1})
    assert usage.report(MemoryLimits()).peak_bytes == 3_000_001_500


def test_a_load_that_was_not_measured_counts_without_seconds(usage):
    usage.record_load("http://one", "a", ModelLoad())
    assert (usage.report(MemoryLimits()).loads, usage.report(MemoryLimits()).load_seconds) == (3, 10.0)


def test_a_problem_is_new_once(usage):
    assert usage.record_problem("It broke.")
    assert not usage.record_problem("It broke.")
    assert usage.report(MemoryLimits()).problems == ("It broke.",)


def test_scheduling_time_is_measured_once_and_without_requests(usage):
    with usage.measuring_schedule(), usage.measuring_schedule(), usage.measuring_request():
        sum(range(300_000))
    report = usage.report(MemoryLimits())
    assert report.request_seconds > 0
    assert report.planner_seconds < report.request_seconds / 2
