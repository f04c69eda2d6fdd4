"""The examples of the README and of the docs pages run, and the files, modules and headings that pages name exist."""

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from griptape.configs import Defaults

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "griptape_ollama"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL_PAGES = [
    *PAGES,
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    ROOT / "examples" / "fastapi_stop_button" / "README.md",
]
MODELS = [
    SimulatedModel(name="simulator", capabilities=("completion", "tools")),
    SimulatedModel(name="qwen3", capabilities=("completion", "tools", "thinking"), kind="builtin"),
    SimulatedModel(name="gemma3", capabilities=("completion", "vision")),
    SimulatedModel(name="nomic-embed-text", capabilities=("embedding",), context_length=2048, embedding_length=768),
]

LIBRARY = [SimulatedModel(name=name, size=5_200_000_000, pull_bytes_per_second=5e9) for name in ("mistral", "qwen3:8b")]


def _relative(page):
    return page.relative_to(ROOT).as_posix()


def _snippets():
    for page in PAGES:
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1):
            yield pytest.param(code, id=f"{page.name}-{number}")


@pytest.mark.parametrize("code", list(_snippets()))
def test_a_snippet_runs(code, monkeypatch, tmp_path):
    # Griptape reads the file of a tool's class.
    (tmp_path / "snippet.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "snippet", raising=False)
    # Restored after a snippet that sets it.
    monkeypatch.setattr(Defaults, "_drivers_config", None)
    with OllamaSimulator(models=MODELS, library=LIBRARY, time_scale=100) as simulator:
        monkeypatch.setenv("OLLAMA_HOST", simulator.host)
        importlib.import_module("snippet")


@pytest.mark.parametrize("page", ALL_PAGES, ids=_relative)
def test_a_link_has_a_target(page):
    for path, anchor in re.findall(r"\]\((?!https?://)([^)#]*)#?([^)]*)\)", _prose(page)):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in _anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", ALL_PAGES, ids=_relative)
def test_a_file_that_a_page_names_exists(page):
    for name in re.findall(r"`([\w./]+\.(?:py|toml|md|lock)|(?:tests|docs|examples|src)/[\w./]*)`", _prose(page)):
        assert any((folder / name).exists() for folder in (ROOT, page.parent, PACKAGE)), name


def test_a_path_that_contributing_names_exists():
    for name in re.findall(r"`([\w.]+/[\w./]*)`", _prose(ROOT / "CONTRIBUTING.md")):
        assert any((folder / name).exists() for folder in (ROOT, PACKAGE)), name


@pytest.mark.parametrize("page", ALL_PAGES, ids=_relative)
def test_a_module_or_logger_that_a_page_names_exists(page):
    sources = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    for name in re.findall(r"`(griptape_ollama\.[\w.]+)`", _prose(page)):
        if not any(f'getLogger("{name}")' in source for source in sources):
            pkgutil.resolve_name(name)


def test_contributing_has_a_row_for_every_package_and_module_of_the_top():
    rows = _prose(ROOT / "CONTRIBUTING.md").partition("| package | holds | imports |")[2].partition("\n\n")[0]
    named = {name for row in rows.splitlines()[2:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    there = {path.name for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert named == there - {"__init__.py", "__pycache__"}


QUOTED = {
    "README.md": ["has no model ", "Get it with: ollama pull "],
    "docs/timeouts-and-retries.md": [
        "did not accept a connection within ",
        "sent no first ",
        "sent no ",
        " in all",
        "no slot became free within ",
        " failed: ",
        "Send fewer requests at once, or raise OLLAMA_MAX_QUEUE on the server.",
        "Trying again in ",
    ],
    "docs/load.md": ["no slot became free within ", ", with max_concurrency=", " ahead in the queue"],
    "docs/images.md": ["An image was", " left out: this model cannot see images.]"],
    "docs/tools.md": ["Default", "At least"],
    "docs/context.md": ["horten the prompt", " above ", "(the model takes up to "],
    "docs/embeddings.md": ["could not be embedded: ", "The text is "],
    "docs/models.md": ["has no model ", "Get it with: ollama pull ", "It has "],
    "docs/testing.md": ["The server's disk is full"],
}
"""Texts of errors and of the log that pages quote, without their values."""


@pytest.mark.parametrize(("page", "quoted"), QUOTED.items(), ids=list(QUOTED))
def test_a_text_that_a_page_quotes_is_in_the_source(page, quoted):
    page_text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    for text in quoted:
        assert text.strip() in page_text, text
        assert any(text in constant for constant in _texts_of_the_source()), text


@cache
def _texts_of_the_source():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _prose(page):
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _anchors(page):
    """Return the anchors of headings as GitHub builds them."""
    headings = re.findall(r"^#+ (.*)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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


def test_the_demo_starts_the_simulator_if_no_server_answers_and_prints_that(environment):
    output = _quickstart(**environment, OLLAMA_HOST="127.0.0.1:1")
    assert "SIMULATOR" in output.splitlines()[0]
    _assert_shows_everything(output)


def test_the_demo_uses_a_server_that_answers(environment):
    with OllamaSimulator(models=MODELS) as server:
        output = _quickstart("--host", server.host, **environment)
        assert len(server.chats) == 4
    assert output.startswith("Model simulator:latest of the Ollama server at http://127.0.0.1")
    _assert_shows_everything(output)


def test_the_demo_uses_the_model_of_its_argument(environment):
    with OllamaSimulator(models=MODELS) as server:
        _quickstart("--host", server.host, "--model", "simulator", **environment)
        assert server.last_chat.model == "simulator"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "127.0.0.1:1"), "No Ollama server with a chat model answers at 127.0.0.1:1"),
        (("--host", "ftp://gpu-box"), "the scheme 'ftp' is not http or https"),
        (("--host", "127.0.0.1:1", "--model", "qwen3"), "ollama serve"),
    ],
)
def test_the_demo_prints_the_error_without_a_traceback(environment, arguments, message):
    result = _run_quickstart(*arguments, **environment)
    assert result.returncode == 1
    assert message in result.stderr
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


def test_the_example_uses_the_server_and_the_model_of_its_arguments(environment):
    with OllamaSimulator(models=MODELS) as server:
        output = _tools_and_thinking("--host", server.host, "--model", "qwen3", **environment)
        assert {request.model for request in server.chats} == {"qwen3"}
        assert [bool(request.tools) for request in server.chats] == [True, True, False]
    assert "SIMULATOR" not in output


def _run_rag(*arguments, **environment):
    script = [sys.executable, str(ROOT / "examples" / "rag.py"), *arguments]
    # A connection to another machine, such as the download of a tokenizer, fails at a dead proxy.
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


def test_the_rag_example_uses_a_server_that_answers_and_sends_no_other_requests(environment):
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
    ("arguments", "message"),
    [
        (("--host", "127.0.0.1:1"), "No Ollama server with a chat model and an embedding model answers at 127.0.0.1:1"),
        (("--host", "ftp://gpu-box"), "the scheme 'ftp' is not http or https"),
        (("--host", "127.0.0.1:1", "--model", "qwen3", "--embedding-model", "all-minilm"), "ollama serve"),
    ],
)
def test_the_rag_example_prints_the_error_without_a_traceback(environment, arguments, message):
    result = _run_rag(*arguments, **environment)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_the_example_of_two_models_prints_the_times_with_and_without_the_planner(environment):
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


