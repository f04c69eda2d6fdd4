from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.lifecycle.eviction import (
    EvictionCandidate,
    MemoryLimits,
    Step,
    choose_evictions,
    choose_preload,
    choose_unloads,
    next_use_distances,
    step_distances,
)

sequences = st.lists(st.sampled_from("abcde"), min_size=1, max_size=9)


def _steps(sequence):
    ids = [str(number) for number in range(len(sequence))]
    return [
        Step(id=own, models=frozenset(models), after=frozenset(ids[max(number - 1, 0) : number]))
        for number, (own, models) in enumerate(zip(ids, sequence, strict=True))
    ]


def _simulate(sequence, limits, sizes=None):
    """Run the steps with the decisions of the module; return the loads and the models in memory during each step."""
    steps = _steps(sequence)
    sizes = sizes or {}
    memory, loads, history = set(), 0, []
    for number, (model,) in enumerate(sequence):
        begun = {step.id for step in steps[: number + 1]}
        coming = next_use_distances(steps, begun)
        if model not in memory:
            candidates = [EvictionCandidate(model=each, size=sizes.get(each, 0)) for each in memory]
            memory -= set(choose_evictions(candidates, coming, limits, model, sizes.get(model, 0)).models)
            memory.add(model)
            loads += 1
        history.append(frozenset(memory))
        memory -= set(choose_unloads([EvictionCandidate(model=each) for each in memory], coming))
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
    loads, _ = _simulate(sequence, MemoryLimits(max_models=places))
    assert loads == _optimum(tuple(sequence), places)


@given(sequences, st.integers(1, 4))
def test_equal_sizes_in_bytes_give_the_same_plan_as_a_number_of_models(sequence, places):
    loads, _ = _simulate(sequence, MemoryLimits(memory=places * 10), dict.fromkeys("abcde", 10))
    assert loads == _optimum(tuple(sequence), places)


@given(sequences, st.integers(6, 20))
def test_memory_is_never_exceeded_whatever_the_sizes(sequence, memory):
    sizes = dict(zip("abcde", (2, 3, 4, 5, 6), strict=True))
    _, history = _simulate(sequence, MemoryLimits(memory=memory), sizes)
    assert all(sum(sizes[model] for model in models) <= memory for models in history)


@given(sequences)
def test_a_model_is_in_memory_until_its_last_use_and_not_after_it(sequence):
    _, history = _simulate(sequence, MemoryLimits())
    for number, models in enumerate(history):
        used, coming = set(sequence[: number + 1]), set(sequence[number:])
        assert models == used & coming


def test_the_model_with_the_farthest_next_use_is_evicted():
    candidates = [EvictionCandidate(model=model) for model in "abc"]
    eviction = choose_evictions(candidates, {"a": 2, "b": 9, "c": 5}, MemoryLimits(max_models=3), "d")
    assert eviction.models == ("b",)
    assert eviction.is_enough


def test_a_model_without_a_next_use_is_evicted_first():
    candidates = [EvictionCandidate(model=model) for model in "ab"]
    assert choose_evictions(candidates, {"a": 100}, MemoryLimits(max_models=2), "c").models == ("b",)


def test_a_loaded_model_needs_no_eviction():
    candidates = [EvictionCandidate(model=model) for model in "ab"]
    assert choose_evictions(candidates, {}, MemoryLimits(max_models=2), "a").models == ()


@pytest.mark.parametrize("kept", [{"is_busy": True}, {"is_evictable": False}])
def test_a_busy_or_foreign_model_is_never_evicted(kept):
    eviction = choose_evictions([EvictionCandidate(model="a", **kept)], {}, MemoryLimits(max_models=1), "b")
    assert eviction.models == ()
    assert not eviction.is_enough


@pytest.mark.parametrize("kept", [{"is_busy": True}, {"is_evictable": False}])
def test_a_busy_or_foreign_model_is_not_unloaded_after_its_last_use(kept):
    assert choose_unloads([EvictionCandidate(model="a", **kept), EvictionCandidate(model="b")], {}) == ("b",)


def test_without_limits_nothing_is_evicted():
    candidates = [EvictionCandidate(model=model, size=10**12) for model in "abcdefgh"]
    assert choose_evictions(candidates, {}, MemoryLimits(), "z", 10**12).models == ()


