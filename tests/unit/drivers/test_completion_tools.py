"""Tools: every call arrives, invalid calls are corrected, and ReAct serves models without tools."""

import json
import logging

import pytest
from griptape.artifacts import (
    ErrorArtifact,
    ImageArtifact,
    InfoArtifact,
    JsonArtifact,
    ListArtifact,
    TextArtifact,
)
from griptape.events import ActionChunkEvent, TextChunkEvent
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from pydantic import BaseModel
from schema import Optional, Schema

from griptape_ollama import OllamaResponseError, OllamaStreamError
from griptape_ollama.drivers.completion import MAX_CORRECTIONS
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
_PIXEL = b"\x89PNG\r\n\x1a\n and so on"


class ShopTool(BaseTool):
    """Tells what it was called with, or gives what it was told to give."""

    def __init__(self, result=None, name="Shop"):
        super().__init__(name=name)
        self.result = result
        self.bought = []

    @activity(config={"description": "Buys", "schema": Schema({"item": str})})
    def buy(self, params: dict):
        self.bought.append(params["values"])
        return self.result or TextArtifact(f"bought {params['values']['item']}")

    @activity(
        config={"description": "Takes what is named like a call", "schema": Schema({"name": str, "arguments": dict})}
    )
    def odd(self, params: dict):
        self.bought.append(params["values"])
        return TextArtifact("taken")


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="simulator", capabilities=("completion", "tools", "thinking", "vision")),
        SimulatedModel(name="words", capabilities=("completion",), parameters={"stop": ["<|im_end|>"]}),
        SimulatedModel(name="unknown-to-show", capabilities=("completion",)),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


@pytest.fixture
def shop():
    return ShopTool()


@pytest.fixture
def buy(simulator, make_driver, shop):
    """Runs a task with the shop after the model said what the test scripted."""

    def run(*, tool=shop, **settings):
        agent = Agent(prompt_driver=make_driver(**settings), tools=[tool])
        return agent.run("Buy an apple").output

    return run


def _results(simulator):
    return [message for message in simulator.last_chat.messages if message["role"] == "tool"]


def _calls(simulator):
    return [call for message in simulator.last_chat.messages for call in message.get("tool_calls", [])]


# Calls of what does not exist


@_both_ways
@pytest.mark.parametrize("name", ["Shop_sell", "Market_buy", "buy", "Shop", "shop_buy", "Shop_buy ", "_", "Sh öp"])
def test_a_call_of_what_does_not_exist_is_answered_with_what_does_and_the_task_goes_on(
    simulator, buy, shop, events, *, name, stream
):
    simulator.reply(tool_calls=[(name, {"item": "pear"})])
    simulator.reply(tool_calls=[("Shop_buy", {"item": "apple"})])
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [{"item": "apple"}]
    corrected = simulator.chats[1].messages[-2:]
    assert corrected[0]["tool_calls"][0]["function"]["name"] == name
    assert corrected[0]["tool_calls"][0]["function"]["arguments"] == {"item": "pear"}
    assert corrected[1] == {
        "role": "tool",
        "content": f"There is no tool {name!r}. The tools are: Shop_buy, Shop_odd. Call one of these, or answer.",
        "tool_name": name,
        "tool_call_id": corrected[0]["tool_calls"][0]["id"],
    }
    # A listener sees the call that is made, and no other.
    assert [(event.name, event.path) for event in events if type(event) is ActionChunkEvent] == (
        [("Shop", "buy")] if stream else []
    )


@_both_ways
def test_the_text_beside_a_corrected_call_stays_in_the_answer_and_tokens_are_added_up(
    simulator, make_driver, stack, shop, *, stream
):
    stack.tools = [shop]
    simulator.reply(text="One moment. ", tool_calls=[("nope", {})], final={"prompt_eval_count": 10, "eval_count": 3})
    simulator.reply("Done.", final={"prompt_eval_count": 20, "eval_count": 4})
    message = make_driver(stream=stream).run(stack)
    assert message.to_text() == "One moment. Done."
    assert (message.usage.input_tokens, message.usage.output_tokens) == (30, 7)
    meta = message.content[0].artifact.meta["ollama"]
    assert (meta["requests"], meta["prompt_eval_count"], meta["eval_count"]) == (2, 30, 7)
    assert simulator.last_chat.messages[-2]["content"] == "One moment. "


