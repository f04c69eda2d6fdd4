"""What goes wrong becomes one line and an exit code."""

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from griptape_ollama import errors
from griptape_ollama.cli.exit_codes import MEANINGS, ExitCode, exit_code_of, exiting
from griptape_ollama.cli.main import main
from griptape_ollama.cli.models import models as group

README = Path(__file__).parents[3] / "README.md"
DOCS = README.parent / "docs" / "command-line.md"


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


def test_an_error_is_one_line_that_does_not_steer_the_terminal(capsys):
    with pytest.raises(click.exceptions.Exit) as ended, exiting():
        raise errors.OllamaConnectionError("first\n  second\t\x1b[31mthird\r\n")
    assert ended.value.exit_code == 4
    assert capsys.readouterr() == ("", "Error: first second \\x1b[31mthird\\r\n")


def test_ctrl_c_says_what_to_know(capsys):
    with pytest.raises(click.exceptions.Exit) as ended, exiting("It goes on."):
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
def test_wrong_use_is_code_2(models, arguments):
    assert models(*arguments).code == 2


@pytest.mark.parametrize("name", list(group.commands))
def test_the_help_of_a_command_has_examples_and_exit_codes(models, name):
    ended = models(name, "--help")
    assert ended.code == 0
    _, _, examples = ended.out.partition("\nExamples:\n")
    examples, _, codes = examples.partition("\nExit codes:\n")
    assert f"griptape-ollama models {name}" in examples
    assert "  0    done" in codes or "  0  done" in codes
    assert max(map(len, ended.out.splitlines())) <= 100


def _examples():
    for name, command in group.commands.items():
        for number, (example, _) in enumerate(command.examples):
            yield pytest.param(example, id=f"{name}-{number}")
    for page in (README, DOCS):
        scripts = "".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)).replace("\\\n", "")
        for number, line in enumerate(re.findall(r"^ *(griptape-ollama models .*)", scripts, re.MULTILINE)):
            yield pytest.param(line, id=f"{page.name}-{number}")


@pytest.mark.parametrize("example", list(_examples()))
def test_an_example_is_a_command_that_is_understood(example):
    words = shlex.split(example, comments=True)
    words = list(itertools.takewhile(lambda word: word not in ("|", "||", ">"), words))
    assert words[:2] == ["griptape-ollama", "models"]
    command = group.commands[words[2]]
    command.make_context(words[2], words[3:], parent=click.Context(main))


def test_the_help_of_the_group_has_all_exit_codes(models):
    said = models("--help").out
    assert all(re.search(rf"^  {code.value} +\w", said, re.MULTILINE) for code in ExitCode)


def test_the_docs_have_the_same_exit_codes():
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    assert rows == {
        str(code.value): MEANINGS[code].replace("--timeout or --wait", "`--timeout` or `--wait`") for code in ExitCode
    }


def test_the_docs_name_each_command():
    assert all(f"`models {name}" in DOCS.read_text() for name in group.commands)