def test_no_more_is_evicted_than_needed_when_sizes_differ():
    # The small one is needed last, but fits again without the large one.
    candidates = [
        EvictionCandidate(model="small", size=1),
        EvictionCandidate(model="large", size=8),
        EvictionCandidate(model="near", size=1),
    ]
    eviction = choose_evictions(candidates, {"small": 9, "large": 8, "near": 1}, MemoryLimits(memory=10), "new", 8)
    assert eviction.models == ("large",)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.permutations(range(6)),
    st.integers(1, 9),
    st.integers(9, 30),
)
def test_no_evicted_model_would_fit_beside_the_new_one(sizes, next_uses, size, memory):
    candidates = {str(number): each for number, each in enumerate(sizes)}
    limits = MemoryLimits(memory=max(memory, size))
    plan = choose_evictions(
        [EvictionCandidate(model=model, size=each) for model, each in candidates.items()],
        {str(number): distance for number, distance in enumerate(next_uses)},
        limits,
        "new",
        size,
    )
    staying = [each for model, each in candidates.items() if model not in plan.models]
    assert plan.is_enough
    assert limits.allow([*staying, size])
    assert not any(limits.allow([*staying, candidates[model], size]) for model in plan.models)


def test_a_model_of_unknown_size_is_assumed_to_fit():
    candidates = [EvictionCandidate(model="a", size=10)]
    assert choose_evictions(candidates, {"a": 1}, MemoryLimits(memory=10), "b").models == ()
    assert choose_preload(candidates, {"b": 1}, MemoryLimits(memory=10), {}) == "b"


def test_the_distance_of_a_step_counts_what_has_to_begin_before_it():
    diamond = [
        Step(id="top"),
        Step(id="left", after=frozenset({"top"})),
        Step(id="right", after=frozenset({"top"})),
        Step(id="low", after=frozenset({"right"})),
        Step(id="bottom", after=frozenset({"left", "low"})),
    ]
    assert step_distances(diamond) == {"top": 1, "left": 2, "right": 2, "low": 3, "bottom": 4}
    assert step_distances(reversed(diamond), {"top", "right"}) == {"left": 1, "low": 1, "bottom": 2}


def test_the_nearest_of_several_uses_counts():
    assert next_use_distances(_steps(["ab", "c", "ac"]), {"0"}) == {"c": 1, "a": 2}


def test_uses_of_the_next_run_follow_those_of_this_run():
    assert next_use_distances(_steps(["a", "b"]), {"0"}, again=True) == {"b": 1, "a": 2}


def test_the_next_run_comes_first_when_all_steps_have_begun():
    assert next_use_distances(_steps(["a", "b"]), {"0", "1"}, again=True) == {"a": 1, "b": 2}


def test_no_use_is_left_when_all_steps_have_begun():
    assert next_use_distances(_steps(["a", "b"]), {"0", "1"}) == {}


def test_the_model_of_the_very_next_step_is_preloaded():
    assert choose_preload([EvictionCandidate(model="a")], {"b": 1, "c": 2}, MemoryLimits(max_models=2), {}) == "b"


@pytest.mark.parametrize(
    ("first_uses", "limits", "sizes"),
    [
        ({"b": 1}, MemoryLimits(max_models=1), {}),
        ({"b": 1}, MemoryLimits(memory=15), {"b": 10}),
        ({"b": 2}, MemoryLimits(), {}),
        ({"a": 1}, MemoryLimits(), {}),
        ({}, MemoryLimits(), {}),
    ],
    ids=["no place", "no memory", "not the next", "there already", "nothing to come"],
)
def test_nothing_is_preloaded_without_memory_or_need(first_uses, limits, sizes):
    assert choose_preload([EvictionCandidate(model="a", size=10)], first_uses, limits, sizes) is None


def test_of_several_next_models_one_that_fits_is_preloaded():
    sizes = {"big": 10, "small": 2}
    assert (
        choose_preload([EvictionCandidate(model="a", size=5)], {"big": 1, "small": 1}, MemoryLimits(memory=8), sizes)
        == "small"
    )
