"""Methods that a subclass, or a test, puts in place of ours: each runs where Griptape's base class would call it."""

import asyncio
import contextvars
import threading
from unittest import mock

import pytest
import tenacity
from attrs import define, field
from griptape.artifacts import TextArtifact
from griptape.common import (
    DeltaMessage,
    Message,
    PromptStack,
    TextDeltaMessageContent,
    TextMessageContent,
)
from griptape.events import (
    EventBus,
    EventListener,
    FinishPromptEvent,
    StartPromptEvent,
    TextChunkEvent,
)
from griptape.structures import Agent
from griptape.tasks import PromptTask
from pydantic import BaseModel

from griptape_ollama import (
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaPromptDriver,
    OllamaResponseError,
    OllamaResponseEvent,
    OllamaStream,
    OllamaStreamError,
    OllamaTimeoutError,
    ReasoningChunkEvent,
)
from griptape_ollama.drivers.subclass_overrides import is_overridden

HI = TextArtifact("Hi")
ENVELOPE = [StartPromptEvent, FinishPromptEvent]


def text_of(text, *, index=0, **usage):
    return DeltaMessage(content=TextDeltaMessageContent(text, index=index), usage=DeltaMessage.Usage(**usage))


def message_of(text):
    return Message([TextMessageContent(TextArtifact(text))], role=Message.ASSISTANT_ROLE)


@define
class Own(OllamaPromptDriver):
    """Answers by itself, and notes which method was asked."""

    model: str = "simulator"
    min_retry_delay: float = 0
    asked: list = field(factory=list, init=False)

    def try_run(self, prompt_stack):
        self.asked.append("try_run")
        return message_of("own")

    def try_stream(self, prompt_stack):
        self.asked.append("try_stream")
        yield text_of("o")
        yield text_of("wn")


class OwnRun(Own):
    try_stream = OllamaPromptDriver.try_stream


class OwnStream(Own):
    try_run = OllamaPromptDriver.try_run


class Passing(OllamaPromptDriver):
    """Has methods of its own, which do what they inherit."""

    def try_run(self, prompt_stack):
        return super().try_run(prompt_stack)

    def try_stream(self, prompt_stack):
        yield from super().try_stream(prompt_stack)


def _agent_chunks(driver, **settings):
    return list(OllamaStream(Agent(prompt_driver=driver), **settings).run("Hi"))


def _of(events, *kinds):
    return [event for event in events if isinstance(event, kinds)]


@pytest.mark.parametrize("name", ["try_run", "try_stream"])  # one of them is decorated by Griptape
def test_only_a_method_of_a_subclass_or_of_the_object_is_an_override(name):
    own = {name: vars(OllamaPromptDriver)[name]}
    driver = OllamaPromptDriver(model="m")
    assert not is_overridden(driver, name, own)
    setattr(driver, name, mock.Mock())
    assert is_overridden(driver, name, own)
    assert is_overridden(type("Sub", (OllamaPromptDriver,), {name: lambda _: None})(model="m"), name, own)


