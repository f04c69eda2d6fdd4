"""Settings of the prompt driver, and what of them reaches the wire."""

import json
from datetime import timedelta
from decimal import Decimal

import numpy as np
import ollama
import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.tokenizers import SimpleTokenizer
from pydantic import BaseModel
from schema import Schema

from griptape_ollama import OllamaContentError, OllamaError, OllamaPromptDriver, OllamaTimeout
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_MODELS = [
    SimulatedModel(name="simulator"),
    SimulatedModel(name="thinker", capabilities=("completion", "tools", "thinking")),
    SimulatedModel(name="cool", parameters={"temperature": 0.6}),
    SimulatedModel(name="stopping", parameters={"stop": ["<|im_end|>", "<|im_start|>"]}),
]


@pytest.fixture
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        yield simulator


@pytest.fixture
def sent(simulator):
    """Runs a driver and gives the body that went out."""

    def run(driver, stack=None):
        driver.run(stack or TextArtifact("Hi"))
        return simulator.last_chat.body

    return run


def test_a_request_has_the_prompt_a_temperature_and_nothing_else(sent, make_driver, stack):
    assert sent(make_driver(), stack) == {
        "model": "simulator",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "options": {"temperature": 0.1},
        "stream": True,
    }


@pytest.mark.parametrize("stream", [True, False])
def test_the_wire_streams_whatever_listeners_want(sent, make_driver, stream):
    assert sent(make_driver(stream=stream))["stream"] is True


def test_the_default_temperature_goes_out_only_if_the_model_has_none(sent, make_driver):
    assert sent(make_driver(model="simulator"))["options"] == {"temperature": 0.1}
    assert "options" not in sent(make_driver(model="cool"))


@pytest.mark.parametrize("temperature", [0, 0.1, 0.7, 1])
def test_a_temperature_that_was_chosen_always_goes_out(sent, make_driver, temperature):
    for model in ("simulator", "cool"):
        assert sent(make_driver(model=model, temperature=temperature))["options"] == {"temperature": temperature}


def test_a_temperature_that_is_set_later_counts(sent, make_driver):
    driver = make_driver(model="cool")
    assert driver.temperature == 0.1
    assert "options" not in sent(driver)
    driver.temperature = 0.7
    assert driver.temperature == 0.7
    assert sent(driver)["options"] == {"temperature": 0.7}
    driver.temperature = None
    assert driver.temperature == 0.1
    assert "options" not in sent(driver)


@pytest.mark.parametrize("wrong", ["0.7", True, float("nan"), [0.7]])
def test_a_temperature_that_is_none_is_refused_when_it_is_set(make_driver, wrong):
    with pytest.raises(OllamaContentError, match="'temperature' must be a number"):
        make_driver(temperature=wrong)
    driver = make_driver()
    with pytest.raises(OllamaContentError, match="'temperature' must be a number"):
        driver.temperature = wrong


def test_max_tokens_is_num_predict(sent, make_driver):
    assert sent(make_driver(max_tokens=64))["options"]["num_predict"] == 64


def test_options_merge_key_by_key_fields_then_options_then_extra_params(sent, make_driver):
    driver = make_driver(
        temperature=0.2,
        max_tokens=10,
        options={"temperature": 0.3, "num_ctx": 2048, "seed": 1},
        extra_params={"options": {"temperature": 0.4, "top_k": 5, "seed": None}},
    )
    assert sent(driver)["options"] == {"temperature": 0.4, "num_predict": 10, "num_ctx": 2048, "top_k": 5}


def test_settings_that_are_changed_later_count(sent, make_driver):
    driver = make_driver()
    sent(driver)
    driver.options["seed"] = 7
    driver.max_tokens = 5
    driver.keep_alive = "10m"
    driver.extra_params["shift"] = False
    driver.model = "cool"
    body = sent(driver)
    assert body["options"] == {"seed": 7, "num_predict": 5}
    assert (body["keep_alive"], body["shift"], body["model"]) == ("10m", False, "cool")


@pytest.mark.parametrize(
    "options",
    [{"num_ctx": 2048, "seed": 1}, ollama.Options(num_ctx=2048, seed=1), {"num_ctx": np.int64(2048), "seed": 1.0}],
    ids=["dict", "ollama.Options", "other numbers"],
)
def test_options_come_in_several_forms(sent, make_driver, options):
    assert sent(make_driver(options=options))["options"] == {"temperature": 0.1, "num_ctx": 2048, "seed": 1}


def test_options_of_the_user_stay_his_own(make_driver):
    options = {"seed": 1}
    make_driver(options=options).options["seed"] = 2
    assert options == {"seed": 1}


