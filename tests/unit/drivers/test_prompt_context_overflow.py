"""Prompts that do not fit are warned of, refused or trimmed; replies show what was lost."""

import asyncio
import base64
import logging

import pytest
from griptape.artifacts import ErrorArtifact, ImageArtifact, ListArtifact, TextArtifact
from griptape.common import PromptStack
from griptape.memory.structure import ConversationMemory, Run
from griptape.rules import Rule
from griptape.structures import Agent

from griptape_ollama import (
    OllamaContentError,
    OllamaContextError,
    OllamaContextEvent,
    OllamaPromptDriver,
    OllamaResponseEvent,
)
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.drivers.context_prompts import (
    LARGE_WINDOW,
    calibrate,
    meta_of,
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
    SimulatedModel(name="native", context_length=4096, kind="native"),
    SimulatedModel(name="toolless", context_length=4096, capabilities=("completion",)),
    SimulatedModel(name="eyes", context_length=4096, capabilities=("completion", "vision")),
)


def _plain(driver, stack):
    return driver.run(stack)


def _streamed(driver, stack):
    driver.stream = True
    return driver.run(stack)


def _awaited(driver, stack):
    return asyncio.run(driver.arun(stack))


def _deltas(driver, stack):
    list(driver.try_stream(stack))


def _awaited_deltas(driver, stack):
    async def main():
        return [delta async for delta in driver.astream(stack)]

    asyncio.run(main())


_RUNS = pytest.mark.parametrize("way", [_plain, _streamed, _awaited], ids=["run", "streamed", "arun"])
_WAYS = pytest.mark.parametrize(
    "way", [_plain, _streamed, _awaited, _deltas, _awaited_deltas], ids=["run", "streamed", "arun", "stream", "astream"]
)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        calibrate(simulator, *(model.name for model in _MODELS))
        yield simulator


@pytest.fixture
def make_driver(simulator):
    def make(**settings):
        return OllamaPromptDriver(**{"model": "narrow", "host": simulator.url, "min_retry_delay": 0, **settings})

    return make


