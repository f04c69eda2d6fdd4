"""An error becomes one line and an exit code."""

import re
from pathlib import Path

import click
import pytest

from griptape_ollama import errors
from griptape_ollama.cli.exit_codes import DESCRIPTIONS, ExitCode, exit_code_of, exit_on_error

DOCS = Path(__file__).parents[3] / "docs" / "command-line.md"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.OllamaError, 1),
        (errors.OllamaResponseError, 1),
        (errors.OllamaStreamError, 1),
        (errors.OllamaContentError, 2),
        (errors.OllamaModelNotFoundError, 3),
        (errors.OllamaConnectionError, 4),
        (errors.OllamaTimeoutError, 5),
        (errors.OllamaAuthError, 6),
        (errors.OllamaDiskError, 7),
        (errors.OllamaBusyError, 8),
        (errors.OllamaQuotaError, 8),
    ],
)
def test_each_kind_of_error_has_a_code(kind, code):
    assert exit_code_of(kind("no")) == code


def test_an_error_is_one_line_without_control_characters(capsys):
    with pytest.raises(click.exceptions.Exit) as ended, exit_on_error():
        raise errors.OllamaConnectionError("first\n  second\t\x1b[31mthird\r\n")
    assert ended.value.exit_code == 4
    assert capsys.readouterr() == ("", "Error: first second \\x1b[31mthird\\r\n")


def test_ctrl_c_prints_what_to_do_next(capsys):
    with pytest.raises(click.exceptions.Exit) as ended, exit_on_error("It goes on."):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr() == ("", "Stopped. It goes on.\n")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "nope"], 3, "Error: Ollama at .* has no model 'nope'. Get it with: ollama pull nope"),
        (["show", "a b"], 2, "Error: 'a b' is not a model name: .*"),
        (["list", "--host", "127.0.0.1:1"], 4, "Error: No Ollama server answers at .* Start it with .*"),
        (["list", "--host", "ftp://me:hush@gpu-box"], 2, "Error: host 'ftp://gpu-box' is not an address: .*"),
        (["list", "--timeout", "nan"], 2, "Error: timeout total=nan must be .*"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(models, arguments, code, message):
    ended = models(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert re.fullmatch(f"{message}\n", ended.err)


@pytest.mark.parametrize("arguments", [["list", "--timeout", "0"], ["list", "more"], ["show"], ["nope"]])
def test_wrong_usage_is_code_2(models, arguments):
    assert models(*arguments).code == 2


def test_the_docs_have_the_same_exit_codes():
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    assert rows == {
        str(code.value): DESCRIPTIONS[code].replace("--timeout or --wait", "`--timeout` or `--wait`")
        for code in ExitCode
    }
