"""What the lines of a chat reply mean."""

import pytest

from griptape_ollama.protocol.stream_kinds import has_output, is_load_reply


def _line(**message):
    return {"model": "m", "message": {"role": "assistant", "content": "", **message}, "done": False}


@pytest.mark.parametrize(
    ("line", "carries"),
    [
        (_line(content="Hi"), True),
        (_line(content=" "), True),
        (_line(thinking="Hm"), True),
        (_line(tool_calls=[{"function": {"name": "a_b"}}]), True),
        (_line(), False),
        (_line(tool_calls=[]), False),
        (_line(thinking=""), False),
        (_line(content=None), False),
        ({"done": True}, False),
        ({"message": None}, False),
        ({"message": "text"}, False),
        ({}, False),
    ],
)
def test_a_line_has_output_if_it_has_text_thinking_or_calls(line, carries):
    assert has_output(line) is carries


@pytest.mark.parametrize(
    ("line", "is_load"),
    [
        # chat_empty_messages_load.json and unload_chat.json of server 0.33.0-rc2
        ({**_line(), "done": True, "done_reason": "load"}, True),
        ({**_line(), "done": True, "done_reason": "unload"}, True),
        ({"model": "m", "done": True, "done_reason": "load"}, True),
        ({**_line(), "done": True, "done_reason": "stop"}, False),
        ({**_line(), "done": True, "done_reason": "length"}, False),
        ({**_line(), "done": True}, False),
        ({**_line(), "done": False, "done_reason": "load"}, False),
        ({**_line(content="Hi"), "done": True, "done_reason": "load"}, False),
        ({**_line(), "done": "yes", "done_reason": "load"}, False),
        ({**_line(), "done": True, "done_reason": ["load"]}, False),
        ({}, False),
    ],
)
def test_a_load_reply_is_done_for_loading_and_says_nothing(line, is_load):
    assert is_load_reply(line) is is_load
