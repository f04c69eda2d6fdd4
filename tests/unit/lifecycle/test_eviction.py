from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.lifecycle.eviction import (
    Resident,
    Room,
    Step,
    distances,
    make_room,
    next_to_warm,
    next_uses,
    no_longer_needed,
)

sequences = st.lists(st.sampled_from("abcde"), min_size=1, max_size=9)


def _steps(sequence):
    ids = [str(number) for number in range(len(sequence))]
    return [
        Step(id=own, models=frozenset(models), after=frozenset(ids[max(number - 1, 0) : number]))
        for number, (own, models) in enumerate(zip(ids, sequence, strict=True))
    ]


def _played(sequence, room, sizes=None):
    """Let the plan decide for each step; give the loads and what was in memory during each step."""
    steps = _steps(sequence)
    sizes = sizes or {}
    memory, loads, history = set(), 0, []
    for number, (model,) in enumerate(sequence):
        begun = {step.id for step in steps[: number + 1]}
        coming = next_uses(steps, begun)
        if model not in memory:
            residents = [Resident(model=each, size=sizes.get(each, 0)) for each in memory]
            memory -= set(make_room(residents, coming, room, model, sizes.get(model, 0)).models)
            memory.add(model)
            loads += 1
        history.append(frozenset(memory))
        memory -= set(no_longer_needed([Resident(model=each) for each in memory], coming))
    assert not memory
    return loads, history


def _optimum(sequence, places):
    """The fewest loads that any choice can reach, by trying all of them."""

    @cache
    def fewest(number, memory):
        if number == len(sequence):
            return 0
        (model,) = sequence[number]
        if model in memory:
            return fewest(number + 1, memory)
        grown = memory | {model}
        if len(grown) <= places:
            return 1 + fewest(number + 1, grown)
        return 1 + min(fewest(number + 1, grown - {other}) for other in memory)

    return fewest(0, frozenset())


@given(sequences, st.integers(1, 4))
def test_with_equal_sizes_in_sequence_no_choice_loads_less_often(sequence, places):
    loads, _ = _played(sequence, Room(max_models=places))
    assert loads == _optimum(tuple(sequence), places)


@given(sequences, st.integers(1, 4))
def test_equal_sizes_in_bytes_are_planned_like_a_number_of_models(sequence, places):
    loads, _ = _played(sequence, Room(memory=places * 10), dict.fromkeys("abcde", 10))
    assert loads == _optimum(tuple(sequence), places)


@given(sequences, st.integers(6, 20))
def test_memory_is_never_exceeded_whatever_the_sizes(sequence, memory):
    sizes = dict(zip("abcde", (2, 3, 4, 5, 6), strict=True))
    _, history = _played(sequence, Room(memory=memory), sizes)
    assert all(sum(sizes[model] for model in models) <= memory for models in history)


@given(sequences)
def test_a_model_is_in_memory_until_its_last_use_and_not_after_it(sequence):
    _, history = _played(sequence, Room())
    for number, models in enumerate(history):
        used, coming = set(sequence[: number + 1]), set(sequence[number:])
        assert models == used & coming


def test_the_model_that_is_needed_last_makes_room():
    residents = [Resident(model=model) for model in "abc"]
    eviction = make_room(residents, {"a": 2, "b": 9, "c": 5}, Room(max_models=3), "d")
    assert eviction.models == ("b",)
    assert eviction.is_enough


def test_a_model_that_nobody_needs_makes_room_before_one_that_is_needed_late():
    residents = [Resident(model=model) for model in "ab"]
    assert make_room(residents, {"a": 100}, Room(max_models=2), "c").models == ("b",)


def test_what_is_there_already_needs_no_room():
    residents = [Resident(model=model) for model in "ab"]
    assert make_room(residents, {}, Room(max_models=2), "a").models == ()


@pytest.mark.parametrize("kept", [{"is_busy": True}, {"is_movable": False}])
def test_what_is_in_use_or_not_ours_never_makes_room(kept):
    eviction = make_room([Resident(model="a", **kept)], {}, Room(max_models=1), "b")
    assert eviction.models == ()
    assert not eviction.is_enough


@pytest.mark.parametrize("kept", [{"is_busy": True}, {"is_movable": False}])
def test_what_is_in_use_or_not_ours_is_not_unloaded_after_its_last_use(kept):
    assert no_longer_needed([Resident(model="a", **kept), Resident(model="b")], {}) == ("b",)


def test_without_a_limit_everything_has_room():
    residents = [Resident(model=model, size=10**12) for model in "abcdefgh"]
    assert make_room(residents, {}, Room(), "z", 10**12).models == ()


def test_no_more_is_evicted_than_has_to_be_when_sizes_differ():
    # The small one is needed last, but without the large one there is room for it.
    residents = [Resident(model="small", size=1), Resident(model="large", size=8), Resident(model="near", size=1)]
    eviction = make_room(residents, {"small": 9, "large": 8, "near": 1}, Room(memory=10), "new", 8)
    assert eviction.models == ("large",)


def test_a_model_of_unknown_size_is_taken_to_fit():
    assert make_room([Resident(model="a", size=10)], {"a": 1}, Room(memory=10), "b").models == ()


def test_the_distance_of_a_step_counts_what_has_to_begin_before_it():
    diamond = [
        Step(id="top"),
        Step(id="left", after=frozenset({"top"})),
        Step(id="right", after=frozenset({"top"})),
        Step(id="low", after=frozenset({"right"})),
        Step(id="bottom", after=frozenset({"left", "low"})),
    ]
    assert distances(diamond) == {"top": 1, "left": 2, "right": 2, "low": 3, "bottom": 4}
    assert distances(reversed(diamond), {"top", "right"}) == {"left": 1, "low": 1, "bottom": 2}


def test_the_nearest_of_several_uses_counts():
    assert next_uses(_steps(["ab", "c", "ac"]), {"0"}) == {"c": 1, "a": 2}


def test_another_round_comes_behind_this_one():
    assert next_uses(_steps(["a", "b"]), {"0"}, again=True) == {"b": 1, "a": 2}


def test_nothing_is_to_come_when_all_has_begun():
    assert next_uses(_steps(["a", "b"]), {"0", "1"}) == {}


def test_the_model_of_the_very_next_step_is_loaded_ahead():
    assert next_to_warm([Resident(model="a")], {"b": 1, "c": 2}, Room(max_models=2), {}) == "b"


@pytest.mark.parametrize(
    ("openings", "room", "sizes"),
    [
        ({"b": 1}, Room(max_models=1), {}),
        ({"b": 1}, Room(memory=15), {"b": 10}),
        ({"b": 2}, Room(), {}),
        ({"a": 1}, Room(), {}),
        ({}, Room(), {}),
    ],
    ids=["no place", "no memory", "not the next", "there already", "nothing to come"],
)
def test_nothing_is_loaded_ahead_without_room_or_need(openings, room, sizes):
    assert next_to_warm([Resident(model="a", size=10)], openings, room, sizes) is None


def test_of_several_next_models_one_that_fits_is_loaded_ahead():
    sizes = {"big": 10, "small": 2}
    assert next_to_warm([Resident(model="a", size=5)], {"big": 1, "small": 1}, Room(memory=8), sizes) == "small"