@pytest.mark.parametrize(
    ("given", "on_wire"),
    [("10m", "10m"), (300, 300), (0, 0), (-1, -1), (1.5, 1.5), (timedelta(minutes=5), 300), ("-1s", "-1s")],
)
def test_keep_alive_reaches_the_wire_in_every_form(sent, make_driver, given, on_wire):
    body = sent(make_driver(keep_alive=given))
    assert (body["keep_alive"], type(body["keep_alive"])) == (on_wire, type(on_wire))
    assert sent(make_driver(extra_params={"keep_alive": given}))["keep_alive"] == on_wire


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("think", True),
        ("think", False),
        ("think", "low"),
        ("truncate", False),
        ("shift", True),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("format", "json"),
        ("format", {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"const": 1}}}),
    ],
)
def test_fields_reach_the_wire_from_the_driver_and_from_extra_params(sent, make_driver, name, value):
    assert sent(make_driver(model="thinker", **{name: value}))[name] == value
    assert sent(make_driver(model="thinker", extra_params={name: value}))[name] == value


@pytest.mark.parametrize(
    ("name", "value", "plain"),
    [
        ("think", np.bool_(True), True),
        ("truncate", np.bool_(False), False),
        ("shift", np.array(True), True),
        ("logprobs", np.bool_(True), True),
        ("top_logprobs", Decimal(3), 3),
        ("max_image_bytes", np.int64(10), 10),
        ("allow_private_image_urls", np.bool_(True), True),
        ("tell_schema", np.bool_(False), False),
        ("parse_text_calls", np.bool_(False), False),
        ("separate_think_tags", np.bool_(False), False),
        (
            "extra_params",
            {
                "options": {"seed": np.int64(3), "stop": [np.str_("a")]},
                "more": np.array([1, 2]),
                "half": Decimal("0.5"),
            },
            {"options": {"seed": 3, "stop": ["a"]}, "more": [1, 2], "half": 0.5},
        ),
    ],
)
def test_values_of_other_libraries_are_stored_as_plain_ones(make_driver, name, value, plain):
    driver = make_driver(model="thinker", **{name: value})
    assert json.loads(json.dumps(driver.to_dict()))[name] == plain
    assert type(getattr(driver, name)) is type(plain)
    assert getattr(type(driver).from_dict(driver.to_dict()), name) == plain


def test_extra_params_win_over_fields(sent, make_driver):
    driver = make_driver(model="thinker", think=True, keep_alive=5, extra_params={"think": "high", "keep_alive": None})
    body = sent(driver)
    assert body["think"] == "high"
    assert "keep_alive" not in body


def test_unknown_extra_params_are_sent_as_they_are(sent, make_driver):
    extra = {"brand_new": {"nested": [None, 1]}, "dimensions": 5}
    body = sent(make_driver(extra_params=extra))
    assert {name: body[name] for name in extra} == extra
    assert extra == {"brand_new": {"nested": [None, 1]}, "dimensions": 5}


def test_extra_params_can_name_another_model_whose_facts_then_count(sent, make_driver):
    body = sent(make_driver(extra_params={"model": "cool"}))
    assert body["model"] == "cool"
    assert "options" not in body


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"options": {"num_ctxx": 1}}, "unknown option 'num_ctxx': did you mean 'num_ctx'"),
        ({"options": {"num_ctx": "4096"}}, "option 'num_ctx' must be an integer, got '4096'"),
        ({"options": {"stop": "END"}}, r"write \['END'\]"),
        ({"options": {"keep_alive": 5}}, "pass it beside options"),
        ({"options": ["num_ctx"]}, "options must be a mapping"),
        ({"keep_alive": "60"}, "has no unit"),
        ({"keep_alive": True}, "is not a duration"),
        ({"host": "ftp://gpu"}, "the scheme 'ftp' is not http or https"),
        ({"host": "gpu:port"}, "the port 'port' is not a number"),
        ({"timeout": -1}, "must be a number of seconds above 0"),
        ({"verify": 7}, "verify must be True, False or a path"),
    ],
)
def test_a_wrong_setting_is_refused_when_it_is_given_and_named(settings, told):
    with pytest.raises(OllamaContentError, match=told):
        OllamaPromptDriver(model="m", **settings)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"extra_params": {"options": {"temprature": 1}}}, "did you mean 'temperature'"),
        ({"extra_params": {"options": {"stop": "END"}}}, r"option 'stop' must be an array of strings, got 'END'"),
        ({"extra_params": {"options": {"stop": [["END"]]}}}, "option 'stop' must be an array of strings"),
        ({"extra_params": {"options": {"stop": 5}}}, "option 'stop' must be an array of strings, got 5"),
        ({"extra_params": {"options": "seed"}}, "must be a mapping"),
        ({"extra_params": {"keep_alive": "60"}}, "has no unit"),
        ({"extra_params": {"weird": object()}}, "cannot be written as JSON"),
        ({"extra_params": {"weird": float("nan")}}, "cannot be written as JSON"),
        ({"think": ""}, "think='' must be"),
        ({"format": "yaml"}, "format='yaml' must be"),
        ({"logprobs": 3}, "logprobs=3 must be True or False"),
        ({"top_logprobs": 21}, "from 0 to 20"),
        ({"max_tokens": "many"}, "option 'num_predict' must be an integer"),
    ],
)
def test_a_wrong_setting_is_refused_before_a_prompt_is_sent(simulator, make_driver, settings, told):
    with pytest.raises(ValueError, match=told) as caught:
        make_driver(**settings).run(TextArtifact("Hi"))
    assert isinstance(caught.value, OllamaError)
    assert simulator.chats == []


