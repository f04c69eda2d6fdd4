import json

import pytest

from griptape_ollama.lifecycle.eviction import Room
from griptape_ollama.lifecycle.keep_alive_replay import Use
from griptape_ollama.lifecycle.report import LifecycleReport, ModelReport
from griptape_ollama.lifecycle.usage import Ledger, Load


@pytest.fixture
def ledger():
    """Two models of one server, used in turns."""
    ledger = Ledger()
    for model in "ab":
        ledger.know("http://one", model, f"model-{model}")
    for number, model in enumerate("abab"):
        ledger.used("http://one", Use(model=model, begin=number, end=number + 0.5))
    ledger.loaded("http://one", "a", Load(4.0))
    ledger.loaded("http://one", "b", Load(6.0, is_ahead=True))
    ledger.unloaded("http://one", "a", to_make_room=False)
    ledger.unloaded("http://one", "b", to_make_room=True)
    ledger.saw("http://one", {"a": 3_000_000_000, "b": 1500})
    return ledger


def test_sums_are_those_of_the_models(ledger):
    report = ledger.report(Room())
    assert (report.loads, report.load_seconds, report.unloads) == (2, 10.0, 2)
    assert report.ahead_seconds == 6.0
    assert report.peak_bytes == 3_000_001_500
    assert report.models[1] == ModelReport(
        model="model-b", host="http://one", uses=2, loads=1, load_seconds=6.0, unloads=1, evictions=1, bytes=1500
    )


def test_what_plain_keep_alive_costs_depends_on_the_room(ledger):
    costs = {cost.policy: (cost.loads, cost.load_seconds) for cost in ledger.report(Room()).policies}
    assert costs == {
        "keep_alive default (5 min)": (2, 10.0),
        "keep_alive=0": (4, 20.0),
        "keep_alive=-1": (2, 10.0),
    }
    assert [cost.loads for cost in ledger.report(Room(max_models=1)).policies] == [4, 4, 4]


def test_what_plain_keep_alive_costs_is_added_up_over_servers(ledger):
    ledger.know("http://two", "a", "model-a")
    ledger.used("http://two", Use(model="a", begin=0, end=1))
    ledger.loaded("http://two", "a", Load(1.0))
    assert [cost.loads for cost in ledger.report(Room(max_models=1)).policies] == [5, 5, 5]
    assert "at http://two" in str(ledger.report(Room()))


def test_the_peak_is_the_most_that_was_seen_at_a_time(ledger):
    ledger.saw("http://one", {"a": 1})
    assert ledger.report(Room()).peak_bytes == 3_000_001_500


def test_a_load_that_nobody_measured_counts_without_seconds(ledger):
    ledger.loaded("http://one", "a", Load())
    assert (ledger.report(Room()).loads, ledger.report(Room()).load_seconds) == (3, 10.0)


def test_a_problem_is_news_once(ledger):
    assert ledger.problem("It broke.")
    assert not ledger.problem("It broke.")
    assert ledger.report(Room()).problems == ("It broke.",)


def test_work_is_measured_once_and_without_its_requests(ledger):
    with ledger.working(), ledger.working(), ledger.asking():
        sum(range(300_000))
    report = ledger.report(Room())
    assert report.request_seconds > 0
    assert report.planner_seconds < report.request_seconds / 2


def test_the_table_shows_models_sums_and_policies(ledger):
    ledger.problem("It broke.")
    text = str(ledger.report(Room()))
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "model-a 2 1 4.00 1 0 3.0 GB" in lines
    assert "model-b 2 1 6.00 1 1 1.5 KB" in lines
    assert "all 4 2 10.00 2 1 3.0 GB at most" in lines
    assert "planner (6.00 s of it ahead) 2 10.00" in lines
    assert "keep_alive=0, replayed 4 20.00" in lines
    assert "! It broke." in lines


def test_an_empty_report_can_be_printed():
    assert "all" in str(LifecycleReport())


def test_the_data_can_be_written_as_json(ledger):
    data = json.loads(json.dumps(ledger.report(Room()).to_dict()))
    assert (data["loads"], data["models"][0]["bytes"]) == (2, 3_000_000_000)
    assert data["policies"][1] == {"policy": "keep_alive=0", "loads": 4, "load_seconds": 20.0}
