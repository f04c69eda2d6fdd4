"""How models behave, remembered for a while."""

from types import SimpleNamespace

import pytest

from griptape_ollama.models import model_quirks as module
from griptape_ollama.models.model_quirks import ModelQuirks

_KEY = (("http://gpu:11434", "digest"), "qwen3:latest")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_habit_is_remembered_for_an_hour(clock):
    quirks = ModelQuirks()
    quirks.note(_KEY, "bites", "1")
    clock.now += 3599
    assert quirks.of(_KEY, "1") == {"bites"}
    clock.now += 2
    assert quirks.of(_KEY, "1") == set()


def test_a_new_version_of_a_model_has_no_habits():
    quirks = ModelQuirks()
    quirks.note(_KEY, "bites", "1")
    assert quirks.of(_KEY, "2") == set()
    assert quirks.note(_KEY, "bites", "2")


def test_habits_of_one_server_are_forgotten_alone():
    quirks = ModelQuirks()
    elsewhere = (("http://cpu:11434", "digest"), "qwen3:latest")
    for key in (_KEY, elsewhere):
        quirks.note(key, "bites", "1")
    quirks.forget("http://gpu:11434")
    assert (quirks.of(_KEY, "1"), quirks.of(elsewhere, "1")) == (set(), {"bites"})


def test_what_is_remembered_is_bounded():
    quirks = ModelQuirks()
    for number in range(600):
        quirks.note((_KEY[0], str(number)), "bites", "1")
    assert quirks.of((_KEY[0], "0"), "1") == set()
    assert quirks.of((_KEY[0], "599"), "1") == {"bites"}
