"""Conversations that are too long, trimmed in one pass."""

import random
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.context.trimming import DEFAULT_SLACK, message_budget, to_turns, trim
from unit.context.conversations import REACT_CALL, assistant, conversations, result, system, user

_budgets = st.integers(-10, 20_000)


def _trimmed(conversation, budget, *, drops_rounds=False):
    return trim(
        conversation.messages,
        conversation.sizes,
        budget=budget,
        task_range=conversation.task_range,
        is_react=conversation.is_react,
        drops_rounds=drops_rounds,
    )


def _kept(conversation, trimmed):
    """Indices of what stays; messages are compared by identity."""
    left = {id(message) for message in trimmed.messages}
    return {index for index, message in enumerate(conversation.messages) if id(message) in left}


def _size(conversation, indices):
    return sum(conversation.sizes[index] for index in indices)


@given(conversations(), _budgets, st.booleans())
def test_dropped_and_kept_messages_together_are_the_conversation_in_order(conversation, budget, drops_rounds):
    trimmed = _trimmed(conversation, budget, drops_rounds=drops_rounds)
    kept = _kept(conversation, trimmed)
    assert trimmed.messages == [message for i, message in enumerate(conversation.messages) if i in kept]
    assert trimmed.dropped == [message for i, message in enumerate(conversation.messages) if i not in kept]
    assert trimmed.tokens == _size(conversation, kept)
    assert trimmed.tokens + trimmed.dropped_tokens == sum(conversation.sizes)


@given(conversations(), _budgets, st.booleans())
def test_turns_and_rounds_are_dropped_whole(conversation, budget, drops_rounds):
    kept = _kept(conversation, _trimmed(conversation, budget, drops_rounds=drops_rounds))
    for group in [*conversation.turns, *conversation.rounds]:
        assert kept.issuperset(group) or kept.isdisjoint(group)


@given(conversations(), _budgets, st.booleans())
def test_system_messages_the_input_and_the_last_round_always_stay(conversation, budget, drops_rounds):
    kept = _kept(conversation, _trimmed(conversation, budget, drops_rounds=drops_rounds))
    asked = next(index for index in conversation.task_range if index not in conversation.systems)
    assert kept >= conversation.systems | {asked}
    assert all(kept.issuperset(round_) for round_ in conversation.rounds[-1:])


@given(conversations(), _budgets)
def test_rounds_of_the_task_stay_unless_they_may_be_dropped(conversation, budget):
    assert _kept(conversation, _trimmed(conversation, budget)).issuperset(conversation.task_range)


@given(conversations(), _budgets, st.booleans())
def test_the_rest_fits_or_nothing_else_may_go(conversation, budget, drops_rounds):
    trimmed = _trimmed(conversation, budget, drops_rounds=drops_rounds)
    kept = _kept(conversation, trimmed)
    droppable = [*conversation.turns, *(conversation.rounds[:-1] if drops_rounds else [])]
    assert trimmed.tokens <= budget or all(kept.isdisjoint(group) for group in droppable)


@given(conversations(), _budgets)
def test_the_oldest_turns_are_dropped_first(conversation, budget):
    kept = _kept(conversation, _trimmed(conversation, budget, drops_rounds=True))
    order = [kept.issuperset(group) for group in [*conversation.turns, *conversation.rounds[:-1]]]
    assert order == sorted(order)


@given(conversations(), _budgets)
def test_what_is_dropped_beyond_what_must_be_is_the_slack_and_less_than_a_turn(conversation, budget):
    trimmed = _trimmed(conversation, budget)
    kept = _kept(conversation, trimmed)
    gone = [group for group in conversation.turns if kept.isdisjoint(group)]
    excess = sum(conversation.sizes) - budget
    if gone and trimmed.dropped_tokens > excess + max(0, budget) * DEFAULT_SLACK:
        without_last = trimmed.dropped_tokens - _size(conversation, gone[-1])
        assert without_last < excess + max(0, budget) * DEFAULT_SLACK


def test_a_large_system_prompt_does_not_cost_all_of_the_history():
    messages = [system(), *(user(f"question {number}") for number in range(20))]
    sizes = [900.0, *[10.0] * 20]
    assert [len(trim(messages, sizes, budget=1000, slack=slack).messages) for slack in (0, 40, 280)] == [11, 7, 7]


def test_a_very_long_turn_is_not_dropped_for_slack_alone():
    messages = [user("Rome?"), assistant("Warm."), user("Oslo?"), assistant("A novel."), user("Bergen?")]
    assert trim(messages, [50, 50, 50, 800, 50], budget=950, slack=300).messages == messages[2:]


@given(conversations())
def test_a_conversation_that_fits_is_not_changed(conversation):
    trimmed = _trimmed(conversation, sum(conversation.sizes))
    assert (trimmed.messages, trimmed.dropped, trimmed.dropped_tokens) == (conversation.messages, [], 0)


