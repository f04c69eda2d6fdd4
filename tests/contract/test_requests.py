"""What the driver sends is what was sent when the recordings were made.

Two differences are everywhere: `stream` is always true, since the wire always streams, and a temperature of 0.1,
Griptape's default, goes out where neither the user nor the model has set one (of the recorded models, tiny-chat has).
All others are stated where they are.
"""

import base64
import copy
from datetime import timedelta

import pytest
from griptape.artifacts import ActionArtifact, ImageArtifact, ImageUrlArtifact, ListArtifact, TextArtifact
from griptape.common import PromptStack, ToolAction
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Optional, Or, Schema

from contract.observing import new_driver, prompt, run
from contract.replay import Answer, ReplayServer, recording
from griptape_ollama import OllamaContentError

streamed_and_plain = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])

SCHEMA = recording("format_schema_stream").request["format"]
WEATHER = recording("tools_stream").request["tools"][0]["function"]


class GetTool(BaseTool):
    """A tool as people write them, whose only function has the name of the recorded one: `get_weather`."""

    @activity(
        config={
            "description": "Weather of a city",
            "schema": Schema({Literal("city", description="city"): str, Optional("unit"): Or("celsius", "fahrenheit")}),
        }
    )
    def weather(self, city, unit=None):
        return TextArtifact("sunny")


class JsonSchemaTool(BaseTool):
    """A tool that knows its parameters as a JSON schema."""

    def __init__(self, function):
        super().__init__(name="get")
        self.function = function

    @activity(config={"description": "{{ _self.function.description }}", "schema": Schema({})})
    def weather(self, values):
        return TextArtifact("sunny")

    def to_activity_json_schema(self, activity, schema_id):
        return self.function["parameters"]


def get_tool():
    return GetTool(name="get")


def conversation_of(name):
    """The messages of a recorded request, as Griptape holds them."""
    stack = PromptStack()
    for message in recording(name).request["messages"]:
        texts = [TextArtifact(message["content"])] if message["content"] else []
        images = [_image(text) for text in message.get("images", [])]
        calls = [ActionArtifact(_action(call)) for call in message.get("tool_calls", [])]
        if message["role"] == "tool":
            output = ActionArtifact(ToolAction(tag=message["tool_call_id"], **_names(message["tool_name"])))
            output.value.output = TextArtifact(message["content"])
            stack.add_user_message(output)
        else:
            stack.add_message(ListArtifact([*texts, *images, *calls]), message["role"])
    return stack


def _image(text):
    return ImageArtifact(base64.b64decode(text), format="png", width=80, height=60)


def _names(native_name):
    return dict(zip(("name", "path"), native_name.split("_", 1), strict=True))


def _action(call):
    return ToolAction(tag=call["id"], input=call["function"]["arguments"], **_names(call["function"]["name"]))


def sent(stack, *, model, answer=None, **settings):
    """The body of the request that a driver makes of a prompt."""
    has_format = "format" in settings or "format" in settings.get("extra_params", {})
    # What answers a format with prose is asked again.
    answer = answer or ("format_schema_stream" if has_format else "chat_stream")
    with ReplayServer(Answer.of(recording(answer))) as server:
        result = run(new_driver(server.host, model=model, **settings), stack)
        assert result.error is None, result.error
        (body,) = server.chats
    return body


def recorded_request(name, *, temperature=None):
    """The recorded request, with the two differences that are everywhere."""
    body = copy.deepcopy(recording(name).request)
    body["stream"] = True
    if temperature is not None:
        body["options"] = {**body.get("options", {}), "temperature": temperature}
    return body


