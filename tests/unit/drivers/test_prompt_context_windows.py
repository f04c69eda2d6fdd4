"""The window that a driver asks for, from its settings to the model that is loaded."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import OllamaContentError, OllamaModels, OllamaPromptDriver
from griptape_ollama.models import metadata_cache as facts_module
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from unit.drivers.context_prompts import (
    LARGE_WINDOW,
    calibrate,
    loaded_windows,
    meta_of,
    prompt,
    sent_windows,
    truncated_chats,
)

_HI = TextArtifact("Hi")
_MODELS = (
    LARGE_WINDOW,
    SimulatedModel(name="narrow", context_length=10_000),
    SimulatedModel(name="baked", context_length=131_072, parameters={"num_ctx": 16_384}),
    SimulatedModel(name="eyes", context_length=131_072, capabilities=("completion", "vision")),
)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        simulator.reply("Fine.", times=None)
        calibrate(simulator, *(model.name for model in _MODELS))
        yield simulator


@pytest.fixture
def make_driver(simulator):
    def make(**settings):
        return OllamaPromptDriver(**{"model": "roomy", "host": simulator.url, "min_retry_delay": 0, **settings})

    return make


@pytest.fixture
def log(caplog):
    """The lines of this package at INFO and above, the word about the window among them."""
    caplog.set_level(logging.INFO, logger="griptape_ollama")
    return lambda level=logging.INFO: [each.getMessage() for each in caplog.records if each.levelno >= level]


@pytest.fixture
def later(monkeypatch):
    """Lets what a server said of its loaded models grow old at once."""
    monkeypatch.setattr(facts_module, "_PS_SECONDS", 0.0)


class TestSettings:
    def test_nothing_is_sent_while_prompt_and_reply_fit(self, simulator, make_driver):
        driver = make_driver()
        for _ in range(3):
            driver.run(prompt(1500))
        assert sent_windows(simulator) == [None] * 3
        assert loaded_windows(simulator) == [4096]

    def test_what_does_not_fit_makes_it_grow_to_the_next_power_of_two(self, simulator, make_driver):
        message = make_driver().run(prompt(9_500))
        assert sent_windows(simulator) == [16_384]
        assert truncated_chats(simulator) == []
        assert meta_of(message)["context"] == {"window": 16_384, "num_ctx": 16_384, "grown_from": 4096}

    def test_the_wanted_reply_counts(self, simulator, make_driver):
        make_driver(max_tokens=6000).run(prompt(1500))
        assert sent_windows(simulator) == [8192]

    def test_tools_count(self, simulator, make_driver):
        make_driver().run(prompt(2200))
        tools = [
            {"type": "function", "function": {"name": f"Tool{n}_run", "description": "Looks it up. " * 40}}
            for n in range(20)
        ]
        make_driver(extra_params={"tools": tools}).run(prompt(2200))
        assert sent_windows(simulator) == [None, 8192]

    def test_none_sends_nothing_whatever_the_prompt(self, simulator, make_driver):
        make_driver(num_ctx=None).run(prompt(9_500))
        assert sent_windows(simulator) == [None]

    @pytest.mark.parametrize("tokens", [100, 20_000])
    def test_a_number_is_sent_as_it_is(self, simulator, make_driver, tokens):
        make_driver(num_ctx=12_345).run(prompt(tokens))
        assert sent_windows(simulator) == [12_345]

    @pytest.mark.parametrize(
        "settings",
        [
            {"options": {"num_ctx": 6000}},
            {"extra_params": {"options": {"num_ctx": 6000}}},
            {"options": {"num_ctx": 5000}, "extra_params": {"options": {"num_ctx": 6000}}},
        ],
        ids=["options", "extra_params", "both"],
    )
    @pytest.mark.parametrize("num_ctx", ["auto", None, 9000])
    def test_a_window_among_the_options_wins(self, simulator, make_driver, settings, num_ctx):
        make_driver(num_ctx=num_ctx, **settings).run(prompt(20_000))
        assert sent_windows(simulator) == [6000]

    def test_auto_may_be_asked_for_among_the_options_too(self, simulator, make_driver):
        make_driver(num_ctx=None, options={"num_ctx": None}).run(prompt(3800))
        assert sent_windows(simulator) == [None]

    def test_a_setting_that_is_changed_counts_from_the_next_prompt(self, simulator, make_driver):
        driver = make_driver()
        driver.run(_HI)
        driver.num_ctx = 8000
        driver.run(_HI)
        driver.with_settings(num_ctx=9000).run(_HI)
        assert sent_windows(simulator) == [None, 8000, 9000]

    def test_it_grows_up_to_max_num_ctx(self, simulator, make_driver):
        driver = make_driver(max_num_ctx=8192)
        driver.run(prompt(12_000))
        assert sent_windows(simulator) == [8192]
        assert driver.tokenizer.max_input_tokens == 8192 - 1024

    def test_by_default_it_grows_up_to_32768(self, simulator, make_driver):
        make_driver().run(prompt(60_000))
        assert sent_windows(simulator) == [32_768]

    def test_it_grows_up_to_what_the_model_was_made_for(self, simulator, make_driver):
        make_driver(model="narrow").run(prompt(8_500))
        assert sent_windows(simulator) == [10_000]
        assert truncated_chats(simulator) == []

    @pytest.mark.parametrize("value", [0, -1, 2**31, True, 1.5, "8192", "large", [4096]])
    @pytest.mark.parametrize("name", ["num_ctx", "max_num_ctx"])
    def test_no_size_of_a_window_is_refused_when_it_is_set(self, make_driver, name, value):
        with pytest.raises(OllamaContentError, match=name):
            make_driver(**{name: value})
        driver = make_driver()
        with pytest.raises(OllamaContentError, match=name):
            setattr(driver, name, value)

    @pytest.mark.parametrize("value", [0, -5])
    def test_an_option_that_is_no_size_does_no_harm_to_the_tokenizer(self, make_driver, value):
        driver = make_driver(options={"num_ctx": value})
        assert driver.tokenizer.max_input_tokens >= 1
        assert driver.tokenizer.count_tokens("Hello there") >= 1

    @pytest.mark.parametrize("num_predict", [-1, -2, 0, 10**9])
    def test_a_reply_of_any_length_leaves_room_for_the_prompt(self, simulator, make_driver, num_predict):
        driver = make_driver(options={"num_predict": num_predict})
        driver.run(prompt(1500))
        assert sent_windows(simulator) == [32_768 if num_predict == 10**9 else None]
        assert driver.tokenizer.max_input_tokens >= 16_384


class TestGrowing:
    def test_a_conversation_that_grows_loads_its_model_once_for_each_size(self, simulator, make_driver, log):
        driver = make_driver()
        for tokens in range(500, 20_000, 1500):
            driver.run(prompt(tokens))
        assert loaded_windows(simulator) == [4096, 8192, 16_384, 32_768]
        assert truncated_chats(simulator) == []
        grown = [line for line in log() if "grows" in line]
        assert len(grown) == 3
        assert "from 8192 to 16384 tokens" in grown[1]
        assert "1024 are kept for the reply" in grown[1]

    def test_each_growth_is_an_event(self, make_driver, events):
        driver = make_driver()
        driver.run(prompt(500))
        driver.run(prompt(5000))
        (event,) = [event for event in events if type(event).__name__ == "OllamaContextEvent"]
        assert (event.kind, event.window_before, event.window) == ("grown", 4096, 8192)
        assert event.model == "roomy"

    def test_it_never_shrinks_while_the_model_is_loaded(self, simulator, make_driver, later):
        driver = make_driver()
        for tokens in (5000, 100, 100, 5000, 100):
            driver.run(prompt(tokens))
        assert sent_windows(simulator) == [8192] * 5
        assert loaded_windows(simulator) == [8192]

    @pytest.mark.parametrize("spelling", ["roomy", "roomy:latest", "ROOMY"])
    def test_two_drivers_of_a_model_agree(self, simulator, make_driver, spelling):
        make_driver().run(prompt(5000))
        make_driver(model=spelling, temperature=0.5).run(_HI)
        assert loaded_windows(simulator) == [8192]

    def test_threads_agree(self, simulator, make_driver):
        drivers = [make_driver() for _ in range(4)]
        start = threading.Barrier(8)

        def ask(number):
            start.wait(10)
            drivers[number % 4].run(prompt(5000, number))

        with ThreadPoolExecutor(8) as executor:
            list(executor.map(ask, range(8)))
        assert loaded_windows(simulator) == [8192]
        assert truncated_chats(simulator) == []

    def test_threads_that_begin_at_once_never_make_it_shrink(self, make_driver):
        sizes = (100, 5000, 9000, 1500, 14_000, 100, 5000, 9000, 300, 12_000, 6000, 20_000)
        for _ in range(3):
            with OllamaSimulator(models=[replace(LARGE_WINDOW, load_seconds=0.02)], num_parallel=4) as server:
                server.reply("Fine.", times=None)
                calibrate(server, "roomy")
                start = threading.Barrier(len(sizes))

                def ask(number, server=server, start=start):
                    driver = make_driver(host=server.url)
                    start.wait(10)
                    driver.run(prompt(sizes[number], number))

                with ThreadPoolExecutor(len(sizes)) as executor:
                    list(executor.map(ask, range(len(sizes))))
                loaded = loaded_windows(server)
                assert loaded == sorted(set(loaded))
                assert loaded[-1] == 32_768
                assert truncated_chats(server) == []

    def test_a_model_that_was_unloaded_in_between_starts_afresh(self, simulator, make_driver, later, log):
        driver = make_driver()
        driver.run(prompt(5000))
        OllamaModels(host=simulator.url).unload("roomy")
        driver.run(_HI)
        driver.run(prompt(5000))
        assert sent_windows(simulator) == [8192, None, 8192]
        assert truncated_chats(simulator) == []
        assert log(logging.WARNING) == []

    def test_a_model_that_was_unloaded_and_is_asked_for_more_grows_as_it_is_loaded(self, simulator, make_driver, later):
        driver = make_driver()
        driver.run(prompt(5000))
        OllamaModels(host=simulator.url).unload("roomy")
        driver.run(prompt(5000))
        assert loaded_windows(simulator) == [8192, 8192]
        assert truncated_chats(simulator) == []

    def test_a_model_that_leaves_after_each_reply_is_loaded_right_each_time(self, simulator, make_driver, later):
        driver = make_driver(keep_alive=0)
        for tokens in (5000, 100, 5000):
            driver.run(prompt(tokens))
        assert loaded_windows(simulator) == [8192, 4096, 8192]
        assert truncated_chats(simulator) == []

    def test_a_reply_that_was_left_early_changes_nothing_of_it(self, simulator, make_driver, stack):
        simulator.reset()
        simulator.reply(text=[" word"] * 50, times=None)
        driver = make_driver(stream=True)
        driver.run(prompt(5000))
        stream = driver.try_stream(stack)
        next(stream)
        stream.close()
        driver.run(prompt(5000))
        assert sent_windows(simulator) == [8192] * 3

    def test_a_window_without_room_in_memory_is_not_asked_for_again(self, simulator, make_driver, log):
        refusal = "model requires more system memory (9.1 GiB) than is available (3.0 GiB)"
        driver = make_driver(max_attempts=1)
        driver.run(_HI)
        simulator.fault("status", status=500, error=refusal)
        driver.run(prompt(12_000))
        driver.run(prompt(12_000))
        assert sent_windows(simulator) == [None, 16_384, 8192, 8192]
        assert any("no room in memory" in line for line in log(logging.WARNING))


class TestRespected:
    def test_a_window_that_is_baked_into_the_model(self, simulator, make_driver):
        driver = make_driver(model="baked")
        driver.run(prompt(9_500))
        driver.run(prompt(17_000))
        assert sent_windows(simulator) == [None, 32_768]
        assert loaded_windows(simulator) == [16_384, 32_768]

    def test_a_larger_default_of_the_server_is_learned_from_the_first_load(self, make_driver):
        with OllamaSimulator(models=_MODELS, context_length=16_384) as server:
            server.reply("Fine.", times=None)
            calibrate(server, *(model.name for model in _MODELS))
            driver = make_driver(host=server.url)
            for tokens in (100, 9_500, 9_500):
                driver.run(prompt(tokens))
            assert sent_windows(server) == [None] * 3
            assert loaded_windows(server) == [16_384]

    def test_a_smaller_default_of_the_server_is_learned_from_the_first_load(self, make_driver):
        with OllamaSimulator(models=_MODELS, context_length=2048) as server:
            server.reply("Fine.", times=None)
            calibrate(server, *(model.name for model in _MODELS))
            driver = make_driver(host=server.url)
            for tokens in (100, 1800, 1800):
                driver.run(prompt(tokens))
            assert sent_windows(server) == [None, 4096, 4096]
            assert truncated_chats(server) == []

    def test_a_model_that_another_client_loaded_is_kept(self, simulator, make_driver):
        make_driver(num_ctx=24_000).run(_HI)
        make_driver().run(prompt(15_000))
        assert sent_windows(simulator) == [24_000, 24_000]
        assert len(simulator.loads) == 1

    @pytest.mark.parametrize("num_ctx", ["auto", None])
    def test_cloud_models_have_their_maximum(self, make_driver, num_ctx):
        cloud = SimulatedModel(name="big:cloud", context_length=262_144)
        with OllamaSimulator(models=[cloud]) as server:
            server.reply("Fine.", times=None)
            driver = make_driver(host=server.url, model="big:cloud", num_ctx=num_ctx)
            message = driver.run(prompt(60_000))
            assert sent_windows(server) == [None]
            assert meta_of(message)["context"]["window"] == 262_144
            assert driver.tokenizer.max_input_tokens == 262_144 - 1024

    def test_a_number_beyond_the_model_is_sent_and_said_once(self, simulator, make_driver, log):
        driver = make_driver(model="narrow", num_ctx=99_999)
        for _ in range(2):
            message = driver.run(_HI)
        assert sent_windows(simulator) == [99_999] * 2
        assert meta_of(message)["context"]["window"] == 10_000
        (line,) = log(logging.WARNING)
        assert line.startswith("num_ctx=99999 is more than model 'narrow'")
        assert line.endswith("was made for: its window is 10000 tokens.")
        assert driver.tokenizer.max_input_tokens == 10_000 - 1024


class TestServersThatDoNotTell:
    @pytest.mark.parametrize("status", [404, 500])
    @pytest.mark.parametrize("paths", [("/api/ps",), ("/api/show",), ("/api/ps", "/api/show")], ids=" ".join)
    def test_prompts_are_answered_and_not_cut(self, make_driver, paths, status):
        with OllamaSimulator(models=_MODELS) as server:
            for path in paths:
                server.reply(path=path, times=None, status=status, body={"error": "no such page"})
            server.reply("Fine.", times=None)
            calibrate(server, *(model.name for model in _MODELS))
            driver = make_driver(host=server.url)
            assert driver.tokenizer.max_input_tokens == 32_768 - 1024
            for tokens in (100, 5000, 100):
                driver.run(prompt(tokens))
            assert sent_windows(server) == [None, 8192, 8192]
            assert truncated_chats(server) == []

    @pytest.mark.parametrize(
        "body", [{"models": None}, {"models": [{"name": 5, "context_length": "x"}]}, {"models": [{}]}, []], ids=str
    )
    def test_a_ps_that_makes_no_sense_is_no_error(self, make_driver, body):
        with OllamaSimulator(models=_MODELS) as server:
            server.reply(path="/api/ps", times=None, body=body)
            server.reply("Fine.", times=None)
            calibrate(server, *(model.name for model in _MODELS))
            driver = make_driver(host=server.url)
            for tokens in (100, 5000):
                driver.run(prompt(tokens))
            assert truncated_chats(server) == []

    def test_a_dead_server_is_no_error_of_the_tokenizer(self, closed_url):
        driver = OllamaPromptDriver(model="roomy", host=closed_url)
        assert driver.tokenizer.max_input_tokens == 32_768 - 1024
        assert driver.tokenizer.max_output_tokens == 32_768
        assert driver.tokenizer.count_tokens("Hello there") > 0
        assert driver.tokenizer.count_input_tokens_left("Hello there") > 0

    def test_no_model_is_no_error_of_the_tokenizer(self, closed_url):
        driver = OllamaPromptDriver(host=closed_url)
        assert driver.tokenizer.max_input_tokens > 0
        assert driver.tokenizer.count_tokens("Hello there") > 0


@pytest.fixture
def closed_url(unused_port):
    """An address where nothing listens."""
    return f"http://127.0.0.1:{unused_port}"
