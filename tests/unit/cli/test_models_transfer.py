"""`models pull` and `models push`."""

import re

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

BIG = SimulatedModel(name="big:8b", size=100_000_000, pull_bytes_per_second=10_000_000)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[SimulatedModel(name="me/mine")], library=[BIG], time_scale=2000) as simulator:
        yield simulator


def test_a_pull_without_a_terminal_prints_few_lines_of_progress_on_the_standard_error(models, simulator):
    ended = models("pull", "big:8b")
    assert ended.code == 0
    assert re.fullmatch(r"Pulled big:8b: 100 MB moved in [\d.]+ seconds?\.\n", ended.out)
    lines = ended.err.splitlines()
    assert lines[0] == "pull big:8b: pulling manifest"
    assert lines[-3:] == [
        "pull big:8b: verifying sha256 digest",
        "pull big:8b: writing manifest",
        "pull big:8b: success",
    ]
    moving = lines[1:-3]
    assert moving
    assert all(re.fullmatch(r"pull big:8b: pulling [0-9a-f]{12} \(\d+% of 100 MB\)", line) for line in moving)
    assert len(moving) <= 11
    assert "big:8b" in simulator.models


def test_a_second_pull_is_up_to_date(models):
    models("pull", "big:8b", "-q")
    assert models("pull", "big:8b", "-q").out == ""
    assert models("pull", "big:8b").out == "big:8b is up to date (100 MB).\n"


def test_json_is_the_only_thing_on_the_standard_output(models):
    result = models("pull", "big:8b", "--json").json
    assert (result["action"], result["model"]["name"], result["digest_before"]) == ("pull", "big:8b", None)
    assert (result["bytes_moved"] >= 100_000_000, result["attempts"], result["is_unchanged"]) == (True, 1, False)
    assert models("pull", "big:8b", "--json").json["is_unchanged"] is True


def test_insecure_is_passed_on(models, simulator):
    models("pull", "big:8b", "--insecure", "-q")
    models("push", "me/mine", "--insecure", "-q")
    sent = {request.path: request.body for request in simulator.requests}
    assert sent["/api/pull"]["insecure"] is True
    assert sent["/api/push"]["insecure"] is True


def test_a_push_reports_the_bytes_moved(models):
    ended = models("push", "me/mine")
    assert ended.code == 0
    assert ended.out.startswith("Pushed me/mine:latest: ")
    assert "push me/mine: " in ended.err
