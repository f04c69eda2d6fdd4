"""A chat request from its parts."""

import logging

import pytest

from griptape_ollama.conversion.request_fields import merge_options, merge_stop, to_chat_request
from griptape_ollama.errors import OllamaContentError

_MESSAGES = [{"role": "user", "content": "Hi"}]


def _request(*, tools=(), options=None, fields=None, extra=None):
    return to_chat_request(
        model="m", messages=_MESSAGES, tools=tools, options=options or {}, fields=fields or {}, extra=extra or {}
    )


def test_a_request_has_what_is_set_and_nothing_else():
    assert _request() == {"model": "m", "messages": _MESSAGES, "stream": True}


def test_everything_that_is_set_has_its_place():
    tool = {"type": "function", "function": {"name": "Tool_use"}}
    assert _request(tools=[tool], options={"seed": 7}, fields={"think": "low"}, extra={"new_field": [1]}) == {
        "model": "m",
        "messages": _MESSAGES,
        "tools": [tool],
        "think": "low",
        "new_field": [1],
        "options": {"seed": 7},
        "stream": True,
    }


def test_none_means_not_set_for_options_fields_and_extras():
    assert _request(options={"seed": None}, fields={"think": None}, extra={"format": None}) == _request()


@pytest.mark.parametrize(
    ("field", "extra", "sent"),
    [
        ({"think": True}, {"think": "high"}, {"think": "high"}),
        ({"keep_alive": "5m"}, {"keep_alive": -1}, {"keep_alive": -1}),
        ({"think": True}, {"think": None}, {}),
        ({"think": True}, {"logprobs": True}, {"think": True, "logprobs": True}),
        ({"format": {"type": "object"}}, {"format": "json"}, {"format": "json"}),
    ],
)
def test_extra_params_win_over_fields(field, extra, sent):
    request = _request(fields=field, extra=extra)
    assert {name: value for name, value in request.items() if name not in ("model", "messages", "stream")} == sent


@pytest.mark.parametrize("stream", [True, False, None])
def test_the_wire_always_streams(stream):
    assert _request(extra={"stream": stream})["stream"] is True


def test_tools_in_extra_params_are_offered_beside_those_of_the_task():
    assert _request(tools=[{"a": 1}], extra={"tools": [{"b": 2}]})["tools"] == [{"a": 1}, {"b": 2}]
    assert "tools" not in _request(extra={"tools": []})


@pytest.mark.parametrize("value", [None, 0, "text", [], {}, False])
def test_an_unknown_extra_is_sent_as_it_is(value):
    extra = {"brand_new": value, "seldom": {"nested": [None]}}
    request = _request(extra=extra)
    assert request["seldom"] == {"nested": [None]}
    assert ("brand_new" in request) is (value is not None)
    assert request.get("brand_new") == value


def test_the_parts_are_not_changed():
    extra, options = {"tools": [{"b": 2}], "stream": False, "think": None}, {"num_ctx": 4096.0}
    _request(options=options, extra=extra)
    assert (extra, options) == ({"tools": [{"b": 2}], "stream": False, "think": None}, {"num_ctx": 4096.0})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("think", True),
        ("think", False),
        ("think", "low"),
        ("think", "medium"),
        ("think", "high"),
        ("think", "max"),
        ("format", "json"),
        ("format", {"type": "object"}),
        ("format", {}),
        ("truncate", False),
        ("shift", True),
        ("logprobs", True),
        ("top_logprobs", 0),
        ("top_logprobs", 20),
        ("keep_alive", "10m"),
        ("keep_alive", 0),
    ],
)
def test_right_values_are_sent_as_they_are(name, value):
    assert _request(fields={name: value})[name] == value
    assert _request(extra={name: value})[name] == value


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("think", 1, "think=1 must be True, False or the name of a level, such as 'low' or 'high'"),
        ("think", "", "think='' must be True, False"),
        ("think", " ", "think=' ' must be True, False"),
        ("think", [], r"think=\[\] must be True, False"),
        ("format", "yaml", "format='yaml' must be 'json' or a JSON schema"),
        ("format", "", "format='' must be 'json' or a JSON schema"),
        ("format", 7, "format=7 must be 'json' or a JSON schema"),
        ("format", ["json"], "must be 'json' or a JSON schema"),
        ("truncate", "no", "truncate='no' must be True or False"),
        ("truncate", 0, "truncate=0 must be True or False"),
        ("shift", 1, "shift=1 must be True or False"),
        ("logprobs", 5, "logprobs=5 must be True or False"),
        ("top_logprobs", 21, "top_logprobs=21 must be an integer from 0 to 20"),
        ("top_logprobs", -1, "top_logprobs=-1 must be"),
        ("top_logprobs", True, "top_logprobs=True must be"),
        ("top_logprobs", 2.0, r"top_logprobs=2\.0 must be"),
        ("keep_alive", "60", "keep_alive='60' has no unit"),
        ("keep_alive", True, "keep_alive=True is not a duration"),
    ],
)
def test_wrong_values_are_refused_by_name_in_any_place(name, value, told):
    for place in ("fields", "extra"):
        with pytest.raises(OllamaContentError, match=told) as caught:
            _request(**{place: {name: value}})
        assert caught.value.model == "m"


