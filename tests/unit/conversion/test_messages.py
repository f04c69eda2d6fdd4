"""The prompt stack as chat messages."""

import base64
import json

import griptape.common
import pytest
from griptape.artifacts import (
    ActionArtifact,
    AudioArtifact,
    BlobArtifact,
    BooleanArtifact,
    ErrorArtifact,
    GenericArtifact,
    ImageArtifact,
    ImageUrlArtifact,
    InfoArtifact,
    JsonArtifact,
    ListArtifact,
    ModelArtifact,
    TextArtifact,
    VideoUrlArtifact,
)
from griptape.common import (
    ActionCallMessageContent,
    ActionResultMessageContent,
    AudioMessageContent,
    GenericMessageContent,
    ImageMessageContent,
    Message,
    PromptStack,
    TextMessageContent,
    ToolAction,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from griptape_ollama.conversion.messages import merge_system_messages, to_chat_groups
from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.image_formats import shown_url


def to_chat_messages(messages, **settings):
    return [message for group in to_chat_groups(messages, **settings) for message in group]


_PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
_PNG_BASE64 = base64.b64encode(_PNG).decode()


def _image(data=_PNG):
    return ImageArtifact(data, format="png", width=1, height=1)


def _text(text):
    return TextMessageContent(TextArtifact(text))


def _picture(data=_PNG):
    return ImageMessageContent(_image(data))


def _action(tag="call_1", name="Weather", path="look_up", **settings):
    return ToolAction(tag=tag, name=name, path=path, **settings)


def _call(*args, **settings):
    return ActionCallMessageContent(ActionArtifact(_action(*args, **settings)))


def _result(artifact, *args, **settings):
    artifact = TextArtifact(artifact) if isinstance(artifact, str) else artifact
    return ActionResultMessageContent(artifact, action=_action(*args, **settings))


def _user(*contents):
    return to_chat_messages([Message(list(contents), role="user")])


def test_a_conversation_keeps_roles_texts_and_order():
    stack = PromptStack()
    stack.add_system_message("Be brief.")
    stack.add_user_message("Hi")
    stack.add_assistant_message("Hello")
    stack.add_user_message("Bye")
    assert to_chat_messages(stack.messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), max_size=20))
def test_any_texts_arrive_as_they_are_one_message_each(turns):
    messages = [Message(text, role=role) for role, text in turns]
    assert to_chat_messages(messages) == [{"role": role, "content": text} for role, text in turns]


def test_an_empty_stack_has_no_messages():
    assert to_chat_messages([]) == []


def test_a_message_without_content_is_an_empty_text():
    assert _user() == [{"role": "user", "content": ""}]


def test_several_texts_of_a_message_are_joined_as_the_framework_joins_them():
    message = Message([_text("One. "), _text(""), _text("Two.")], role="user")
    assert to_chat_messages([message]) == [{"role": "user", "content": message.to_text()}]
    assert message.to_text() == "One. Two."


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_images_go_with_the_text_of_their_message_in_order(role):
    message = Message([_text("Look: "), _picture(b"one"), _text("and"), _picture(b"two")], role=role)
    assert to_chat_messages([message]) == [
        {
            "role": role,
            "content": "Look: and",
            "images": [base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()],
        }
    ]


def test_an_image_alone_has_an_empty_text():
    assert _user(_picture()) == [{"role": "user", "content": "", "images": [_PNG_BASE64]}]


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{_PNG_BASE64}",
        f"DATA:image/png;BASE64,{_PNG_BASE64}",
        "data:image/png;base64," + _PNG_BASE64.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png," + "".join(f"%{byte:02x}" for byte in _PNG),
    ],
)
def test_a_data_url_becomes_plain_base64(url):
    content = ImageMessageContent(ImageUrlArtifact(url))
    assert _user(content) == [{"role": "user", "content": "", "images": [_PNG_BASE64]}]


