"""What commands share: values of options, options of the server, help."""

import itertools
import re
import shlex
from pathlib import Path

import click
import pytest

from griptape_ollama.cli.exit_codes import ExitCode
from griptape_ollama.cli.main import main
from griptape_ollama.cli.models import models as group
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

README = Path(__file__).parents[3] / "README.md"
DOCS = README.parent / "docs" / "command-line.md"


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[SimulatedModel(name="base")]) as simulator:
        yield simulator


@pytest.mark.parametrize(("given", "sent"), [("90", 90), ("1.5", 1.5), ("-1", -1), ("1h30m", "1h30m"), (None, None)])
def test_a_bare_number_is_seconds(models, simulator, given, sent):
    assert models("warm", "base", *(["--keep-alive", given] if given else [])).code == 0
    (body,) = [request.body for request in simulator.requests if request.path == "/api/generate"]
    assert body.get("keep_alive") == sent


@pytest.mark.parametrize("given", ["soon", "10x", "nan", ""])
def test_a_wrong_duration_is_wrong_usage(models, simulator, given):
    ended = models("warm", "base", "--keep-alive", given)
    assert ended.code == 2
    assert "is not a duration" in ended.err
    assert not simulator.requests


def test_parameters_have_the_types_of_the_server(models, simulator):
    texts = ["temperature=1", "num_ctx=8192", "stop=[END]", "stop=1", "use_mmap=true", "top_p=0.25", "seed=-1"]
    options = [option for text in texts for option in ("--parameter", text)]
    ended = models("create", "mine", "--from", "base", "--system", "Be brief.", *options)
    assert (ended.code, ended.out) == (0, "Made mine:latest.\n")
    sent = next(request.body for request in simulator.requests if request.path == "/api/create")
    assert sent["parameters"] == {
        "temperature": 1,
        "num_ctx": 8192,
        "stop": ["[END]", "1"],
        "use_mmap": True,
        "top_p": 0.25,
        "seed": -1,
    }
    assert (sent["from"], sent["system"]) == ("base", "Be brief.")
    assert "template" not in sent
    assert models("show", "mine", "--json").json["system"] == "Be brief."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("temperature", "'temperature' is not a pair: write it like temperature=0.5"),
        ("=1", "'=1' is not a pair"),
        ("num_ctx=8k", "option 'num_ctx' must be an integer, got '8k'"),
        ("temperature=NaN", "option 'temperature' must be a number, got 'NaN'"),
        ("temprature=1", "did you mean 'temperature'?"),
    ],
)
def test_a_wrong_parameter_is_wrong_usage_and_nothing_is_sent(models, simulator, text, reason):
    ended = models("create", "mine", "--from", "base", "--parameter", text)
    assert (ended.code, ended.out) == (2, "")
    assert reason in ended.err
    assert not simulator.requests


def test_a_parameter_given_twice_is_wrong_usage(models):
    ended = models("create", "mine", "--from", "base", "--parameter", "top_k=1", "--parameter", "top_k=2")
    assert ended.code == 2
    assert "'top_k' is given twice" in ended.err


def test_the_host_option_overrides_the_environment(models, simulator):
    assert models("list", "--host", simulator.host, OLLAMA_HOST="127.0.0.1:1").code == 0


def test_an_empty_host_counts_as_not_given(models):
    assert models("list", "--host", "").code == 0


@pytest.mark.parametrize(
    ("options", "environment"), [(["--api-key", "hush"], {}), ([], {"GRIPTAPE_OLLAMA_API_KEY": "hush"})]
)
def test_a_key_is_sent_and_never_printed(models, simulator, options, environment):
    simulator.fault("status", path="/api/tags", status=401, error="unauthorized")
    ended = models("list", *options, **environment)
    assert simulator.requests[-1].headers["Authorization"] == "Bearer hush"
    assert ended.code == 6
    assert "hush" not in ended.out + ended.err


def test_the_key_of_ollama_com_goes_to_no_other_server(models, simulator):
    assert models("list", OLLAMA_API_KEY="hush").code == 0
    assert "Authorization" not in simulator.requests[-1].headers


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
def test_an_example_is_a_valid_command(example):
    words = shlex.split(example, comments=True)
    words = list(itertools.takewhile(lambda word: word not in ("|", "||", ">"), words))
    assert words[:2] == ["griptape-ollama", "models"]
    command = group.commands[words[2]]
    command.make_context(words[2], words[3:], parent=click.Context(main))


def test_the_help_of_the_group_has_all_exit_codes(models):
    output = models("--help").out
    assert all(re.search(rf"^  {code.value} +\w", output, re.MULTILINE) for code in ExitCode)


def test_the_docs_name_each_command():
    assert all(f"`models {name}" in DOCS.read_text() for name in group.commands)