def test_a_mistake_in_a_mutable_setting_is_found_before_a_prompt_is_sent(simulator, make_driver):
    driver = make_driver()
    driver.options["stop"] = "END"
    with pytest.raises(OllamaContentError, match=r"write \['END'\]"):
        driver.run(TextArtifact("Hi"))
    assert simulator.chats == []


def test_no_stop_is_sent_where_none_is_needed(sent, make_driver):
    assert "stop" not in sent(make_driver(model="stopping"))["options"]


def test_stops_of_the_user_are_sent_with_those_of_the_model(sent, make_driver):
    body = sent(make_driver(model="stopping", options={"stop": ["END", "<|im_end|>"]}))
    assert body["options"]["stop"] == ["END", "<|im_end|>", "<|im_start|>"]
    body = sent(make_driver(model="simulator", extra_params={"options": {"stop": ["END"]}}))
    assert body["options"]["stop"] == ["END"]


def test_stops_of_a_tokenizer_are_sent(sent, make_driver):
    tokenizer = SimpleTokenizer(
        characters_per_token=4, max_input_tokens=100, max_output_tokens=100, stop_sequences=["HALT"]
    )
    assert sent(make_driver(model="stopping", tokenizer=tokenizer))["options"]["stop"] == [
        "HALT",
        "<|im_end|>",
        "<|im_start|>",
    ]


def test_an_empty_stop_does_not_erase_those_of_the_model(sent, make_driver):
    assert "stop" not in sent(make_driver(model="stopping", options={"stop": []}))["options"]


def test_tools_are_offered_and_native_prompts_send_no_stop(sent, make_driver, weather_tool):
    stack = PromptStack(tools=[weather_tool])
    stack.add_user_message("Hi")
    driver = make_driver(model="stopping")
    driver.tokenizer.stop_sequences.append("<|Response|>")  # as every PromptTask does, for good
    body = sent(driver, stack)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["WeatherTool_look_up"]
    assert "stop" not in body["options"]


def test_react_prompts_send_their_stop_with_those_of_the_model_and_no_tools(sent, make_driver, weather_tool):
    stack = PromptStack(tools=[weather_tool])
    stack.add_user_message("Hi")
    driver = make_driver(model="stopping", use_native_tools=False)
    driver.tokenizer.stop_sequences.append("<|Response|>")
    body = sent(driver, stack)
    assert "tools" not in body
    assert body["options"]["stop"] == ["<|Response|>", "<|im_end|>", "<|im_start|>"]


def test_react_prompts_keep_their_stop_beside_those_of_the_user(sent, make_driver, weather_tool):
    stack = PromptStack(tools=[weather_tool])
    stack.add_user_message("Hi")
    driver = make_driver(model="stopping", use_native_tools=False, options={"stop": ["END"]})
    driver.tokenizer.stop_sequences.append("<|Response|>")
    assert sent(driver, stack)["options"]["stop"] == ["<|Response|>", "END", "<|im_end|>", "<|im_start|>"]


def test_react_stops_are_not_sent_where_there_are_no_tools(sent, make_driver):
    driver = make_driver(model="stopping", use_native_tools=False)
    driver.tokenizer.stop_sequences.append("<|Response|>")
    assert "stop" not in sent(driver)["options"]


class _Answer(BaseModel):
    city: str
    degrees: int


