"""OllamaPromptDriver and a real server: shape and usage of replies, not their wording."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from griptape.artifacts import ErrorArtifact, ImageArtifact, ListArtifact, TextArtifact
from griptape.common import PromptStack
from griptape.events import ActionChunkEvent, EventListener, FinishPromptEvent, TextChunkEvent
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Optional, Schema

from griptape_ollama import (
    OllamaCancelledError,
    OllamaModelNotFoundError,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaResponseEvent,
    OllamaTimeout,
)
from griptape_ollama.transport.call import Call

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAFAAAAA8CAIAAAB+RarbAAAAJElEQVR4nO3BMQEAAADCoPVP7WkJoAAAAAAAAAAAAAAAAAAAbjh8AAFOgZ4b"
    "AAAAAElFTkSuQmCC"
)
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
LONG = "Write a very long story about a lighthouse. Do not stop."

streamed_and_plain = pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])


class GetTool(BaseTool):
    """Answers the question that small models can ask: `get_weather`."""

    cities: list

    @activity(
        config={
            "description": "Tells the weather in a city",
            "schema": Schema({Literal("city", description="Name of the city"): str, Optional("unit"): str}),
        }
    )
    def weather(self, city, unit=None):
        self.cities.append(city)
        return TextArtifact(f"It is sunny in {city}.")


@pytest.fixture
def tool():
    tool = GetTool(name="get")
    tool.cities = []
    return tool


@pytest.fixture
def events():
    seen = []
    with EventListener(lambda event: seen.append(event)):  # noqa: PLW0108 # append gives None, and so must this
        yield seen


def prompt(*artifacts):
    stack = PromptStack()
    stack.add_user_message(ListArtifact([TextArtifact("Say hello, please."), *artifacts]))
    return stack


def new_driver(model, **settings):
    """A driver whose replies are short, and to the point where the model can think."""
    return OllamaPromptDriver(model=model, **{"max_tokens": 128, "think": False, **settings})


def meta_of(message):
    return message.content[0].artifact.meta["ollama"]


def loaded(server):
    return {model["name"].removesuffix(":latest"): model for model in server.get("/api/ps").json()["models"]}


def is_unloaded(server, model, *, seconds=30):
    """Wait until the model is unloaded, by polling the server."""
    deadline = time.monotonic() + seconds
    while model.removesuffix(":latest") in loaded(server):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class TestReply:
    @streamed_and_plain
    def test_a_reply_has_text_usage_and_metadata(self, chat_model, events, stream):
        message = new_driver(chat_model, stream=stream).run(prompt())
        assert message.to_text().strip()
        assert message.usage.input_tokens > 0
        assert 0 < message.usage.output_tokens <= 128
        meta = meta_of(message)
        assert meta["model"] == chat_model
        assert meta["done_reason"] in ("stop", "length")
        assert meta["total_seconds"] >= meta["generation_seconds"] > 0
        assert meta["tokens_per_second"] > 0
        assert meta["time_to_first_token"] > 0
        (response,) = [event for event in events if isinstance(event, OllamaResponseEvent)]
        (finish,) = [event for event in events if isinstance(event, FinishPromptEvent)]
        assert (response.input_tokens, response.output_tokens) == (
            finish.input_token_count,
            finish.output_token_count,
        )

    def test_the_chunks_of_a_stream_add_up_to_the_text(self, chat_model, events):
        message = new_driver(chat_model, stream=True).run(prompt())
        tokens = [event.token for event in events if isinstance(event, TextChunkEvent)]
        assert len(tokens) > 1
        assert all(tokens)
        assert "".join(tokens) == message.to_text()

    def test_try_stream_ends_with_the_usage(self, chat_model):
        *deltas, last = new_driver(chat_model).try_stream(prompt())
        assert "".join(delta.content.text for delta in deltas).strip()
        assert last.usage.output_tokens > 0

    def test_one_driver_serves_many_threads(self, chat_model):
        driver = new_driver(chat_model, max_tokens=16)
        with ThreadPoolExecutor(4) as pool:
            messages = list(pool.map(driver.run, [prompt() for _ in range(8)]))
        assert all(message.to_text() for message in messages)
        assert all(message.usage.output_tokens <= 16 for message in messages)

    def test_a_format_returns_json_that_fits(self, chat_model):
        message = new_driver(chat_model, format=SCHEMA, max_tokens=512).run(prompt())
        assert isinstance(json.loads(message.to_text())["name"], str)

    def test_log_probabilities_are_in_the_metadata(self, chat_model):
        message = new_driver(chat_model, logprobs=True, top_logprobs=2, max_tokens=4).run(prompt())
        logprobs = meta_of(message)["logprobs"]
        assert logprobs
        assert all(len(entry["top_logprobs"]) == 2 for entry in logprobs)

    def test_metadata_of_the_model_is_read(self, chat_model):
        metadata = new_driver(chat_model).facts
        assert metadata.show(chat_model).can("completion")
        assert metadata.show(chat_model).context_length > 0
        assert metadata.version()


class TestAgent:
    @streamed_and_plain
    def test_it_remembers_the_conversation(self, chat_model, events, stream):
        agent = Agent(prompt_driver=new_driver(chat_model, stream=stream))
        first = agent.run("My favourite colour is green.").output
        second = agent.run("What is my favourite colour?").output
        for output in (first, second):
            assert not isinstance(output, ErrorArtifact), output
            assert output.value.strip()
        assert len(agent.conversation_memory.runs) == 2
        before, after = [event.input_token_count for event in events if isinstance(event, FinishPromptEvent)]
        assert after > before

    @streamed_and_plain
    def test_it_calls_a_tool_and_answers_from_its_result(self, tools_model, tool, events, stream):
        driver = new_driver(tools_model, stream=stream, max_tokens=1024, think=None, options={"seed": 1})
        output = Agent(prompt_driver=driver, tools=[tool]).run("What is the weather in Paris? Use the tool.").output
        assert not isinstance(output, ErrorArtifact), output
        assert output.value.strip()
        assert tool.cities
        assert all(isinstance(city, str) for city in tool.cities)
        calls = [event for event in events if isinstance(event, ActionChunkEvent)]
        assert len(calls) == (len(tool.cities) if stream else 0)
        assert len({call.tag for call in calls}) == len(calls)
        usages = [event.output_token_count for event in events if isinstance(event, FinishPromptEvent)]
        assert len(usages) >= 2
        assert all(usages)


class TestThinking:
    @streamed_and_plain
    def test_thinking_is_metadata_and_not_text(self, thinking_model, events, stream):
        message = new_driver(thinking_model, think=True, max_tokens=4096, stream=stream).run(prompt())
        thinking = meta_of(message)["thinking"]
        assert thinking.strip()
        assert message.to_text().strip()
        assert thinking not in message.to_text()
        tokens = [event.token for event in events if isinstance(event, TextChunkEvent)]
        assert "".join(tokens) == (message.to_text() if stream else "")

    def test_thinking_can_be_turned_off(self, thinking_model):
        message = new_driver(thinking_model, think=False).run(prompt())
        assert "thinking" not in meta_of(message)
        assert message.to_text().strip()


class TestVision:
    def test_an_image_reaches_the_model(self, vision_model):
        image = ImageArtifact(base64.b64decode(PNG), format="png", width=80, height=60)
        driver = new_driver(vision_model)
        seeing, blind = driver.run(prompt(image)), driver.run(prompt())
        assert seeing.to_text().strip()
        assert seeing.usage.input_tokens > blind.usage.input_tokens


class TestSettings:
    @streamed_and_plain
    def test_max_tokens_limits_the_reply(self, chat_model, stream):
        message = new_driver(chat_model, max_tokens=3, stream=stream).run(prompt())
        assert message.usage.output_tokens == 3
        assert meta_of(message)["done_reason"] == "length"

    @streamed_and_plain
    def test_a_stop_sequence_ends_the_reply(self, chat_model, stream):
        stops = [" ", "a", "e", "i", "o", "u"]
        message = new_driver(chat_model, options={"stop": stops}, stream=stream).run(prompt())
        assert not set(stops) & set(message.to_text())
        assert meta_of(message)["done_reason"] == "stop"

    def test_keep_alive_0_unloads_the_model_after_the_reply(self, chat_model, server):
        assert new_driver(chat_model, keep_alive=0, max_tokens=4).run(prompt()).usage.output_tokens > 0
        assert is_unloaded(server, chat_model)

    def test_keep_alive_keeps_the_model_loaded(self, chat_model, server):
        new_driver(chat_model, keep_alive="10m", max_tokens=4).run(prompt())
        assert chat_model.removesuffix(":latest") in loaded(server)

    def test_num_ctx_sets_the_window(self, chat_model, server):
        new_driver(chat_model, options={"num_ctx": 2048}, max_tokens=4).run(prompt())
        assert loaded(server)[chat_model.removesuffix(":latest")]["context_length"] == 2048


class TestStopping:
    """A cancelled reply ends, and the model is free for the next one."""

    # One model answers one request at a time: were the first still running, the next would have to wait for it.
    LIMITS = OllamaTimeout(first_token=60)

    def test_leaving_a_stream_early(self, chat_model):
        driver = new_driver(chat_model, max_tokens=None, timeout=self.LIMITS)
        stack = PromptStack()
        stack.add_user_message(LONG)
        deltas = driver.try_stream(stack)
        assert next(deltas).content.text
        deltas.close()
        assert new_driver(chat_model, timeout=self.LIMITS, max_tokens=4).run(prompt()).usage.output_tokens > 0

    def test_cancelling_a_call_in_mid_stream(self, chat_model):
        driver = new_driver(chat_model)
        body = {"model": chat_model, "messages": [{"role": "user", "content": LONG}], "think": False}
        call = Call(driver.connection, "/api/chat", body, limits=self.LIMITS)
        lines = call.lines()
        assert next(lines)["done"] is False
        call.cancel()
        with pytest.raises(OllamaCancelledError):
            list(lines)
        assert new_driver(chat_model, timeout=self.LIMITS, max_tokens=4).run(prompt()).usage.output_tokens > 0

    def test_cancelling_a_call_from_another_thread_while_it_waits(self, chat_model, server):
        new_driver(chat_model, keep_alive=0, max_tokens=1).run(prompt())
        assert is_unloaded(server, chat_model)
        body = {"model": chat_model, "messages": [{"role": "user", "content": LONG}], "think": False}
        call = Call(new_driver(chat_model).connection, "/api/chat", body, limits=self.LIMITS)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(lambda: list(call.lines()))
            call.cancel()
            with pytest.raises(OllamaCancelledError):
                waiting.result(timeout=10)
        assert new_driver(chat_model, timeout=self.LIMITS, max_tokens=4).run(prompt()).usage.output_tokens > 0


class TestRefusals:
    @streamed_and_plain
    def test_a_missing_model_names_the_pull_command(self, server, stream):
        with pytest.raises(OllamaModelNotFoundError, match="ollama pull no-such-model-of-mine:1b") as caught:
            new_driver("no-such-model-of-mine:1b", stream=stream).run(prompt())
        assert caught.value.status == 404
        assert caught.value.permanent

    def test_an_agent_shows_the_error(self, server):
        output = Agent(prompt_driver=new_driver("no-such-model-of-mine:1b")).run("hi").output
        assert isinstance(output, ErrorArtifact)
        assert "ollama pull" in output.value

    def test_an_embedding_model_does_not_chat(self, embed_model):
        with pytest.raises(OllamaResponseError, match="does not support chat") as caught:
            new_driver(embed_model, think=None).run(prompt())
        assert caught.value.permanent

    def test_the_next_request_works_after_an_error(self, chat_model):
        driver = new_driver("no-such-model-of-mine:1b", max_tokens=4)
        with pytest.raises(OllamaModelNotFoundError):
            driver.run(prompt())
        driver.model = chat_model
        assert driver.run(prompt()).usage.output_tokens > 0
