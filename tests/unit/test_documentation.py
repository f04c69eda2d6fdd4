"""The README and the docs pages say nothing that does not run."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from griptape.configs import Defaults

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODELS = [
    SimulatedModel(name="simulator", capabilities=("completion", "tools")),
    SimulatedModel(name="qwen3", capabilities=("completion", "tools", "thinking"), kind="builtin"),
    SimulatedModel(name="gemma3", capabilities=("completion", "vision")),
    SimulatedModel(name="nomic-embed-text", capabilities=("embedding",), context_length=2048, embedding_length=768),
]

LIBRARY = [SimulatedModel(name=name, size=5_200_000_000, pull_bytes_per_second=5e9) for name in ("mistral", "qwen3:8b")]


def _snippets():
    for page in PAGES:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1):
            yield pytest.param(code, id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(_snippets()))
def test_a_snippet_runs(code, monkeypatch, tmp_path):
    # Griptape looks for the file of a tool's class.
    (tmp_path / "snippet.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "snippet", raising=False)
    # Put back after a snippet that sets it.
    monkeypatch.setattr(Defaults, "_drivers_config", None)
    with OllamaSimulator(models=MODELS, library=LIBRARY, time_scale=100) as simulator:
        monkeypatch.setenv("OLLAMA_HOST", simulator.host)
        importlib.import_module("snippet")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def _run_quickstart(*arguments, **environment):
    script = [sys.executable, str(ROOT / "examples" / "quickstart.py"), *arguments]
    return subprocess.run(script, capture_output=True, text=True, timeout=110, env=environment, check=False)


def _quickstart(*arguments, **environment):
    result = _run_quickstart(*arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _assert_shows_everything(output):
    assert '[calls Calculator.multiply with {"a": 17, "b": 23}]' in output
    assert "[result: 391]" in output
    assert "Your name is Ada" in output
    assert re.search(r"\d+ tokens in \d+\.\d\d s of generation", output)


def test_the_demo_starts_the_simulator_where_no_server_answers_and_says_so(environment):
    output = _quickstart(**environment, OLLAMA_HOST="127.0.0.1:1")
    assert "SIMULATOR" in output.splitlines()[0]
    _assert_shows_everything(output)


def test_the_demo_uses_a_server_that_answers(environment):
    with OllamaSimulator(models=MODELS) as server:
        output = _quickstart("--host", server.host, **environment)
        assert len(server.chats) == 4
    assert output.startswith("Model simulator:latest of the Ollama server at http://127.0.0.1")
    _assert_shows_everything(output)


def test_the_demo_takes_the_model_that_it_is_told(environment):
    with OllamaSimulator(models=MODELS) as server:
        _quickstart("--host", server.host, "--model", "simulator", **environment)
        assert server.last_chat.model == "simulator"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "127.0.0.1:1"), "No Ollama server with a chat model answers at 127.0.0.1:1"),
        (("--host", "ftp://gpu-box"), "the scheme 'ftp' is not http or https"),
        (("--host", "127.0.0.1:1", "--model", "qwen3"), "ollama serve"),
    ],
)
def test_the_demo_says_what_is_wrong_and_nothing_else(environment, arguments, said):
    result = _run_quickstart(*arguments, **environment)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def _tools_and_thinking(*arguments, **environment):
    script = [sys.executable, str(ROOT / "examples" / "tools_and_thinking.py"), *arguments]
    result = subprocess.run(script, capture_output=True, text=True, timeout=110, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    assert "[thinks] " in result.stdout
    assert '[calls get_weather with {"city": "Oslo"}]' in result.stdout
    assert "[result: Oslo: 12 degrees, light rain]" in result.stdout
    assert "As Report: Report(city='Oslo', degrees=12" in result.stdout
    return result.stdout


def test_the_example_shows_thinking_a_call_and_an_answer_that_fits_a_schema(environment):
    assert "SIMULATOR" in _tools_and_thinking(**environment).splitlines()[0]


def test_the_example_asks_the_server_and_the_model_that_it_is_told(environment):
    with OllamaSimulator(models=MODELS) as server:
        output = _tools_and_thinking("--host", server.host, "--model", "qwen3", **environment)
        assert {request.model for request in server.chats} == {"qwen3"}
        assert [bool(request.tools) for request in server.chats] == [True, True, False]
    assert "SIMULATOR" not in output


def _run_rag(*arguments, **environment):
    script = [sys.executable, str(ROOT / "examples" / "rag.py"), *arguments]
    # Whatever reaches for another machine, such as a tokenizer that downloads its words, meets a dead proxy.
    offline = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:1")
    environment = {**environment, **offline, "TIKTOKEN_CACHE_DIR": "", "OPENAI_API_KEY": ""}
    return subprocess.run(script, capture_output=True, text=True, timeout=110, env=environment, check=False)


def _rag(*arguments, **environment):
    result = _run_rag(*arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def _assert_is_indexed_and_answered(output):
    first, again = re.findall(r"Indexed (\d+) chunks: (\d+) texts embedded in (\d+) requests", output)
    assert int(first[0]) == int(first[1]) > 64
    assert int(first[2]) == -(-int(first[0]) // 64)
    assert again == (first[0], "0", "0")
    from_engine, from_agent = re.findall(r"^Sources: +(.+)$", output, re.MULTILINE)
    assert "docs/images.md" in from_engine
    assert "docs/images.md" in from_agent
    assert re.search(r"^RagEngine: .*allow_private_image_urls", output, re.MULTILINE)
    assert "\nAgent:     The tool says: docs/" in output


def test_the_rag_example_answers_with_sources_and_without_any_other_machine(environment):
    output = _rag(**environment, OLLAMA_HOST="127.0.0.1:1")
    assert "SIMULATOR" in output.splitlines()[0]
    _assert_is_indexed_and_answered(output)


def test_the_rag_example_uses_a_server_that_answers_and_asks_it_for_nothing_else(environment):
    with OllamaSimulator() as server:
        output = _rag("--host", server.host, **environment)
        embedded = [request.body["input"] for request in server.requests if request.path == "/api/embed"]
        from_engine, agent_asks, agent_knows = server.chats
    assert output.startswith(
        "Models simulator:latest and simulator-embed:latest of the Ollama server at http://127.0.0.1"
    )
    _assert_is_indexed_and_answered(output)
    assert [len(texts) for texts in embedded[-1:]] == [1], "only the query is embedded after the index"
    assert len({text for texts in embedded for text in texts}) == sum(map(len, embedded)), "no text is embedded twice"
    assert "docs/images.md" in from_engine.messages[0]["content"]
    assert [tool["function"]["name"] for tool in agent_asks.tools] == ["VectorStoreTool_search"]
    assert "docs/images.md" in agent_knows.messages[-1]["content"]


def test_the_rag_example_takes_models_from_arguments_and_environment(environment):
    with OllamaSimulator(models=MODELS) as server:
        _rag("--model", "qwen3", **environment, OLLAMA_HOST=server.host, RAG_EMBEDDING_MODEL="nomic-embed-text")
        assert {request.model for request in server.chats} == {"qwen3"}
        inputs = [request.body["input"] for request in server.requests if request.path == "/api/embed"]
    assert all(text.startswith("search_document: ") for texts in inputs[:-1] for text in texts)
    assert inputs[-1][0].startswith("search_query: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--host", "127.0.0.1:1"), "No Ollama server with a chat model and an embedding model answers at 127.0.0.1:1"),
        (("--host", "ftp://gpu-box"), "the scheme 'ftp' is not http or https"),
        (("--host", "127.0.0.1:1", "--model", "qwen3", "--embedding-model", "all-minilm"), "ollama serve"),
    ],
)
def test_the_rag_example_says_what_is_wrong_and_nothing_else(environment, arguments, said):
    result = _run_rag(*arguments, **environment)
    assert result.returncode == 1
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_the_example_of_two_models_prints_what_both_ways_took(environment):
    script = [sys.executable, str(ROOT / "examples" / "pipeline_models.py")]
    result = subprocess.run(
        script,
        capture_output=True,
        text=True,
        timeout=110,
        env={**environment, "OLLAMA_HOST": "127.0.0.1:1"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "SIMULATOR" in result.stdout.splitlines()[0]
    without, planned, report = re.split("With the planner|Models in memory", result.stdout)
    assert "editor:latest, writer:latest" in without
    assert "nothing" in planned
    assert re.search(r"keep_alive=0, replayed\s*│\s*4 ", report)


def _run_long_conversation(*arguments, **environment):
    script = [sys.executable, str(ROOT / "examples" / "long_conversation.py"), *arguments]
    return subprocess.run(script, capture_output=True, text=True, timeout=110, env=environment, check=False)


def _assert_shows_growth_guard_and_report(output):
    grown = re.findall(r"│ (\d+) +│ reloaded, from (\d+)", output)
    assert grown == [("4096", "2048"), ("8192", "4096")]
    assert re.search(r"│ \d+ .*│ \d+ oldest messages left out", output)
    assert "truncated=False, complete=True" in output
    assert re.search(r"OllamaContextError: wanted \d{4,} tokens, had 8192", output)
    assert re.search(r"\d+ messages \(about \d+ tokens\) were not sent", output)


def test_the_long_conversation_starts_the_simulator_where_no_server_answers_and_says_so(environment):
    result = _run_long_conversation(**environment, OLLAMA_HOST="127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    assert "SIMULATOR" in result.stdout.splitlines()[0]
    _assert_shows_growth_guard_and_report(result.stdout)


def test_the_long_conversation_loses_nothing_unsaid_on_a_server_that_answers_and_loads_its_model_three_times(
    environment,
):
    with OllamaSimulator(models=MODELS) as server:
        result = _run_long_conversation("--host", server.host, **environment)
        assert result.returncode == 0, result.stderr
        assert [load.context_length for load in server.loads] == [2048, 4096, 8192]
        assert not any(request.outcome.was_truncated for request in server.chats)
    assert "SIMULATOR" not in result.stdout
    _assert_shows_growth_guard_and_report(result.stdout)


def test_the_long_conversation_says_what_is_wrong_and_nothing_else(environment):
    result = _run_long_conversation("--host", "127.0.0.1:1", **environment)
    assert result.returncode == 1
    assert "No Ollama server with a chat model answers at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def environment(monkeypatch):
    """The environment of this process, without a server."""

    return {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