@_both_ways
def test_a_model_that_does_not_listen_is_corrected_so_often_and_then_the_task_says_so(simulator, buy, caplog, stream):
    simulator.reply(tool_calls=[("Market_buy", {})], times=None)
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        output = buy(stream=stream)
    assert isinstance(output, ErrorArtifact)
    assert "Market" in output.value
    assert len(simulator.chats) == 1 + MAX_CORRECTIONS
    assert "went on calling Market_buy after 3 corrections" in caplog.text


@_both_ways
def test_a_good_call_beside_a_bad_one_is_made_and_the_bad_one_is_answered_in_the_next_turn(
    simulator, buy, shop, *, stream
):
    rubbish = {"id": "call_r", "function": {"name": "Shop_buy", "arguments": "rubbish"}}
    simulator.reply(text="Both. ", tool_calls=[("Shop_sell", {"a": 1}), ("Shop_buy", {"item": "apple"}), rubbish])
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [{"item": "apple"}]
    assert len(simulator.chats) == 2
    said = next(message for message in simulator.last_chat.messages if message.get("tool_calls"))
    assert said["content"] == "Both. "
    assert {call["function"]["name"] for call in said["tool_calls"]} == {"Shop_sell", "Shop_buy"}
    assert [call["function"]["index"] for call in said["tool_calls"]] == [0, 1, 2]
    by_id = {result["tool_call_id"]: result["content"] for result in _results(simulator)}
    good, unknown, bad = (by_id[call["id"]] for call in said["tool_calls"])
    assert good == "bought apple"
    assert "There is no tool 'Shop_sell'" in unknown
    assert bad.startswith("The arguments of 'Shop_buy' must be a JSON object")


def test_a_model_that_calls_tools_where_none_were_offered_gets_its_call_to_the_framework(simulator, make_driver, stack):
    simulator.reply(tool_calls=[("anything", {"a": 1})])
    [content] = make_driver().run(stack).content
    assert (content.artifact.value.name, content.artifact.value.path) == ("anything", None)


# Arguments


@_both_ways
@pytest.mark.parametrize(
    "arguments",
    [
        '{"item": "apple"}',
        '```json\n{"item": "apple"}\n```',
        '```\n{"item": "apple"}\n```',
        json.dumps('{"item": "apple"}'),
        {"name": "Shop_buy", "arguments": {"item": "apple"}},
        {"arguments": {"item": "apple"}},
        {"parameters": {"item": "apple"}},
        {"Shop_buy": {"item": "apple"}},
        '{"name": "Shop_buy", "arguments": {"item": "apple"}}',
    ],
)
def test_arguments_are_repaired_where_that_needs_no_guessing(simulator, buy, shop, *, arguments, stream):
    simulator.reply(tool_calls=[{"id": "call_1", "function": {"name": "Shop_buy", "arguments": arguments}}])
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [{"item": "apple"}]
    assert _calls(simulator)[0]["function"]["arguments"] == {"item": "apple"}


def test_parameters_that_are_named_like_a_call_are_left_alone(simulator, buy, shop):
    arguments = {"name": "x", "arguments": {"item": "apple"}}
    simulator.reply(tool_calls=[("Shop_odd", arguments)])
    simulator.reply("Done.")
    buy()
    assert shop.bought == [arguments]


class PartyTool(BaseTool):
    """Keeps what it was called with."""

    def __init__(self):
        super().__init__(name="Party")
        self.seen = []

    @activity(
        config={
            "description": "Plans",
            "schema": Schema(
                {
                    "guests": [{"name": str, "age": int}],
                    Optional("open"): bool,
                    Optional("cost"): float,
                    Optional(str): object,
                }
            ),
        }
    )
    def plan(self, params: dict):
        self.seen.append(params["values"])
        return TextArtifact("planned")


@_both_ways
def test_texts_in_arguments_are_read_where_the_schema_allows_no_text(simulator, buy, stream):
    guests = '[{"name": "41", "age": "41"}]'
    simulator.reply(tool_calls=[("Party_plan", {"guests": guests, "open": "true", "cost": "1.5", "note": "[1]"})])
    simulator.reply("Done.")
    party = PartyTool()
    assert buy(tool=party, stream=stream).value == "Done."
    read = {"guests": [{"name": "41", "age": 41}], "open": True, "cost": 1.5, "note": "[1]"}
    assert party.seen == [read]
    assert _calls(simulator)[0]["function"]["arguments"] == read


