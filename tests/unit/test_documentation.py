"""The examples of the README and of the docs pages run, and the files, modules and headings that pages name exist."""

import ast
import importlib
import pkgutil
import re
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
