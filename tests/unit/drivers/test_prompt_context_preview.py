"""A preview of a prompt before it is sent."""

import base64
import copy
import json
import logging

import pytest
from griptape.artifacts import ImageArtifact, ListArtifact, TextArtifact
from griptape.common import PromptStack
from griptape.memory.structure import ConversationMemory, Run
from griptape.structures import Agent
from griptape.tasks import PromptTask
from pydantic import BaseModel

from griptape_ollama import OllamaConnectionError, OllamaContentError, OllamaContextError, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.drivers.context_prompts import (
    LARGE_WINDOW,
    calibrate,
    loaded_windows,
    prompt,
    prose,
    sent_windows,
    stack_of,
    texts,
    truncated_chats,
    turns,
)

_PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_MODELS = (
    LARGE_WINDOW,
    SimulatedModel(name="narrow", context_length=4096),
    SimulatedModel(name="toolless", context_length=8192, capabilities=("completion",)),
    SimulatedModel(name="eyes", context_length=8192, capabilities=("completion", "vision")),
)


class _Weather(BaseModel):
    city: str
    degrees: int


@pytest.fixture
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        calibrate(simulator, *(model.name for model in _MODELS))
        yield simulator


@pytest.fixture
def make_driver(simulator):
    def make(**settings):
        return OllamaPromptDriver(**{"model": "roomy", "host": simulator.url, "min_retry_delay": 0, **settings})

    return make


def _asked(simulator):
    return {request.path for request in simulator.requests}


def _sent_as_shown(simulator, driver, stack):
    """Preview a stack, run it, and compare what went over the wire byte for byte."""
    shown = driver.preview(stack)
    driver.run(stack)
    assert simulator.last_chat.raw == json.dumps(shown.request).encode()
    return shown