class TestWhichMethodRuns:
    @pytest.mark.parametrize(
        ("kind", "stream", "asked"),
        [
            (Own, False, ["try_run"]),
            (Own, True, ["try_stream"]),
            (OwnRun, False, ["try_run"]),
            (OwnRun, True, []),
            (OwnStream, False, []),
            (OwnStream, True, ["try_stream"]),
        ],
    )
    def test_run_asks_the_method_that_the_base_class_would_ask(self, simulator, events, kind, stream, asked):
        driver = kind(host=simulator.url, stream=stream)
        message = driver.run(HI)
        assert asyncio.run(kind(host=simulator.url, stream=stream).arun(HI)).to_text()
        assert driver.asked == asked
        assert len(simulator.chats) == (0 if asked else 2)
        assert (message.to_text() == "own") is bool(asked)
        assert [type(event) for event in _of(events, *ENVELOPE)] == ENVELOPE * 2

    @pytest.mark.parametrize(
        ("kind", "stream", "asked", "chunks"),
        [
            (Own, False, ["try_stream"], ["o", "wn"]),
            (OwnRun, False, ["try_run"], ["own"]),
            (OwnStream, False, ["try_stream"], ["o", "wn"]),
            (Own, True, ["try_stream"], ["o", "wn"]),
        ],
    )
    def test_a_streamed_structure_gets_the_chunks_of_a_subclass(self, simulator, kind, stream, asked, chunks):
        driver = kind(host=simulator.url, stream=stream)
        assert _agent_chunks(driver) == chunks
        assert (driver.asked, simulator.chats) == (asked, [])

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_method_that_was_set_on_a_driver_runs(self, simulator, make_driver, stream):
        driver = make_driver(stream=stream)
        with (
            mock.patch.object(driver, "try_run", return_value=message_of("patched")) as run,
            mock.patch.object(driver, "try_stream", return_value=[text_of("patched")]) as try_stream,
        ):
            assert driver.run(HI).to_text() == "patched"
        assert (run.called, try_stream.called) == (not stream, stream)
        assert simulator.chats == []
        assert driver.run(HI).to_text() != "patched"

    @pytest.mark.parametrize("name", ["try_run", "try_stream"])
    def test_a_method_that_was_set_on_the_class_runs(self, make_driver, name):
        result = message_of("patched") if name == "try_run" else iter([text_of("patched")])
        with mock.patch.object(OllamaPromptDriver, name, return_value=result):
            assert make_driver(stream=name == "try_stream").run(HI).to_text() == "patched"

    def test_a_mixin_before_the_driver_wraps_what_it_inherits(self, simulator):
        class Shouting:
            def try_run(self, prompt_stack):
                return message_of(super().try_run(prompt_stack).to_text().upper())

            def try_stream(self, prompt_stack):
                for delta in super().try_stream(prompt_stack):
                    if delta.content is not None:
                        delta.content.text = delta.content.text.upper()
                    yield delta

        @define
        class Mine(Shouting, OllamaPromptDriver):
            loudness: int = 11

        for stream in (False, True):
            simulator.reply("Well, hello")
            assert Mine(model="simulator", host=simulator.url, stream=stream).run(HI).to_text() == "WELL, HELLO"

    def test_astream_asks_try_stream(self, simulator):
        driver = Own(host=simulator.url)

        async def read():
            return [delta.content.text async for delta in driver.astream(HI)]

        assert asyncio.run(read()) == ["o", "wn"]

    @pytest.mark.parametrize("stream", [False, True])
    def test_hooks_run_once_around_the_answer(self, simulator, stream):
        order = []

        class Hooked(OllamaPromptDriver):
            def before_run(self, prompt_stack):
                order.append("before")
                super().before_run(prompt_stack)

            def _init_structured_output(self, prompt_stack):
                order.append("structured")
                super()._init_structured_output(prompt_stack)

            def try_run(self, prompt_stack):
                order.append("try")
                return super().try_run(prompt_stack)

            def try_stream(self, prompt_stack):
                order.append("try")
                yield from super().try_stream(prompt_stack)

            def after_run(self, result):
                order.append("after")
                super().after_run(result)

        Hooked(model="simulator", host=simulator.url, stream=stream).run(HI)
        assert order == ["before", "structured", "try", "after"]

    def test_a_memory_is_counted_by_the_text_of_a_subclass(self, simulator):
        seen = []

        class Own(OllamaPromptDriver):
            def prompt_stack_to_string(self, prompt_stack):
                seen.append(prompt_stack)
                return "short"

        agent = Agent(prompt_driver=Own(model="simulator", host=simulator.url))
        agent.run("Hi")
        agent.run("Hi again")
        assert seen
        assert len(simulator.last_chat.body["messages"]) == 3


