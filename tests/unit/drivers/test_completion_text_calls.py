"""Calls that a model writes as text are calls; all other text is shown as it comes."""

import json
import threading

import pytest
from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.events import ActionChunkEvent, EventBus, EventListener, TextChunkEvent
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from pydantic import BaseModel
from schema import Optional, Schema

from griptape_ollama import OllamaContentError, OllamaPromptDriver, OllamaStreamError, OllamaTimeout
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
_APPLE = {"item": "apple", "count": 2}
_CALL = json.dumps({"name": "Shop_buy", "arguments": {"item": "apple", "count": "2"}})
_FORMS = {
    "arguments": _CALL,
    "parameters": json.dumps({"name": "Shop_buy", "parameters": _APPLE}),
    "fence": f"```json\n{_CALL}\n```",
    "tags": f"<tool_call>\n{_CALL}\n</tool_call>",
    "parameters in tags": (
        "<tool_call>\n<function=Shop_buy>\n<parameter=item>\napple\n</parameter>\n<parameter=count>\n2\n</parameter>\n"
        "</function>\n</tool_call>"
    ),
    "mistral": f"[TOOL_CALLS] [{_CALL}]",
    "harmony": (
        "<|channel|>commentary to=functions.Shop_buy <|constrain|>json<|message|>" + json.dumps(_APPLE) + "<|call|>"
    ),
}
_CHUNKINGS = pytest.mark.parametrize("size", [1, 7, 1000], ids=["characters", "sevens", "whole"])


class ShopTool(BaseTool):
    def __init__(self):
        super().__init__(name="Shop")
        self.bought = []

    @activity(config={"description": "Buys", "schema": Schema({"item": str, Optional("count"): int})})
    def buy(self, params: dict):
        self.bought.append(params["values"])
        return TextArtifact("bought")


class Order(BaseModel):
    name: str
    arguments: dict


class Receipt(BaseModel):
    paid: bool


@pytest.fixture
def simulator():
    models = [
        SimulatedModel(name="simulator", capabilities=("completion", "tools", "thinking")),
        SimulatedModel(name="words", capabilities=("completion",)),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


@pytest.fixture
def shop():
    return ShopTool()


@pytest.fixture
def buy(make_driver, shop):
    def run(*, output_schema=None, **settings):
        agent = Agent(prompt_driver=make_driver(**settings), tools=[shop], output_schema=output_schema)
        return agent.run("Buy apples").output

    return run


def _pieces(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]


def _types(events):
    return [type(event) for event in events if isinstance(event, (TextChunkEvent, ActionChunkEvent))]


@_both_ways
@_CHUNKINGS
@pytest.mark.parametrize("form", _FORMS)
def test_a_call_written_as_text_is_made(simulator, buy, shop, events, *, form, size, stream):
    simulator.reply(text=_pieces(_FORMS[form], size), final={"prompt_eval_count": 10, "eval_count": 3})
    simulator.reply(text=["Done."], final={"prompt_eval_count": 20, "eval_count": 4})
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [_APPLE]
    said, result = simulator.last_chat.messages[-2:]
    assert said["content"] == ""
    [call] = said["tool_calls"]
    assert call["function"] == {"index": 0, "name": "Shop_buy", "arguments": _APPLE}
    assert (result["role"], result["content"], result["tool_call_id"]) == ("tool", "bought", call["id"])
    assert _types(events) == ([ActionChunkEvent, TextChunkEvent] if stream else [])


@_both_ways
def test_several_calls_in_one_text_are_made_with_an_id_each(simulator, buy, shop, stream):
    simulator.reply(f"<tool_call>{_CALL}</tool_call>\n<tool_call>{_CALL}</tool_call>")
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [_APPLE] * 2
    calls = next(message["tool_calls"] for message in simulator.last_chat.messages if "tool_calls" in message)
    assert len({call["id"] for call in calls}) == 2


@_both_ways
def test_thinking_before_the_text_of_a_call_comes_back_with_it(simulator, buy, shop, stream):
    simulator.reply(text=_pieces(f"<think>An apple.</think>\n\n<tool_call>{_CALL}</tool_call>", 5))
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    said = next(message for message in simulator.last_chat.messages if "tool_calls" in message)
    assert said["thinking"] == "An apple."


@_both_ways
@pytest.mark.parametrize(
    "thoughts",
    [
        "An apple.\n</think>\n\n",
        "<|channel|>analysis<|message|>An apple.<|end|><|start|>assistant",
        "[THINK]An apple.[/THINK]",
    ],
    ids=["closed only", "harmony", "other marks"],
)
@pytest.mark.parametrize("form", ["tags", "harmony", "arguments"])
def test_a_call_behind_thoughts_of_any_form_is_made(simulator, buy, shop, *, thoughts, form, stream):
    simulator.reply(text=_pieces(thoughts + _FORMS[form], 6))
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [_APPLE]
    said = next(message for message in simulator.last_chat.messages if "tool_calls" in message)
    assert said["thinking"].strip() == "An apple."
    assert said["content"] == ""


@_both_ways
@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Shop_sell", "arguments": {"item": "apple"}}',
        '{"name": "Shop_buy", "arguments": {"count": 1}}',
        '{"name": "Shop_buy", "arguments": {"item": "apple", "count": "two"}}',
        '{"name": "Shop_buy", "arguments": {"item": "apple", "colour": "red"}}',
        f"{_CALL} That should do.",
        f"I would call {_CALL}",
        _CALL[:-1],
        '{"name": "Ida", "age": 41}',
        "[1, 2]",
    ],
)
def test_other_text_is_the_answer_as_it_stands(simulator, buy, shop, *, text, stream):
    simulator.reply(text=_pieces(text, 3))
    assert buy(stream=stream).value == text
    assert shop.bought == []
    assert len(simulator.chats) == 1


