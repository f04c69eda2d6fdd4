"""Messages grouped into what may be dropped whole."""

import pytest
from hypothesis import given

from griptape_ollama.context.trimming import to_turns
from unit.context.conversations import REACT_CALL, assistant, conversations, result, system, user


@given(conversations())
def test_turns_and_exchanges_are_found_as_they_were_made(conversation):
    turns = to_turns(conversation.messages, own=conversation.own, is_react=conversation.is_react)
    assert turns.remembered == conversation.turns
    assert turns.pinned == []
    assert turns.own == [index for index in conversation.own if index not in conversation.systems]
    assert turns.exchanges == conversation.exchanges


@given(conversations())
def test_the_own_turn_is_the_last_one_where_nobody_tells(conversation):
    told = to_turns(conversation.messages, own=conversation.own, is_react=conversation.is_react)
    assert to_turns(conversation.messages, is_react=conversation.is_react) == told


@given(conversations())
def test_each_message_is_in_one_group_unless_it_is_a_system_message(conversation):
    turns = to_turns(conversation.messages, own=conversation.own, is_react=conversation.is_react)
    grouped = [index for group in [*turns.remembered, turns.pinned, turns.own] for index in group]
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
    assert to_turns(messages).exchanges == [[1, 2, 3, 4], [5, 6]]


@pytest.mark.parametrize(("is_react", "turns"), [(True, []), (False, [[0, 1]])])
def test_a_result_in_words_is_no_turn_where_tools_are_called_in_words(is_react, turns):
    assert to_turns([user("Rome?"), assistant(REACT_CALL), user("12 degrees")], is_react=is_react).remembered == turns


def test_what_follows_the_results_of_tools_belongs_to_them():
    messages = [user("Rome?"), assistant("", "a"), result("a"), user("Please keep going")]
    assert to_turns(messages).own == [0, 1, 2, 3]


def test_the_correction_of_an_answer_that_fits_no_schema_is_no_turn():
    messages = [user("Rome?"), assistant("{}"), user("Validation Errors: ...\nFix these validation errors.")]
    assert to_turns(messages).own == [0, 1, 2]


def test_a_summary_at_the_front_is_pinned():
    messages = [system(), user("Summary: ..."), user("Rome?"), assistant("Warm."), user("Oslo?")]
    turns = to_turns(messages)
    assert (turns.pinned, turns.remembered, turns.own) == ([1], [[2, 3]], [4])


def test_a_summary_alone_is_pinned():
    assert to_turns([user("Summary: ..."), user("Oslo?")]).pinned == [0]


def test_the_input_of_a_task_without_memory_is_no_summary():
    turns = to_turns([system(), user("Oslo?")])
    assert (turns.pinned, turns.own) == ([], [1])


def test_a_question_in_the_middle_that_nobody_answered_is_a_turn():
    messages = [user("Rome?"), assistant("Warm."), user("Oslo?"), user("Bergen?"), assistant("Wet."), user("Rio?")]
    assert to_turns(messages).remembered == [[0, 1], [2], [3, 4]]


def test_a_conversation_that_begins_with_an_answer_has_it_as_a_turn():
    assert to_turns([assistant("Hello."), user("Oslo?")]).remembered == [[0]]


def test_the_own_turn_may_stand_before_what_is_remembered():
    turns = to_turns([system(), user("Oslo?"), user("Rome?"), assistant("Warm.")], own=range(2))
    assert (turns.own, turns.remembered) == ([1], [[2, 3]])


def test_an_own_range_without_messages_is_as_good_as_none():
    messages = [user("Rome?"), assistant("Warm."), user("Oslo?")]
    assert to_turns(messages, own=range(3, 3)) == to_turns(messages)


@pytest.mark.parametrize("messages", [[], [system()]])
def test_nothing_has_no_turns(messages):
    turns = to_turns(messages)
    assert not any([turns.remembered, turns.pinned, turns.own, turns.exchanges])


@pytest.mark.parametrize("odd", [None, ["text"], 3])
def test_odd_content_is_taken_as_it_comes(odd):
    messages = [user("Rome?"), assistant(odd), user(odd), assistant("Wet."), {}]
    assert to_turns(messages, is_react=True).own == [2, 3, 4]