@_both_ways
def test_a_text_that_is_no_number_is_an_error_that_the_model_is_told(simulator, buy, stream):
    simulator.reply(tool_calls=[("Party_plan", {"guests": [{"name": "Bo", "age": "ten"}]})])
    simulator.reply("Done.")
    party = PartyTool()
    assert buy(tool=party, stream=stream).value == "Done."
    assert party.seen == []
    assert "'ten' should be instance of 'int'" in _results(simulator)[0]["content"]


@_both_ways
@pytest.mark.parametrize("cost", ['{"guests": [], "cost": NaN}', {"guests": [], "cost": "-Infinity"}])
def test_a_number_that_json_does_not_know_is_told_to_the_model(simulator, buy, *, cost, stream):
    simulator.reply(tool_calls=[{"id": "call_1", "function": {"name": "Party_plan", "arguments": cost}}])
    simulator.reply(tool_calls=[("Party_plan", {"guests": [], "cost": 2.5})])
    simulator.reply("Done.")
    party = PartyTool()
    assert buy(tool=party, stream=stream).value == "Done."
    assert party.seen == [{"guests": [], "cost": 2.5}]
    assert simulator.chats[1].messages[-1]["content"] == (
        "The arguments of 'Party_plan' hold NaN or Infinity, which JSON does not know: use finite numbers."
    )


def test_further_keys_of_a_function_that_allows_them_are_left_alone(simulator, buy):
    arguments = {"name": "Party_plan", "arguments": {"guests": []}, "guests": []}
    simulator.reply(tool_calls=[("Party_plan", arguments)])
    simulator.reply("Done.")
    party = PartyTool()
    buy(tool=party)
    assert party.seen == [arguments]


@_both_ways
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"item": "apple"', '{"item": "apple"'),
        ("apple", "apple"),
        ("[1]", "[1]"),
        (["apple"], '["apple"]'),
        (7, "7"),
        ("{'item': 'apple'}", "{'item': 'apple'}"),
        ("x" * 500, "x" * 120),
    ],
)
def test_what_cannot_be_repaired_is_told_to_the_model(simulator, buy, shop, *, arguments, shown, stream):
    call = {"id": "call_1", "function": {"name": "Shop_buy", "arguments": arguments}}
    simulator.reply(tool_calls=[call])
    simulator.reply(tool_calls=[("Shop_buy", {"item": "apple"})])
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [{"item": "apple"}]
    said, correction = simulator.chats[1].messages[-2:]
    assert said["tool_calls"] == [{"id": "call_1", "function": {"index": 0, "name": "Shop_buy", "arguments": {}}}]
    assert correction["content"] == f"The arguments of 'Shop_buy' must be a JSON object, not: {shown}"
    assert correction["tool_call_id"] == "call_1"


def test_arguments_of_the_wrong_kind_are_for_the_framework_to_report(simulator, buy, shop):
    simulator.reply(tool_calls=[("Shop_buy", {"item": 7})])
    simulator.reply("Sorry.")
    assert buy().value == "Sorry."
    assert shop.bought == []
    [result] = _results(simulator)
    assert "item" in result["content"]


@_both_ways
def test_identical_calls_stay_apart(simulator, buy, shop, stream):
    call = {"function": {"name": "Shop_buy", "arguments": {"item": "apple"}}}
    simulator.reply(tool_calls=[{"id": "call_0", **call}, {"id": "call_0", **call}, call])
    simulator.reply("Done.")
    buy(stream=stream)
    assert len(shop.bought) == 3
    tags = [each["id"] for each in _calls(simulator)]
    assert tags[0] == "call_0"
    assert len(set(tags)) == 3
    assert [result["tool_call_id"] for result in _results(simulator)] == tags


# Results


