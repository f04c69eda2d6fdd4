"""Start and stop of a simulator, and what it reports."""

import subprocess
import sys

import httpx
import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel


def test_close_does_not_report_unexpected_requests(chat):
    simulator = OllamaSimulator(plausible=False).start()
    chat(simulator)
    simulator.close()
    assert not simulator.is_serving


@pytest.mark.parametrize("answer", ["text", lambda request: "text"])
def test_a_reply_for_an_unknown_model_raises_an_error(simulator, answer):
    with pytest.raises(ValueError, match=r"model='qwen3': the simulator has no such model, only simulator:latest"):
        simulator.reply(answer, model="qwen3")
    simulator.reply("later", model="library-small")
    assert simulator.unused_replies == 1


def test_first_model_finds_a_model_by_capability(simulator):
    assert simulator.first_model("completion") == "simulator:latest"
    assert simulator.first_model("embedding") == "simulator-embed:latest"
    with pytest.raises(LookupError, match="can do 'vision'"):
        simulator.first_model("vision")


def test_it_serves_inside_the_with_block_and_not_after_it():
    with OllamaSimulator() as simulator:
        url = simulator.url
        assert httpx.get(url).text == "Ollama is running"
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_it_starts_again_after_a_stop():
    simulator = OllamaSimulator()
    for _ in range(2):
        with simulator:
            assert httpx.get(f"{simulator.url}/api/version").json() == {"version": "0.33.0-simulator"}


def test_starting_twice_is_an_error(simulator):
    with pytest.raises(RuntimeError, match="already serving at http"):
        simulator.start()


def test_the_address_is_known_only_while_serving():
    with pytest.raises(RuntimeError, match="not serving"):
        _ = OllamaSimulator().url


def test_two_simulators_run_at_the_same_time(chat_text):
    with OllamaSimulator() as one, OllamaSimulator() as other:
        one.reply("one")
        other.reply("other")
        assert (chat_text(other), chat_text(one)) == ("other", "one")


def test_keep_requests_limits_the_record():
    with OllamaSimulator(keep_requests=2) as simulator:
        for name in ("tags", "version", "ps"):
            httpx.get(f"{simulator.url}/api/{name}")
        assert [request.path for request in simulator.requests] == ["/api/version", "/api/ps"]


def test_without_aiohttp_the_import_error_names_the_extra():
    code = "import sys; sys.modules['aiohttp'] = None; import griptape_ollama.testing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert 'ImportError: the simulator needs aiohttp: pip install "griptape-ollama[testing]"' in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens_per_second": 0}, "tokens_per_second=0"),
        ({"context_length": 0}, "context_length=0"),
        ({"keep_requests": 0}, "keep_requests=0"),
        ({"models": [SimulatedModel(name="a"), SimulatedModel(name="A:latest")]}, "two models are named"),
    ],
)
def test_invalid_settings_raise_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        OllamaSimulator(**arguments)


def test_reset_clears_script_records_and_loaded_models(simulator, chat):
    simulator.reply("one")
    simulator.reply("two")
    chat(simulator)
    assert simulator.unused_replies == 1
    simulator.reset()
    assert (simulator.requests, simulator.unused_replies, simulator.loaded_models) == ([], 0, [])