class TestInheritedMethods:
    @pytest.mark.parametrize("stream", [False, True])
    def test_the_metadata_of_the_server_is_kept(self, simulator, events, stream):
        simulator.reply(thinking=["Hm. ", "Yes."], text="Well, hello")
        message = Passing(model="simulator", host=simulator.url, stream=stream).run(HI)
        assert message.to_text() == "Well, hello"
        told = message.content[0].artifact.meta["ollama"]
        assert (told["thinking"], told["model"]) == ("Hm. Yes.", "simulator")
        assert message.usage.output_tokens == told["eval_count"]
        assert len(_of(events, OllamaResponseEvent)) == 1
        assert [event.token for event in _of(events, ReasoningChunkEvent)] == (["Hm. ", "Yes."] if stream else [])
        assert len(simulator.chats) == 1

    def test_thoughts_reach_a_streamed_structure(self, simulator):
        class RunsOnly(OllamaPromptDriver):
            def try_run(self, prompt_stack):
                return super().try_run(prompt_stack)

        for kind in (Passing, RunsOnly):
            simulator.reply(thinking="Hm.", text="Well")
            chunks = _agent_chunks(kind(model="simulator", host=simulator.url), reasoning=True)
            assert [(str(chunk), chunk.is_reasoning) for chunk in chunks] == [("Hm.", True), ("Well", False)]

    def test_an_empty_reply_is_one_empty_text(self, simulator):
        simulator.reply("")
        message = Passing(model="simulator", host=simulator.url, stream=True).run(HI)
        assert [content.artifact.value for content in message.content] == [""]

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_tool_is_called_and_its_result_sent(self, simulator, weather_tool, stream):
        simulator.reply(thinking="I look.", tool_calls=[("WeatherTool_look_up", {"city": "Oslo"})])
        simulator.reply("Mild.")
        agent = Agent(prompt_driver=Passing(model="simulator", host=simulator.url, stream=stream), tools=[weather_tool])
        assert agent.run("How is the weather in Oslo?").output.to_text() == "Mild."
        messages = simulator.last_chat.body["messages"]
        assert "12 degrees" in messages[-1]["content"]
        assert messages[-2]["thinking"] == "I look."

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_structured_answer_fits_its_schema(self, simulator, stream):
        class City(BaseModel):
            name: str

        simulator.reply('{"name": "Oslo"}')
        driver = Passing(model="simulator", host=simulator.url, stream=stream)
        task = PromptTask("Which city?", prompt_driver=driver, output_schema=City)
        assert Agent(tasks=[task]).run().output.value == City(name="Oslo")
        assert simulator.last_chat.body["format"]["properties"].keys() == {"name"}

    def test_it_may_be_called_several_times(self, simulator):
        class Twice(OllamaPromptDriver):
            def try_run(self, prompt_stack):
                first = super().try_run(prompt_stack)
                return message_of(f"{first.to_text()} {super().try_run(prompt_stack).to_text()}")

        simulator.reply("One")
        simulator.reply("two")
        assert Twice(model="simulator", host=simulator.url).run(HI).to_text() == "One two"

    def test_it_may_be_called_on_several_threads(self, simulator):
        class Parallel(OllamaPromptDriver):
            def try_run(self, prompt_stack):
                found = []
                ask = super().try_run

                def work():
                    found.append(ask(prompt_stack).to_text())

                threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                return message_of(str(len(found)))

        assert Parallel(model="simulator", host=simulator.url).run(HI).to_text() == "4"

    @pytest.mark.parametrize("stream", [False, True])
    def test_another_driver_that_is_asked_has_limits_of_its_own(self, simulator, stream, unused_port):
        url = f"http://127.0.0.1:{unused_port}"
        other = OllamaPromptDriver(model="other", host=url, max_attempts=1)

        class Delegating(OllamaPromptDriver):
            def try_run(self, prompt_stack):
                return other.try_run(prompt_stack)

            def try_stream(self, prompt_stack):
                yield from other.try_stream(prompt_stack)

        driver = Delegating(model="simulator", host=simulator.url, stream=stream, wait_for_server=30)
        with pytest.raises(OllamaConnectionError) as caught:
            driver.run(HI)
        assert caught.value.host == url