@_both_ways
@pytest.mark.parametrize(
    ("result", "content", "images"),
    [
        (TextArtifact("an apple"), "an apple", 0),
        (InfoArtifact("nothing left"), "nothing left", 0),
        (ErrorArtifact("shop is closed"), "shop is closed", 0),
        (JsonArtifact({"apples": [1, 2]}), '{"apples": [1, 2]}', 0),
        (ListArtifact([TextArtifact("one"), TextArtifact("two")]), "one\n\ntwo", 0),
        (ImageArtifact(_PIXEL, format="png", width=1, height=1), "", 1),
        (
            ListArtifact([TextArtifact("see"), ImageArtifact(_PIXEL, format="png", width=1, height=1)]),
            "see",
            1,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_results_of_any_kind_arrive(simulator, buy, *, result, content, images, stream):
    simulator.reply(tool_calls=[("Shop_buy", {"item": "apple"})])
    simulator.reply("Done.")
    assert buy(tool=ShopTool(result), stream=stream).value == "Done."
    [message] = _results(simulator)
    assert message["content"] == content
    assert len(message.get("images", [])) == images


def test_a_tool_that_fails_is_told_to_the_model(simulator, make_driver):
    class BrokenTool(BaseTool):
        @activity(config={"description": "Breaks"})
        def fail(self):
            raise RuntimeError("out of order")

    simulator.reply(tool_calls=[("BrokenTool_fail", {})])
    simulator.reply("It is broken.")
    assert Agent(prompt_driver=make_driver(), tools=[BrokenTool()]).run("Go").output.value == "It is broken."
    [message] = _results(simulator)
    assert "out of order" in message["content"]


# Models without tools


def _react(simulator):
    action = {"tag": "a", "name": "Shop", "path": "buy", "input": {"item": "apple"}}
    simulator.reply(f"Thought: I buy it.\nActions: {json.dumps([action])}")
    simulator.reply("Answer: Done.")


@_both_ways
def test_tools_are_described_in_the_prompt_for_a_model_without_tools(simulator, buy, shop, caplog, stream):
    with caplog.at_level(logging.INFO, logger="griptape_ollama"):
        for _ in range(2):
            _react(simulator)
            assert buy(model="words", stream=stream).value == "Done."
    assert shop.bought == [{"item": "apple"}] * 2
    first = simulator.chats[0]
    assert first.tools == []
    assert "Actions:" in first.messages[0]["content"]
    assert first.options["stop"] == ["<|Response|>", "<|im_end|>"]
    said = [record for record in caplog.records if "no tools" in record.message]
    assert [record.message for record in said] == [
        "Model 'words' has no tools: they are described in the prompt (ReAct)."
    ]


def test_nothing_is_logged_about_tools_where_there_are_none(simulator, make_driver, caplog):
    with caplog.at_level(logging.INFO, logger="griptape_ollama"):
        Agent(prompt_driver=make_driver(model="words")).run("Hi")
    assert "no tools" not in caplog.text


def test_react_can_be_chosen_for_a_model_with_tools(simulator, buy, shop, caplog):
    _react(simulator)
    with caplog.at_level(logging.INFO, logger="griptape_ollama"):
        assert buy(use_native_tools=False).value == "Done."
    assert simulator.chats[0].tools == []
    assert shop.bought == [{"item": "apple"}]
    assert "no tools" not in caplog.text


@_both_ways
def test_functions_can_be_forced_on_a_model_that_has_no_tools_and_the_server_says_no(simulator, buy, stream):
    output = buy(model="words", use_native_tools=True, stream=stream)
    assert isinstance(output.exception, OllamaResponseError)
    assert output.exception.status == 400
    assert "does not support tools" in output.value
    assert len(simulator.chats) == 1


@_both_ways
def test_where_only_a_refusal_tells_that_run_fails_and_later_ones_know(simulator, buy, stream):
    simulator.reply(path="/api/show", status=404, error="page not found", times=None)
    first = buy(model="unknown-to-show", stream=stream)
    assert isinstance(first.exception, OllamaResponseError)
    assert "does not support tools" in first.value
    assert "'unknown-to-show'" in first.value
    _react(simulator)
    assert buy(model="unknown-to-show", stream=stream).value == "Done."
    assert [len(request.tools) for request in simulator.chats] == [2, 0, 0]


# Failures of the server


@_both_ways
def test_a_call_that_the_server_could_not_parse_is_asked_for_again(simulator, buy, shop, stream):
    simulator.reply(status=500, error="error parsing tool call: raw='{\"item\": ', err=unexpected end of JSON input")
    simulator.reply(tool_calls=[("Shop_buy", {"item": "apple"})])
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [{"item": "apple"}]


@_both_ways
def test_a_call_that_was_cut_is_reported_as_such(simulator, make_driver, stack, shop, caplog, *, stream):
    stack.tools = [shop]
    simulator.reply("", done_reason="length")
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        message = make_driver(stream=stream, max_tokens=5).run(stack)
    problem = message.content[0].artifact.meta["ollama"]["problem"]
    assert problem.endswith("used up by what may have been a tool call: raise max_tokens (num_predict).")
    assert problem in caplog.text
    assert message.to_text() == ""


@_both_ways
@pytest.mark.parametrize("began", [True, False], ids=["after thinking", "at once"])
def test_a_call_that_was_cut_by_a_native_model_is_an_error_that_says_so(
    simulator, make_driver, stack, shop, *, began, stream
):
    stack.tools = [shop]
    said = 'llama-server returned invalid tool call arguments for "Shop_buy": unexpected end of JSON input'
    if began:
        simulator.reply(thinking="I buy it.", error_line=(2, said))
    else:
        simulator.reply(status=500, error=said, times=2)
    with pytest.raises(OllamaStreamError if began else OllamaResponseError) as caught:
        make_driver(stream=stream).run(stack)
    assert said in str(caught.value)
    assert str(caught.value).endswith("The call was cut, it seems: raise max_tokens (num_predict).")


# Streams


def test_deltas_of_a_corrected_reply_name_the_place_of_their_content(simulator, make_driver, stack, shop, events):
    stack.tools = [shop]
    simulator.reply(text=["Wait. "], tool_calls=[("nope", {})])
    simulator.reply(text=["Now. "], tool_calls=[("Shop_buy", {"item": "apple"})])
    message = make_driver(stream=True).run(stack)
    assert [(type(e), e.index) for e in events if type(e) in (TextChunkEvent, ActionChunkEvent)] == [
        (TextChunkEvent, 0),
        (TextChunkEvent, 0),
        (ActionChunkEvent, 1),
    ]
    assert message.content[0].artifact.value == "Wait. Now. "


# Tools that cannot be described


class TreeNode(BaseModel):
    name: str
    children: list["TreeNode"] = []


class TreeTool(BaseTool):
    """Saves what contains itself, and describes itself in a way that leads to the framework's, as MCPTool does."""

    def __init__(self):
        super().__init__(name="Trees")
        self.saved = []

    @activity(config={"description": "Saves", "schema": TreeNode})
    def save(self, params: dict):
        self.saved.append(params["values"])
        return TextArtifact("saved")

    def to_activity_json_schema(self, activity, schema_id):
        return super().to_activity_json_schema(activity, schema_id)


class _Odd:
    """What no schema can tell."""


class OddModel(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    odd: _Odd


class OddTool(BaseTool):
    @activity(config={"description": "Odd", "schema": OddModel})
    def odd(self, params: dict):
        return TextArtifact("odd")


@_both_ways
def test_a_schema_that_contains_itself_ends_no_task(simulator, buy, stream):
    tree = {"name": "a", "children": [{"name": "b", "children": '[{"name": "c"}]'}]}
    simulator.reply(tool_calls=[("Trees_save", tree)])
    simulator.reply("Done.")
    trees = TreeTool()
    assert buy(tool=trees, stream=stream).value == "Done."
    assert trees.saved == [{"name": "a", "children": [{"name": "b", "children": [{"name": "c"}]}]}]
    [function] = simulator.last_chat.tools
    assert function["function"]["parameters"]["required"] == ["name"]


@_both_ways
def test_a_tool_that_cannot_be_described_is_left_out_with_one_warning_and_the_others_work(
    simulator, make_driver, shop, caplog, *, stream
):
    simulator.reply(tool_calls=[("OddTool_odd", {})])
    simulator.reply(tool_calls=[("Shop_buy", {"item": "apple"})])
    simulator.reply("Done.")
    with caplog.at_level(logging.WARNING, logger="griptape_ollama"):
        agent = Agent(prompt_driver=make_driver(stream=stream), tools=[OddTool(), shop])
        assert agent.run("Buy an apple").output.value == "Done."
    assert shop.bought == [{"item": "apple"}]
    assert [each["function"]["name"] for each in simulator.last_chat.tools] == ["Shop_buy", "Shop_odd"]
    assert caplog.text.count("Activity 'odd' of tool 'OddTool' is left out: PydanticInvalidForJsonSchema") == 1


def test_where_no_tool_can_be_described_the_model_is_told_to_answer(simulator, buy):
    simulator.reply(tool_calls=[("OddTool_odd", {})])
    simulator.reply("Done.")
    assert buy(tool=OddTool()).value == "Done."
    assert _results(simulator)[0]["content"] == "There is no tool 'OddTool_odd', and no other. Answer in words."
    assert simulator.chats[0].tools == []


def test_tools_that_cannot_be_described_end_no_task_of_a_model_without_tools(simulator, buy):
    simulator.reply("Answer: Done.")
    assert buy(tool=OddTool(), model="words").value == "Done."
    simulator.reply("Answer: Done.")
    assert buy(tool=TreeTool(), model="words").value == "Done."
