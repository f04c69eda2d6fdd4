import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.lifecycle.eviction import MemoryLimits
from griptape_ollama.lifecycle.keep_alive_replay import ModelFigures, RecordedUse, replay_keep_alive

FIGURES = ModelFigures(load_seconds=dict.fromkeys("abc", 10.0), sizes=dict.fromkeys("abc", 5))


def _uses(sequence, pause=0.0):
    """Uses of one second each."""
    return [
        RecordedUse(model=model, begin=number * (1 + pause), end=number * (1 + pause) + 1)
        for number, model in enumerate(sequence)
    ]


@pytest.mark.parametrize(
    ("sequence", "keep_alive", "limits", "loads"),
    [
        ("abab", 0, MemoryLimits(), 4),
        ("abab", 300, MemoryLimits(), 2),
        ("abab", math.inf, MemoryLimits(max_models=1), 4),
        ("aabb", math.inf, MemoryLimits(max_models=1), 2),
        ("aabb", 0, MemoryLimits(), 4),
        ("abab", math.inf, MemoryLimits(memory=10), 2),
        ("abab", math.inf, MemoryLimits(memory=9), 4),
    ],
)
def test_a_policy_loads_again_what_it_unloaded(sequence, keep_alive, limits, loads):
    cost = replay_keep_alive(_uses(sequence), keep_alive, limits, FIGURES, policy="some")
    assert (cost.policy, cost.loads, cost.load_seconds) == ("some", loads, loads * 10.0)


def test_a_pause_as_long_as_keep_alive_costs_a_load():
    assert replay_keep_alive(_uses("aa", pause=299), 300, MemoryLimits(), FIGURES).loads == 1
    assert replay_keep_alive(_uses("aa", pause=300), 300, MemoryLimits(), FIGURES).loads == 2


def test_the_time_of_other_models_counts_as_idle():
    slow = ModelFigures(load_seconds={"a": 1.0, "b": 400.0}, sizes={})
    assert replay_keep_alive(_uses("aba"), 300, MemoryLimits(), slow).loads == 3


def test_the_time_of_a_long_reply_counts_as_idle_for_other_models():
    uses = [
        RecordedUse(model="a", begin=0, end=1),
        RecordedUse(model="b", begin=1, end=301),
        RecordedUse(model="a", begin=301, end=302),
    ]
    assert replay_keep_alive(uses, 311, MemoryLimits(), FIGURES).loads == 2
    assert replay_keep_alive(uses, 310, MemoryLimits(), FIGURES).loads == 3


def test_observed_load_time_is_not_counted_as_work():
    uses = [
        RecordedUse(model="a", begin=0, end=1),
        RecordedUse(model="b", begin=1, end=402, load_seconds=400),
        RecordedUse(model="a", begin=402, end=403),
    ]
    assert replay_keep_alive(uses, 300, MemoryLimits(), FIGURES).loads == 2


def test_the_idle_model_with_the_first_path_is_evicted_as_in_server_0_33():
    # Of a and b, a is evicted for c, though b was used longer ago.
    assert replay_keep_alive(_uses("bacb"), math.inf, MemoryLimits(max_models=2), FIGURES).loads == 3
    assert replay_keep_alive(_uses("baca"), math.inf, MemoryLimits(max_models=2), FIGURES).loads == 4


def test_a_model_that_was_present_is_not_loaded():
    figures = ModelFigures(load_seconds={}, sizes={}, present=["a"])
    assert replay_keep_alive(_uses("ab"), 300, MemoryLimits(), figures).loads == 1


def test_uses_are_replayed_in_the_order_in_which_they_ended():
    assert replay_keep_alive(reversed(_uses("aabb")), math.inf, MemoryLimits(max_models=1), FIGURES).loads == 2


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 3))
def test_no_policy_loads_less_than_once_per_model_or_more_than_once_per_use(sequence, places):
    for keep_alive in (0, 300, math.inf):
        loads = replay_keep_alive(_uses(sequence), keep_alive, MemoryLimits(max_models=places), FIGURES).loads
        assert len(set(sequence)) <= loads <= len(sequence)
