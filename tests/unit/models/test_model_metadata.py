"""Quirks of models."""

from types import SimpleNamespace

import pytest

from griptape_ollama.models import model_metadata as module
from griptape_ollama.models.model_metadata import ModelQuirks

_KEY = (("http://gpu:11434", "digest"), "qwen3:latest")


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def test_a_quirk_is_kept_for_an_hour(clock):
    quirks = ModelQuirks()
    quirks.add(_KEY, "bites", "1")
    clock.now += 3599
    assert quirks.get(_KEY, "1") == {"bites"}
    clock.now += 2
    assert quirks.get(_KEY, "1") == set()


def test_a_new_version_of_a_model_has_no_quirks():
    quirks = ModelQuirks()
    quirks.add(_KEY, "bites", "1")
    assert quirks.get(_KEY, "2") == set()
    assert quirks.add(_KEY, "bites", "2")


def test_quirks_of_one_server_are_forgotten_without_those_of_another():
    quirks = ModelQuirks()
    elsewhere = (("http://cpu:11434", "digest"), "qwen3:latest")
    for key in (_KEY, elsewhere):
        quirks.add(key, "bites", "1")
    quirks.forget_server("http://gpu:11434")
    assert (quirks.get(_KEY, "1"), quirks.get(elsewhere, "1")) == (set(), {"bites"})


def test_the_number_of_models_is_bounded():
    quirks = ModelQuirks()
    for number in range(600):
        quirks.add((_KEY[0], str(number)), "bites", "1")
    assert quirks.get((_KEY[0], "0"), "1") == set()
    assert quirks.get((_KEY[0], "599"), "1") == {"bites"}
