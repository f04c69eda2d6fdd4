"""Conversation memories that outgrow the window, and the tokenizer that decides about them."""

import asyncio
import base64
import copy
import itertools
import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from griptape.artifacts import ErrorArtifact, ImageArtifact, ListArtifact, TextArtifact
from griptape.chunkers import TextChunker
from griptape.drivers.memory.conversation.local import LocalConversationMemoryDriver
from griptape.engines import JsonExtractionEngine, PromptSummaryEngine
from griptape.engines.rag import RagContext
from griptape.engines.rag.modules import PromptResponseRagModule
from griptape.events import EventListener, StartPromptEvent
from griptape.memory.structure import ConversationMemory, Run, SummaryConversationMemory
from griptape.rules import Rule
from griptape.structures import Agent, Pipeline
from griptape.tasks import PromptTask
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer
from schema import Schema

from griptape_ollama import OllamaContextEvent, OllamaPromptDriver, OllamaTokenizer
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.drivers.context_prompts import (
    LARGE_WINDOW,
    calibrate,
    lines,
    loaded_windows,
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
    SimulatedModel(name="eyes", context_length=8192, capabilities=("completion", "vision")),
    SimulatedModel(name="toolless", context_length=4096, capabilities=("completion",)),
)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        calibrate(simulator, *(model.name for model in _MODELS))
        yield simulator


@pytest.fixture
def make_driver(simulator):
    def make(kind=OllamaPromptDriver, **settings):
        return kind(**{"model": "narrow", "host": simulator.url, "min_retry_delay": 0, **settings})

    return make


def _runs(count, tokens=100):
    said = [text for _, text in turns(count, tokens)]
    return [
        Run(input=TextArtifact(one), output=TextArtifact(other))
        for one, other in zip(said[::2], said[1::2], strict=True)
    ]


def _said(runs):
    return [(role, text.value) for run in runs for role, text in (("user", run.input), ("assistant", run.output))]


def _warnings(caplog):
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]


class _Counting(OllamaPromptDriver):
    """Counts how often it is asked how long a conversation is."""

    counted = 0

    def prompt_stack_to_string(self, prompt_stack):
        type(self).counted += 1
        return super().prompt_stack_to_string(prompt_stack)