# Recording: settings of the driver that make the same request. The model, tiny-chat, has a temperature of its own.
OF_A_MODEL_WITH_A_TEMPERATURE = {
    "assistant_last_prefill": {},
    "chat_cold_stream": {},
    "chat_latest_tag": {},
    "chat_model_uppercase": {},
    "chat_num_predict_0": {"options": {"num_predict": 0}},
    "chat_num_predict_3": {"max_tokens": 3},
    "chat_num_predict_minus2": {"options": {"num_predict": -2}},
    "chat_option_float_int": {"options": {"num_predict": 3.0}},  # goes out as 3: the same number
    "chat_overlong_history": {"num_ctx": None},
    "chat_overlong_truncate_false_stream": {"truncate": False, "num_ctx": None},
    "chat_render_system": {"extra_params": {"_debug_render_only": True}},
    "chat_stop": {"options": {"stop": [" scripted"]}},
    "chat_stop_nostream": {"options": {"stop": ("server.",)}},
    "chat_stream": {},
    "chat_unknown_option": {"options": {"frobnicate": 3}},
    "chat_with_keepalive_0": {"keep_alive": 0},
    "extra_unknown_key": {"extra_params": {"zzz": 1}},
    "format_json_stream": {"format": "json"},
    "format_schema_cut": {"format": SCHEMA, "max_tokens": 5},
    "format_schema_stream": {"format": SCHEMA},
    "gzip_accept": {},
    "keepalive_30_int": {"keep_alive": 30},
    "keepalive_5m": {"keep_alive": "5m"},
    "keepalive_default": {},
    "keepalive_float": {"keep_alive": 1.5},
    "keepalive_minus1": {"keep_alive": -1},
    "num_ctx_huge": {"options": {"num_ctx": 1000000}},
    "num_ctx_reload": {"options": {"num_ctx": 1024}},
    "think_false_on_nonthinking_model": {"think": False},
    "unknown_model_tag": {},
}
# Here the default temperature is added.
OF_A_MODEL_WITHOUT = {
    "chat_logprobs_stream": {"options": {"num_predict": 3, "seed": 1}, "logprobs": True, "top_logprobs": 3},
    "chat_seed_1a": {"options": {"seed": 1, "num_predict": 12}},
    "chat_shift_false": {"shift": False, "options": {"num_ctx": 64, "num_predict": 400}},
    "chat_top_logprobs_only": {"max_tokens": 2, "top_logprobs": 2},
    "format_schema_native_stream": {"format": SCHEMA},
    "image_jpeg": {},
    "image_on_vision": {},
    "image_webp": {},
    "native_logprobs_stream": {"logprobs": True, "top_logprobs": 2, "max_tokens": 4},
    "native_overlong_history": {"num_ctx": None},
    "native_stop": {"think": False, "options": {"stop": [" scripted"]}},
    "think_default_stream": {},
    "think_false": {"think": False},
    "think_high": {"think": "high"},
    "think_true_nostream": {"think": True},
    "utf8_stream": {},
}
WITH_TOOLS = {
    "native_render": {"extra_params": {"_debug_render_only": True}},
    "tools_native_stream": {},
    "tools_num_predict_cut_stream": {"max_tokens": 6},
    "tools_roundtrip_tiny-native": {},
    "tools_roundtrip_tiny-thinktools": {},
    "tools_roundtrip_tiny-tools": {},
    "tools_stream": {},
    "tools_thinking_stream": {},
    "tools_two_calls_stream": {},
}
# Recording: settings that say the same, and what is not sent, since null means "not set".
NULLS = {
    "chat_option_null_value": ({"options": {"temperature": None}}, "options"),
    "chat_options_null": ({"options": None}, "options"),
    "format_null": ({"format": None}, "format"),
}


@streamed_and_plain
@pytest.mark.parametrize(("name", "settings"), OF_A_MODEL_WITH_A_TEMPERATURE.items())
def test_the_request_is_the_recorded_one(name, settings, stream):
    model = recording(name).request["model"]
    body = sent(conversation_of(name), model=model, stream=stream, **settings)
    unknown = {"temperature": 0.1} if name == "unknown_model_tag" else {}  # nothing is known of this model
    assert body == recorded_request(name, **unknown)


@streamed_and_plain
@pytest.mark.parametrize(("name", "settings"), OF_A_MODEL_WITHOUT.items())
def test_the_default_temperature_is_added_where_the_model_has_none(name, settings, stream):
    model = recording(name).request["model"]
    body = sent(conversation_of(name), model=model, stream=stream, **settings)
    assert body == recorded_request(name, temperature=0.1)


@streamed_and_plain
@pytest.mark.parametrize("temperature", [0, 0.1, 1.5])
@pytest.mark.parametrize("name", ["chat_stream", "chat_temperature_0"])
def test_a_temperature_that_was_set_is_sent_to_any_model(name, temperature, stream):
    options = {"num_predict": 12} if name == "chat_temperature_0" else {}
    model = recording(name).request["model"]
    body = sent(prompt(), model=model, temperature=temperature, options=options, stream=stream)
    assert body == recorded_request(name, temperature=temperature)