@pytest.mark.parametrize(
    ("artifact", "told"),
    [
        (ImageUrlArtifact("cat.png"), "'cat.png' is no URL of an image: use http, https or data"),
        (ImageUrlArtifact("ftp://example.com/cat.png"), "is no URL of an image: use http, https or data"),
        (ImageUrlArtifact("file:///etc/passwd"), "is no URL of an image: use http, https or data"),
        (ImageUrlArtifact("data:image/png;base64"), "has no comma"),
        (ImageUrlArtifact("data:image/png;base64,"), "is empty"),
        (ImageUrlArtifact("data:image/png;base64,%%%"), "is not valid base64"),
        (ImageUrlArtifact("data:image/png;base64,abc"), "is not valid base64"),
        (ImageUrlArtifact("data:image/png;base64,äöü="), "is not valid base64"),
        (ImageArtifact(b"", format="png", width=0, height=0, name="blank"), "The image 'blank' is empty"),
    ],
)
def test_an_image_that_cannot_be_sent_is_refused_with_the_reason(artifact, told):
    with pytest.raises(OllamaContentError, match=told):
        _user(_text("Look"), ImageMessageContent(artifact))


def test_what_is_no_image_at_all_is_named():
    content = _picture()
    content.artifact = TextArtifact("cat")
    with pytest.raises(OllamaContentError, match="TextArtifact is not an image: use ImageArtifact"):
        _user(content)


@pytest.mark.parametrize(
    ("url", "fetched"),
    [
        ("ftp://example.com/cat.png?signature=hunter2", {}),
        ("ftp://me:hunter2@example.com/cat.png", {}),
        ("https://me:hunter2@example.com/cat.bmp?signature=hunter2", b"BM and so on"),
    ],
)
def test_the_secrets_of_a_url_do_not_get_into_the_error(url, fetched):
    message = Message([ImageMessageContent(ImageUrlArtifact(url))], role="user")
    with pytest.raises(OllamaContentError, match=r"example\.com/cat") as caught:
        to_chat_messages([message], fetched={url: fetched} if fetched else {})
    assert "hunter2" not in str(caught.value)


def test_a_call_carries_its_id_name_and_arguments():
    [message] = to_chat_messages([Message([_call(input={"values": {"city": "Paris"}})], role="assistant")])
    assert message == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "id": "call_1",
                "function": {"index": 0, "name": "Weather_look_up", "arguments": {"values": {"city": "Paris"}}},
            }
        ],
    }


def test_text_and_several_calls_stay_in_one_message_and_calls_are_numbered():
    calls = [_call("a", input={"n": 1}), _call("b", input={"n": 1}), _call("c", path="forget")]
    [message] = to_chat_messages([Message([_text("Let me look."), *calls], role="assistant")])
    assert message["content"] == "Let me look."
    assert [(call["id"], call["function"]["index"]) for call in message["tool_calls"]] == [("a", 0), ("b", 1), ("c", 2)]
    assert [call["function"]["name"] for call in message["tool_calls"]] == [
        "Weather_look_up",
        "Weather_look_up",
        "Weather_forget",
    ]
    assert message["tool_calls"][2]["function"]["arguments"] == {}


def test_a_call_without_activity_keeps_its_name():
    [message] = to_chat_messages([Message([_call(path=None)], role="assistant")])
    assert message["tool_calls"][0]["function"]["name"] == "Weather"


def test_arguments_are_an_object_even_where_the_framework_has_none():
    call = _call()
    call.artifact.value.input = None
    [message] = to_chat_messages([Message([call], role="assistant")])
    assert message["tool_calls"][0]["function"]["arguments"] == {}


def test_a_result_becomes_a_tool_message_that_says_which_call_it_answers():
    assert _user(_result("12 degrees", "call_7")) == [
        {"role": "tool", "content": "12 degrees", "tool_name": "Weather_look_up", "tool_call_id": "call_7"}
    ]


def test_each_result_is_a_message_of_its_own_in_order():
    messages = _user(_result("one", "a"), _result("two", "b"), _result("three", "c", path="forget"))
    assert [(each["role"], each["content"], each["tool_call_id"], each["tool_name"]) for each in messages] == [
        ("tool", "one", "a", "Weather_look_up"),
        ("tool", "two", "b", "Weather_look_up"),
        ("tool", "three", "c", "Weather_forget"),
    ]


def test_results_come_first_since_models_expect_them_right_behind_the_calls():
    messages = _user(_text("before, "), _picture(), _result("one", "a"), _result("two", "b"), _text("after"))
    assert messages == [
        {"role": "tool", "content": "one", "tool_name": "Weather_look_up", "tool_call_id": "a"},
        {"role": "tool", "content": "two", "tool_name": "Weather_look_up", "tool_call_id": "b"},
        {"role": "user", "content": "before, after", "images": [_PNG_BASE64]},
    ]