def _assert_shows_growth_overflow_and_report(output):
    grown = re.findall(r"│ (\d+) +│ reloaded, from (\d+)", output)
    assert grown == [("4096", "2048"), ("8192", "4096")]
    assert re.search(r"│ \d+ .*│ \d+ oldest messages left out", output)
    assert "truncated=False, complete=True" in output
    assert re.search(r"OllamaContextError: wanted \d{4,} tokens, had 8192", output)
    assert re.search(r"\d+ messages \(about \d+ tokens\) were not sent", output)


def test_the_long_conversation_starts_the_simulator_if_no_server_answers_and_prints_that(environment):
    result = _run_long_conversation(**environment, OLLAMA_HOST="127.0.0.1:1")
    assert result.returncode == 0, result.stderr
    assert "SIMULATOR" in result.stdout.splitlines()[0]
    _assert_shows_growth_overflow_and_report(result.stdout)


def test_the_long_conversation_is_never_truncated_on_a_server_and_loads_its_model_three_times(
    environment,
):
    with OllamaSimulator(models=MODELS) as server:
        result = _run_long_conversation("--host", server.host, **environment)
        assert result.returncode == 0, result.stderr
        assert [load.context_length for load in server.loads] == [2048, 4096, 8192]
        assert not any(request.outcome.was_truncated for request in server.chats)
    assert "SIMULATOR" not in result.stdout
    _assert_shows_growth_overflow_and_report(result.stdout)


def test_the_long_conversation_prints_the_error_without_a_traceback(environment):
    result = _run_long_conversation("--host", "127.0.0.1:1", **environment)
    assert result.returncode == 1
    assert "No Ollama server with a chat model answers at 127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def environment(monkeypatch):
    """The environment of this process, without a server."""

    return {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