@pytest.mark.parametrize(("name", "settings", "key"), [(name, *case) for name, case in NULLS.items()])
def test_none_settings_are_not_sent(name, settings, key):
    expected = recorded_request(name)
    del expected[key]
    assert sent(prompt(), model="tiny-chat", **settings) == expected


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("chat_num_predict_3", {"options": {"num_predict": 3}}),
        ("chat_num_predict_3", {"extra_params": {"options": {"num_predict": 3}}}),
        ("chat_num_predict_3", {"max_tokens": 9, "options": {"num_predict": 3}}),
        ("chat_num_predict_3", {"options": {"num_predict": 9}, "extra_params": {"options": {"num_predict": 3}}}),
        ("chat_with_keepalive_0", {"keep_alive": timedelta()}),
        ("chat_with_keepalive_0", {"keep_alive": "10m", "extra_params": {"keep_alive": 0}}),
        ("keepalive_30_int", {"keep_alive": timedelta(seconds=30)}),
        ("keepalive_float", {"keep_alive": timedelta(seconds=1, milliseconds=500)}),
        ("format_json_stream", {"extra_params": {"format": "json"}}),
        ("think_false_on_nonthinking_model", {"think": True, "extra_params": {"think": False}}),
        ("chat_stream", {"extra_params": {"stream": False}}),
        ("tools_empty_list_on_nontool_model", {}),
    ],
)
def test_equivalent_settings_make_the_same_request(name, settings):
    expected = recorded_request(name)
    if expected.get("tools") == []:
        del expected["tools"]  # none are offered by leaving the field out
    assert sent(conversation_of(name), model=recording(name).request["model"], **settings) == expected


def test_a_setting_changed_later_applies():
    with ReplayServer(*[Answer.of(recording("chat_stream"))] * 2) as server:
        driver = new_driver(server.host)
        run(driver)
        driver.options["num_predict"] = 3
        driver.keep_alive = 0
        run(driver)
    assert server.chats == [
        recorded_request("chat_stream"),
        {**recorded_request("chat_num_predict_3"), "keep_alive": 0},
    ]


def test_without_metadata_of_the_model_the_default_temperature_is_added():
    with ReplayServer(Answer.of(recording("chat_stream")), knows_models=False) as server:
        run(new_driver(server.host))
        assert server.chats == [recorded_request("chat_stream", temperature=0.1)]


def test_an_image_data_url_is_sent_without_its_prefix():
    url = recording("image_data_url").request["messages"][0]["images"][0]
    stack = PromptStack()
    stack.add_user_message(ListArtifact([TextArtifact("see"), ImageUrlArtifact(url)]))
    expected = recorded_request("image_data_url", temperature=0.1)
    expected["messages"][0]["images"] = [url.removeprefix("data:image/png;base64,")]
    assert sent(stack, model="tiny-vision") == expected


class TestTools:
    @streamed_and_plain
    @pytest.mark.parametrize(("name", "settings"), WITH_TOOLS.items())
    def test_tools_with_a_json_schema_are_sent_as_recorded(self, name, settings, stream):
        stack = conversation_of(name)
        stack.tools = [JsonSchemaTool(WEATHER)]
        body = sent(stack, model=recording(name).request["model"], stream=stream, **settings)
        assert body == recorded_request(name, temperature=0.1)

    def test_a_schema_of_griptape_differs_in_one_key_that_means_the_same(self):
        stack = prompt()
        stack.tools = [get_tool()]
        body = sent(stack, model="tiny-tools")
        expected = recorded_request("tools_stream", temperature=0.1)
        parameters = expected["tools"][0]["function"]["parameters"]
        del parameters["properties"]["unit"]["type"]  # the values of the enum have one
        assert body == expected

    def test_type_lists_arrive_whole_and_a_nullable_choice_becomes_one(self):
        function = recording("tools_type_list").request["tools"][0]["function"]
        stack = prompt()
        stack.tools = [JsonSchemaTool({**function, "description": "Weather"})]
        expected = recorded_request("tools_type_list", temperature=0.1)
        expected["tools"][0]["function"]["description"] = "Weather"  # every activity has one
        expected["tools"][0]["function"]["parameters"]["properties"]["n"] = {"type": ["integer", "null"]}
        assert sent(stack, model="tiny-tools") == expected

    @streamed_and_plain
    def test_with_tools_the_format_is_sent_for_the_answer_only(self, stream):
        name = "tools_native_with_format"
        stack = conversation_of(name)
        stack.tools = [JsonSchemaTool(WEATHER)]
        answers = [Answer.of(recording("chat_stream")), Answer.of(recording("format_schema_stream"))]
        with ReplayServer(*answers) as server:
            run(new_driver(server.host, model=recording(name).request["model"], stream=stream, format=SCHEMA), stack)
        first, second = server.chats
        assert "format" not in first
        assert "tools" not in second
        assert second["format"] == recording(name).request["format"]
        assert second["messages"][: len(first["messages"])] == first["messages"]

    @streamed_and_plain
    def test_tools_are_not_offered_to_a_model_without_them(self, stream):
        name = "tools_on_nontool_model"
        assert recording(name).status == 400
        stack = conversation_of(name)
        stack.tools = [get_tool()]
        body = sent(stack, model=recording(name).request["model"], stream=stream)
        assert "tools" not in body

    def test_tools_described_in_the_prompt_are_not_offered(self):
        stack = prompt()
        stack.tools = [get_tool()]
        assert "tools" not in sent(stack, model="tiny-tools", use_native_tools=False)

    @streamed_and_plain
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("tools_stream", "tools_roundtrip_tiny-tools"),
            ("tools_two_calls_stream", "tools_roundtrip_tiny-tools"),
            ("tools_content_and_call_nostream", "tools_roundtrip_tiny-tools"),
            ("tools_thinking_stream", "tools_roundtrip_tiny-thinktools"),
            ("tools_native_stream", "tools_roundtrip_tiny-native"),
        ],
    )
    def test_an_agent_sends_calls_and_results_back_with_the_ids_of_the_server(self, first, second, stream):
        with ReplayServer(Answer.of(recording(first)), Answer.of(recording(second))) as server:
            driver = new_driver(server.host, model=recording(first).request["model"], stream=stream)
            output = Agent(prompt_driver=driver, tools=[get_tool()]).run("hi").output
        before, after = server.chats
        messages = [line["message"] for line in recording(first).lines()]
        calls = [call for message in messages for call in message.get("tool_calls", [])]
        thinking = "".join(message.get("thinking", "") for message in messages)
        assert after["messages"] == [
            *before["messages"],
            {
                "role": "assistant",
                "content": "".join(message["content"] for message in messages),
                "tool_calls": calls,
                **({"thinking": thinking} if thinking else {}),
            },
            *(
                {"role": "tool", "content": "sunny", "tool_name": "get_weather", "tool_call_id": call["id"]}
                for call in calls
            ),
        ]
        assert after["tools"] == before["tools"]
        assert output.value == "".join(line["message"]["content"] for line in recording(second).lines())
        # These are the keys that the recorded server was sent.
        recorded = recording(second).request["messages"]
        added = {"thinking"} if thinking else set()
        assert {key for message in after["messages"] for key in message} == {key for m in recorded for key in m} | added