def test_nothing_but_empty_text_beside_results_is_no_message():
    assert [message["role"] for message in _user(_text(""), _result("one"), _text(""))] == ["tool"]


def test_an_image_beside_results_is_a_message_even_without_text():
    assert [message["role"] for message in _user(_result("one"), _picture())] == ["tool", "user"]


def test_calls_beside_results_are_not_lost():
    first, second = to_chat_messages([Message([_call("b"), _result("one", "a")], role="assistant")])
    assert (first["tool_call_id"], second["tool_calls"][0]["id"]) == ("a", "b")


def test_many_turns_of_calls_and_results_keep_their_order_and_their_ids():
    stack = PromptStack()
    for turn in range(20):
        stack.add_user_message(f"Question {turn}")
        stack.messages.append(Message([_call(f"{turn}a"), _call(f"{turn}b")], role="assistant"))
        stack.messages.append(Message([_result("A", f"{turn}a"), _result("B", f"{turn}b")], role="user"))
        stack.add_assistant_message(f"Answer {turn}")
    messages = to_chat_messages(stack.messages)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "assistant"] * 20
    calls = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    assert calls == results == [f"{turn}{letter}" for turn in range(20) for letter in "ab"]


@pytest.mark.parametrize(
    ("artifact", "text"),
    [
        (TextArtifact("text"), "text"),
        (TextArtifact(""), ""),
        (InfoArtifact("info"), "info"),
        (ErrorArtifact("it failed"), "it failed"),
        (BooleanArtifact(True), "true"),
        (JsonArtifact({"a": 1}), '{"a": 1}'),
        (BlobArtifact(b"bytes"), "bytes"),
        (ListArtifact([TextArtifact("one"), TextArtifact("two")]), "one\n\ntwo"),
        (
            ListArtifact([TextArtifact("one"), ListArtifact([InfoArtifact("two"), TextArtifact("3")])]),
            "one\n\ntwo\n\n3",
        ),
        (ListArtifact([]), ""),
    ],
)
def test_a_result_of_any_text_like_kind_is_sent_as_text(artifact, text):
    [message] = _user(_result(artifact))
    assert message["content"] == text
    assert "images" not in message


def test_an_image_as_result_is_sent_as_image():
    [message] = _user(_result(_image()))
    assert (message["role"], message["content"], message["images"]) == ("tool", "", [_PNG_BASE64])


def test_texts_and_images_in_a_list_as_result_are_all_sent():
    url = ImageUrlArtifact(f"data:image/png;base64,{_PNG_BASE64}")
    nested = ListArtifact([TextArtifact("two"), url])
    [message] = _user(_result(ListArtifact([TextArtifact("one"), _image(b"first"), nested])))
    assert message["content"] == "one\n\ntwo"
    assert message["images"] == [base64.b64encode(b"first").decode(), _PNG_BASE64]


_UNSUPPORTED = [
    AudioArtifact(b"RIFF", format="wav"),
    VideoUrlArtifact("https://example.com/film.mp4"),
    GenericArtifact({"anything": 1}),
]


@pytest.mark.parametrize("artifact", _UNSUPPORTED, ids=lambda artifact: type(artifact).__name__)
def test_what_ollama_cannot_carry_is_a_value_error_that_names_it(artifact):
    if isinstance(artifact, VideoUrlArtifact) and not hasattr(griptape.common, "VideoMessageContent"):
        pytest.skip("Griptape 1.12 makes text of a video")
    stack = PromptStack.from_artifact(ListArtifact([TextArtifact("Listen:"), artifact]))
    with pytest.raises(OllamaContentError, match=f"^{type(artifact).__name__} cannot be sent: Ollama takes text"):
        to_chat_messages(stack.messages)
    assert issubclass(OllamaContentError, ValueError)


@pytest.mark.parametrize("artifact", _UNSUPPORTED, ids=lambda artifact: type(artifact).__name__)
def test_neither_is_it_lost_in_a_tool_result(artifact):
    for result in (artifact, ListArtifact([TextArtifact("Listen:"), ListArtifact([artifact])])):
        with pytest.raises(OllamaContentError, match=type(artifact).__name__):
            _user(_result(result))


