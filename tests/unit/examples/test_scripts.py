"""The examples print what they promise, with a server, with the simulator, and if there is no server."""

import importlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from griptape.configs import Defaults

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

EXAMPLES = Path(__file__).parents[3] / "examples"
MODELS = [
    SimulatedModel(name="simulator", capabilities=("completion", "tools")),
    SimulatedModel(name="qwen3", capabilities=("completion", "tools", "thinking"), kind="builtin"),
    SimulatedModel(name="nomic-embed-text", capabilities=("embedding",), context_length=2048, embedding_length=768),
]
# A connection to another machine, such as the download of a tokenizer, fails at a dead proxy.
OFFLINE = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:1"),
    "TIKTOKEN_CACHE_DIR": "",
    "OPENAI_API_KEY": "",
}


def _run_script(name, host="127.0.0.1:1"):
    """Run an example as a program, as a user does, without a server that answers."""
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, **OFFLINE, **({"OLLAMA_HOST": host} if host else {})},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "SIMULATOR" in result.stdout.splitlines()[0]
    return result.stdout


@pytest.fixture
def run_main(monkeypatch, capsys):
    """A function that runs the `main` of an example in this process, and returns its output."""
    monkeypatch.syspath_prepend(EXAMPLES)
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Defaults, "_drivers_config", None)
    level = logging.getLogger("griptape").level

    def run(name, *arguments):
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        importlib.import_module(name).main()
        return capsys.readouterr().out

    yield run
    logging.getLogger("griptape").setLevel(level)


@pytest.mark.parametrize(
    ("example", "arguments", "message"),
    [
        ("quickstart", ["--host", "127.0.0.1:1"], "No Ollama server with a chat model answers at 127.0.0.1:1"),
        ("quickstart", ["--host", "ftp://gpu-box"], "the scheme 'ftp' is not http or https"),
        ("quickstart", ["--host", "127.0.0.1:1", "--model", "qwen3"], "ollama serve"),
        (
            "rag",
            ["--host", "127.0.0.1:1"],
            "No Ollama server with a chat model and an embedding model answers at 127.0.0.1:1",
        ),
        ("rag", ["--host", "ftp://gpu-box"], "the scheme 'ftp' is not http or https"),
        ("rag", ["--host", "127.0.0.1:1", "--model", "qwen3", "--embedding-model", "all-minilm"], "ollama serve"),
        ("long_conversation", ["--host", "127.0.0.1:1"], "No Ollama server with a chat model answers at 127.0.0.1:1"),
    ],
)
def test_an_example_ends_with_the_error_and_not_with_a_traceback(run_main, example, arguments, message):
    with pytest.raises(SystemExit) as ended:
        run_main(example, *arguments)
    assert message in str(ended.value)


def _assert_is_whole_demo(output):
    assert '[calls Calculator.multiply with {"a": 17, "b": 23}]' in output
    assert "[result: 391]" in output
    assert "Your name is Ada" in output
    assert re.search(r"\d+ tokens in \d+\.\d\d s of generation", output)


def test_the_demo_starts_the_simulator_if_no_server_answers():
    _assert_is_whole_demo(_run_script("quickstart"))


def test_the_demo_uses_a_server_that_answers(run_main):
    with OllamaSimulator(models=MODELS) as server:
        output = run_main("quickstart", "--host", server.host)
        assert len(server.chats) == 4
    assert output.startswith("Model simulator:latest of the Ollama server at http://127.0.0.1")
    _assert_is_whole_demo(output)


def test_the_demo_uses_the_model_of_its_argument(run_main):
    with OllamaSimulator(models=MODELS) as server:
        run_main("quickstart", "--host", server.host, "--model", "qwen3")
        assert server.last_chat.model == "qwen3"


def _assert_shows_thinking_a_call_and_a_report(output):
    assert "[thinks] " in output
    assert '[calls get_weather with {"city": "Oslo"}]' in output
    assert "[result: Oslo: 12 degrees, light rain]" in output
    assert "As Report: Report(city='Oslo', degrees=12" in output


def test_the_example_of_tools_shows_thinking_a_call_and_an_answer_that_fits_a_schema():
    _assert_shows_thinking_a_call_and_a_report(_run_script("tools_and_thinking", host=None))


def test_the_example_of_tools_uses_the_server_and_the_model_of_its_arguments(run_main):
    with OllamaSimulator(models=MODELS) as server:
        output = run_main("tools_and_thinking", "--host", server.host, "--model", "qwen3")
        assert {request.model for request in server.chats} == {"qwen3"}
        assert [bool(request.tools) for request in server.chats] == [True, True, False]
    assert "SIMULATOR" not in output
    _assert_shows_thinking_a_call_and_a_report(output)


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


def test_the_rag_example_answers_with_sources_and_without_any_other_machine():
    _assert_is_indexed_and_answered(_run_script("rag"))


def test_the_rag_example_uses_a_server_that_answers_and_sends_no_other_requests(run_main):
    with OllamaSimulator() as server:
        output = run_main("rag", "--host", server.host)
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


def test_the_rag_example_takes_models_from_arguments_and_environment(run_main, monkeypatch):
    with OllamaSimulator(models=MODELS) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.host)
        monkeypatch.setenv("RAG_EMBEDDING_MODEL", "nomic-embed-text")
        run_main("rag", "--model", "qwen3")
        assert {request.model for request in server.chats} == {"qwen3"}
        inputs = [request.body["input"] for request in server.requests if request.path == "/api/embed"]
    assert all(text.startswith("search_document: ") for texts in inputs[:-1] for text in texts)
    assert inputs[-1][0].startswith("search_query: ")


def test_the_example_of_two_models_prints_the_times_with_and_without_the_planner():
    without, planned, report = re.split("With the planner|Models in memory", _run_script("pipeline_models"))
    assert "editor:latest, writer:latest" in without
    assert "nothing" in planned
    assert re.search(r"keep_alive=0, replayed\s*│\s*4 ", report)


def _assert_shows_growth_overflow_and_report(output):
    grown = re.findall(r"│ (\d+) +│ reloaded, from (\d+)", output)
    assert grown == [("4096", "2048"), ("8192", "4096")]
    assert re.search(r"│ \d+ .*│ \d+ oldest messages left out", output)
    assert "truncated=False, complete=True" in output
    assert re.search(r"OllamaContextError: wanted \d{4,} tokens, had 8192", output)
    assert re.search(r"\d+ messages \(about \d+ tokens\) were not sent", output)


def test_the_long_conversation_starts_the_simulator_if_no_server_answers():
    _assert_shows_growth_overflow_and_report(_run_script("long_conversation"))


def test_the_long_conversation_is_never_truncated_and_loads_its_model_three_times(run_main):
    with OllamaSimulator(models=MODELS) as server:
        output = run_main("long_conversation", "--host", server.host)
        assert [load.context_length for load in server.loads] == [2048, 4096, 8192]
        assert not any(request.outcome.was_truncated for request in server.chats)
    assert "SIMULATOR" not in output
    _assert_shows_growth_overflow_and_report(output)
