"""`models warm` and `models stop`."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

CHAT = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def simulator():
    models = [SimulatedModel(name="one", size_vram=10**12), SimulatedModel(name="two")]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


class TestWarm:
    def test_the_result_has_the_load_time_and_the_expiry(self, models):
        out = models("warm", "one", "--keep-alive", "10m").out
        assert re.fullmatch(r"one was loaded in [\d.]+ seconds?: 100% of it on GPUs, expires in 10 minutes\.\n", out)
        assert models("warm", "one", "--keep-alive", "-1").out.startswith("one was loaded before: ")
        assert models("warm", "one", "--keep-alive", "-1").out.endswith(", for good.\n")

    def test_it_is_loaded_with_the_window_in_its_parameters(self, models):
        loaded = models("warm", "one", "--parameter", "num_ctx=2048", "--json").json
        assert loaded["loaded"]["context_length"] == 2048
        assert loaded["was_loaded"] is False
        assert loaded["load_seconds"] >= 0


class TestStop:
    def test_the_result_names_which_were_loaded(self, models, simulator):
        models("warm", "one")
        ended = models("stop", "one", "two", "--wait", "10")
        assert (ended.code, ended.out) == (0, "Stopped one.\ntwo was not loaded.\n")
        assert models("ps", "--json").json == []

    def test_all_unloads_all(self, models):
        models("warm", "one")
        models("warm", "two")
        assert sorted(models("stop", "--all", "--json", "--wait", "10").json["unloaded"]) == [
            "one:latest",
            "two:latest",
        ]
        assert models("stop", "--all").out == "No model was loaded.\n"

    def test_json_has_both_lists(self, models):
        models("warm", "one")
        assert models("stop", "one", "two", "--json").json == {"unloaded": ["one"], "not_loaded": ["two"]}

    def test_a_busy_model_outlasts_the_wait_with_code_5(self, models, simulator):
        asked, released = threading.Event(), threading.Event()

        def answer(_):
            asked.set()
            return "Done." if released.wait(30) else "Too late."

        simulator.reply(answer)
        with ThreadPoolExecutor(1) as pool:
            busy = pool.submit(httpx.post, f"{simulator.url}/api/chat", json={"model": "one", "messages": CHAT})
            assert asked.wait(10)
            ended = models("stop", "one", "--wait", "0.1")
            released.set()
            assert "Done." in busy.result().text
        assert (ended.code, ended.out) == (5, "")
        assert "'one' is still loaded" in ended.err