def test_a_summary_is_dropped_after_all_turns_and_before_rounds_of_the_task():
    messages = [user("Summary: ..."), user("Rome?"), assistant("Warm."), user("Oslo?")]
    messages += [assistant("", "a"), result("a"), assistant("", "b"), result("b")]
    sizes = [100.0] * 8
    assert [trim(messages, sizes, budget=budget, drops_rounds=True).dropped for budget in (600, 500, 400, 0)] == [
        messages[1:3],
        messages[:3],
        [*messages[:3], *messages[4:6]],
        [*messages[:3], *messages[4:6]],
    ]


def test_a_turn_of_the_history_is_not_taken_for_the_task():
    messages = [user("Oslo?"), user("Rome?"), assistant("Warm.")]
    assert trim(messages, [10, 10, 10], budget=10, task_range=range(1)).messages == messages[:1]


def _growing(turns, seed, *, most=150):
    """A conversation after each of its questions, with the sizes of its messages."""
    chance = random.Random(seed)  # noqa: S311  made-up conversations
    messages, sizes = [system()], [20.0]
    for turn in range(turns):
        messages.append(user(f"question {turn} {chance.random()}"))
        sizes.append(float(chance.randint(5, most // 2)))
        yield list(messages), list(sizes)
        messages.append(assistant(f"answer {turn} {chance.random()}"))
        sizes.append(float(chance.randint(5, most)))


class _Trimmer:
    """Trims one conversation after another, and remembers where they were cut."""

    def __init__(self):
        self.cuts = set()

    def __call__(self, messages, sizes, **settings):
        trimmed = trim(messages, sizes, was_cut_before=self.cuts.__contains__, **settings)
        self.cuts.update(trimmed.cuts)
        return trimmed


def _moves(cuts):
    return sum(before != after for before, after in pairwise(cuts))


@given(st.integers(0, 2**32), st.integers(4000, 9000))
def test_a_growing_conversation_keeps_its_beginning_for_many_turns(seed, budget):
    trimmer = _Trimmer()
    sent = [trimmer(messages, sizes, budget=budget) for messages, sizes in _growing(200, seed)]
    cuts = [len(each.dropped) for each in sent]
    turns_of_slack = budget * DEFAULT_SLACK / 115
    assert _moves(cuts) <= 200 / turns_of_slack + 2
    for before, after in pairwise(sent):
        if len(before.dropped) == len(after.dropped):
            assert after.messages[: len(before.messages)] == before.messages
        else:
            assert len(before.dropped) < len(after.dropped)


@pytest.mark.parametrize("disturbance", ["counts", "max_runs", "own"])
def test_the_cut_stays_where_it_was_although(disturbance):
    """Counts that are learned anew, runs that fall off the front, and long tasks in between do not move the cut."""
    chance = random.Random(8)  # noqa: S311  made-up conversations
    cuts, trimmer = [], _Trimmer()
    for messages, sizes in _growing(400, seed=8):
        factor = chance.uniform(0.99, 1.01) if disturbance == "counts" else 1
        first = max(1, len(messages) - 301) if disturbance == "max_runs" else 1
        kept, own_sizes = [messages[0], *messages[first:]], [size * factor for size in [sizes[0], *sizes[first:]]]
        own_sizes[-1] += 150 * chance.randrange(2) if disturbance == "own" else 0
        trimmed = trimmer(kept, own_sizes, budget=8000)
        cuts.append(trimmed.messages[1]["content"])
    assert _moves(cuts) < 35  # of 400, where a count of what must go would move it nearly every time


def test_rounds_of_a_long_task_are_dropped_seldom():
    messages, sizes, cuts, trimmer = [user("Oslo?")], [10.0], [], _Trimmer()
    for turn in range(200):
        messages += [assistant("", str(turn)), result(str(turn), f"{turn} degrees")]
        sizes += [20.0, 80.0]
        trimmed = trimmer(messages, sizes, budget=4000, drops_rounds=True)
        assert trimmed.tokens <= 4000
        assert trimmed.messages[0] is messages[0]
        cuts.append(len(trimmed.dropped))
    assert 3 <= _moves(cuts) <= 30


def test_a_cut_that_drops_too_little_or_too_much_is_not_kept():
    messages = [message for turn in range(20) for message in (user(f"question {turn}"), assistant(f"answer {turn}"))]
    trimmer = _Trimmer()
    first = trimmer(messages, [50.0] * 40, budget=2000 - 1)
    assert trimmer([*messages, user("Oslo?")], [50.0] * 41, budget=800).messages[0] not in first.messages[:1]
    again = trimmer([*messages, user("Oslo?")], [50.0] * 41, budget=2000)
    assert again.messages[0] == first.messages[0]


@pytest.mark.parametrize("budget", [5_000, 1_000_000, 1_990_000])
def test_many_messages_take_one_pass(budget):
    """Milliseconds for 20,000 messages; a pass per turn would take minutes."""
    messages, sizes = [], []
    for turn in range(10_000):
        messages += [user(f"question {turn} " + "x" * 200), assistant(f"Actions: {turn} " + "y" * 600)]
        sizes += [50.0, 150.0]
    seconds = []
    for _ in range(3):
        start = time.thread_time()
        trim(messages, sizes, budget=budget, task_range=range(19_990, 20_000), is_react=True)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 2  # under the tracing of coverage, too


def test_a_lone_surrogate_is_text_like_any_other():
    messages = [user("Rome?"), assistant("\ud800"), user("Bergen?"), assistant("\ud800"), user("Oslo?")]
    assert trim(messages, [10] * 5, budget=35).messages == messages[2:]


@given(conversations())
def test_turns_and_rounds_are_found_as_they_were_generated(conversation):
    turns = to_turns(conversation.messages, task_range=conversation.task_range, is_react=conversation.is_react)
    assert turns.history == conversation.turns
    assert turns.summary == []
    assert turns.task == [index for index in conversation.task_range if index not in conversation.systems]
    assert turns.rounds == conversation.rounds


@given(conversations())
def test_the_task_is_the_last_turn_without_a_range(conversation):
    with_range = to_turns(conversation.messages, task_range=conversation.task_range, is_react=conversation.is_react)
    assert to_turns(conversation.messages, is_react=conversation.is_react) == with_range


@given(conversations())
def test_each_message_is_in_one_group_unless_it_is_a_system_message(conversation):
    turns = to_turns(conversation.messages, task_range=conversation.task_range, is_react=conversation.is_react)
    grouped = [index for group in [*turns.history, turns.summary, turns.task] for index in group]
    assert sorted(grouped) == [i for i in range(len(conversation.messages)) if i not in conversation.systems]


def test_parallel_calls_stay_with_all_their_results():
    messages = [
        user("Rome and Oslo?"),
        assistant("", "a"),
        assistant("", "b"),
        result("a"),
        result("b"),
        assistant("", "c"),
        result("c"),
    ]
    assert to_turns(messages).rounds == [[1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize(("is_react", "turns"), [(True, []), (False, [[0, 1]])])
def test_a_result_in_text_is_no_turn_where_tools_are_called_in_text(is_react, turns):
    assert to_turns([user("Rome?"), assistant(REACT_CALL), user("12 degrees")], is_react=is_react).history == turns


def test_what_follows_the_results_of_tools_belongs_to_them():
    messages = [user("Rome?"), assistant("", "a"), result("a"), user("Please keep going")]
    assert to_turns(messages).task == [0, 1, 2, 3]


def test_the_correction_of_an_answer_that_fits_no_schema_is_no_turn():
    messages = [user("Rome?"), assistant("{}"), user("Validation Errors: ...\nFix these validation errors.")]
    assert to_turns(messages).task == [0, 1, 2]


def test_a_question_at_the_front_without_an_answer_is_the_summary():
    messages = [system(), user("Summary: ..."), user("Rome?"), assistant("Warm."), user("Oslo?")]
    turns = to_turns(messages)
    assert (turns.summary, turns.history, turns.task) == ([1], [[2, 3]], [4])


def test_a_summary_alone_is_the_summary():
    assert to_turns([user("Summary: ..."), user("Oslo?")]).summary == [0]


def test_the_input_of_a_task_without_memory_is_no_summary():
    turns = to_turns([system(), user("Oslo?")])
    assert (turns.summary, turns.task) == ([], [1])


def test_a_question_in_the_middle_without_an_answer_is_a_turn():
    messages = [user("Rome?"), assistant("Warm."), user("Oslo?"), user("Bergen?"), assistant("Wet."), user("Rio?")]
    assert to_turns(messages).history == [[0, 1], [2], [3, 4]]


def test_a_conversation_that_begins_with_an_answer_has_it_as_a_turn():
    assert to_turns([assistant("Hello."), user("Oslo?")]).history == [[0]]


def test_the_task_may_precede_the_history():
    turns = to_turns([system(), user("Oslo?"), user("Rome?"), assistant("Warm.")], task_range=range(2))
    assert (turns.task, turns.history) == ([1], [[2, 3]])


def test_a_task_range_without_messages_is_ignored():
    messages = [user("Rome?"), assistant("Warm."), user("Oslo?")]
    assert to_turns(messages, task_range=range(3, 3)) == to_turns(messages)


@pytest.mark.parametrize("messages", [[], [system()]])
def test_an_empty_conversation_has_no_turns(messages):
    turns = to_turns(messages)
    assert not any([turns.history, turns.summary, turns.task, turns.rounds])


@pytest.mark.parametrize("odd", [None, ["text"], 3])
def test_content_of_a_wrong_type_is_no_error(odd):
    messages = [user("Rome?"), assistant(odd), user(odd), assistant("Wet."), {}]
    assert to_turns(messages, is_react=True).task == [2, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "budget"),
    [
        ((4096, 0, 0.0), 4096),
        ((4096, 100, 0.0), 3996),
        ((1300, 200, 0.3), 800),
        ((100, 5000, 0.0), 0),
    ],
    ids=["all", "tools", "unsure", "tools fill it"],
)
def test_messages_may_have_what_tools_leave_even_if_the_estimate_is_off(arguments, budget):
    assert message_budget(*arguments) == pytest.approx(budget)