@_both_ways
def test_nothing_is_a_call_where_that_is_switched_off(simulator, buy, shop, stream):
    simulator.reply(_CALL)
    assert buy(parse_text_calls=False, stream=stream).value == _CALL
    assert shop.bought == []


@_both_ways
def test_nothing_is_a_call_where_no_tools_are_offered(simulator, make_driver, stream):
    simulator.reply(_CALL)
    assert make_driver(stream=stream).run(PromptStack.from_artifact(TextArtifact("Hi"))).to_text() == _CALL


def test_nothing_is_a_call_where_tools_are_described_in_words(simulator, buy, shop):
    simulator.reply(_CALL)
    assert buy(model="words").value == _CALL
    assert shop.bought == []


@_both_ways
def test_text_beside_a_call_of_the_server_is_text(simulator, buy, shop, events, stream):
    simulator.reply(text=_CALL, tool_calls=[("Shop_buy", {"item": "pear"})])
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [{"item": "pear"}]
    said = next(message for message in simulator.last_chat.messages if "tool_calls" in message)
    assert said["content"] == _CALL
    assert len(said["tool_calls"]) == 1


@_both_ways
def test_an_answer_that_fits_the_output_schema_is_no_call(simulator, buy, shop, stream):
    simulator.reply(text=_pieces(_CALL, 4))
    output = buy(output_schema=Order, stream=stream)
    assert output.value == Order(name="Shop_buy", arguments={"item": "apple", "count": "2"})
    assert shop.bought == []
    assert len(simulator.chats) == 1


@_both_ways
def test_under_an_output_schema_that_wants_something_else_it_is_a_call(simulator, buy, shop, stream):
    simulator.reply(text=_pieces(_CALL, 4))
    simulator.reply('{"paid": true}')
    assert buy(output_schema=Receipt, stream=stream).value == Receipt(paid=True)
    assert shop.bought == [_APPLE]


@_both_ways
def test_a_call_in_a_corrected_round_may_be_text_too(simulator, buy, shop, stream):
    simulator.reply(tool_calls=[("Shop_sell", {})])
    simulator.reply(text=_pieces(_CALL, 4))
    simulator.reply("Done.")
    assert buy(stream=stream).value == "Done."
    assert shop.bought == [_APPLE]


# Streaming


@pytest.mark.parametrize("beginning", ["Well", "  Well", "[1", "{1", "```python\n", '{"city', '{"name": "Sho', "<b>"])
def test_text_that_is_no_call_is_shown_before_the_rest_arrives(simulator, make_driver, shop, beginning):
    seen = threading.Event()
    first = f"{beginning}, "
    EventBus.add_event_listener(EventListener(lambda event: seen.set(), event_types=[TextChunkEvent]))
    simulator.reply(text=[first, "hello"], pause=(1, seen))
    driver = make_driver(stream=True, timeout=OllamaTimeout(total=20), max_attempts=1)
    assert Agent(prompt_driver=driver, tools=[shop]).run("Hi").output.value == f"{first}hello"


def test_each_piece_is_one_event_once_text_is_shown(simulator, make_driver, shop, events):
    simulator.reply(text=["{", "not", " a", " call"])
    Agent(prompt_driver=make_driver(stream=True), tools=[shop]).run("Hi")
    assert [event.token for event in events if type(event) is TextChunkEvent] == ["{not", " a", " call"]


@_both_ways
def test_text_that_was_held_back_is_in_the_error_of_a_reply_that_breaks(simulator, make_driver, shop, stream):
    simulator.reply(text=_pieces(_CALL, 10), cut=3)
    stack = PromptStack.from_artifact(TextArtifact("Hi"))
    stack.tools = [shop]
    with pytest.raises(OllamaStreamError) as caught:
        make_driver(stream=stream, max_attempts=1).run(stack)
    assert caught.value.partial_text == _CALL[:30]


def test_deltas_of_a_stream_are_a_call(simulator, make_driver, shop):
    simulator.reply(text=_pieces(_CALL, 10))
    stack = PromptStack.from_artifact(TextArtifact("Hi"))
    stack.tools = [shop]
    [call, last] = list(make_driver().try_stream(stack))
    assert (call.content.name, call.content.path) == ("Shop", "buy")
    assert json.loads(call.content.partial_input) == _APPLE
    assert last.usage.output_tokens


# The setting


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_the_setting_is_checked(value):
    with pytest.raises(OllamaContentError, match=r"parse_text_calls=.* must be True or False"):
        OllamaPromptDriver(model="simulator", parse_text_calls=value)