class TestConversationMemory:
    def test_a_thousand_runs_are_pruned_in_one_pass(self, simulator, make_driver, caplog):
        simulator.reply("Fine.")
        runs = _runs(1000)
        _Counting.counted = 0
        agent = Agent(
            prompt_driver=make_driver(_Counting),
            conversation_memory=ConversationMemory(runs=list(runs)),
            rules=[Rule("Be brief.")],
        )
        agent.run("And now?")
        assert _Counting.counted == 1
        system, *remembered, question = texts(simulator.last_chat)
        assert system[0] == "system"
        assert question == ("user", "And now?")
        assert remembered == _said(runs)[-len(remembered) :]
        assert 20 < len(remembered) < 80
        assert remembered[0][0] == "user"
        assert truncated_chats(simulator) == []
        assert _warnings(caplog) == []
        assert len(agent.conversation_memory.runs) == 1001  # what is not sent is still remembered

    def test_what_was_left_out_is_an_event_and_in_the_metadata(self, simulator, make_driver, events):
        simulator.reply("Fine.")
        agent = Agent(prompt_driver=make_driver(), conversation_memory=ConversationMemory(runs=_runs(100)))
        output = agent.run("And now?").output
        dropped = 200 - (len(simulator.last_chat.messages) - 1)
        (event,) = [event for event in events if isinstance(event, OllamaContextEvent)]
        assert (event.kind, event.dropped_messages) == ("trimmed", dropped)
        assert output.meta["ollama"]["context"]["dropped_messages"] == dropped

    def test_the_window_grows_before_anything_is_left_out(self, simulator, make_driver):
        simulator.reply("Fine.")
        runs = _runs(100)
        agent = Agent(prompt_driver=make_driver(model="roomy"), conversation_memory=ConversationMemory(runs=list(runs)))
        agent.run("And now?")
        assert texts(simulator.last_chat)[:-1] == _said(runs)
        assert sent_windows(simulator) == [16_384]

    def test_a_conversation_of_200_turns_loads_its_model_four_times_and_loses_nothing(self, simulator, make_driver):
        simulator.reply(lambda request: prose(60, len(request.messages)), times=None)
        agent = Agent(prompt_driver=make_driver(model="roomy"), rules=[Rule("Be brief.")])
        for number in range(200):
            assert not isinstance(agent.run(f"{number}: {prose(60, number)}").output, ErrorArtifact)
        assert loaded_windows(simulator) == [4096, 8192, 16_384, 32_768]
        assert truncated_chats(simulator) == []
        assert len(simulator.last_chat.messages) == 400
        read = sum(chat.outcome.prompt_tokens for chat in simulator.chats)
        assert simulator.evaluated_tokens < 0.05 * read

    @pytest.mark.parametrize("settings", [{}, {"max_runs": 40}])
    def test_at_a_full_window_one_prompt_in_ten_turns_is_read_anew_and_each_is_an_event(
        self, simulator, make_driver, events, settings
    ):
        number_of_replies = itertools.count()
        simulator.reply(lambda _: prose(50, 1000 + next(number_of_replies)), times=None)
        agent = Agent(
            prompt_driver=make_driver(),
            conversation_memory=ConversationMemory(**settings),
            rules=[Rule("Be brief.")],
        )
        for number in range(200):
            agent.run(f"{number}: {prose(50, number)}")
        assert truncated_chats(simulator) == []
        beginnings = [chat.messages[1]["content"] for chat in simulator.chats]
        moves = [index for index, (one, other) in enumerate(pairwise(beginnings), 1) if one != other]
        assert 10 < len(moves) <= (200 - moves[0]) / 10 + 1
        trimmed = [event for event in events if isinstance(event, OllamaContextEvent) and event.kind == "trimmed"]
        assert len(trimmed) == len(moves)
        anew = [i for i, chat in enumerate(simulator.chats) if chat.outcome.evaluated_tokens > 300]
        assert anew == moves
        kept = [chat.outcome.prompt_tokens for chat in simulator.chats[moves[0] :]]
        assert min(kept) > 4096 / 3

    def test_a_conversation_that_begins_anew_is_an_event_again(self, simulator, make_driver, events):
        simulator.reply("Fine.", times=None)
        for _ in range(2):
            memory = ConversationMemory(runs=_runs(60))
            for _ in range(2):
                Agent(prompt_driver=make_driver(), conversation_memory=memory).run("And now?")
        assert [event.kind for event in events if isinstance(event, OllamaContextEvent)] == ["trimmed", "trimmed"]

    def test_prompts_that_were_made_before_any_was_sent_are_pruned_each(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver, memory = make_driver(), ConversationMemory(runs=_runs(60))
        tasks = [PromptTask(f"Task {n}", prompt_driver=driver, conversation_memory=memory) for n in range(4)]

        async def main():
            await asyncio.gather(*[driver.arun(task.prompt_stack) for task in tasks])

        asyncio.run(main())
        stack = tasks[0].prompt_stack
        for _ in range(2):
            driver.run(stack)
        with ThreadPoolExecutor(1) as executor:
            executor.submit(driver.run, tasks[1].prompt_stack).result(10)
        assert len(simulator.chats) == 7
        assert truncated_chats(simulator) == []

    def test_a_listener_that_asks_a_model_meanwhile_changes_nothing_of_it(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver()
        helper = Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=_runs(5)))
        task = PromptTask("Hello!", prompt_driver=driver, conversation_memory=ConversationMemory(runs=_runs(60)))
        begun = []

        def ask(event):
            begun.append(event)
            if len(begun) == 1:
                helper.run("What is new?")

        with EventListener(ask, event_types=[StartPromptEvent]):
            task.run()
        assert len(simulator.chats) == 2
        assert truncated_chats(simulator) == []

    def test_a_look_ahead_neither_moves_the_cut_nor_is_it_wrong_about_it(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        memory = ConversationMemory(runs=_runs(60))
        for driver in (make_driver(), make_driver(temperature=0.5)):
            for _ in range(3):
                following = PromptTask(prose(90), prompt_driver=driver, conversation_memory=memory)
                previews = [driver.preview(following.prompt_stack) for _ in range(2)]
                following.run()
                sent = lines(simulator.chats[-1].messages)
                assert [lines(preview.messages) for preview in previews] == [sent, sent]

    def test_max_runs_holds_as_everywhere(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        memory = ConversationMemory(max_runs=3)
        agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
        for number in range(6):
            agent.run(f"Question {number}")
        assert len(memory.runs) == 3
        asked = [text for role, text in texts(simulator.last_chat) if role == "user"]
        assert asked == ["Question 2", "Question 3", "Question 4", "Question 5"]

    def test_without_autoprune_everything_is_sent_and_said(self, simulator, make_driver, caplog):
        simulator.reply("Fine.")
        runs = _runs(100)
        memory = ConversationMemory(runs=list(runs), autoprune=False)
        agent = Agent(prompt_driver=make_driver(), conversation_memory=memory)
        output = agent.run("And now?").output
        assert texts(simulator.last_chat)[:-1] == _said(runs)
        assert output.meta["ollama"]["truncated"] is True
        assert len(_warnings(caplog)) == 1

    def test_without_autoprune_on_overflow_decides(self, simulator, make_driver):
        simulator.reply("Fine.")
        memory = ConversationMemory(runs=_runs(100), autoprune=False)
        Agent(prompt_driver=make_driver(on_overflow="trim"), conversation_memory=memory).run("And now?")
        assert len(simulator.last_chat.messages) < 80
        assert truncated_chats(simulator) == []
        refusing = Agent(prompt_driver=make_driver(on_overflow="error"), conversation_memory=memory)
        assert "Nothing was sent" in refusing.run("And now?").output.value

    def test_a_memory_is_pruned_also_where_overflow_is_an_error(self, simulator, make_driver):
        simulator.reply("Fine.")
        memory = ConversationMemory(runs=_runs(100))
        output = Agent(prompt_driver=make_driver(on_overflow="error"), conversation_memory=memory).run("Now?").output
        assert output.value == "Fine."
        assert truncated_chats(simulator) == []

    def test_a_run_that_is_longer_than_the_window_goes_with_those_before_it(self, simulator, make_driver):
        simulator.reply("Fine.")
        runs = [*_runs(3), *_runs(1, 9000), *_runs(2)]
        Agent(prompt_driver=make_driver(), conversation_memory=ConversationMemory(runs=list(runs))).run("And now?")
        remembered = texts(simulator.last_chat)[:-1]
        assert remembered == _said(runs)[-len(remembered) :]
        assert 0 < len(remembered) <= 4
        assert truncated_chats(simulator) == []

    def test_structures_with_memories_of_their_own_do_not_mix_them_up(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver()
        long = Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=_runs(100)))
        short = Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=_runs(2)))
        for _ in range(2):
            long.run("And now?")
            short.run("And now?")
        assert len(simulator.last_chat.messages) == 7
        driver.run(stack_of(*turns(5, 300), ("user", "And now?")))
        assert len(simulator.last_chat.messages) == 11

    def test_images_in_a_loaded_memory_go_with_their_turn(self, simulator, make_driver, tmp_path):
        simulator.reply("A cat.", times=None)
        picture = ImageArtifact(_PIXEL, format="png", width=1, height=1)
        runs = [
            Run(input=ListArtifact([TextArtifact(f"Picture {number}"), picture]), output=TextArtifact(prose(300)))
            for number in range(30)
        ]
        file = str(tmp_path / "memory.json")
        ConversationMemory(
            runs=list(runs), conversation_memory_driver=LocalConversationMemoryDriver(persist_file=file)
        ).add_run(runs[0])
        memory = ConversationMemory(conversation_memory_driver=LocalConversationMemoryDriver(persist_file=file))
        assert len(memory.runs) == 31
        Agent(prompt_driver=make_driver(model="eyes"), conversation_memory=memory).run("And now?")
        messages = simulator.last_chat.messages
        assert 3 < len(messages) < 40
        assert all(len(message["images"]) == 1 for message in messages[:-1:2])
        assert truncated_chats(simulator) == []