@pytest.mark.parametrize("schema", [_Answer, Schema({"city": str, "degrees": int})], ids=["pydantic", "schema"])
def test_native_structured_output_sends_the_schema_as_format(sent, make_driver, schema):
    stack = PromptStack(output_schema=schema)
    stack.add_user_message("The weather in Oslo?")
    body = sent(make_driver(structured_output_strategy="native"), stack)
    assert set(body["format"]["properties"]) == {"city", "degrees"}
    assert not {"$id", "$schema"} & body["format"].keys()
    assert "tools" not in body
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_structured_output_by_tool_offers_a_tool_for_the_answer(sent, make_driver):
    stack = PromptStack(output_schema=_Answer)
    stack.add_user_message("The weather in Oslo?")
    body = sent(make_driver(structured_output_strategy="tool"), stack)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["StructuredOutputTool_provide_output"]
    assert "format" not in body


@pytest.mark.parametrize("attempts", [1, 3])
def test_structured_output_by_rule_is_told_once_even_when_it_is_tried_again(simulator, sent, make_driver, attempts):
    stack = PromptStack(output_schema=_Answer)
    stack.add_system_message("Be brief.")
    stack.add_user_message("The weather in Oslo?")
    if attempts > 1:
        simulator.reply(status=503, error="busy", times=attempts - 1)
    simulator.reply('{"city": "Oslo", "degrees": 12}')
    body = sent(make_driver(max_attempts=attempts, structured_output_strategy="rule"), stack)
    assert "format" not in body
    assert body["messages"][0]["content"].count('"degrees"') == body["messages"][0]["content"].count('"city"') > 0
    assert len(stack.messages[0].content) == 3
    assert len(simulator.chats) == attempts


def test_a_format_of_the_user_is_used_where_there_is_no_schema(sent, make_driver):
    assert sent(make_driver(format="json", structured_output_strategy="native"))["format"] == "json"


def test_the_tokenizer_knows_the_window_and_the_longest_reply(make_driver):
    driver = make_driver(options={"num_ctx": 4096}, max_tokens=500)
    assert (driver.tokenizer.max_input_tokens, driver.tokenizer.max_output_tokens) == (3596, 500)
    driver.options["num_ctx"] = 2048
    assert driver.tokenizer.max_input_tokens == 1548


def test_a_server_that_tells_nothing_about_the_model_costs_no_prompt(simulator, sent, make_driver):
    simulator.reply(path="/api/show", status=500, error="no", times=None)
    body = sent(make_driver(options={"stop": ["END"]}))
    assert body["options"] == {"temperature": 0.1, "stop": ["END"]}


def test_a_model_is_asked_about_once_for_many_prompts(simulator, make_driver):
    for driver in (make_driver(), make_driver(stream=True)):
        driver.run(TextArtifact("Hi"))
        driver.run(TextArtifact("Hi"))
    asked = [request.path for request in simulator.requests]
    assert (asked.count("/api/show"), asked.count("/api/chat")) == (1, 4)
    assert asked.count("/api/ps") <= 2  # before the model was loaded, and after


@pytest.mark.parametrize(
    ("timeout", "limits"),
    [
        (None, OllamaTimeout()),
        (30, OllamaTimeout(total=30)),
        ((2, 20), OllamaTimeout(connect=2, first_token=20, between_tokens=20)),
        ({"total": 9}, OllamaTimeout(total=9)),
        (OllamaTimeout(connect=None), OllamaTimeout(connect=None)),
    ],
)
def test_limits_come_in_several_forms(make_driver, timeout, limits):
    assert make_driver(timeout=timeout).limits == limits


def test_everything_that_the_built_in_driver_takes_is_taken():
    OllamaPromptDriver(
        model="m",
        host="http://127.0.0.1:1",
        api_key="key",
        headers={"X-Team": "a"},
        client=None,
        options={"seed": 1},
        tokenizer=SimpleTokenizer(characters_per_token=4, max_input_tokens=10, max_output_tokens=10),
        temperature=0.5,
        max_tokens=10,
        stream=True,
        use_native_tools=False,
        structured_output_strategy="tool",
        extra_params={"keep_alive": 5},
        min_retry_delay=1,
        max_retry_delay=2,
        max_attempts=3,
        after_hook=print,
        ignored_exception_types=(ValueError,),
    )


def test_everything_is_a_keyword():
    with pytest.raises(TypeError):
        OllamaPromptDriver("m")


@pytest.mark.parametrize("wrong", ["keep_alive", ["keep_alive"], {1: 0}, 7])
def test_extra_params_are_a_mapping_of_names(wrong):
    with pytest.raises(OllamaContentError, match="extra_params must be a mapping"):
        OllamaPromptDriver(model="m", extra_params=wrong)
