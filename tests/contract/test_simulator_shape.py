"""The simulator answers recorded requests in the shapes that a real server answered them in.

Status, headers, kinds of lines, keys, their order, types of values, and error texts have to agree; durations, ids,
counts and vectors need not. `fidelity` says how the simulator is set up for each; docs/simulator.md is the table of
them all.
"""

import json
from datetime import datetime
from email.utils import parsedate_to_datetime

import pytest

from contract import fidelity
from contract.recorded_server import installed, load, messages_of
from griptape_ollama.testing import OllamaSimulator

STALE = "docs/simulator.md is stale: PYTHONPATH=tests python -m contract.fidelity"


@pytest.fixture
def simulator():
    with OllamaSimulator(installed()) as running:
        yield running


@pytest.mark.parametrize("name", fidelity.NAMES)
def test_the_simulator_answers_as_recorded_or_the_table_says_why_not(name):
    found = fidelity.result(name)
    if name in fidelity.DIFFERENT:
        assert found.verdict == "different", f"agrees by now: {fidelity.DIFFERENT[name]}"
    else:
        assert found.simulated == found.recorded


def test_the_table_in_the_docs_is_up_to_date():
    assert fidelity.PAGE.read_text(encoding="utf-8") == fidelity.page(), STALE


def test_nine_in_ten_agree_and_every_difference_has_its_reason():
    text = fidelity.PAGE.read_text(encoding="utf-8")
    assert len(fidelity.NAMES) >= 266
    assert len(fidelity.DIFFERENT) < len(fidelity.NAMES) / 10
    for name in fidelity.NAMES:
        (row,) = [line for line in text.split("\n") if line.startswith(f"| {name} |")]
        verdict, why = row.split(" | ")[2:]
        assert (verdict == "different") == (name in fidelity.DIFFERENT)
        assert verdict != "different" or why.strip(" |")


def test_a_difference_is_detected():
    recording = json.loads(json.dumps(load("chat_nostream")))
    with OllamaSimulator(installed()) as simulator:
        response = fidelity.send(simulator, recording)
        for change in ({"status": 201}, {"headers": [["X-Other", "1"]]}, {"raw_body": '{"model": "x"}'}):
            changed = {**recording, "response": {**recording["response"], **change}}
            assert fidelity.compare("chat_nostream", changed, response).verdict == "different"


@pytest.mark.parametrize("name", [name for name in fidelity.SCRIPTED if name not in fidelity.DIFFERENT])
def test_a_scripted_reply_arrives_as_it_was_recorded(name):
    response, recorded = fidelity.result(name).response, load(name)["response"]
    if "body" not in recorded or recorded["status"] != 200:
        return
    for key in ("message", "response"):
        said, given = recorded["body"].get(key), response.json().get(key)
        assert given == said or given["content"] == said["content"]


@pytest.mark.parametrize("name", ["chat_stream", "chat_num_predict_3", "chat_stop", "chat_nostream"])
def test_tokens_are_counted_as_recorded(name):
    last = json.loads(fidelity.result(name).response.text.strip().split("\n")[-1])
    recorded = messages_of(load(name)["response"])[1]
    assert (last["eval_count"], last["done_reason"]) == (recorded["eval_count"], recorded["done_reason"])


def test_a_derived_model_shows_its_parameters_as_recorded():
    response, recorded = fidelity.result("show_derived").response, load("show_derived")["response"]["body"]
    for key in ("parameters", "system"):
        assert response.json()[key] == recorded[key]


@pytest.mark.parametrize("name", fidelity.PS)
def test_loaded_models_are_listed_as_recorded(name):
    simulated = fidelity.result(name).response.json()["models"]
    response = load(name)["response"]
    recorded = response["body"]["models"]
    ends = [entry["expires_at"][:19] for entry in recorded]
    date = parsedate_to_datetime(dict(response["headers"])["Date"])
    is_past = any(datetime.fromisoformat(f"{end}+00:00") <= date for end in ends)
    if is_past or len(set(ends)) < len(ends):
        # Models that expire within one second come in any order; so do those whose time was over.
        simulated, recorded = (sorted(entries, key=lambda entry: entry["name"]) for entries in (simulated, recorded))
    for key in ("name", "context_length", "size_vram", "details"):
        assert [entry[key] for entry in simulated] == [entry[key] for entry in recorded]
    if name == "ps_forever":
        assert simulated[0]["expires_at"][:3] == recorded[0]["expires_at"][:3]


def test_whole_bodies_come_with_a_length_up_to_2048_bytes_and_in_chunks_beyond(simulator):
    for name in ("chat_stream", "ps_loaded", "version", "tags", "show_tiny-chat", "embed_batch", "embed_single"):
        response = load(name)["response"]
        if "raw_body" in response:
            has_length = any(key == "Content-Length" for key, _ in response["headers"])
            assert has_length == (len(response["raw_body"]) <= 2048), name
    for words in (100, 1000):
        simulator.reply("word " * words)
        response = fidelity.send(simulator, load("chat_nostream"))
        assert ("content-length" in response.headers) == (len(response.content) <= 2048)


def test_models_are_listed_in_the_recorded_order_with_the_recorded_details():
    listed = fidelity.result("tags").response.json()["models"]
    recorded = load("tags")["response"]["body"]["models"]
    keys = ("name", "size", "details", "capabilities")
    assert [[entry[key] for key in keys] for entry in listed] == [[entry[key] for key in keys] for entry in recorded]


def test_each_recording_has_one_setup():
    groups = [fidelity.SCRIPTED, fidelity.UNSCRIPTED, fidelity.PS]
    listed = [name for group in groups for name in group]
    assert len(listed) == len(set(listed))
    unlisted = {*fidelity.AFTER, *fidelity.FROM_REGISTRY, *fidelity.OFFLINE, *fidelity.SPECIAL}
    assert {*listed, *unlisted} == set(fidelity.NAMES)