@pytest.mark.parametrize(
    "content",
    [
        AudioMessageContent(AudioArtifact(b"RIFF", format="wav")),
        GenericMessageContent(GenericArtifact(1)),
    ],
)
def test_nor_beside_a_tool_result(content):
    with pytest.raises(OllamaContentError, match="cannot be sent"):
        _user(_result("12"), content)


@pytest.mark.skipif(not hasattr(griptape.common, "VideoMessageContent"), reason="Griptape 1.12 makes text of a video")
def test_nor_is_a_video():
    video = griptape.common.VideoMessageContent(VideoUrlArtifact("https://example.com/film.mp4"))
    with pytest.raises(OllamaContentError, match="cannot be sent"):
        _user(_result("12"), video)


@pytest.mark.parametrize("where", [_result, ImageMessageContent])
def test_an_image_that_was_fetched_is_sent_as_what_was_found(where):
    url = "https://example.com/cat.png"
    [message] = to_chat_messages([Message([where(ImageUrlArtifact(url))], role="user")], fetched={url: _PNG})
    assert message["images"] == [_PNG_BASE64]


def test_an_image_url_in_a_tool_result_that_was_not_fetched_is_refused_too():
    with pytest.raises(OllamaContentError, match="is no URL of an image"):
        _user(_result(ImageUrlArtifact("cat.png")))


def test_conversion_leaves_the_messages_as_they_are():
    message = Message([_text("a"), _picture(), _call(input={"a": {"b": 1}})], role="assistant")
    before = message.to_dict()
    to_chat_messages([message])
    assert message.to_dict() == before


class _Report(BaseModel):
    city: str


def test_a_structured_answer_of_an_earlier_task_is_sent_as_its_json():
    report = ModelArtifact(_Report(city="Oslo"))
    stack = PromptStack()
    stack.add_user_message(report)
    stack.add_user_message(ListArtifact([TextArtifact("Report: "), report]))
    messages = to_chat_messages(stack.messages)
    assert json.loads(messages[0]["content"]) == {"city": "Oslo"}
    assert messages[1]["content"] == f"Report: {messages[0]['content']}"
    (result,) = _user(_result(report))
    assert json.loads(result["content"]) == {"city": "Oslo"}


def test_bytes_that_are_no_text_are_refused_and_named():
    with pytest.raises(OllamaContentError, match="BlobArtifact"):
        _user(_result(BlobArtifact(b"\xff\xfe")))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/cat.png?signature=hunter2#hunter2", "https://example.com/cat.png"),
        ("https://me:hunter2@example.com/cat.png", "https://example.com/cat.png"),
        ("http://user:p@hunter2@h/x", "http://h"),
        ("http://user:p?hunter2@h/x", "http://h"),
        ("https://user:hunter2/q@h/x", "https://h"),
        ("http:user:hunter2@h/x", "http://h"),
        ("cat.png", "cat.png"),
    ],
)
def test_nothing_secret_of_a_url_is_shown(url, shown):
    assert shown_url(url) == shown


# System messages


def _merged(*turns):
    groups = merge_system_messages(to_chat_groups([Message(text, role=role) for role, text in turns]))
    return [[(message["role"], message["content"]) for message in group] for group in groups]


def test_several_system_messages_are_one_in_order_at_the_front():
    turns = [("system", "A"), ("user", "1"), ("system", "B"), ("assistant", "2"), ("system", "C"), ("user", "3")]
    assert _merged(*turns) == [
        [("system", "A\n\nB\n\nC")],
        [("user", "1")],
        [],
        [("assistant", "2")],
        [],
        [("user", "3")],
    ]


def test_a_late_system_message_goes_first_and_groups_still_stand_for_messages():
    assert _merged(("user", "1"), ("system", "A")) == [[("system", "A"), ("user", "1")], []]


def test_an_empty_system_message_adds_nothing():
    assert _merged(("system", "A"), ("system", ""), ("user", "1")) == [[("system", "A")], [], [("user", "1")]]


@pytest.mark.parametrize("turns", [[], [("user", "1")], [("system", "A"), ("user", "1")], [("system", "")]])
def test_one_system_message_at_the_front_stays_as_it_is(turns):
    assert _merged(*turns) == [[turn] for turn in turns]
