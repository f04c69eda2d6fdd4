"""The table of docs/content.md: each kind of content, streamed and plain, with each kind of model. A cell is a test."""

import base64
import json
import re
from pathlib import Path

import griptape.common
import pytest
from griptape.artifacts import (
    AudioArtifact,
    ErrorArtifact,
    GenericArtifact,
    ImageArtifact,
    ImageUrlArtifact,
    JsonArtifact,
    ListArtifact,
    TextArtifact,
    VideoUrlArtifact,
)
from griptape.common import PromptStack
from griptape.structures import Agent
from griptape.tasks import PromptTask
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from pydantic import BaseModel
from schema import Schema

from griptape_ollama import OllamaContentError
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

PAGE = Path(__file__).parents[3] / "docs" / "content.md"
KINDS = {"Go template": "go_template", "built-in parser": "builtin", "native": "native"}
PNG = b"\x89PNG\r\n\x1a\n and so on"
ENCODED = base64.b64encode(PNG).decode()
IMAGE = ImageArtifact(PNG, format="png", width=1, height=1)
DATA_URL = ImageUrlArtifact(f"data:image/png;base64,{ENCODED}")


class Answer(BaseModel):
    city: str
    degrees: int


class LookTool(BaseTool):
    def __init__(self, result):
        super().__init__(name="Look")
        self.result = result

    @activity(config={"description": "Looks up", "schema": Schema({"city": str})})
    def up(self, params: dict):
        return self.result


@pytest.fixture
def simulator():
    can = ("completion", "tools", "thinking", "vision")
    with OllamaSimulator(
        models=[SimulatedModel(name=kind, kind=kind, capabilities=can) for kind in KINDS.values()]
    ) as it:
        yield it


def _ask(simulator, driver, *artifacts):
    driver.run(PromptStack.from_artifact(ListArtifact(list(artifacts))))
    return simulator.last_chat.messages


def _system(simulator, driver):
    stack = PromptStack()
    stack.add_system_message("Be brief.")
    stack.add_user_message("Hi")
    driver.run(stack)
    assert simulator.last_chat.messages[0] == {"role": "system", "content": "Be brief."}


def _text(simulator, driver):
    assert _ask(simulator, driver, TextArtifact("Hi"))[0] == {"role": "user", "content": "Hi"}


def _image(artifact):
    def check(simulator, driver):
        assert _ask(simulator, driver, TextArtifact("See"), artifact)[0]["images"] == [ENCODED]

    return check


def _refused(artifact):
    def check(simulator, driver):
        with pytest.raises(OllamaContentError, match=type(artifact).__name__):
            _ask(simulator, driver, TextArtifact("See"), artifact)
        assert simulator.requests == []

    return check


def _result(result, content, images=0):
    def check(simulator, driver):
        simulator.reply(tool_calls=[("Look_up", {"city": "Oslo"})])
        simulator.reply("Done.")
        assert Agent(prompt_driver=driver, tools=[LookTool(result)]).run("Go").output.value == "Done."
        called, answered = simulator.last_chat.messages[-2:]
        assert called["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo"}
        assert answered["content"] == content
        assert answered["tool_name"] == "Look_up"
        assert answered["tool_call_id"] == called["tool_calls"][0]["id"]
        assert answered.get("images", []) == [ENCODED] * images

    return check


def _answer(simulator, driver):
    simulator.reply("Hello there")
    message = driver.run(TextArtifact("Hi"))
    assert message.to_text() == "Hello there"
    assert message.usage.output_tokens > 0


def _thinking(simulator, driver):
    simulator.reply(thinking="Hm.", text="Yes.")
    message = driver.run(TextArtifact("Hi"))
    assert message.to_text() == "Yes."
    assert message.content[0].artifact.meta["ollama"]["thinking"] == "Hm."


def _calls(simulator, driver):
    calls = [("Look_up", {"city": "Oslo"}), ("Look_up", {"city": "Oslo"})]
    simulator.reply(text="Let me see. ", tool_calls=calls)
    stack = PromptStack(tools=[LookTool(TextArtifact("12"))])
    stack.add_user_message("Go")
    text, *found = [content.artifact.value for content in driver.run(stack).content]
    assert text == "Let me see. "
    assert [(each.name, each.path, each.input) for each in found] == [("Look", "up", {"city": "Oslo"})] * 2
    assert found[0].tag != found[1].tag


def _structured(*tools):
    def check(simulator, driver):
        if tools:
            simulator.reply(tool_calls=[("Look_up", {"city": "Oslo"})])
            simulator.reply("12 degrees in Oslo.")
        simulator.reply('{"city": "Oslo", "degrees": 12}')
        task = PromptTask("Oslo?", output_schema=Answer, prompt_driver=driver, tools=list(tools))
        assert Agent(tasks=[task]).run().output.value == Answer(city="Oslo", degrees=12)
        assert simulator.last_chat.body["format"]["required"] == ["city", "degrees"]

    return check


def _logprobs(simulator, driver):
    driver.logprobs, driver.top_logprobs = True, 2
    simulator.reply(text=["Hel", "lo"])
    meta = driver.run(TextArtifact("Hi")).content[0].artifact.meta["ollama"]
    assert [entry["token"] for entry in meta["logprobs"]] == ["Hel", "lo"]
    assert {len(entry["top_logprobs"]) for entry in meta["logprobs"]} == {2}


ROWS = {
    "system text": _system,
    "user text": _text,
    "`ImageArtifact`": _image(IMAGE),
    "`ImageUrlArtifact`": _image(DATA_URL),
    "`AudioArtifact`": _refused(AudioArtifact(b"RIFF", format="wav")),
    "`VideoUrlArtifact`": _refused(VideoUrlArtifact("https://example.com/film.mp4")),
    "`GenericArtifact`": _refused(GenericArtifact({"x": 1})),
    "tool result: text": _result(TextArtifact("12 degrees"), "12 degrees"),
    "tool result: JSON": _result(JsonArtifact({"degrees": [12]}), json.dumps({"degrees": [12]})),
    "tool result: error": _result(ErrorArtifact("no such city"), "no such city"),
    "tool result: list": _result(ListArtifact([TextArtifact("a"), TextArtifact("b")]), "a\n\nb"),
    "tool result: image": _result(IMAGE, "", 1),
    "answer": _answer,
    "thinking": _thinking,
    "text and tool calls": _calls,
    "structured output": _structured(),
    "structured output with tools": _structured(LookTool(TextArtifact("12"))),
    "log probabilities": _logprobs,
}


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("row", ROWS)
def test_a_cell_of_the_table(simulator, make_driver, *, row, kind, stream):
    if "Video" in row and not hasattr(griptape.common, "VideoMessageContent"):
        pytest.skip("Griptape 1.12 makes text of a video")
    ROWS[row](simulator, make_driver(model=kind, stream=stream))


def test_the_page_has_these_rows_and_these_columns():
    head, *rows = re.findall(r"^\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    cells = [re.split(r" \| ", row) for row in rows]
    assert [re.sub(r", .*", "", name) for name in head.split(" | ")[1::2]] == list(KINDS)
    assert [each[0] for each in cells] == list(ROWS)
    for name, *said in cells:
        assert len(said) == 2 * len(KINDS)
        assert (set(said) == {"error"}) == (ROWS[name].__qualname__.startswith("_refused"))