class TestFailures:
    @pytest.mark.parametrize("stream", [False, True])
    def test_a_failure_of_a_subclass_is_tried_again_as_the_base_class_does(self, simulator, events, stream):
        tries = []

        class Failing(Own):
            def try_run(self, prompt_stack):
                tries.append(1)
                if len(tries) < 3:
                    raise RuntimeError("not yet")
                return message_of("done")

            def try_stream(self, prompt_stack):
                tries.append(1)
                if len(tries) < 3:
                    raise RuntimeError("not yet")
                yield text_of("done")

        assert Failing(host=simulator.url, stream=stream, max_attempts=3).run(HI).to_text() == "done"
        assert len(tries) == 3
        assert [type(event) for event in _of(events, *ENVELOPE)] == ENVELOPE
        tries.clear()
        with pytest.raises(RuntimeError, match="not yet"):
            Failing(host=simulator.url, stream=stream, max_attempts=2).run(HI)
        assert len(tries) == 2

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
    def test_what_the_base_class_would_not_try_again_is_not(self, simulator, stream, error):
        tries = []

        class Wrong(Own):
            def try_run(self, prompt_stack):
                tries.append(1)
                raise error

            def try_stream(self, prompt_stack):
                tries.append(1)
                raise error
                yield

        with pytest.raises(type(error)):
            Wrong(host=simulator.url, stream=stream, max_attempts=3).run(HI)
        assert len(tries) == 1

    def test_no_chunk_is_published_twice(self, simulator, events):
        class Breaking(Own):
            def try_stream(self, prompt_stack):
                yield text_of("Once upon ")
                raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            Breaking(host=simulator.url, stream=True, max_attempts=3).run(HI)
        assert [event.token for event in _of(events, TextChunkEvent)] == ["Once upon "]

    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize("has_own_policy", [False, True])
    def test_a_failure_of_the_server_is_tried_as_often_as_max_attempts_says(self, simulator, stream, has_own_policy):
        class Retrying(Passing):
            def retrying(self, **_):
                return tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True)

        simulator.fault("status", status=503, times=None)
        kind = Retrying if has_own_policy else Passing
        driver = kind(model="simulator", host=simulator.url, stream=stream, max_attempts=3, min_retry_delay=0)
        with pytest.raises(OllamaResponseError):
            driver.run(HI)
        assert len(simulator.chats) == 3

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_policy_of_a_subclass_decides(self, simulator, stream):
        tries = []

        class Stubborn(Own):
            def retrying(self, **_):
                return tenacity.Retrying(
                    stop=tenacity.stop_after_attempt(4),
                    retry=tenacity.retry_if_exception_type(ValueError),
                    reraise=True,
                )

            def try_run(self, prompt_stack):
                tries.append(1)
                raise ValueError("wrong")

            def try_stream(self, prompt_stack):
                yield self.try_run(prompt_stack)

        with pytest.raises(ValueError, match="wrong"):
            Stubborn(host=simulator.url, stream=stream).run(HI)
        assert len(tries) == 4

    def test_an_error_carries_the_text_so_far(self, simulator):
        class Breaking(Own):
            def try_stream(self, prompt_stack):
                yield text_of("Once ")
                yield text_of("upon")
                raise OllamaStreamError("broken")

        with pytest.raises(OllamaStreamError) as caught:
            Breaking(host=simulator.url, stream=True).run(HI)
        assert caught.value.partial_text == "Once upon"

    def test_a_reply_that_breaks_carries_the_text_so_far(self, simulator):
        simulator.reply(["Once ", "upon ", "a time"], cut=2)
        with pytest.raises(OllamaStreamError) as caught:
            Passing(model="simulator", host=simulator.url, stream=True).run(HI)
        assert caught.value.partial_text == "Once upon "

    @pytest.mark.parametrize("closes", [True, False])
    def test_cancel_ends_a_stream_of_a_subclass_between_two_pieces(self, simulator, closes):
        ended = []

        class Pieces:
            def __init__(self, driver):
                self.count, self.driver = 0, driver

            def __iter__(self):
                return self

            def __next__(self):
                self.count += 1
                if self.count == 3:
                    self.driver.cancel()
                return text_of(str(self.count))

        class Endless(Own):
            def try_stream(self, prompt_stack):
                if not closes:
                    return Pieces(self)
                return self._endless()

            def _endless(self):
                try:
                    yield from Pieces(self)
                finally:
                    ended.append(True)

        with pytest.raises(OllamaCancelledError) as caught:
            Endless(host=simulator.url, stream=True).run(HI)
        assert caught.value.partial_text == "12"
        assert ended == [True] * closes

    def test_leaving_a_streamed_structure_stops_the_server(self, simulator):
        simulator.reply(["one "] * 10_000, line_delay=0.01)
        stream = OllamaStream(Agent(prompt_driver=Passing(model="simulator", host=simulator.url))).run("Hi")
        assert next(stream) == "one "
        stream.close()
        simulator.wait_for_disconnect()

    def test_the_total_limit_ends_a_stream_of_a_subclass(self, simulator):
        class Endless(Own):
            def try_stream(self, prompt_stack):
                while True:
                    yield text_of("on ")

        with pytest.raises(OllamaTimeoutError, match="total"):
            Endless(host=simulator.url, stream=True, timeout=0.2).run(HI)

    def test_a_wait_before_another_try_can_be_cancelled(self, simulator):
        failed = threading.Event()

        class Failing(Own):
            def try_run(self, prompt_stack):
                raise RuntimeError("not yet")

        driver = Failing(host=simulator.url, min_retry_delay=30, max_retry_delay=30, after_hook=lambda _: failed.set())
        canceller = threading.Thread(target=lambda: failed.wait(5) and driver.cancel())
        canceller.start()
        with mock.patch("random.uniform", return_value=30.0), pytest.raises(OllamaCancelledError):
            driver.run(HI)
        canceller.join()

    def test_a_listener_that_asks_meanwhile_gets_a_run_of_its_own(self, simulator):
        answers = []

        class Asking(Own):
            def try_stream(self, prompt_stack):
                yield from OllamaPromptDriver.try_stream(self, prompt_stack)

        driver = Asking(host=simulator.url, stream=True)
        simulator.reply("First")
        simulator.reply("Second")

        def ask(event):
            if not answers:
                answers.append("asked")
                stack = PromptStack.from_artifact(TextArtifact("And you?"))
                answers.append(OllamaPromptDriver.try_run(driver, stack).to_text())

        EventBus.add_event_listener(EventListener(ask, event_types=[TextChunkEvent]))
        assert driver.run(HI).to_text() == "First"
        assert answers == ["asked", "Second"]
