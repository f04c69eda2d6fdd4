"""The pytest plugin: its fixtures, in pytest runs of their own."""

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


def run_pytest(folder, files, *, outcome, environment=None):
    """Run pytest on files in a process without other plugins, and return its output."""
    for name, code in files.items():
        (folder / name).write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error"]
    done = subprocess.run(
        [*command, "--strict-markers", "-rA", *(name for name in files if name != "conftest.py")],
        capture_output=True, text=True, timeout=100, check=False, cwd=folder, env=environment,
    )  # fmt: skip
    assert outcome in done.stdout.splitlines()[-1], done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def run(tmp_path):
    """Run pytest on the code of a test file, and return its output."""

    def run_code(code, *, conftest="", outcome, environment=None):
        return run_pytest(
            tmp_path, {"conftest.py": conftest, "test_it.py": code}, outcome=outcome, environment=environment
        )

    return run_code


def test_the_fixtures_provide_a_simulator_and_its_drivers(run):
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


FILES = {
    "test_unexpected.py": """
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
""",
    "test_failure.py": """
import httpx, pytest

@pytest.mark.ollama_simulator(plausible=False)
def test_that_fails_itself(ollama_simulator):
    httpx.post(ollama_simulator.url + "/api/chat", json={"model": "simulator", "messages": [{"role": "user"}]})
    raise ZeroDivisionError
""",
    "test_cleanup.py": """
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
""",
    "test_function.py": """
import httpx

def test_with_a_failing_function(ollama_simulator):
    ollama_simulator.reply(lambda request: 1 / 0)
    httpx.post(ollama_simulator.url + "/api/chat", json={"model": "simulator", "messages": [{"role": "user"}]})
""",
    "test_marker.py": """
import pytest

@pytest.mark.ollama_simulator("qwen3")
def test_with_a_wrong_marker(ollama_simulator):
    pass
""",
}
"""Test files for one run, as each process imports Griptape anew."""


def documented_tests():
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text(), re.DOTALL)
    return "\n".join(code for code in snippets if "def test_" in code)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory):
    """Run the files together with the documented tests, and return the output."""
    documented = {
        "test_docs.py": documented_tests(),
        "test_examples.py": (ROOT / "examples" / "testing_agents.py").read_text(),
    }
    return run_pytest(tmp_path_factory.mktemp("run"), {**FILES, **documented}, outcome="4 failed, 10 passed, 2 errors")


@pytest.fixture
def result_of(shared_run):
    """Return the outcome of a test of the shared run, and the report of its failure or error."""

    def find(file, test):
        outcome = ", ".join(re.findall(rf"^([A-Z]+) {file}::{test}\b", shared_run, re.MULTILINE))
        reports = re.split(r"^(?:_{3,} (?:ERROR at \w+ of )?(\w+) _{3,}|=+ .* =+)$", shared_run, flags=re.MULTILINE)
        return outcome, "".join(text for name, text in zip(reports[1::2], reports[2::2], strict=True) if name == test)

    return find


def test_an_unexpected_request_fails_the_test_that_sent_it(result_of):
    outcome, report = result_of("test_unexpected.py", "test_one_too_many")
    assert outcome == "FAILED"
    assert "UnexpectedRequestError: 1 request(s) came that no scripted reply was for" in report
    assert '-      "content": "first"' in report
    assert '+      "content": "second"' in report
    assert result_of("test_unexpected.py", "test_the_next_one_is_fine") == ("PASSED", "")


def test_the_failure_of_a_test_comes_before_its_unexpected_requests(result_of):
    outcome, report = result_of("test_failure.py", "test_that_fails_itself")
    assert outcome == "FAILED"
    assert "ZeroDivisionError" in report
    assert "UnexpectedRequestError" not in report
    assert "1 request(s) came that no scripted reply was for" in report


@pytest.mark.parametrize(
    ("test", "outcome"), [("test_asked_for_by_name", "FAILED"), ("test_sent_while_cleaning_up", "PASSED, ERROR")]
)
def test_unexpected_requests_are_reported_for_any_use_of_the_fixture_and_during_cleanup(result_of, test, outcome):
    found, report = result_of("test_cleanup.py", test)
    assert found == outcome
    assert len(re.findall(r"^E .*UnexpectedRequestError: 1 request", report, re.MULTILINE)) == 1


def test_a_failing_reply_function_fails_the_test_with_its_own_error(result_of):
    outcome, report = result_of("test_function.py", "test_with_a_failing_function")
    assert outcome == "FAILED"
    assert "ZeroDivisionError: division by zero" in report
    assert "The above exception was the direct cause" in report


def test_a_marker_without_names_is_refused(result_of):
    outcome, report = result_of("test_marker.py", "test_with_a_wrong_marker")
    assert outcome == "ERROR"
    assert "takes settings by name, such as models=[...], not 'qwen3'" in report


def test_the_examples_in_the_docs_and_in_the_folder_of_examples_pass(shared_run):
    assert "def test_" in documented_tests()
    for file in ("test_docs.py", "test_examples.py"):
        assert len(re.findall(rf"^PASSED {file}::", shared_run, re.MULTILINE)) == 4


def test_without_the_fixture_nothing_is_imported(run):
    run(
        "import sys\ndef test_it():\n    assert not {'griptape', 'griptape_ollama', 'aiohttp'} & set(sys.modules)\n",
        outcome="1 passed",
    )


def test_without_the_extra_other_tests_run_and_the_fixture_names_the_extra(run):
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
