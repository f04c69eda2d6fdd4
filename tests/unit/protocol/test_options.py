"""Model options by name and type."""

import decimal
import json
import logging
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from griptape_ollama.protocol.options import (
    FORMER_OPTION_TYPES,
    OPTION_TYPES,
    REQUEST_FIELDS,
    check_max_num_ctx,
    check_num_ctx,
    check_options,
    parse_parameters,
)

_ALL = {**OPTION_TYPES, **FORMER_OPTION_TYPES}
_INTEGERS = [name for name, kind in _ALL.items() if kind == "integer"]
_FLOATS = [name for name, kind in _ALL.items() if kind == "float"]
_BOOLEANS = [name for name, kind in _ALL.items() if kind == "boolean"]


@pytest.mark.parametrize("name", _INTEGERS)
def test_integers_are_accepted(name):
    assert check_options({name: 7}) == {name: 7}
    assert check_options({name: -1}) == {name: -1}


@pytest.mark.parametrize("name", _FLOATS)
def test_floats_are_accepted_and_integers_for_them(name):
    assert check_options({name: 0.25}) == {name: 0.25}
    checked = check_options({name: 1})
    assert checked == {name: 1}
    assert type(checked[name]) is int


@pytest.mark.parametrize("name", _BOOLEANS)
def test_booleans_are_accepted(name):
    assert check_options({name: False}) == {name: False}
    with pytest.raises(ValueError, match=f"'{name}' must be a boolean, got 1"):
        check_options({name: 1})


@pytest.mark.parametrize("stop", [["a", "b"], ("a", "b")])
def test_stop_is_a_list_of_texts(stop):
    assert check_options({"stop": stop}) == {"stop": ["a", "b"]}


def test_stop_as_a_text_is_refused_and_the_list_is_shown():
    with pytest.raises(ValueError, match=r"must be an array of strings, got 'END': write \['END'\]"):
        check_options({"stop": "END"})


@pytest.mark.parametrize("stop", [5, [1], ["a", None], {"a": 1}, {"a"}])
def test_stop_of_anything_else_is_refused(stop):
    with pytest.raises(ValueError, match="option 'stop' must be an array of strings"):
        check_options({"stop": stop})


@pytest.mark.parametrize("value", [3.0, np.int64(3), np.int32(3), np.uint8(3), np.float64(3.0)])
def test_whole_numbers_become_plain_integers_where_integers_are_wanted(value):
    checked = check_options({"num_ctx": value})
    assert checked == {"num_ctx": 3}
    assert type(checked["num_ctx"]) is int


@pytest.mark.parametrize("value", [np.float64(0.5), np.float32(0.5), np.float16(0.5), decimal.Decimal("0.5")])
def test_numbers_of_other_libraries_become_plain_floats(value):
    checked = check_options({"temperature": value})
    assert checked == {"temperature": 0.5}
    assert type(checked["temperature"]) is float


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_predict", "128"),
        ("num_predict", 1.5),
        ("num_predict", True),
        ("num_predict", math.nan),
        ("num_predict", math.inf),
        ("num_predict", [1]),
        ("seed", "7"),
        ("num_ctx", b"7"),
        ("num_ctx", {}),
    ],
)
def test_what_is_not_an_integer_is_refused_by_name_and_value(name, value):
    with pytest.raises(ValueError, match=f"option '{name}' must be an integer, got ") as caught:
        check_options({name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "value", ["0.7", True, False, math.nan, math.inf, -math.inf, [0.7], {}, b"1", 1j, 10**400, "hot"]
)
def test_what_is_not_a_number_is_refused(value):
    with pytest.raises(ValueError, match="option 'temperature' must be a number, got "):
        check_options({"temperature": value})


@pytest.mark.parametrize("name", [1, None, ("seed",), b"seed"])
def test_a_name_that_is_no_text_is_refused(name):
    with pytest.raises(ValueError, match="must have a text as its name"):
        check_options({name: 7})


def test_none_means_not_set():
    assert check_options({"temperature": None, "num_ctx": 4096, "stop": None, "anything": None}) == {"num_ctx": 4096}


def test_the_options_that_are_passed_are_left_as_they_are():
    given_options = {"num_ctx": 4096.0, "seed": None}
    check_options(given_options)
    assert given_options == {"num_ctx": 4096.0, "seed": None}


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("num_ctxx", "num_ctx"),
        ("num_cx", "num_ctx"),
        ("num_cxt", "num_ctx"),
        ("numctx", "num_ctx"),
        ("num-ctx", "num_ctx"),
        ("num ctx", "num_ctx"),
        ("numCtx", "num_ctx"),
        ("NUM_CTX", "num_ctx"),
        ("temprature", "temperature"),
        ("temperture", "temperature"),
        ("Temperature", "temperature"),
        ("tempereture", "temperature"),
        ("topK", "top_k"),
        ("topp", "top_p"),
        ("numPredict", "num_predict"),
        ("num_predicts", "num_predict"),
        ("repeatPenalty", "repeat_penalty"),
        ("stops", "stop"),
        ("Seed", "seed"),
    ],
)
def test_a_name_one_slip_away_is_refused_and_the_right_one_named(slip, meant):
    with pytest.raises(ValueError, match=f"unknown option '{slip}': did you mean '{meant}'"):
        check_options({slip: 1})


