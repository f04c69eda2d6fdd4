"""Halves of surrogate pairs, from a server or from a user: nothing fails, and a text can always be encoded."""

import asyncio
import json
import logging

import pytest
from griptape.artifacts import ListArtifact, TextArtifact
from griptape.common import PromptStack
from griptape.events import TextChunkEvent
from griptape.structures import Agent
from pydantic import BaseModel

from griptape_ollama import OllamaModels, ReasoningChunkEvent
from griptape_ollama.errors import OllamaError
from griptape_ollama.testing import OllamaSimulator, Reply, SimulatedModel

_both_ways = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
_HEAD = {"model": "simulator", "created_at": "2026-11-20T08:49:41Z"}
_HALF = "Look: \ud83d"


@pytest.fixture
def simulator():
    capabilities = ("completion", "tools", "thinking")
    models = [
        SimulatedModel(name="simulator", capabilities=capabilities),
        SimulatedModel(name="simulator-embed", capabilities=("embedding",)),
    ]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


def _reply(*messages, **last):
    """Give a reply whose lines are ASCII, with escapes for all else."""
    lines = [{**_HEAD, "message": {"role": "assistant", "content": "", **each}, "done": False} for each in messages]
    lines.append(
        {**_HEAD, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop", **last}
    )
    return Reply(lines=[json.dumps(line).encode() for line in lines])


def _texts(events, kind):
    return [event.token for event in events if type(event) is kind]


@_both_ways
def test_a_character_that_a_proxy_cut_in_two_comes_out_whole(simulator, make_driver, events, stream):
    simulator.reply(
        _reply({"thinking": "Hm \ud83d"}, {"thinking": "\ude00"}, {"content": _HALF}, {"content": "\ude00!"})
    )
    output = Agent(prompt_driver=make_driver(stream=stream)).run("Hi").output
    assert output.value == "Look: 😀!"
    assert output.meta["ollama"]["thinking"] == "Hm 😀"
    if stream:
        assert "".join(_texts(events, TextChunkEvent)) == "Look: 😀!"
        assert "".join(_texts(events, ReasoningChunkEvent)) == "Hm 😀"
    assert all(token.encode() for token in _texts(events, TextChunkEvent) + _texts(events, ReasoningChunkEvent))


@_both_ways
def test_a_half_that_is_alone_is_a_replacement_character(simulator, make_driver, events, stream):
    simulator.reply(_reply({"content": _HALF}, {"content": " and \ude00 and \ud83d"}))
    output = Agent(prompt_driver=make_driver(stream=stream)).run("Hi").output
    assert output.value == "Look: \ufffd and \ufffd and \ufffd"
    assert "".join(_texts(events, TextChunkEvent)) == (output.value if stream else "")
    for event in events:
        assert json.dumps(event.to_dict(), ensure_ascii=False).encode()


@_both_ways
def test_a_call_has_none_in_its_name_id_and_arguments(simulator, make_driver, weather_tool, events, stream):
    call = {"id": "a\ud83d", "function": {"name": "WeatherTool_look_up", "arguments": {"city": "Oslo \ude00"}}}
    as_text = {"function": {"name": "WeatherTool_look_up", "arguments": '{"city": "Rome \\ud83d"}'}}
    unknown = {"function": {"name": "nope\ud83d", "arguments": {"\ud83d": "x"}}}
    simulator.reply(_reply({"tool_calls": [call, as_text]}))
    simulator.reply(_reply({"tool_calls": [unknown]}))
    simulator.reply("Done.")
    output = Agent(prompt_driver=make_driver(stream=stream), tools=[weather_tool]).run("Go").output
    assert output.value == "Done."
    said = json.dumps([request.messages for request in simulator.chats], ensure_ascii=False)
    assert said.encode()
    assert "Oslo \ufffd: 12 degrees" in said
    assert "Rome \ufffd: 12 degrees" in said
    assert "nope\ufffd" in said


def test_metadata_have_none(simulator, make_driver, stack):
    odd = {"token": "\ud83d", "logprob": -0.1, "bytes": [240]}
    simulator.reply(_reply({"content": "Yes."}, done_reason="st\ud83d", logprobs=[odd], note="\ude00"))
    meta = make_driver().run(stack).content[0].artifact.meta["ollama"]
    assert json.dumps(meta, ensure_ascii=False).encode()
    assert (meta["done_reason"], meta["note"], meta["logprobs"][0]["token"]) == ("st\ufffd", "\ufffd", "\ufffd")


@pytest.mark.parametrize("error", ["\ud83d", json.dumps({"error": {"message": "no \ud83d"}})])
@pytest.mark.parametrize("place", ["status", "line"])
def test_errors_have_none(simulator, make_driver, stack, caplog, *, error, place):
    body = json.dumps({"error": error})
    simulator.reply(Reply(lines=[body.encode()]) if place == "line" else Reply(status=400, body=body), times=None)
    with caplog.at_level(logging.DEBUG, logger="griptape_ollama"), pytest.raises(OllamaError) as caught:
        make_driver().run(stack)
    assert f"{caught.value} {caught.value.server_message} {caught.value!r} {caplog.text}".encode()


# What users give


@_both_ways
@pytest.mark.parametrize(("text", "sent"), [(_HALF, "Look: \ufffd"), ("\ud83d\ude00", "😀"), ("\udce9", "\ufffd")])
def test_halves_in_a_prompt_are_sent_as_a_server_would_read_them(simulator, make_driver, *, text, sent, stream):
    stack = PromptStack()
    stack.add_system_message(text)
    stack.add_user_message(ListArtifact([TextArtifact(text)]))
    make_driver(stream=stream, options={"stop": [f"{text}#"]}).run(stack)
    assert [message["content"] for message in simulator.last_chat.messages] == [sent, sent]
    assert simulator.last_chat.options["stop"] == [f"{sent}#"]


def test_texts_to_embed_may_have_them(make_embedder):
    embedder = make_embedder()
    alone, replaced, other = embedder.embed_batch([_HALF, "Look: \ufffd", "Goodbye"])
    assert alone == replaced != other
    assert embedder.embed(_HALF) == asyncio.run(embedder.aembed(_HALF)) == alone


def test_models_may_be_asked_about_with_them(simulator):
    models = OllamaModels(host=simulator.url)
    for ask in (models.show, models.exists):
        with pytest.raises(OllamaError) as caught:
            ask("a\ud83d")
        assert str(caught.value).encode()
    models.create("mine", from_model="simulator", system=_HALF)
    assert models.show("mine").system == "Look: \ufffd"


def test_a_model_whose_name_has_one_is_not_found(make_driver, stack):
    with pytest.raises(OllamaError) as caught:
        make_driver(model="a\ud83d").run(stack)
    assert str(caught.value).encode()


def test_tokens_of_them_are_estimated(simulator, make_driver):
    stack = PromptStack()
    stack.add_user_message(_HALF)
    assert make_driver().tokenizer.count_tokens(_HALF) > 0
    preview = make_driver().preview(stack)
    assert preview.estimate.tokens > 0
    assert str(preview).encode()


def test_what_is_not_ascii_is_sent_as_utf_8(simulator, make_driver):
    stack = PromptStack()
    stack.add_user_message("你好" * 1000)
    make_driver().run(stack)
    assert simulator.last_chat.messages[0]["content"] == "你好" * 1000
    size = int(simulator.last_chat.headers["Content-Length"])
    assert 6000 < size < 6500  # 12,000 where each character is an escape


class _Said(BaseModel):
    text: str


@_both_ways
def test_a_document_with_an_escape_of_half_a_pair_is_an_answer(simulator, make_driver, stream):
    simulator.reply(r'{"text": "\ud83d\ude00 \uD83D \\ud83d"}')
    driver = make_driver(stream=stream, structured_output_strategy="native")
    agent = Agent(prompt_driver=driver, output_schema=_Said)
    assert agent.run("Hi").output.value == _Said(text="\U0001f600 \ufffd \\ud83d")
    assert [each.path for each in simulator.requests].count("/api/chat") == 1
