import json

from griptape_ollama.lifecycle.eviction import MemoryLimits
from griptape_ollama.lifecycle.report import LifecycleReport


def test_the_table_shows_models_sums_and_policies(usage):
    usage.record_problem("It broke.")
    text = str(usage.report(MemoryLimits()))
    lines = [" ".join(line.replace("│", " ").split()) for line in text.splitlines()]
    assert "model-a 2 1 4.00 1 0 3 GB" in lines
    assert "model-b 2 1 6.00 1 1 1.5 kB" in lines
    assert "all 4 2 10.00 2 1 3 GB at most" in lines
    assert "planner (6.00 s of it ahead) 2 10.00" in lines
    assert "keep_alive=0, replayed 4 20.00" in lines
    assert "! It broke." in lines


def test_an_empty_report_can_be_printed():
    assert "all" in str(LifecycleReport())


def test_the_data_can_be_written_as_json(usage):
    data = json.loads(json.dumps(usage.report(MemoryLimits()).to_dict()))
    assert (data["loads"], data["models"][0]["bytes"]) == (2, 3_000_000_000)
    assert data["policies"][1] == {"policy": "keep_alive=0", "loads": 4, "load_seconds": 20.0}
