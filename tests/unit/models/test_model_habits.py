"""How models behave, remembered for a while."""

from types import SimpleNamespace

import pytest

from griptape_ollama.models import model_habits as module
from griptape_ollama.models.model_habits import ModelHabits

_KEY = (("http://gpu:11434", "digest"), "qwen3:latest")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_habit_is_remembered_for_an_hour(clock):
    habits = ModelHabits()
    habits.note(_KEY, "bites", "1")
    clock.now += 3599
    assert habits.of(_KEY, "1") == {"bites"}
    clock.now += 2
    assert habits.of(_KEY, "1") == set()


def test_a_new_version_of_a_model_has_no_habits():
    habits = ModelHabits()
    habits.note(_KEY, "bites", "1")
    assert habits.of(_KEY, "2") == set()
    assert habits.note(_KEY, "bites", "2")


def test_habits_of_one_server_are_forgotten_alone():
    habits = ModelHabits()
    elsewhere = (("http://cpu:11434", "digest"), "qwen3:latest")
    for key in (_KEY, elsewhere):
        habits.note(key, "bites", "1")
    habits.forget("http://gpu:11434")
    assert (habits.of(_KEY, "1"), habits.of(elsewhere, "1")) == (set(), {"bites"})


def test_what_is_remembered_is_bounded():
    habits = ModelHabits()
    for number in range(600):
        habits.note((_KEY[0], str(number)), "bites", "1")
    assert habits.of((_KEY[0], "0"), "1") == set()
    assert habits.of((_KEY[0], "599"), "1") == {"bites"}
