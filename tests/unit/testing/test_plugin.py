"""The fixtures that pytest finds by itself, in a run of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("aiohttp", "griptape", "griptape_ollama"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest on a test file, in a process that has no other plugins; give its output."""

    def run_pytest(code, *, conftest="", outcome, environment=None):
        (tmp_path / "test_it.py").write_text(code)
        (tmp_path / "conftest.py").write_text(conftest)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error"]
        done = subprocess.run(
            [*command, "--strict-markers", "-rA", "test_it.py"],
            capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert outcome in done.stdout.splitlines()[-1], done.stdout + done.stderr
        return done.stdout

    return run_pytest


def test_a_test_gets_a_simulator_and_drivers_that_talk_to_it(run):
    code = """
import os
import pytest
from griptape.structures import Agent
import griptape_ollama

def test_chat(ollama_simulator, ollama_prompt_driver):
    ollama_simulator.reply("Hello, Ada.")
    assert str(Agent(prompt_driver=ollama_prompt_driver).run("I am Ada.").output) == "Hello, Ada."
    assert ollama_simulator.last_chat.model == "simulator:latest"

def test_embed(ollama_embedding_driver, ollama_simulator):
    assert len(ollama_embedding_driver.embed("a text")) == 64

@pytest.mark.ollama_simulator(plausible=False, models=None)
def test_settings(ollama_simulator):
    assert ollama_simulator.chats == []

def test_environment(ollama_simulator):
    assert {name: value for name, value in os.environ.items() if name.startswith("OLLAMA_")} == {
        "OLLAMA_HOST": ollama_simulator.url
    }
    from griptape.artifacts import TextArtifact
    from griptape_ollama import OllamaPromptDriver
    assert OllamaPromptDriver(model="simulator").run(TextArtifact("hi")).to_text()

def test_ours(ollama_embedding_driver):
    assert type(ollama_embedding_driver) is griptape_ollama.OllamaEmbeddingDriver
    assert ollama_embedding_driver.model == "simulator-embed:latest"

def test_retries_without_waiting(ollama_simulator, ollama_embedding_driver):
    ollama_simulator.fault("status", status=503, error="server busy", path="/api/embed")
    assert ollama_embedding_driver.min_retry_delay == 0
    assert ollama_embedding_driver.embed("a text")
"""
    environment = {"PATH": "", "OLLAMA_HOST": "http://127.0.0.1:9", "OLLAMA_API_KEY": "secret"}
    run(code, outcome="6 passed", environment=environment)


def test_an_unexpected_request_fails_the_test_that_sent_it(run):
    code = """
import pytest
from griptape.artifacts import TextArtifact

pytestmark = pytest.mark.ollama_simulator(plausible=False)

def test_one_too_many(ollama_simulator, ollama_prompt_driver):
    ollama_simulator.reply("one")
    ollama_prompt_driver.run(TextArtifact("first"))
    with pytest.raises(Exception):
        ollama_prompt_driver.run(TextArtifact("second"))

def test_the_next_one_is_fine(ollama_simulator):
    pass
"""
    output = run(code, outcome="1 failed, 1 passed")
    assert "UnexpectedRequestError: 1 request(s) came that no scripted reply was for" in output
    assert '-      "content": "first"' in output
    assert '+      "content": "second"' in output


def test_the_failure_of_a_test_comes_before_what_it_did_not_foresee(run):
    code = """
import httpx, pytest

@pytest.mark.ollama_simulator(plausible=False)
def test_it(ollama_simulator):
    httpx.post(ollama_simulator.url + "/api/chat", json={"model": "simulator", "messages": [{"role": "user"}]})
    raise ZeroDivisionError
"""
    output = run(code, outcome="1 failed")
    assert "ZeroDivisionError" in output
    assert "UnexpectedRequestError" not in output
    assert "1 request(s) came that no scripted reply was for" in output


def test_unexpected_requests_are_reported_wherever_the_simulator_was_asked_for_and_the_request_was_sent(run):
    code = """
import httpx, pytest

pytestmark = pytest.mark.ollama_simulator(plausible=False)

def send(simulator):
    httpx.post(simulator.url + "/api/chat", json={"model": "simulator", "messages": [{"role": "user"}]})

@pytest.fixture
def careless(ollama_simulator):
    yield
    send(ollama_simulator)

def test_asked_for_by_name(request):
    send(request.getfixturevalue("ollama_simulator"))

def test_sent_while_cleaning_up(careless):
    pass
"""
    output = run(code, outcome="1 failed, 1 passed, 1 error")
    assert "ERROR test_it.py::test_sent_while_cleaning_up" in output
    assert len(re.findall(r"^E .*UnexpectedRequestError: 1 request", output, re.MULTILINE)) == 2


def test_a_failing_reply_function_fails_the_test_with_its_own_error(run):
    code = """
import httpx

def test_it(ollama_simulator):
    ollama_simulator.reply(lambda request: 1 / 0)
    httpx.post(ollama_simulator.url + "/api/chat", json={"model": "simulator", "messages": [{"role": "user"}]})
"""
    output = run(code, outcome="1 failed")
    assert "ZeroDivisionError: division by zero" in output
    assert "The above exception was the direct cause" in output


def test_a_marker_without_names_is_refused(run):
    code = """
import pytest

@pytest.mark.ollama_simulator("qwen3")
def test_it(ollama_simulator):
    pass
"""
    output = run(code, outcome="1 error")
    assert "takes settings by name, such as models=[...], not 'qwen3'" in output


def test_where_nobody_asks_for_it_nothing_is_imported(run):
    run(
        "import sys\ndef test_it():\n    assert not {'griptape', 'griptape_ollama', 'aiohttp'} & set(sys.modules)\n",
        outcome="1 passed",
    )


def test_where_the_extra_is_not_installed_other_tests_run_and_the_fixture_says_what_to_install(run):
    code = """
def test_other():
    pass

def test_it(ollama_simulator):
    pass
"""
    assert "griptape_ollama is blocked" in run(code, conftest=BLOCKED, outcome="1 passed, 1 error")
    missing = "import sys\nsys.modules['aiohttp'] = None\n"
    output = run(code, conftest=missing, outcome="1 passed, 1 error")
    assert 'the simulator needs aiohttp: pip install "griptape-ollama[testing]"' in output


def test_the_examples_in_the_docs_and_in_the_folder_of_examples_pass(run):
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    tests = [code for code in snippets if "def test_" in code]
    assert tests
    run("\n".join(tests), outcome="4 passed")
    run((ROOT / "examples" / "testing_agents.py").read_text(), outcome="4 passed")
