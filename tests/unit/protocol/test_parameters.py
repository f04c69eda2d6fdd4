"""The `parameters` text of a show reply."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.protocol.parameters import parse_parameters

_DERIVED = """\
num_ctx                        2048
stop                           "x"
temperature                    0.2"""
_QWEN3 = """\
repeat_penalty                 1
stop                           "<|im_start|>"
stop                           "<|im_end|>"
temperature                    0.6
top_k                          20
top_p                          0.95"""


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        # show_tiny-chat.json and show_derived.json of server 0.33.0-rc2
        ("temperature                    0", {"temperature": 0}),
        (_DERIVED, {"num_ctx": 2048, "stop": ["x"], "temperature": 0.2}),
        (
            _QWEN3,
            {
                "repeat_penalty": 1,
                "stop": ["<|im_start|>", "<|im_end|>"],
                "temperature": 0.6,
                "top_k": 20,
                "top_p": 0.95,
            },
        ),
        ('stop                           "<｜end▁of▁sentence｜>"', {"stop": ["<｜end▁of▁sentence｜>"]}),  # noqa: RUF001
        ("use_mmap                       false", {"use_mmap": False}),
        ("min_p                          1e-05", {"min_p": 1e-05}),
        (r'stop                           "a\nb\"c\\d"', {"stop": ['a\nb"c\\d']}),
        ('stop                           "two words"', {"stop": ["two words"]}),
        ("stop                           bare", {"stop": ["bare"]}),
        ("", {}),
    ],
)
def test_parameters_are_read_with_their_types(text, parameters):
    assert parse_parameters(text) == parameters


@pytest.mark.parametrize("text", ["num_ctx", "num_ctx   ", "temperature   warm", "\n\n", "   "])
def test_lines_that_cannot_be_read_are_left_out(text):
    assert parse_parameters(f"{text}\nseed   7") == {"seed": 7}


def test_windows_line_ends_do_not_matter():
    assert parse_parameters("seed   7\r\ntop_k   20\r\n") == {"seed": 7, "top_k": 20}


def test_an_unknown_parameter_is_kept_as_text():
    assert parse_parameters("new_knob   on off") == {"new_knob": "on off"}


@given(st.lists(st.text(min_size=1), min_size=1))
def test_stops_survive_as_they_were(stops):
    text = "\n".join(f"stop                           {json.dumps(stop)}" for stop in stops)
    assert parse_parameters(text) == {"stop": stops}


@given(st.text())
def test_no_text_is_an_error(text):
    assert isinstance(parse_parameters(text), dict)