@streamed_and_plain
@pytest.mark.parametrize("think", [True, "low", "max"])
def test_thinking_is_not_requested_from_a_model_without_it(think, stream):
    name = "think_on_nonthinking_model"
    assert recording(name).status == 400
    expected = recorded_request(name)
    del expected["think"]
    assert sent(conversation_of(name), model="tiny-chat", think=think, stream=stream) == expected


class TestStructuredOutput:
    def test_a_schema_of_griptape_becomes_the_format(self):
        stack = prompt()
        stack.output_schema = Schema(
            {"name": str, "age": int, "ok": bool, "mood": Or("happy", "sad"), "tags": [str]},
        )
        body = sent(stack, model="tiny-chat", answer="format_schema_stream", tell_schema=False)
        expected = recorded_request("format_schema_stream")
        expected["format"]["additionalProperties"] = False
        assert body == expected


class TestRefusedBeforeSending:
    """What the recorded server refused is refused before anything is sent, by an error that is also a ValueError."""

    @streamed_and_plain
    @pytest.mark.parametrize(
        ("name", "field"),
        [
            ("chat_option_temperature_string", "options"),
            ("chat_option_wrong_type", "options"),
            ("chat_stop_string", "options"),
            ("chat_top_logprobs_21", "top_logprobs"),
            ("format_bad_string", "format"),
            ("format_number", "format"),
            ("keepalive_bad_string", "keep_alive"),
            ("keepalive_bool", "keep_alive"),
            ("think_number", "think"),
        ],
    )
    @pytest.mark.parametrize("in_extra_params", [False, True], ids=["field", "extra_params"])
    def test_a_mistyped_setting(self, name, field, in_extra_params, stream):
        assert recording(name).status in (400, 500)
        settings = {field: recording(name).request[field]}
        settings = {"extra_params": settings} if in_extra_params else settings
        with ReplayServer(Answer.of(recording("chat_stream"))) as server:
            with pytest.raises(OllamaContentError) as caught:
                new_driver(server.host, model="m", stream=stream, **settings).run(prompt())
            assert isinstance(caught.value, ValueError)
            assert server.chats == []
        value = recording(name).request[field]
        named = next(iter(value.items())) if isinstance(value, dict) else (field, value)
        assert named[0] in str(caught.value)
        assert repr(named[1]) in str(caught.value)

    @streamed_and_plain
    def test_an_image_for_a_model_without_vision(self, stream):
        name = "image_on_nonvision_stream"
        assert recording(name).status == 400
        with ReplayServer(Answer.of(recording("chat_stream"))) as server:
            with pytest.raises(OllamaContentError, match="'tiny-chat' cannot see images"):
                new_driver(server.host, model="tiny-chat", stream=stream).run(conversation_of(name))
            assert server.chats == []