class TestNothingHappens:
    def test_the_model_is_not_asked(self, simulator, make_driver, stack):
        make_driver().preview(stack)
        make_driver().preview(prompt(9000))
        assert _asked(simulator) <= {"/api/show", "/api/ps"}
        assert simulator.loads == []

    def test_nothing_is_published_or_said(self, make_driver, events, caplog):
        caplog.set_level(logging.INFO, logger="griptape_ollama")
        make_driver().preview(prompt(9000))
        make_driver(model="narrow").preview(prompt(9000))
        assert events == []
        assert caplog.messages == []

    def test_the_window_does_not_grow_by_being_looked_at(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver()
        driver.run(prompt(100))
        for _ in range(3):
            assert driver.preview(prompt(9000)).window.tokens == 16_384
        driver.run(prompt(100))
        driver.run(prompt(5000))
        assert sent_windows(simulator) == [None, None, 8192]
        assert loaded_windows(simulator) == [4096, 8192]

    def test_it_is_the_same_each_time(self, make_driver):
        driver = make_driver()
        assert driver.preview(prompt(9000)) == driver.preview(prompt(9000))

    def test_the_stack_stays_as_it_is(self, simulator, make_driver, weather_tool):
        stack = stack_of(("system", "Be brief."), ("user", "Hi"), tools=[weather_tool], output_schema=_Weather)
        before = copy.deepcopy([message.to_dict() for message in stack.messages])
        for strategy in ("native", "rule", "tool"):
            make_driver(structured_output_strategy=strategy).preview(stack)
        assert [message.to_dict() for message in stack.messages] == before
        assert stack.tools == [weather_tool]
        assert stack.output_schema is _Weather

    def test_a_dead_server_is_looked_past(self, closed_url):
        shown = OllamaPromptDriver(model="roomy", host=closed_url).preview(prompt(100))
        assert shown.messages[0]["role"] == "user"
        assert shown.window.is_known is False
        assert shown.fits


class TestWhatIsSent:
    def test_a_short_prompt(self, simulator, make_driver, stack):
        simulator.reply("Fine.")
        shown = _sent_as_shown(simulator, make_driver(options={"seed": 1}, keep_alive="10m", max_tokens=50), stack)
        assert shown.model == "roomy"
        assert shown.options["seed"] == 1
        assert (shown.window.tokens, shown.window.num_ctx, shown.reply_tokens) == (4096, None, 50)
        assert shown.fits
        assert shown.problem is None

    def test_a_long_prompt(self, simulator, make_driver):
        simulator.reply("Fine.")
        shown = _sent_as_shown(simulator, make_driver(), stack_of(("user", prose(9000))))
        assert (shown.window.num_ctx, shown.window.grown_from) == (16_384, 4096)
        tokens = simulator.last_chat.outcome.prompt_tokens
        assert shown.estimate.low <= tokens <= shown.estimate.high

    def test_tools(self, simulator, make_driver, weather_tool):
        simulator.reply("Fine.")
        shown = _sent_as_shown(simulator, make_driver(), stack_of(("user", "Hi"), tools=[weather_tool]))
        assert [tool["function"]["name"] for tool in shown.tools] == ["WeatherTool_look_up"]

    @pytest.mark.parametrize("strategy", ["native", "rule", "tool"])
    @pytest.mark.parametrize("model", ["roomy", "toolless"])
    def test_structured_output(self, simulator, make_driver, strategy, model):
        said = (("system", "Be brief."), ("user", "Hi"))
        simulator.reply('{"city": "Oslo", "degrees": 12}')
        driver = make_driver(model=model, structured_output_strategy=strategy)
        shown = driver.preview(stack_of(*said, output_schema=_Weather))
        if strategy == "tool" and model == "roomy":
            assert [tool["function"]["name"] for tool in shown.tools] == ["StructuredOutputTool_provide_output"]
        driver.run(stack_of(*said, output_schema=_Weather))
        assert simulator.chats[0].body == shown.request
        assert ("format" in shown.request) == (strategy == "native")

    def test_images(self, simulator, make_driver):
        simulator.reply("A cat.")
        stack = PromptStack()
        stack.add_user_message(
            ListArtifact([TextArtifact("Look"), ImageArtifact(_PIXEL, format="png", width=1, height=1)])
        )
        shown = _sent_as_shown(simulator, make_driver(model="eyes"), stack)
        assert "1 images" in str(shown)

    @pytest.mark.parametrize("on_overflow", ["warn", "error", "trim"])
    def test_each_way_with_what_does_not_fit(self, simulator, make_driver, on_overflow):
        simulator.reply("Fine.", times=None)
        driver = make_driver(on_overflow=on_overflow)
        _sent_as_shown(simulator, driver, stack_of(("user", prose(9000))))
        _sent_as_shown(simulator, driver, stack_of(("user", "Hi")))

    def test_a_task_with_a_memory_that_is_too_long(self, simulator, make_driver):
        simulator.reply("Fine.")
        said = [text for _, text in turns(100, 100)]
        runs = [
            Run(input=TextArtifact(one), output=TextArtifact(other))
            for one, other in zip(said[::2], said[1::2], strict=True)
        ]
        driver = make_driver(model="narrow")
        task = PromptTask("And now?", prompt_driver=driver)
        agent = Agent(tasks=[task], conversation_memory=ConversationMemory(runs=runs))
        shown = driver.preview(task.prompt_stack)
        agent.run()
        assert simulator.last_chat.body == shown.request
        assert len(shown.dropped) + len(shown.messages) == 201
        assert shown.dropped[0]["content"] == said[0]

    def test_a_stack_of_a_task_that_is_looked_at_and_then_run(self, simulator, make_driver):
        simulator.reply("Fine.")
        memory = ConversationMemory(
            runs=[Run(input=TextArtifact(prose(100)), output=TextArtifact("Yes.")) for _ in range(100)]
        )
        driver = make_driver(model="narrow")
        agent = Agent(prompt_driver=driver, conversation_memory=memory)
        _sent_as_shown(simulator, driver, agent.task.prompt_stack)
        assert truncated_chats(simulator) == []


class TestWhatDoesNotFit:
    def test_what_would_be_dropped_is_shown(self, simulator, make_driver):
        said = [("system", "Be brief."), *turns(12, 600), ("user", "And now?")]
        shown = make_driver(model="narrow", on_overflow="trim").preview(stack_of(*said))
        kept = [(message["role"], message["content"]) for message in shown.messages]
        dropped = [(message["role"], message["content"]) for message in shown.dropped]
        assert [kept[0], *dropped, *kept[1:]] == said
        assert shown.fits
        assert f"{len(dropped)} of the oldest messages left out" in str(shown)
        assert simulator.chats == []

    @pytest.mark.parametrize("on_overflow", ["error", "trim"])
    def test_a_refusal_is_a_problem_and_no_error(self, simulator, make_driver, on_overflow):
        driver = make_driver(model="narrow", on_overflow=on_overflow)
        shown = driver.preview(prompt(9000))
        assert "Nothing was sent" in shown.problem
        assert not shown.fits
        assert shown.problem in str(shown)
        with pytest.raises(OllamaContextError) as caught:
            driver.run(prompt(9000))
        assert str(caught.value) == shown.problem
        assert simulator.chats == []

    def test_a_prompt_that_the_server_is_going_to_cut_is_a_problem(self, make_driver):
        shown = make_driver(model="narrow").preview(prompt(9000))
        assert "the server is going to cut it" in shown.problem
        assert not shown.fits

    def test_what_cannot_be_sent_for_another_reason_is_an_error(self, make_driver):
        with pytest.raises(OllamaContentError):
            make_driver(options={"num_ctx": "huge"}).preview(prompt(100))
        with pytest.raises(OllamaContentError, match="empty"):
            make_driver().preview(PromptStack())


class TestRendered:
    def test_the_text_that_the_server_makes_of_it_is_shown(self, simulator, make_driver, stack):
        driver = make_driver()
        shown = driver.preview(stack, render=True)
        assert "Be brief." in shown.rendered
        assert shown.rendered.index("Be brief.") < shown.rendered.index("Hi")
        (chat,) = simulator.chats
        assert chat.body["_debug_render_only"] is True
        assert "_debug_render_only" not in shown.request
        assert texts(chat) == [("system", "Be brief."), ("user", "Hi")]

    def test_it_is_not_there_unless_it_is_asked_for(self, simulator, make_driver, stack):
        assert make_driver().preview(stack).rendered is None
        assert simulator.chats == []

    def test_a_server_that_cannot_show_it_costs_one_token(self, simulator, make_driver, stack):
        simulator.reply(path="/api/chat", body={"message": {"role": "assistant", "content": "Hi"}, "done": True})
        shown = make_driver(max_tokens=500).preview(stack, render=True)
        assert shown.rendered is None
        assert shown.reply_tokens == 500
        assert simulator.last_chat.options["num_predict"] == 1

    @pytest.mark.parametrize("info", ["text", 5, {}, {"rendered_template": 5}, None], ids=str)
    def test_an_odd_answer_is_none(self, simulator, make_driver, stack, info):
        simulator.reply(path="/api/chat", body={"done": True, "_debug_info": info})
        assert make_driver().preview(stack, render=True).rendered is None

    def test_a_run_afterwards_is_what_it_would_have_been(self, simulator, make_driver, stack):
        driver = make_driver()
        shown = driver.preview(stack, render=True)
        simulator.reply("Fine.")
        driver.run(stack)
        assert simulator.last_chat.body == shown.request
        assert len(simulator.loads) == 1

    def test_what_would_be_refused_can_be_seen(self, make_driver):
        shown = make_driver(model="narrow", on_overflow="error").preview(prompt(9000), render=True)
        assert "Nothing was sent" in shown.problem
        assert prose(9000) in shown.rendered

    def test_a_window_that_was_made_for_a_look_is_not_lost(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver()
        shown = driver.preview(prompt(9000), render=True)
        assert shown.rendered is not None
        driver.run(prompt(9000))
        assert loaded_windows(simulator) == [16_384]

    def test_a_dead_server_is_an_error(self, closed_url):
        with pytest.raises(OllamaConnectionError):
            OllamaPromptDriver(model="roomy", host=closed_url, max_attempts=1).preview(prompt(100), render=True)


@pytest.fixture
def closed_url(unused_port):
    """An address where nothing listens."""
    return f"http://127.0.0.1:{unused_port}"