@pytest.fixture
def warnings(caplog):
    """The warnings of this package so far."""
    caplog.set_level(logging.INFO, logger="griptape_ollama")
    return lambda: [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


def _of(events, kind):
    return [event for event in events if isinstance(event, kind)]


def _kinds(events):
    return [event.kind for event in _of(events, OllamaContextEvent)]


def _long(tokens=6000):
    return stack_of(("system", "Be brief."), ("user", prose(tokens)))


class TestWarn:
    @_RUNS
    def test_a_prompt_that_surely_does_not_fit_is_sent_with_one_warning(
        self, simulator, make_driver, way, warnings, events
    ):
        simulator.reply("Fine.")
        message = way(make_driver(), _long())
        assert message.to_text() == "Fine."
        assert len(truncated_chats(simulator)) == 1
        (warning,) = warnings()
        assert "does not fit into the context window of 4096 tokens of model 'narrow'" in warning
        assert "set on_overflow='trim'" in warning
        assert meta_of(message)["truncated"] is True
        assert _kinds(events) == ["truncated"]
        (reply,) = _of(events, OllamaResponseEvent)
        assert (reply.truncated, reply.complete, reply.window) == (True, True, 4096)

    @_WAYS
    def test_unexpected_truncation_is_reported_after_the_reply(self, make_driver, way, warnings, events):
        # The server has another default than is assumed, and its list of loaded models does not tell.
        with OllamaSimulator(models=_MODELS, context_length=2048) as server:
            calibrate(server, "roomy")
            server.reply(path="/api/ps", times=None, status=404, body={"error": "no"})
            way(make_driver(host=server.url, model="roomy", num_ctx=None), _long(3000))
            assert len(truncated_chats(server)) == 1
        silence, warning = warnings()
        assert "does not tell /api/ps" in silence
        assert "was cut" in warning or "seems to have been cut" in warning
        assert _kinds(events) == ["truncated"]

    @pytest.mark.parametrize("kind", ["narrow", "native"])
    def test_a_history_that_the_server_shortens_is_told(self, simulator, make_driver, kind, warnings, events):
        simulator.reply("Fine.")
        message = make_driver(model=kind).run(stack_of(*turns(10, 800), ("user", "And now?")))
        (chat,) = truncated_chats(simulator)
        assert chat.outcome.dropped_messages > 0
        assert meta_of(message)["truncated"] is True
        assert len(warnings()) == 1
        assert _kinds(events) == ["truncated"]

    @_RUNS
    def test_what_fits_is_not_said_to_be_cut(self, simulator, make_driver, way, warnings, events):
        simulator.reply("Fine.", times=None)
        for tokens in range(100, 2800, 300):
            message = way(make_driver(), _long(tokens))
            meta = meta_of(message)
            assert (meta["truncated"], meta["complete"]) == (False, True)
        assert truncated_chats(simulator) == []
        assert warnings() == []
        assert _kinds(events) == []

    def test_fields_of_the_server_are_not_sent(self, simulator, make_driver):
        simulator.reply("Fine.")
        make_driver().run(_long(100))
        assert not {"truncate", "shift"} & set(simulator.last_chat.body)

    def test_one_who_has_the_server_refuse_hears_the_server(self, simulator, make_driver, warnings):
        with pytest.raises(OllamaContextError) as caught:
            make_driver(truncate=False).run(_long())
        assert caught.value.status == 400
        assert caught.value.tokens_available == 4096
        assert warnings() == []


class TestError:
    @_WAYS
    @pytest.mark.parametrize("num_ctx", ["auto", 4096])
    def test_what_surely_does_not_fit_is_not_sent(self, simulator, make_driver, way, num_ctx):
        with pytest.raises(OllamaContextError, match="Nothing was sent") as caught:
            way(make_driver(on_overflow="error", num_ctx=num_ctx), _long(9000))
        assert simulator.chats == []
        assert caught.value.tokens_available == 4096
        assert 8000 < caught.value.tokens_wanted < 10_000
        assert (caught.value.model, caught.value.host) == ("narrow", simulator.url)

    @_WAYS
    @pytest.mark.parametrize("model", ["narrow", "native"])
    def test_what_may_fit_is_left_to_the_server(self, simulator, make_driver, way, model):
        with pytest.raises(OllamaContextError) as caught:
            way(make_driver(on_overflow="error", model=model), _long(4120))
        assert caught.value.status == 400
        assert caught.value.tokens_available == 4096
        assert caught.value.tokens_wanted > 4096
        assert len(simulator.chats) == 1

    def test_a_window_that_is_only_assumed_is_left_to_the_server(self, simulator, make_driver):
        with pytest.raises(OllamaContextError) as caught:
            make_driver(on_overflow="error", model="roomy", num_ctx=None).run(_long(9000))
        assert (caught.value.status, caught.value.tokens_available) == (400, 4096)
        assert caught.value.tokens_wanted > 9000

    def test_what_fits_is_answered_and_loads_nothing_anew(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver(on_overflow="error")
        for tokens in (100, 2500, 100):
            assert driver.run(_long(tokens)).to_text() == "Fine."
        assert {(chat.body["truncate"], chat.body["shift"]) for chat in simulator.chats} == {(False, False)}
        assert len(simulator.loads) == 1

    def test_it_grows_first(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        make_driver(on_overflow="error", model="roomy").run(_long(9000))
        assert sent_windows(simulator) == [16_384]

    def test_fields_that_were_set_are_left_alone(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        make_driver(on_overflow="error", truncate=True, extra_params={"shift": True}).run(_long(100))
        assert (simulator.last_chat.body["truncate"], simulator.last_chat.body["shift"]) == (True, True)

    def test_a_reply_that_fills_the_window_is_not_taken_for_whole(self, simulator, make_driver, events):
        simulator.reply(text=["word "] * 3000)
        message = make_driver(on_overflow="error").run(_long(2000))
        meta = meta_of(message)
        assert (meta["done_reason"], meta["complete"], meta["cut_by"]) == ("length", False, "window")
        assert _kinds(events) == ["cut"]
        assert _of(events, OllamaResponseEvent)[0].complete is False

    def test_the_error_of_an_agent_says_what_to_do(self, simulator, make_driver):
        agent = Agent(prompt_driver=make_driver(on_overflow="error"))
        output = agent.run(prose(9000)).output
        assert isinstance(output, ErrorArtifact)
        assert "use a model with a longer context" in output.value
        assert simulator.chats == []

    def test_a_refusal_without_numbers_has_those_that_are_known(self, make_driver, simulator):
        # A template model whose window may not move on says nothing of sizes (server 0.33).
        with pytest.raises(OllamaContextError) as caught:
            make_driver(shift=False).run(_long())
        assert caught.value.status == 400
        assert caught.value.tokens_available == 4096
        assert 5000 < caught.value.tokens_wanted < 7000


class TestTrim:
    @_WAYS
    def test_the_oldest_turns_go_and_nothing_else(self, simulator, make_driver, way, events, warnings):
        simulator.reply("Fine.")
        said = [("system", "Be brief."), *turns(12, 600), ("user", "And now?")]
        way(make_driver(on_overflow="trim"), stack_of(*said))
        sent = texts(simulator.last_chat)
        assert sent[0] == said[0]
        assert sent[1:] == said[len(said) - len(sent) + 1 :]
        assert sent[1][0] == "user"
        assert 3 < len(sent) < len(said)
        assert truncated_chats(simulator) == []
        (event,) = _of(events, OllamaContextEvent)
        assert (event.kind, event.dropped_messages) == ("trimmed", len(said) - len(sent))
        assert event.dropped_tokens > 3000
        assert warnings() == []

    def test_what_was_dropped_is_in_the_metadata(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        said = [*turns(12, 600), ("user", "And now?")]
        message = make_driver(on_overflow="trim").run(stack_of(*said))
        context = meta_of(message)["context"]
        assert context["dropped_messages"] == len(said) - len(simulator.last_chat.messages)
        assert context["dropped_tokens"] > 3000
        assert meta_of(message)["truncated"] is False

    def test_it_is_said_in_the_log(self, simulator, make_driver, caplog):
        caplog.set_level(logging.INFO, logger="griptape_ollama")
        simulator.reply("Fine.")
        make_driver(on_overflow="trim").run(stack_of(*turns(12, 600), ("user", "And now?")))
        assert any("were not sent to model 'narrow'" in each.getMessage() for each in caplog.records)

    def test_it_grows_before_anything_goes(self, simulator, make_driver):
        simulator.reply("Fine.")
        said = [*turns(12, 600), ("user", "And now?")]
        make_driver(on_overflow="trim", model="roomy").run(stack_of(*said))
        assert texts(simulator.last_chat) == said
        assert sent_windows(simulator) == [16_384]

    def test_nothing_goes_while_it_fits(self, simulator, make_driver):
        simulator.reply("Fine.")
        said = [*turns(4, 500), ("user", "And now?")]
        message = make_driver(on_overflow="trim").run(stack_of(*said))
        assert texts(simulator.last_chat) == said
        assert "dropped_messages" not in meta_of(message)["context"]

    @_WAYS
    def test_a_question_that_is_too_long_by_itself_is_refused(self, simulator, make_driver, way):
        with pytest.raises(OllamaContextError, match="although all that may be dropped was dropped") as caught:
            way(make_driver(on_overflow="trim"), stack_of(*turns(3, 400), ("user", prose(9000))))
        assert simulator.chats == []
        assert caught.value.tokens_available == 4096
        assert caught.value.tokens_wanted > 8000

    def test_the_rules_of_an_agent_stay(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        memory = ConversationMemory(
            runs=[Run(input=TextArtifact(one), output=TextArtifact(other)) for one, other in _pairs(12)]
        )
        rule = prose(500).strip()
        agent = Agent(prompt_driver=make_driver(on_overflow="trim"), conversation_memory=memory, rules=[Rule(rule)])
        agent.run("And now?")
        sent = texts(simulator.last_chat)
        assert sent[0][0] == "system"
        assert rule in sent[0][1]
        assert sent[-1] == ("user", "And now?")
        assert 3 < len(sent) < 20
        assert truncated_chats(simulator) == []

    def test_images_count_and_go_with_their_turn(self, simulator, make_driver):
        simulator.reply("A cat.", times=None)
        stack = PromptStack()
        for number in range(8):
            picture = ImageArtifact(_PIXEL, format="png", width=1, height=1)
            stack.add_user_message(ListArtifact([TextArtifact(f"Picture {number}"), picture]))
            stack.add_assistant_message(prose(250, number))
        stack.add_user_message("And now?")
        make_driver(model="eyes", on_overflow="trim").run(stack)
        messages = simulator.last_chat.messages
        assert len(messages) < 17
        assert "images" in messages[0]
        assert truncated_chats(simulator) == []


class TestLoops:
    """Tasks whose tools give more than fits."""

    def _agent(self, simulator, make_driver, tool, **settings):
        return Agent(
            prompt_driver=make_driver(**settings), tools=[tool], conversation_memory=None, rules=[Rule("Be brief.")]
        )

    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
    def test_a_long_loop_of_native_tools_stays_whole(self, simulator, make_driver, weather_tool, stream):
        for number in range(18):
            simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": f"{number} {prose(250, number)}"})])
        simulator.reply("Done.")
        agent = self._agent(simulator, make_driver, weather_tool, on_overflow="trim", stream=stream)
        assert agent.run("Look everywhere.").output.value == "Done."
        assert truncated_chats(simulator) == []
        assert len(simulator.last_chat.messages) < 20
        for chat in simulator.chats:
            assert chat.messages[0]["role"] == "system"
            assert [each for each in texts(chat) if each == ("user", "Look everywhere.")] != []
            assert _calls_without_results(chat.messages) == (0, 0)

    def test_a_long_loop_in_words_stays_whole(self, simulator, make_driver, weather_tool):
        for number in range(12):
            simulator.reply(_react_call(f"{number} {prose(300, number)}"))
        simulator.reply("Answer: Done.")
        agent = self._agent(simulator, make_driver, weather_tool, on_overflow="trim", model="toolless")
        assert "Done." in agent.run("Look everywhere.").output.value
        assert truncated_chats(simulator) == []
        assert len(simulator.last_chat.messages) < 20
        for chat in simulator.chats:
            system, question, *rest = chat.messages
            assert (system["role"], question["content"]) == ("system", "Look everywhere.")
            assert [message["role"] for message in rest] == ["assistant", "user"] * (len(rest) // 2)

    def test_a_loop_that_is_not_trimmed_is_told_of(self, simulator, make_driver, weather_tool, warnings, events):
        for number in range(8):
            simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": f"{number} {prose(400, number)}"})])
        simulator.reply("Done.")
        self._agent(simulator, make_driver, weather_tool).run("Look everywhere.")
        assert len(truncated_chats(simulator)) == _kinds(events).count("truncated") > 0
        assert len(warnings()) >= 1

    def test_a_loop_that_must_not_be_cut_ends_the_task_with_the_reason(self, simulator, make_driver, weather_tool):
        for number in range(8):
            simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": f"{number} {prose(400, number)}"})])
        agent = self._agent(simulator, make_driver, weather_tool, on_overflow="error")
        output = agent.run("Look everywhere.").output
        assert isinstance(output, ErrorArtifact)
        assert isinstance(output.exception, OllamaContextError)
        assert output.exception.tokens_available == 4096
        assert output.exception.tokens_wanted > 4096
        assert truncated_chats(simulator) == []


class TestReplies:
    @_RUNS
    def test_a_reply_that_was_cut_is_not_complete(self, simulator, make_driver, way, events, warnings):
        simulator.reply(text=["word "] * 50)
        message = way(make_driver(max_tokens=10), _long(100))
        meta = meta_of(message)
        assert (meta["done_reason"], meta["complete"], meta["cut_by"]) == ("length", False, "max_tokens")
        (reply,) = _of(events, OllamaResponseEvent)
        assert (reply.done_reason, reply.complete, reply.truncated) == ("length", False, False)
        assert warnings() == []  # it is as long as it was allowed to be

    def test_a_reply_that_ended_by_itself_is_complete(self, simulator, make_driver, events):
        simulator.reply(text=["word "] * 5)
        message = make_driver(max_tokens=10).run(_long(100))
        assert meta_of(message)["complete"] is True
        assert "cut_by" not in meta_of(message)
        assert _of(events, OllamaResponseEvent)[0].complete is True

    def test_a_reply_that_outgrows_the_window_is_told(self, simulator, make_driver, events, warnings):
        simulator.reply(text=["word "] * 4000)
        message = make_driver().run(_long(2500))
        assert simulator.last_chat.outcome.has_shifted
        assert meta_of(message)["truncated"] is True
        assert "shifted" in _kinds(events)
        assert any("forgot the beginning of the prompt" in line for line in warnings())


class TestSettings:
    @pytest.mark.parametrize("value", ["", "Warn", "ignore", None, 1, True])
    def test_an_unknown_way_is_refused_when_it_is_set(self, make_driver, value):
        with pytest.raises(OllamaContentError, match="on_overflow"):
            make_driver(on_overflow=value)
        driver = make_driver()
        with pytest.raises(OllamaContentError, match="on_overflow"):
            driver.on_overflow = value

    def test_a_way_that_is_changed_counts_from_the_next_prompt(self, simulator, make_driver):
        driver = make_driver(on_overflow="error")
        with pytest.raises(OllamaContextError):
            driver.run(prompt(9000))
        simulator.reply("Fine.")
        driver.on_overflow = "warn"
        driver.run(prompt(9000))
        assert len(simulator.chats) == 1


def _pairs(count):
    said = [text for _, text in turns(count, 600)]
    return list(zip(said[::2], said[1::2], strict=True))


def _react_call(city):
    call = f'[{{"name": "WeatherTool", "path": "look_up", "tag": "t", "input": {{"values": {{"city": "{city}"}}}}}}]'
    return f"Thought: look.\nActions: {call}"


def _calls_without_results(messages):
    """Count calls without a result, and results without a call."""
    calls = [call["id"] for message in messages for call in message.get("tool_calls", [])]
    results = [message["tool_call_id"] for message in messages if message["role"] == "tool"]
    return len(set(calls) - set(results)), len(set(results) - set(calls))