class TestSummaryConversationMemory:
    def test_the_summary_stays_while_runs_go(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver()
        memory = SummaryConversationMemory(
            runs=_runs(80), prompt_driver=driver, offset=80, summary="They spoke of ferries.", summary_index=0
        )
        memory.meta["summary"] = memory.summary
        Agent(prompt_driver=driver, conversation_memory=memory).run("And now?")
        chat = simulator.chats[0]
        role, first = texts(chat)[0]
        assert role == "user"
        assert "They spoke of ferries." in first
        assert texts(chat)[1][0] == "user"
        assert texts(chat)[-1] == ("user", "And now?")
        assert 20 < len(chat.messages) < 80
        assert truncated_chats(simulator) == []

    def test_it_summarises_as_it_grows(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver()
        memory = SummaryConversationMemory(prompt_driver=driver, offset=2)
        agent = Agent(prompt_driver=driver, conversation_memory=memory)
        for number in range(5):
            agent.run(f"{number}: {prose(200, number)}")
        assert memory.summary == "Fine."
        assert truncated_chats(simulator) == []

    def test_a_summary_that_is_too_long_to_make_is_no_error(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        driver = make_driver(on_overflow="error")
        memory = SummaryConversationMemory(prompt_driver=driver, offset=1, summary="Before.")
        memory.add_run(Run(input=prompt(5000), output=TextArtifact("Long.")))
        memory.add_run(Run(input=TextArtifact("Next"), output=TextArtifact("Short.")))
        assert memory.summary == "Before."  # Griptape logs the error and keeps what it had


class TestTasks:
    def test_per_task_memory_of_a_pipeline_is_pruned_for_each_task(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        memory = ConversationMemory(runs=_runs(100))
        pipeline = Pipeline(
            tasks=[PromptTask(f"Task {number}", prompt_driver=make_driver()) for number in range(3)],
            conversation_memory=memory,
            conversation_memory_strategy="per_task",
        )
        pipeline.run()
        assert len(memory.runs) == 103
        assert truncated_chats(simulator) == []
        for number, chat in enumerate(simulator.chats):
            assert 20 < len(chat.messages) < 90
            assert texts(chat)[-1] == ("user", f"Task {number}")
        assert texts(simulator.last_chat)[-3:-1] == [("user", "Task 1"), ("assistant", "Fine.")]

    @pytest.mark.parametrize("model", ["narrow", "toolless"])
    @pytest.mark.parametrize("size", [10, 1000])
    def test_the_turns_of_a_tool_loop_share_their_prefix(self, simulator, make_driver, weather_tool, model, size):
        for number in range(6):
            simulator.reply(
                tool_calls=[("WeatherTool_look_up", {"city": f"Town {number}"})]
            ) if model == "narrow" else simulator.reply(_react_call(f"Town {number}"))
        simulator.reply("Answer: Done.")
        agent = Agent(
            prompt_driver=make_driver(model=model),
            tools=[weather_tool],
            conversation_memory=ConversationMemory(runs=_runs(size)),
        )
        agent.run("Look everywhere.")
        assert len(simulator.chats) == 7
        assert truncated_chats(simulator) == []
        others = [
            (before, after)
            for before, after in zip(simulator.chats, simulator.chats[1:], strict=False)
            if lines(after.messages)[: len(before.messages)] != lines(before.messages)
        ]
        # What is remembered may have to make room once.
        assert len(others) <= (size > 10)
        moved = [after for _, after in others]
        rest = [chat for chat in simulator.chats[1:] if chat not in moved]
        assert all(chat.outcome.evaluated_tokens < 300 for chat in rest)
        assert simulator.chats[0].outcome.evaluated_tokens > 900

    def test_a_loop_that_outgrows_the_window_first_loses_what_is_remembered(self, simulator, make_driver, weather_tool):
        for number in range(8):
            simulator.reply(tool_calls=[("WeatherTool_look_up", {"city": prose(100, number)})])
        simulator.reply("Done.")
        agent = Agent(
            prompt_driver=make_driver(),
            tools=[weather_tool],
            conversation_memory=ConversationMemory(runs=_runs(100)),
        )
        assert agent.run("Look everywhere.").output.value == "Done."
        assert truncated_chats(simulator) == []
        own = [("user", "Look everywhere.") in texts(chat) for chat in simulator.chats]
        assert all(own)
        assert sum(message["role"] == "tool" for message in simulator.last_chat.messages) == 8


class _Words(BaseTokenizer):
    """A tokenizer of a user's own."""

    def count_tokens(self, text):
        return len(text.split())


class _Broken(BaseTokenizer):
    """A tokenizer of a user's own that fails."""

    def count_tokens(self, text):
        raise RuntimeError("no vocabulary")


class TestTokenizers:
    def test_the_drivers_own_tells_the_window(self, make_driver):
        tokenizer = make_driver(model="roomy").tokenizer
        assert isinstance(tokenizer, OllamaTokenizer)
        assert (tokenizer.max_input_tokens, tokenizer.max_output_tokens) == (32_768 - 1024, 32_768)
        bounded = make_driver(model="roomy", num_ctx=8192, max_tokens=500).tokenizer
        assert (bounded.max_input_tokens, bounded.max_output_tokens) == (8192 - 500, 500)

    def test_it_learns_from_replies(self, make_driver, simulator):
        simulator.reply("Fine.", times=None)
        driver = make_driver(model="eyes")
        before = driver.tokenizer.replies
        driver.run(prompt(310, start=7))
        assert driver.tokenizer.replies == before + 1

    @pytest.mark.parametrize(
        "copied",
        [
            copy.copy,
            copy.deepcopy,
            lambda driver: pickle.loads(pickle.dumps(driver)),  # noqa: S301 # of its own
            lambda driver: OllamaPromptDriver.from_dict(driver.to_dict()),
            lambda driver: driver.with_settings(temperature=0.3),
        ],
        ids=["copy", "deepcopy", "pickle", "dict", "with_settings"],
    )
    @pytest.mark.parametrize("is_used", [False, True], ids=["fresh", "used"])
    def test_that_of_a_copy_is_about_the_copy(self, simulator, make_driver, copied, is_used):
        simulator.reply("Fine.", times=None)
        driver = make_driver(model="roomy")
        if is_used:
            driver.run(prompt(100))
            assert driver.tokenizer.max_input_tokens == 32_768 - 1024
        twin = copied(driver)
        twin.num_ctx = 8192
        assert twin.tokenizer.max_input_tokens == 8192 - 1024
        assert driver.tokenizer.max_input_tokens == 32_768 - 1024
        twin.run(prompt(100))
        assert sent_windows(simulator)[-1] == 8192

    def test_that_of_a_driver_with_another_window_is_about_that_window(self, make_driver):
        driver = make_driver(model="roomy")
        assert driver.tokenizer.max_input_tokens == 32_768 - 1024
        assert driver.with_settings(num_ctx=8192).tokenizer.max_input_tokens == 8192 - 1024
        assert driver.with_settings(model="narrow").tokenizer.max_input_tokens == 4096 - 1024
        assert driver.tokenizer.max_input_tokens == 32_768 - 1024

    def test_it_follows_the_settings_of_its_driver(self, make_driver):
        driver = make_driver(model="roomy")
        tokenizer = driver.tokenizer
        driver.num_ctx = 8192
        assert tokenizer.max_input_tokens == 8192 - 1024
        driver.model, driver.num_ctx = "narrow", "auto"
        assert driver.tokenizer.max_input_tokens == 4096 - 1024

    def test_one_with_limits_of_its_own_keeps_them(self, simulator, make_driver):
        simulator.reply("Fine.")
        driver = make_driver(model="roomy", tokenizer=OllamaTokenizer(model="roomy", max_input_tokens=5000))
        assert driver.tokenizer.max_input_tokens == 5000
        assert driver.tokenizer.replies >= 10  # it learns with the others

    @pytest.mark.parametrize("kind", [SimpleTokenizer, _Words])
    def test_one_of_the_users_own_prunes_by_its_limit(self, simulator, make_driver, kind):
        simulator.reply("Fine.", times=None)
        more = {"characters_per_token": 4} if kind is SimpleTokenizer else {"model": "narrow"}
        tokenizer = kind(max_input_tokens=1000, max_output_tokens=500, **more)
        driver = make_driver(tokenizer=tokenizer)
        assert driver.tokenizer is tokenizer
        runs = _runs(60)
        Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=list(runs))).run("And now?")
        remembered = texts(simulator.last_chat)[:-1]
        assert remembered == _said(runs)[-len(remembered) :]
        assert 4 <= len(remembered) < 40
        assert truncated_chats(simulator) == []

    def test_one_of_the_users_own_that_knows_no_window_does_not_make_the_server_cut(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        tokenizer = _Words(model="narrow", max_input_tokens=10**6, max_output_tokens=500)
        driver = make_driver(tokenizer=tokenizer)
        for _ in range(3):
            driver.run(prompt(500))
        agent = Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=_runs(100)))
        assert agent.run("And now?").output.value == "Fine."
        assert truncated_chats(simulator) == []

    def test_one_that_fails_is_said_and_does_not_fail_a_prompt(self, simulator, make_driver, caplog):
        simulator.reply("Fine.", times=None)
        driver = make_driver(tokenizer=_Broken(model="narrow", max_input_tokens=1000, max_output_tokens=500))
        for _ in range(2):
            assert driver.run(prompt(100)).to_text() == "Fine."
        (warning,) = _warnings(caplog)
        assert "no vocabulary" in warning

    def test_one_that_is_taken_away_gives_way_to_the_drivers_own(self, make_driver):
        driver = make_driver(tokenizer=_Words(model="narrow", max_input_tokens=10, max_output_tokens=5))
        driver.tokenizer = None
        assert driver.tokenizer.max_input_tokens == 4096 - 1024


class TestReaders:
    """Parts of Griptape that go by the limits of the tokenizer."""

    def test_chunks_of_a_rag_answer_fit_the_window(self, simulator, make_driver):
        simulator.reply("Fine.", times=None)
        module = PromptResponseRagModule(prompt_driver=make_driver())
        chunks = [TextArtifact(prose(400, number)) for number in range(30)]
        assert module.run(RagContext(query="What leaves?", text_chunks=chunks)).value == "Fine."
        assert truncated_chats(simulator) == []
        assert simulator.last_chat.outcome.prompt_tokens > 2000

    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
    def test_a_summary_reads_all_of_a_long_text_in_pieces(self, simulator, make_driver, stream):
        simulator.reply("In short.", times=None)
        engine = PromptSummaryEngine(prompt_driver=make_driver(stream=stream))
        assert engine.summarize_text(prose(9000)) == "In short."
        assert len(simulator.chats) >= 3
        assert truncated_chats(simulator) == []

    def test_an_extraction_reads_all_of_a_long_text_in_pieces(self, simulator, make_driver):
        simulator.reply('[{"name": "ferry"}]', times=None)
        engine = JsonExtractionEngine(
            prompt_driver=make_driver(), template_schema=Schema({"name": str}).json_schema("T")
        )
        found = engine.extract_text(prose(9000))
        assert len(found.value) == len(simulator.chats) >= 3
        assert truncated_chats(simulator) == []

    def test_a_chunker_cuts_as_long_as_the_window_allows(self, make_driver):
        tokenizer = make_driver().tokenizer
        chunks = TextChunker(tokenizer=tokenizer).chunk(prose(9000))
        assert 3 <= len(chunks) <= 5
        assert all(tokenizer.count_tokens(chunk.value) <= tokenizer.max_input_tokens for chunk in chunks)


def _react_call(city):
    call = f'[{{"name": "WeatherTool", "path": "look_up", "tag": "t", "input": {{"values": {{"city": "{city}"}}}}}}]'
    return f"Thought: look.\nActions: {call}"


def test_metadata_of_a_prompt_without_a_memory_tell_of_nothing_dropped(simulator, make_driver):
    simulator.reply("Fine.")
    assert meta_of(make_driver().run(prompt(100)))["context"] == {"window": 4096}
