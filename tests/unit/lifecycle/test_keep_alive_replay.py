import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.lifecycle.eviction import Room
from griptape_ollama.lifecycle.keep_alive_replay import Known, Use, replay

KNOWN = Known(load_seconds=dict.fromkeys("abc", 10.0), sizes=dict.fromkeys("abc", 5))


def _uses(sequence, pause=0.0):
    """Uses of one second each."""
    return [
        Use(model=model, begin=number * (1 + pause), end=number * (1 + pause) + 1)
        for number, model in enumerate(sequence)
    ]


@pytest.mark.parametrize(
    ("sequence", "keep_alive", "room", "loads"),
    [
        ("abab", 0, Room(), 4),
        ("abab", 300, Room(), 2),
        ("abab", math.inf, Room(max_models=1), 4),
        ("aabb", math.inf, Room(max_models=1), 2),
        ("aabb", 0, Room(), 4),
        ("abab", math.inf, Room(memory=10), 2),
        ("abab", math.inf, Room(memory=9), 4),
    ],
)
def test_a_policy_loads_what_it_let_go(sequence, keep_alive, room, loads):
    cost = replay(_uses(sequence), keep_alive, room, KNOWN, policy="some")
    assert (cost.policy, cost.loads, cost.load_seconds) == ("some", loads, loads * 10.0)


def test_a_pause_as_long_as_keep_alive_costs_a_load():
    assert replay(_uses("aa", pause=299), 300, Room(), KNOWN).loads == 1
    assert replay(_uses("aa", pause=300), 300, Room(), KNOWN).loads == 2


def test_the_time_that_others_work_and_load_counts_as_a_pause():
    slow = Known(load_seconds={"a": 1.0, "b": 400.0}, sizes={})
    assert replay(_uses("aba"), 300, Room(), slow).loads == 3


def test_loading_that_was_observed_is_not_taken_for_work():
    uses = [
        Use(model="a", begin=0, end=1),
        Use(model="b", begin=1, end=402, load_seconds=400),
        Use(model="a", begin=402, end=403),
    ]
    assert replay(uses, 300, Room(), KNOWN).loads == 2


def test_of_idle_models_the_first_by_the_path_of_its_weights_makes_room_as_in_server_0_33():
    # Of a and b, a goes for c, though b was used longer ago.
    assert replay(_uses("bacb"), math.inf, Room(max_models=2), KNOWN).loads == 3
    assert replay(_uses("baca"), math.inf, Room(max_models=2), KNOWN).loads == 4


def test_what_was_there_before_need_not_be_loaded():
    known = Known(load_seconds={}, sizes={}, present=["a"])
    assert replay(_uses("ab"), 300, Room(), known).loads == 1


def test_uses_are_taken_in_the_order_in_which_they_ended():
    assert replay(reversed(_uses("aabb")), math.inf, Room(max_models=1), KNOWN).loads == 2


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 3))
def test_no_policy_loads_less_than_once_per_model_or_more_than_once_per_use(sequence, places):
    for keep_alive in (0, 300, math.inf):
        loads = replay(_uses(sequence), keep_alive, Room(max_models=places), KNOWN).loads
        assert len(set(sequence)) <= loads <= len(sequence)
