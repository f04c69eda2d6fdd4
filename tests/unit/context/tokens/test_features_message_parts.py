"""What messages put into a prompt."""

import pytest

from griptape_ollama.context.tokens.features import MessageParts, parts_of, to_json


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "hi"}, MessageParts(("hi",), 0, 0)),
        ({"role": "user"}, MessageParts((), 0, 0)),
        ({"role": "user", "content": None, "images": None, "tool_calls": None}, MessageParts((), 0, 0)),
        ({"role": "user", "content": "hi", "images": ["aGk=", "aGk="]}, MessageParts(("hi",), 2, 0)),
        ({"role": "assistant", "content": "4", "thinking": "2+2"}, MessageParts(("4", "2+2"), 0, 0)),
        ({"role": "tool", "content": "done", "tool_name": "x"}, MessageParts(("done",), 0, 1)),
        ({"role": "user", "content": ["a", 1]}, MessageParts(('["a", 1]',), 0, 0)),
        ({"role": "user", "content": "hi", "images": "aGk="}, MessageParts(("hi",), 1, 0)),
        ({"role": "assistant", "tool_calls": ["odd"]}, MessageParts(('["odd"]',), 0, 1)),
    ],
)
def test_everything_that_has_tokens_is_found(message, expected):
    assert parts_of(message) == expected


def test_a_call_counts_by_its_name_and_arguments_alone():
    call = {"id": "call_1", "function": {"index": 0, "name": "add", "arguments": {"a": 1}}}

    assert parts_of({"role": "assistant", "tool_calls": [call]}) == (
        ('[{"name": "add", "arguments": {"a": 1}}]',),
        0,
        1,
    )


def test_what_json_cannot_write_counts_as_python_writes_it():
    circle = []
    circle.append(circle)

    assert to_json(circle) == "[[...]]"
    assert to_json({1: {2}}) == '{"1": "{2}"}'
