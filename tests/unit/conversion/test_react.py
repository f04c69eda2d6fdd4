"""Calls of tools in words."""

import re
import time

import pytest
from griptape.tasks import ActionsSubtask

from griptape_ollama.conversion.text_calls import is_react_call


@pytest.mark.parametrize(
    "text",
    [
        'Actions: [{"name": "A"}]',
        "Thought: x\nActions:\n\n[]",
        "Actions: none. Actions: [1]",
        'Actions: as JSON: ["a"]',
    ],
)
def test_what_griptape_runs_is_a_call(text):
    assert re.findall(ActionsSubtask.ACTIONS_PATTERN, text, re.DOTALL)
    assert is_react_call(text)


@pytest.mark.parametrize("text", ["", "[1] Actions:", "Actions: none", "actions: [1]", "Answer: [1]"])
def test_other_texts_are_no_calls(text):
    assert not re.findall(ActionsSubtask.ACTIONS_PATTERN, text, re.DOTALL)
    assert not is_react_call(text)


def test_a_call_may_still_lack_its_end():
    assert is_react_call('Actions: [{"name":')


def test_a_hostile_text_takes_no_time():
    start = time.thread_time()
    assert not is_react_call("Actions:" * 100_000)
    assert time.thread_time() - start < 1
