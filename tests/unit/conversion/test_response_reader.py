"""Lines of a reply as deltas and as the message that they add up to."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
from griptape.artifacts import ActionArtifact, TextArtifact
from griptape.common import (
    ActionCallDeltaMessageContent,
    ActionCallMessageContent,
    TextDeltaMessageContent,
    TextMessageContent,
    ToolAction,
)
from hypothesis import given
from hypothesis import strategies as st

from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent
from griptape_ollama.conversion.response_reader import META_KEY, ResponseReader
from griptape_ollama.errors import OllamaStreamError

_RECORDINGS = Path(__file__).parents[2] / "contract" / "recordings" / "0.33.0-rc2"
_ENDS = {"done": True, "done_reason": "stop"}


def _recorded(name):
    response = json.loads((_RECORDINGS / f"{name}.json").read_text())["response"]
    return [json.loads(entry["line"]) for entry in response["lines"]] if "lines" in response else [response["body"]]


def _line(content="", *, model="m", more=None, **message):
    return {
        "model": model,
        "created_at": "2026-11-20T08:49:41Z",
        "message": {"role": "assistant", "content": content, **message},
        "done": False,
        **(more or {}),
    }


def _last(content="", **more):
    message = more.pop("message", {})
    return _line(content, more={**_ENDS, **more}, **message)


def _call(name="Weather_look_up", arguments=None, **more):
    return {"function": {"name": name, "arguments": {} if arguments is None else arguments}, **more}


def _read(lines, **settings):
    """Feed all lines; give the deltas, the message, and the metadata."""
    reader = ResponseReader(**settings)
    deltas = [delta for line in lines for delta in reader.feed(line)]
    metadata = reader.metadata()
    return deltas, reader.message(metadata), metadata


def _actions(message):
    return [content.artifact.value for content in message.content if isinstance(content, ActionCallMessageContent)]


def _summary(message):
    """What a message says, content by content."""
    return [
        (content.artifact.value.name, content.artifact.value.path, content.artifact.value.input)
        if isinstance(content, ActionCallMessageContent)
        else content.artifact.value
        for content in message.content
    ]


def _everything(message):
    """All of a message but the ids that every artifact draws."""
    return message.role, _summary(message), message.usage, [content.artifact.meta for content in message.content]


def _without_thinking(deltas):
    """What the driver gives to the framework, which knows no thinking."""
    return [delta for delta in deltas if not isinstance(delta, ReasoningDeltaMessageContent)]


def _from_deltas(deltas):
    """Put deltas together as the framework does."""
    groups = {}
    for delta in _without_thinking(deltas):
        groups.setdefault(delta.index, []).append(delta)
    kinds = {TextDeltaMessageContent: TextMessageContent, ActionCallDeltaMessageContent: ActionCallMessageContent}
    return [kinds[type(group[0])].from_deltas(group) for group in groups.values()]


def test_text_arrives_piece_by_piece_and_adds_up():
    deltas, message, _ = _read([_line("Hel"), _line("lo"), _last()])
    assert [(delta.text, delta.index) for delta in deltas] == [("Hel", 0), ("lo", 0)]
    assert _summary(message) == ["Hello"]
    assert message.is_assistant()


def test_text_in_the_last_line_counts():
    deltas, message, _ = _read([_line("Hel"), _last("lo")])
    assert [delta.text for delta in deltas] == ["Hel", "lo"]
    assert _summary(message) == ["Hello"]


def test_a_reply_of_one_line_is_read_like_a_stream():
    _, streamed, _ = _read([_line("Hel"), _line("lo"), _last(eval_count=2)])
    _, plain, _ = _read([_last("Hello", eval_count=2)])
    assert _everything(plain) == _everything(streamed)


def test_lines_without_content_have_no_delta():
    reader = ResponseReader()
    for line in (_line(""), _line(None), _line("", thinking=""), _line("", tool_calls=[]), _last()):
        assert list(reader.feed(line)) == []


def test_an_empty_reply_is_one_empty_text():
    _, message, metadata = _read([_last(eval_count=0)])
    assert _summary(message) == [""]
    assert message.content[0].artifact.meta[META_KEY] == metadata


def test_the_text_so_far_is_there_at_any_time():
    reader = ResponseReader()
    assert reader.text == ""
    reader.feed(_line("Hel"))
    assert reader.text == "Hel"
    reader.feed(_line("lo"))
    assert reader.text == "Hello"


def test_a_call_is_one_delta_with_all_its_arguments():
    [delta], message, _ = _read([_line(tool_calls=[_call(arguments={"city": "Oslo"}, id="call_1")]), _last()])
    assert (delta.tag, delta.name, delta.path, delta.index) == ("call_1", "Weather", "look_up", 0)
    assert json.loads(delta.partial_input) == {"city": "Oslo"}
    assert _summary(message) == [("Weather", "look_up", {"city": "Oslo"})]
    assert _actions(message)[0].tag == "call_1"


def test_a_reply_of_calls_alone_has_no_empty_text():
    _, message, _ = _read([_line(tool_calls=[_call()]), _last()])
    assert [type(content) for content in message.content] == [ActionCallMessageContent]
    assert isinstance(message.to_artifact(), ActionArtifact)


def test_calls_in_lines_of_their_own_are_all_kept_in_order():
    lines = [_line(tool_calls=[_call(arguments={"n": n}, id=f"call_{n}")]) for n in range(3)]
    deltas, message, _ = _read([*lines, _last()])
    assert [delta.index for delta in deltas] == [0, 1, 2]
    assert [action.input["n"] for action in _actions(message)] == [0, 1, 2]


def test_two_calls_in_one_line_are_both_kept():
    calls = [_call(arguments={"city": "Oslo"}, id="a"), _call(arguments={"city": "Rome"}, id="b")]
    deltas, message, _ = _read([_line(tool_calls=calls), _last()])
    assert [(delta.tag, delta.index) for delta in deltas] == [("a", 0), ("b", 1)]
    assert [action.input["city"] for action in _actions(message)] == ["Oslo", "Rome"]


def test_calls_inside_the_last_line_are_kept():
    deltas, message, _ = _read([_last(message={"tool_calls": [_call(id="a"), _call(id="b")]})])
    assert [delta.tag for delta in deltas] == ["a", "b"]
    assert [action.tag for action in _actions(message)] == ["a", "b"]


def test_text_and_call_in_one_line_are_both_kept_text_first():
    deltas, message, _ = _read([_last("Let me look. ", message={"tool_calls": [_call()]})])
    assert [(type(delta).__name__, delta.index) for delta in deltas] == [
        ("TextDeltaMessageContent", 0),
        ("ActionCallDeltaMessageContent", 1),
    ]
    assert _summary(message) == ["Let me look. ", ("Weather", "look_up", {})]


def test_text_after_a_call_is_a_content_behind_it():
    deltas, message, _ = _read([_line(tool_calls=[_call()]), _line("Now "), _line("wait."), _last()])
    assert [delta.index for delta in deltas] == [0, 1, 1]
    assert _summary(message) == [("Weather", "look_up", {}), "Now wait."]


def test_text_between_calls_keeps_the_place_of_its_first_piece():
    lines = [
        _line(tool_calls=[_call(arguments={"n": 1})]),
        _line("A"),
        _line(tool_calls=[_call(arguments={"n": 2})]),
        _line("B"),
        _last(),
    ]
    deltas, message, _ = _read(lines)
    assert [delta.index for delta in deltas] == [0, 1, 2, 1]
    assert _summary(message) == [("Weather", "look_up", {"n": 1}), "AB", ("Weather", "look_up", {"n": 2})]


def test_identical_calls_are_kept_apart():
    _, message, _ = _read([_line(tool_calls=[_call(), _call()]), _last()])
    first, second = _actions(message)
    assert first.tag != second.tag
    assert first.input == second.input == {}


@pytest.mark.parametrize("server_id", [None, "", 7, [], {}])
def test_a_call_without_usable_id_gets_one_of_ours(server_id):
    more = {} if server_id is None else {"id": server_id}
    _, message, _ = _read([_line(tool_calls=[_call(**more), _call(**more)]), _last()])
    tags = [action.tag for action in _actions(message)]
    assert len(set(tags)) == 2
    assert all(re.fullmatch(r"call_[0-9a-f]{8}", tag) for tag in tags)


def test_an_id_that_comes_twice_is_used_once():
    _, message, _ = _read([_line(tool_calls=[_call(id="call_0")]), _line(tool_calls=[_call(id="call_0")]), _last()])
    first, second = (action.tag for action in _actions(message))
    assert first == "call_0"
    assert second != "call_0"


def test_an_id_of_an_earlier_turn_is_not_used_again():
    [delta], message, _ = _read([_last(message={"tool_calls": [_call(id="call_0")]})], used_tags=["call_0"])
    assert delta.tag != "call_0"
    assert _actions(message)[0].tag == delta.tag


@pytest.mark.parametrize(
    ("native_name", "name", "path"),
    [
        ("Weather_look_up", "Weather", "look_up"),
        ("Weather_", "Weather", ""),
        ("weather", "weather", None),
        ("_look_up", "", "look_up"),
    ],
)
def test_a_name_is_split_as_the_framework_splits_it(native_name, name, path):
    _, message, _ = _read([_last(message={"tool_calls": [_call(native_name)]})])
    [action] = _actions(message)
    assert (action.name, action.path) == (name, path) == ToolAction.from_native_tool_name(native_name)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"a": {"b": [1, None]}}, {"a": {"b": [1, None]}}),
        ({}, {}),
        (None, {}),
        ('{"a": 1}', {"a": 1}),
        ("", {}),
        ("{}", {}),
    ],
)
def test_arguments_are_an_object_in_the_end(arguments, expected):
    call = {"id": "a", "function": {"name": "Weather_look_up", "arguments": arguments}}
    _, message, _ = _read([_last(message={"tool_calls": [call]})])
    assert _actions(message)[0].input == expected


def test_missing_arguments_are_none_at_all():
    _, message, _ = _read([_last(message={"tool_calls": [{"function": {"name": "Weather_look_up"}}]})])
    assert _actions(message)[0].input == {}


def test_thinking_is_kept_in_the_metadata_and_not_in_the_text():
    lines = [_line(thinking="Hm, "), _line(thinking="well."), _line("Hello"), _last()]
    deltas, message, metadata = _read(lines)
    assert [(type(delta), delta.text) for delta in deltas] == [
        (ReasoningDeltaMessageContent, "Hm, "),
        (ReasoningDeltaMessageContent, "well."),
        (TextDeltaMessageContent, "Hello"),
    ]
    assert _summary(message) == ["Hello"]
    assert metadata["thinking"] == "Hm, well."


def test_without_thinking_there_is_no_entry_for_it():
    assert "thinking" not in _read([_line("Hello"), _last()])[2]


def test_log_probabilities_of_all_lines_are_put_together():
    lines = [
        _line("a", more={"logprobs": [{"token": "a"}]}),
        _line("b", more={"logprobs": [{"token": "b"}, {"token": "c"}]}),
        _last(),
    ]
    assert [entry["token"] for entry in _read(lines)[2]["logprobs"]] == ["a", "b", "c"]


def test_unknown_fields_are_kept():
    lines = [_line("a", more={"new_of_line": 1}), _line("b", new_of_message={"x": 1}), _last(new_at_end=[None])]
    metadata = _read(lines)[2]
    assert metadata["new_of_line"] == 1
    assert metadata["new_of_message"] == {"x": 1}
    assert metadata["new_at_end"] == [None]


def test_durations_are_in_seconds_and_tokens_per_second_are_computed():
    last = _last(
        total_duration=2_500_000_000,
        load_duration=500_000_000,
        prompt_eval_count=45,
        prompt_eval_duration=250_000_000,
        eval_count=30,
        eval_duration=1_500_000_000,
    )
    _, message, metadata = _read([_line("x"), last])
    assert metadata == {
        "model": "m",
        "created_at": "2026-11-20T08:49:41Z",
        "done_reason": "stop",
        "prompt_eval_count": 45,
        "eval_count": 30,
        "total_seconds": 2.5,
        "load_seconds": 0.5,
        "prompt_seconds": 0.25,
        "generation_seconds": 1.5,
        "tokens_per_second": 20.0,
    }
    assert (message.usage.input_tokens, message.usage.output_tokens) == (45, 30)
    assert message.usage.total_tokens == 75


@pytest.mark.parametrize(
    "counts",
    [{}, {"eval_count": 3}, {"eval_duration": 5}, {"eval_count": 3, "eval_duration": 0}, {"eval_count": None}],
)
def test_missing_counts_are_fine(counts):
    _, message, metadata = _read([_line("x"), _last(**counts)])
    assert message.usage.input_tokens is None
    assert message.usage.output_tokens == counts.get("eval_count")
    assert "tokens_per_second" not in metadata


@pytest.mark.parametrize("absurd", [10**400, -1, float("inf"), float("nan"), True, "12", [1], None, 1e-300], ids=str)
def test_impossible_counters_count_as_missing(absurd):
    last = _last(prompt_eval_count=absurd, eval_count=absurd, eval_duration=absurd, total_duration=absurd)
    _, message, metadata = _read([_line("x"), last])
    assert (message.usage.input_tokens, message.usage.output_tokens) == (None, None)
    counters = {"prompt_eval_count", "eval_count", "eval_duration", "total_duration", "tokens_per_second"}
    assert not counters & set(metadata)
    json.dumps(metadata, allow_nan=False)


def test_an_infinite_rate_is_left_out():
    _, _, metadata = _read([_line("x"), _last(eval_count=2**62, eval_duration=1e-300)])
    assert metadata["eval_count"] == 2**62
    assert "tokens_per_second" not in metadata


def test_numbers_that_json_does_not_know_are_kept_as_text():
    logprobs = [{"token": "x", "logprob": float("-inf")}]
    _, _, metadata = _read([_line("x"), _last(logprobs=logprobs, score=float("nan"), limit=1.5)])
    assert metadata["logprobs"] == [{"token": "x", "logprob": "-Infinity"}]
    assert (metadata["score"], metadata["limit"]) == ("NaN", 1.5)


def test_a_field_that_is_nested_too_deeply_to_be_copied_is_left_out():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    _, message, metadata = _read([_line("x"), _last(deep=deep, kept=[1])])
    assert _summary(message) == ["x"]
    assert metadata["kept"] == [1]
    assert "deep" not in metadata


def test_fields_of_a_reply_do_not_pass_for_what_is_found_out_here():
    names = "thinking", "problem", "requests", "cut_by", "truncated", "complete", "context", "host", "total_seconds"
    _, _, metadata = _read([_line("x"), _last(**dict.fromkeys(names, True))])
    assert not set(names) & set(metadata)


def test_what_the_caller_measured_wins_over_what_a_server_says_under_the_same_name():
    reader = ResponseReader()
    reader.feed(_last("x", host="forged", context=[1, 2], total_seconds="x", tokens_per_second=[], eval_count=3))
    metadata = reader.metadata(host="http://gpu", context={"window": 4096})
    assert (metadata["host"], metadata["context"]) == ("http://gpu", {"window": 4096})
    assert not {"total_seconds", "tokens_per_second"} & set(metadata)


def test_what_the_caller_measured_is_added_unless_it_is_none():
    reader = ResponseReader()
    reader.feed(_last("x"))
    metadata = reader.metadata(host="http://gpu", time_to_first_token=None)
    assert metadata["host"] == "http://gpu"
    assert "time_to_first_token" not in metadata


def test_every_content_carries_metadata_of_its_own():
    _, message, metadata = _read([_line("Hi"), _line(tool_calls=[_call(), _call()]), _last()])
    metas = [content.artifact.meta[META_KEY] for content in message.content]
    assert metas == [metadata] * 3
    metas[0]["changed"] = True
    assert "changed" not in metas[1]


def test_a_last_line_without_message_ends_a_reply_too():
    _, message, metadata = _read([_line("Hi"), {"model": "m", **_ENDS, "eval_count": 1}])
    assert _summary(message) == ["Hi"]
    assert message.usage.output_tokens == 1
    assert metadata["done_reason"] == "stop"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ({"model": "m", "done": False}, "message"),
        ({}, "message"),
        ({"message": "Hello", "done": True}, "message"),
        ({"message": ["Hello"], "done": False}, "message"),
        ({"response": "Hello", "done": False}, "message"),
        (_line(5), "content"),
        (_line([{"type": "text", "text": "Hi"}]), "content"),
        (_line({"text": "Hi"}), "content"),
        (_line("", thinking=["Hm"]), "thinking"),
        (_line("", tool_calls={"function": {}}), "tool_calls"),
        (_line("", tool_calls="Weather_look_up"), "tool_calls"),
        (_line("", tool_calls=[None]), "tool call"),
        (_line("", tool_calls=["Weather_look_up"]), "tool call"),
        (_line("", tool_calls=[{"name": "Weather_look_up"}]), "tool call"),
        (_line("", tool_calls=[{"function": "Weather_look_up"}]), "tool call"),
        (_line("", tool_calls=[{"function": {"arguments": {}}}]), "name of a tool call"),
        (_line("", tool_calls=[_call("")]), "name of a tool call"),
        (_line("", tool_calls=[_call(7)]), "name of a tool call"),
        (_line("", tool_calls=[_call(arguments=[1])]), "arguments of a tool call"),
        (_line("", tool_calls=[_call(arguments="{broken")]), "arguments of a tool call"),
        (_line("", tool_calls=[_call(arguments="[1]")]), "arguments of a tool call"),
        (_line("", tool_calls=[_call(arguments=7)]), "arguments of a tool call"),
    ],
)
def test_a_line_that_is_no_chat_reply_is_a_stream_error_that_says_what_is_odd(line, named):
    with pytest.raises(OllamaStreamError, match=f"The reply has a {named} that cannot be read"):
        ResponseReader().feed(line)


def test_the_error_shows_the_beginning_of_what_is_odd_only():
    with pytest.raises(OllamaStreamError) as caught:
        ResponseReader().feed(_line(["x" * 10_000]))
    assert len(str(caught.value)) < 300


def test_recorded_text():
    deltas, message, metadata = _read(_recorded("chat_stream"))
    assert "".join(delta.text for delta in deltas) == message.to_text()
    assert message.to_text().startswith("Hello! I am")
    assert metadata["done_reason"] == "stop"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (45, 24)
    assert metadata["tokens_per_second"] == pytest.approx(24 / 0.002162)


def test_recorded_text_of_many_bytes():
    _, message, _ = _read(_recorded("utf8_stream"))
    assert message.to_text().startswith("Café and ")


def test_recorded_calls_in_lines_of_their_own():
    deltas, message, _ = _read(_recorded("tools_two_calls_stream"))
    assert [delta.tag for delta in deltas] == ["call_rojhtk92", "call_ho9vpfh1"]
    assert [action.input for action in _actions(message)] == [{"city": "Oslo"}, {"city": "Rome", "unit": "celsius"}]


def test_recorded_call_inside_the_last_line_after_thinking():
    deltas, message, metadata = _read(_recorded("tools_native_stream"))
    [delta] = _without_thinking(deltas)
    assert delta.tag == "XyIBvn5xpF6nY9lAN2k4NgziCT8rsGp9"
    assert _summary(message) == [("get", "weather", {"city": "Lyon"})]
    assert metadata["thinking"].startswith("I need the weather, therefore")
    assert message.usage.input_tokens == 606


def test_recorded_text_and_call_in_one_line():
    deltas, message, _ = _read(_recorded("tools_content_and_call_nostream"))
    assert [delta.index for delta in deltas] == [0, 1]
    assert _summary(message) == ["Let me look that up first.\n", ("get", "weather", {"city": "Berlin"})]


def test_recorded_thinking_before_a_call_streamed_and_plain():
    _, streamed, streamed_meta = _read(_recorded("tools_thinking_stream"))
    _, plain, plain_meta = _read(_recorded("tools_thinking_nostream"))
    assert _summary(streamed) == _summary(plain)
    assert streamed_meta["thinking"] == plain_meta["thinking"]


def test_recorded_log_probabilities_streamed_and_plain():
    streamed, plain = (_read(_recorded(f"chat_logprobs_{kind}"))[2] for kind in ("stream", "nostream"))
    assert len(streamed["logprobs"]) == len(plain["logprobs"]) == streamed["eval_count"]
    assert streamed["logprobs"][0]["token"] == " fox"
    assert len(streamed["logprobs"][0]["top_logprobs"]) == 3


# All marks of thinking begin with one of these; what is between marks is tested elsewhere.
_TEXTS = st.text(st.characters(exclude_characters="<["), min_size=1)
_EVENTS = st.lists(
    _TEXTS.map(_line)
    | _TEXTS.map(lambda text: _line(thinking=text))
    | st.lists(st.integers(0, 9), min_size=1, max_size=3).map(
        lambda numbers: _line(tool_calls=[_call(arguments={"n": n}) for n in numbers])
    )
    | st.just(_line("")),
    max_size=12,
)


@given(_TEXTS, st.data())
def test_however_a_text_is_cut_the_message_is_the_same(text, data):
    positions = sorted(data.draw(st.lists(st.integers(0, len(text)))))
    edges = [0, *positions, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    deltas, message, _ = _read([*map(_line, pieces), _last()])
    assert _everything(message) == _everything(_read([_last(text)])[1])
    assert "".join(delta.text for delta in deltas) == text
    assert all(delta.text for delta in deltas)


@given(_EVENTS)
def test_deltas_put_together_by_the_framework_are_the_message(lines):
    deltas, message, _ = _read([*lines, _last()])
    together = _from_deltas(deltas)
    if not together:
        assert _summary(message) == [""]
        return
    assert [_plain(content) for content in together] == [_plain(content) for content in message.content]
    assert [delta.index for delta in deltas if isinstance(delta, ActionCallDeltaMessageContent)] == [
        index for index, content in enumerate(message.content) if isinstance(content, ActionCallMessageContent)
    ]


@given(_EVENTS)
def test_tags_are_unique_and_nothing_is_lost(lines):
    deltas, message, metadata = _read([*lines, _last()])
    calls = [call for line in lines for call in line["message"].get("tool_calls", [])]
    tags = [action.tag for action in _actions(message)]
    assert [action.input for action in _actions(message)] == [call["function"]["arguments"] for call in calls]
    assert len(set(tags)) == len(tags)
    assert message.to_text() == "".join(line["message"]["content"] for line in lines)
    assert metadata.get("thinking", "") == "".join(line["message"].get("thinking", "") for line in lines)
    assert all(delta.text for delta in deltas if isinstance(delta, TextDeltaMessageContent))


def _plain(content):
    value = content.artifact.value
    return (value.tag, value.name, value.path, value.input) if isinstance(value, ToolAction) else value


def test_a_single_text_is_a_text_artifact_with_metadata():
    _, message, metadata = _read([_line("Hi"), _last()])
    artifact = message.to_artifact()
    assert isinstance(artifact, TextArtifact)
    assert artifact.meta == {META_KEY: metadata}
    assert artifact.to_dict()["meta"] == {META_KEY: metadata}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": [{"function": {"name": "Weather_look_up", "arguments": {}}}]},
        {"content": "hi", "tool_calls": [{"function": {"name": "Weather_look_up", "arguments": {}}}]},
    ],
)
def test_a_call_beside_few_other_keys_is_not_lost(message):
    reader = ResponseReader()
    assert reader.feed({"model": "m", "created_at": "now", "message": message, "done": False})
    assert any(isinstance(content, ActionCallMessageContent) for content in reader.message({}).content)


def test_thinking_beside_few_other_keys_is_not_lost():
    reader = ResponseReader()
    reader.feed({"model": "m", "created_at": "now", "message": {"role": "assistant", "thinking": "Hm"}, "done": False})
    assert reader.metadata()["thinking"] == "Hm"


def test_facts_of_a_short_last_line_are_not_lost():
    reader = ResponseReader()
    reader.feed({"message": {"content": "Hi"}, "done": True, "done_reason": "length", "eval_count": 3})
    assert reader.metadata()["done_reason"] == "length"
    assert reader.usage().output_tokens == 3


@pytest.mark.parametrize("odd", ["3", [3], True, {"n": 3}])
def test_a_count_that_is_no_number_is_no_usage(odd):
    reader = ResponseReader()
    reader.feed({"message": {"content": "Hi"}, "done": True, "eval_count": odd})
    assert reader.usage().output_tokens is None
