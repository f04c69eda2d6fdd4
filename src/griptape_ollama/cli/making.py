"""Commands that make models and names of models, and delete them: `create`, `cp`, `alias`, `rm`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from griptape_ollama.cli.exit_codes import ExitCode, say_error
from griptape_ollama.cli.formatting import print_json, say
from griptape_ollama.cli.help import TeachingCommand
from griptape_ollama.cli.params import json_option, on_server, to_parameters
from griptape_ollama.cli.progress import quiet_option, shown_progress
from griptape_ollama.errors import OllamaModelNotFoundError
from griptape_ollama.models.ollama_models import OllamaModels

_COMMON = (ExitCode.NOT_FOUND, ExitCode.UNREACHABLE, ExitCode.TIMEOUT, ExitCode.NOT_ALLOWED)

_parameters = click.option(
    "--parameter",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    callback=to_parameters,
    help="Model option, such as temperature=0.5 or num_ctx=8192; may be repeated, stop also for several texts. "
    "Checked before anything is sent.",
)
_system = click.option("--system", metavar="TEXT", help="System prompt in place of the model's own.")


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models create pirate --from qwen3 --system 'You are a pirate.'", "With a system prompt."),
        ("griptape-ollama models create long --from qwen3 --parameter num_ctx=32768", "With a larger window."),
        ('griptape-ollama models create mine --from qwen3 --system "$(cat system.txt)"', "With a text of a file."),
    ],
    exit_codes=(*_COMMON, ExitCode.DISK_FULL, ExitCode.STOPPED),
)
@click.argument("name")
@click.option("--from", "base", metavar="MODEL", required=True, help="Model that it is made from.")
@_system
@_parameters
@click.option("--template", metavar="TEXT", help="Prompt template in place of the model's own.")
@click.option("--quantize", metavar="LEVEL", help="Quantize it, for example to q4_K_M.")
@quiet_option
@json_option
@on_server()
def create(
    models: OllamaModels,
    *,
    name: str,
    base: str,
    parameters: Mapping[str, Any],
    quiet: bool,
    as_json: bool,
    **texts: Any,
) -> None:
    """Make the model NAME from another.

    A model that has the name is replaced. The server pulls a MODEL that it does not have. Weights are shared: the new
    model takes next to no room unless it is quantized.
    """
    with shown_progress("create", name, quiet=quiet) as on_progress:
        result = models.create(name, from_model=base, parameters=parameters or None, on_progress=on_progress, **texts)
    if as_json:
        print_json(result)
    elif not quiet:
        say(f"{result.model.name} is the same as before." if result.is_unchanged else f"Made {result.model.name}.")


@click.command(
    cls=TeachingCommand,
    examples=[("griptape-ollama models cp qwen3 mine", "The same model under another name.")],
    exit_codes=_COMMON,
)
@click.argument("source")
@click.argument("destination")
@json_option
@on_server()
def cp(models: OllamaModels, *, source: str, destination: str, as_json: bool) -> None:
    """Give the model SOURCE the name DESTINATION, too.

    It takes no room. A model that has the name is replaced in one step.
    """
    copy = models.copy(source, destination)
    if as_json:
        print_json(copy)
    else:
        say(f"{copy.name} is a copy of {source}.")


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models alias main qwen3", "Whoever asks for main gets qwen3."),
        ("griptape-ollama models alias main gemma3 --parameter temperature=0.5", "From now on gemma3, a bit bolder."),
    ],
    exit_codes=_COMMON,
)
@click.argument("name")
@click.argument("target")
@_system
@_parameters
@json_option
@on_server()
def alias(
    models: OllamaModels, *, name: str, target: str, system: str | None, parameters: Mapping[str, Any], as_json: bool
) -> None:
    """Let NAME mean the model TARGET.

    It does so for everybody who uses the server. NAME means the old model or the new one at any moment. What it meant
    before leaves the memory, unless the new one takes its place. If anything fails, it means what it did.
    """
    meant = models.alias(name, target, parameters=parameters or None, system=system)
    if as_json:
        print_json(meant)
    else:
        say(f"{meant.name} means {target} now.")


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models rm pirate mine", "Two at once."),
        ("griptape-ollama models rm --force scratch", "In a script that cleans up: also where it is gone already."),
    ],
    exit_codes=_COMMON,
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Do not mind models that are not there.")
@json_option
@on_server()
def rm(models: OllamaModels, *, names: Sequence[str], force: bool, as_json: bool) -> None:
    """Delete models, without a question.

    Files that other models use stay. A model in memory is unloaded first. One that is not there is an error, but the
    others are deleted all the same; any other failure ends the command.
    """
    outcome: dict[str, list[str]] = {"deleted": [], "missing": []}
    try:
        for name in names:
            outcome["deleted" if _delete(models, name, force=force) else "missing"].append(name)
            if not as_json and name in outcome["deleted"]:
                say(f"Deleted {name}.")
    finally:
        if as_json:
            print_json(outcome)
    if outcome["missing"] and not force:
        raise click.exceptions.Exit(ExitCode.NOT_FOUND)


def _delete(models: OllamaModels, name: str, *, force: bool) -> bool:
    """Delete a model, and tell whether it was there."""
    try:
        models.delete(name)
    except OllamaModelNotFoundError as error:
        if not force:
            say_error(str(error))
        return False
    return True
