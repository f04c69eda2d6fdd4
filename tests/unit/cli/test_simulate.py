"""`griptape-ollama simulate`."""

import re
import signal
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner

from griptape_ollama.cli.main import main
from griptape_ollama.testing import OllamaSimulator

COMMAND = [sys.executable, "-c", "from griptape_ollama.cli.main import main; main()", "simulate"]


@pytest.fixture
def running():
    """Start the command; return its process, its first lines and its address."""
    processes = []

    def start(*arguments):
        process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        lines = [process.stdout.readline() for _ in range(4)]
        url = re.search(r"http://127\.0\.0\.1:\d+", lines[1])
        assert url, lines + process.stderr.readlines()
        return process, "".join(lines), url[0]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_what_it_is_serves_and_stops_cleanly(running, number):
    process, banner, url = running("--model", "qwen3", "--embedding-model", "all-minilm", "--thinking-model", "thinker")
    assert "SIMULATOR" in banner
    assert "not a language model" in banner
    assert f"export OLLAMA_HOST={url}" in banner
    capabilities = {entry["name"]: entry["capabilities"] for entry in httpx.get(f"{url}/api/tags").json()["models"]}
    assert capabilities == {
        "qwen3:latest": ["completion", "tools"],
        "all-minilm:latest": ["embedding"],
        "thinker:latest": ["completion", "tools", "thinking"],
    }
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "The simulator has stopped.\n", "")
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_taken_port_is_an_error():
    with OllamaSimulator() as simulator:
        port = simulator.url.rsplit(":", 1)[1]
        result = CliRunner().invoke(main, ["simulate", "--port", port])
    assert result.exit_code == 1
    assert f"Error: port {port} of 127.0.0.1 is taken" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "a b"], "name='a b' is not a model name"),
        (["--model", "a", "--model", "A"], "two models are named"),
        (["--port", "70000"], "70000 is not in the range"),
        (["--time-scale", "0"], "0.0 is not in the range"),
        (["--host", "0.0.0.0"], "No such option"),  # noqa: S104  it is refused
    ],
)
def test_wrong_usage_is_an_error(arguments, message):
    result = CliRunner().invoke(main, ["simulate", *arguments])
    assert result.exit_code != 0
    assert message in result.output


def test_without_aiohttp_the_error_names_the_extra():
    code = "import sys; sys.modules['aiohttp'] = None; from griptape_ollama.cli.main import main; main(['simulate'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert 'Error: the simulator needs aiohttp: pip install "griptape-ollama[testing]"' in done.stderr


def test_signal_handlers_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    with OllamaSimulator() as simulator:
        CliRunner().invoke(main, ["simulate", "--port", simulator.url.rsplit(":", 1)[1]])
    assert signal.getsignal(signal.SIGTERM) is before