@pytest.mark.parametrize("name", REQUEST_FIELDS)
def test_a_field_of_the_request_inside_options_is_refused_and_its_place_named(name):
    with pytest.raises(ValueError, match=f"'{name}' is not a model option: pass it beside options, as {name}="):
        check_options({name: 1})


def test_another_unknown_option_is_sent_and_warned_about_once(caplog):
    with caplog.at_level(logging.WARNING):
        assert check_options({"brand_new_knob": {"any": "value"}}) == {"brand_new_knob": {"any": "value"}}
        check_options({"brand_new_knob": 2})
    assert [record.getMessage() for record in caplog.records] == [
        "Option 'brand_new_knob' is unknown to this package; it is sent as it is."
    ]


def test_known_options_are_not_warned_about(caplog):
    check_options(dict.fromkeys(_INTEGERS, 1))
    assert caplog.records == []


def _edits(name):
    letters = st.characters(codec="ascii", categories=["Ll"]) | st.just("_")
    place, end = st.integers(0, len(name) - 1), st.integers(0, len(name))
    return st.one_of(
        st.builds(lambda i: name[:i] + name[i + 1 :], place),
        st.builds(lambda i, c: name[:i] + c + name[i:], end, letters),
        st.builds(lambda i, c: name[:i] + c + name[i + 1 :], place, letters),
        st.builds(lambda i: name[:i] + name[i : i + 2][::-1] + name[i + 2 :], place),
    )


@given(st.sampled_from(sorted(_ALL)).flatmap(_edits))
def test_every_single_edit_of_a_known_name_is_noticed(slip):
    assume(slip not in _ALL)
    with pytest.raises(ValueError, match="did you mean"):
        check_options({slip: 1})


@given(st.dictionaries(st.sampled_from(_FLOATS), st.floats(allow_nan=False, allow_infinity=False)))
def test_finite_floats_are_sent_as_they_are(options):
    assert check_options(options) == options


@pytest.mark.parametrize("value", [None, "auto", 1, 4096, 2**31 - 1])
def test_what_is_right_stays_as_it_is(value):
    assert check_num_ctx(value) == value


@pytest.mark.parametrize("value", [np.array(8192), Decimal(8192), Decimal("8.192e3"), Fraction(8192), np.uint64(8192)])
def test_whole_numbers_are_recognised_whatever_library_they_are_of(value):
    assert (check_num_ctx(value), type(check_num_ctx(value))) == (8192, int)


@pytest.mark.parametrize("value", [np.array([8192]), np.bool_(True), Decimal("8192.5"), Decimal("NaN"), 1j])
def test_what_is_no_whole_number_is_no_window_whatever_library_it_is_of(value):
    with pytest.raises(ValueError, match="is no size of a window"):
        check_num_ctx(value)


def test_whole_numbers_of_other_libraries_become_plain_ones():
    assert type(check_num_ctx(np.int64(8192))) is int
    assert check_max_num_ctx(np.uint16(8192)) == 8192


@pytest.mark.parametrize("value", [0, -1, 2**31, 10**30, True, False, 4096.0, float("nan"), [4096], {}, object()])
def test_what_is_no_size_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^num_ctx=.* use 'auto', a number of tokens such as 8192, or None"):
        check_num_ctx(value)
    with pytest.raises(ValueError, match=r"^max_num_ctx=.* use a number of tokens such as 32768, or None"):
        check_max_num_ctx(value)


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("AUTO", "write 'auto'"),
        (" auto ", "write 'auto'"),
        ("8192", "write the number itself, without quotes"),
        ("8k", "use 'auto', a number of tokens such as 8192, or None to send nothing"),
        ("²", "use 'auto'"),
        ("", "use 'auto'"),
    ],
)
def test_an_unknown_text_is_refused_with_advice(word, advice):
    with pytest.raises(ValueError, match=advice) as caught:
        check_num_ctx(word)
    assert repr(word) in str(caught.value)


@pytest.mark.parametrize("word", ["auto", "8192", ""])
def test_the_largest_window_is_no_text(word):
    with pytest.raises(ValueError, match=r"max_num_ctx=.* \(str\) is no size of a window"):
        check_max_num_ctx(word)


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
