"""The recordings themselves: each is used, and each says what its file claims."""

import ast
from pathlib import Path

import pytest

from contract.replay import RECORDINGS, SHOWS, recording

TESTS = Path(__file__).parents[1]
NAMES = sorted(file.stem for file in RECORDINGS.glob("*.json"))


def words_of_code(folder):
    """Names of recordings as tests give them: texts that are a name, or names with spaces between; no docstrings."""
    for file in folder.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                yield from node.value.split()


def test_every_recording_is_used_by_a_test():
    assert NAMES
    assert set(NAMES) - set(words_of_code(TESTS)) == set()


def test_the_folder_contains_only_recordings():
    assert {file.suffix for file in RECORDINGS.parent.rglob("*") if file.is_file()} == {".json"}
    assert [folder.name for folder in RECORDINGS.parent.iterdir()] == ["0.33.0-rc2"]


@pytest.mark.parametrize("model", SHOWS)
def test_the_metadata_of_a_model_is_its_own(model):
    assert recording(SHOWS[model]).request == {"model": model}
    assert recording(SHOWS[model]).status == 200
