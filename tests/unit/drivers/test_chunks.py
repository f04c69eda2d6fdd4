"""The message that is built from the deltas of a `try_stream` of a subclass, and the chunks that are published."""

import base64
import json

import pytest
from griptape.artifacts import ActionArtifact, AudioArtifact, TextArtifact
from griptape.common import (
    ActionCallDeltaMessageContent,
    ActionCallMessageContent,
    AudioDeltaMessageContent,
    DeltaMessage,
    Message,
    TextDeltaMessageContent,
    TextMessageContent,
    ToolAction,
)
from griptape.events import (
    ActionChunkEvent,
    AudioChunkEvent,
    FinishPromptEvent,
    TextChunkEvent,
)
from griptape.structures import Agent

from griptape_ollama import (
    OllamaPromptDriver,
)

HI = TextArtifact("Hi")


def text_of(text, *, index=0, **usage):
    return DeltaMessage(content=TextDeltaMessageContent(text, index=index), usage=DeltaMessage.Usage(**usage))


def message_of(text):
    return Message([TextMessageContent(TextArtifact(text))], role=Message.ASSISTANT_ROLE)


def _of(events, *kinds):
    return [event for event in events if isinstance(event, kinds)]


class TestMessageOfAStream:
    def _run(self, deltas, **settings):
        class Saying(OllamaPromptDriver):
            def try_stream(self, prompt_stack):
                yield from deltas

        return Saying(model="simulator", host="http://127.0.0.1:9", stream=True, **settings).run(HI)

    def test_the_last_count_of_tokens_stands(self, events):
        message = self._run(
            [
                text_of("a", input_tokens=7),
                text_of("b", input_tokens=8, output_tokens=1),
                DeltaMessage(usage=DeltaMessage.Usage(output_tokens=5)),
                DeltaMessage(),
            ]
        )
        assert message.to_text() == "ab"
        assert (message.usage.input_tokens, message.usage.output_tokens) == (8, 5)
        finish = _of(events, FinishPromptEvent)[0]
        assert (finish.input_token_count, finish.output_token_count) == (8, 5)

    def test_a_call_in_pieces_is_one_call(self, events):
        call = ActionCallDeltaMessageContent
        message = self._run(
            [
                text_of("Let me see. "),
                DeltaMessage(content=call(tag="t1", name="WeatherTool", path="look_up", index=1)),
                DeltaMessage(content=call(partial_input='{"ci', index=1)),
                DeltaMessage(content=call(partial_input='ty": "Oslo"}', index=1)),
                DeltaMessage(content=call(tag="t2", name="Clock", path="now", index=2)),
            ]
        )
        text, *calls = message.content
        assert text.artifact.value == "Let me see. "
        assert [(each.artifact.value.tag, each.artifact.value.input) for each in calls] == [
            ("t1", {"city": "Oslo"}),
            ("t2", {}),
        ]
        assert [event.partial_input for event in _of(events, ActionChunkEvent)] == [None, '{"ci', 'ty": "Oslo"}', None]
        assert [event.index for event in _of(events, ActionChunkEvent, TextChunkEvent)] == [0, 1, 1, 1, 2]

    def test_audio_is_published_and_kept(self, events):
        data = base64.b64encode(b"la la").decode()
        audio = AudioDeltaMessageContent(id="a", data=data, transcript="la la", expires_at=1)
        message = self._run([DeltaMessage(content=audio)])
        assert isinstance(message.content[0].artifact, AudioArtifact)
        assert [event.data for event in _of(events, AudioChunkEvent)] == [data]

    def test_a_stream_without_contents_is_a_message_without_contents(self):
        assert self._run([]).content == []

    @pytest.mark.parametrize("native", [True, False])
    @pytest.mark.parametrize("stream", [True, False])
    def test_tool_calls_of_a_subclass_are_run(self, simulator, weather_tool, native, stream):
        action = {"tag": "t1", "name": "WeatherTool", "path": "look_up", "input": {"city": "Oslo"}}

        class Calling(OllamaPromptDriver):
            def _calls(self, prompt_stack):
                return "12 degrees" not in str([message.to_dict() for message in prompt_stack.messages])

            def try_stream(self, prompt_stack):
                if not self._calls(prompt_stack):
                    yield text_of("Answer: It is mild." if not native else "It is mild.")
                elif native:
                    call = ActionCallDeltaMessageContent
                    yield DeltaMessage(content=call(tag="t1", name="WeatherTool", path="look_up"))
                    yield DeltaMessage(content=call(partial_input=json.dumps(action["input"])))
                else:
                    for piece in ("Thought: I look.\nAct", "ions: ", json.dumps([action])):
                        yield text_of(piece)

            def try_run(self, prompt_stack):
                if not self._calls(prompt_stack):
                    return message_of("Answer: It is mild." if not native else "It is mild.")
                if native:
                    call = ActionCallMessageContent(ActionArtifact(ToolAction(**action)))
                    return Message([call], role=Message.ASSISTANT_ROLE)
                return message_of(f"Thought: I look.\nActions: {json.dumps([action])}")

        driver = Calling(model="simulator", host=simulator.url, stream=stream, use_native_tools=native)
        agent = Agent(prompt_driver=driver, tools=[weather_tool])
        assert agent.run("How is the weather in Oslo?").output.to_text().endswith("It is mild.")
        assert simulator.chats == []