def test_a_wrong_option_is_refused_with_the_model():
    with pytest.raises(OllamaContentError, match="option 'seed' must be an integer") as caught:
        _request(options={"seed": "7"})
    assert caught.value.model == "m"
    assert isinstance(caught.value.__cause__, ValueError)


def test_an_option_beside_options_is_sent_and_the_log_says_once_that_it_is_ignored(caplog):
    with caplog.at_level(logging.WARNING):
        assert _request(extra={"num_ctx": 8192})["num_ctx"] == 8192
        _request(extra={"num_ctx": 8192})
    assert [record.getMessage() for record in caplog.records] == [
        "'num_ctx' beside options is ignored by servers: pass options={'num_ctx': ...}."
    ]


def test_options_merge_key_by_key_fields_then_options_then_extra_params():
    merged = merge_options(
        fields={"temperature": 0.1, "num_predict": 5, "seed": 1},
        options={"temperature": 0.2, "num_ctx": 2048},
        extra={"temperature": 0.3, "top_k": 9},
    )
    assert merged == {"temperature": 0.3, "num_predict": 5, "seed": 1, "num_ctx": 2048, "top_k": 9}


def test_none_with_precedence_removes_an_option():
    options = merge_options(fields={"temperature": 0.1}, options={"temperature": None}, extra=None)
    assert "options" not in _request(options=options)


@pytest.mark.parametrize("extra", ["num_ctx", [("num_ctx", 1)], 7])
def test_options_in_extra_params_that_are_no_mapping_are_refused(extra):
    with pytest.raises(OllamaContentError, match=r'extra_params\["options"\] must be a mapping'):
        merge_options(fields={}, options={}, extra=extra)


@pytest.mark.parametrize(
    ("needed", "given", "own", "sent"),
    [
        ([], None, ["<|im_end|>"], None),
        ([], [], ["<|im_end|>"], None),
        ([], (), None, None),
        ([], ["X"], None, ["X"]),
        ([], ["X"], ["<|im_end|>"], ["X", "<|im_end|>"]),
        (["R"], None, ["<|im_end|>"], ["R", "<|im_end|>"]),
        (["R"], ["X"], ["<|im_end|>"], ["R", "X", "<|im_end|>"]),
        (["R"], ["X", "R"], ["X", "Z"], ["R", "X", "Z"]),
        ([], ("X",), ["X"], ["X"]),
        ([], ["X"], [], ["X"]),
    ],
)
def test_stops_of_prompt_user_and_model_are_merged_where_any_are_sent(needed, given, own, sent):
    assert merge_stop(needed, given, own) == sent


@pytest.mark.parametrize("wrong", ["END", 5, ["a", 1], [["a"]], {"a": 1}])
def test_wrong_stops_are_refused_and_not_split(wrong):
    with pytest.raises(OllamaContentError, match="option 'stop' must be an array of strings"):
        _request(options={"stop": merge_stop(["R"], wrong, ["<|im_end|>"])})
