"""An error becomes one line and an exit code."""

import re
import shlex
from pathlib import Path

import click
import pytest

from griptape_ollama import errors
from griptape_ollama.cli.exit_codes import DESCRIPTIONS, ExitCode, exit_code_of, exit_on_error
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

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


@pytest.fixture
def simulator():
    models = [SimulatedModel(name="mine"), SimulatedModel(name="broken", load_error="bad magic")]
    with OllamaSimulator(models=models, library=[SimulatedModel(name="big", size=10**6)]) as simulator:
        yield simulator


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("show nope", 3, "Ollama at .* has no model 'nope'. Get it with: ollama pull nope"),
        ("cp nope twin", 3, "Ollama at .* has no model 'nope'.*"),
        ("stop nope", 3, "Ollama at .* has no model 'nope'.*"),
        ("pull nowhere:to-be-found -q", 3, "The pull of model 'nowhere:to-be-found' .* see .*"),
        ("create x --from nowhere:to-be-found -q", 3, ".*The name of the model that it is made from may be wrong.*"),
        ("warm broken", 1, ".*bad magic.*"),
        ("show 'a b'", 2, "'a b' is not a model name: .*"),
        ("list --host 127.0.0.1:1", 4, "No Ollama server answers at .* Start it with .*"),
        ("list --host ftp://me:hush@gpu-box", 2, "host 'ftp://gpu-box' is not an address: .*"),
        ("list --timeout nan", 2, "timeout total=nan must be .*"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(models, arguments, code, message):
    ended = models(*shlex.split(arguments))
    assert (ended.code, ended.out) == (code, "")
    assert re.fullmatch(f"Error: {message}\n", ended.err)


# A longer wait than a minute is not made.
BUSY = ("status", {"status": 503, "error": "server busy", "headers": {"Retry-After": "61"}})
FULL = ("error_line", {"after": 5, "error": "no space left on device"})
DENIED = ("error_line", {"after": 1, "error": "unauthorized"})
SLOW = ("slow_headers", {"seconds": 60})


@pytest.mark.parametrize(
    ("path", "fault", "arguments", "code", "message"),
    [
        ("/api/generate", BUSY, "warm mine", 8, "busy"),
        ("/api/generate", SLOW, "warm mine --timeout 0.3", 5, "limit: total"),
        ("/api/pull", FULL, "pull big -q", 7, "disk is full"),
        ("/api/push", DENIED, "push mine -q", 6, "ollama signin"),
    ],
    ids=["busy", "timeout", "disk", "denied"],
)
def test_a_failure_of_the_server_has_a_code(models, simulator, path, fault, arguments, code, message):  # noqa: PLR0917  a table
    kind, settings = fault
    simulator.fault(kind, path=path, times=None, **settings)
    ended = models(*arguments.split())
    assert ended.code == code
    assert message in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("list --timeout 0", "0.0 is not in the range"),
        ("list more", "unexpected extra argument"),
        ("show", "Missing argument"),
        ("rm", "Missing argument"),
        ("create x", "--from"),
        ("stop", "Name models, or give --all"),
        ("stop mine --all", "Name models, or give --all"),
        ("nope", "No such command"),
    ],
)
def test_wrong_usage_is_code_2(models, arguments, message):
    ended = models(*arguments.split())
    assert ended.code == 2
    assert message in ended.err


def test_the_docs_have_the_same_exit_codes():
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    assert rows == {
        str(code.value): DESCRIPTIONS[code].replace("--timeout or --wait", "`--timeout` or `--wait`")
        for code in ExitCode
    }
