"""`griptape-ollama models`: list, get, create, load and delete the models of a server."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from griptape_ollama.cli.exit_codes import ExitCode, print_error
from griptape_ollama.cli.formatting import (
    format_duration,
    format_relative_time,
    print_fields,
    print_hint,
    print_json,
    print_result,
    print_table,
)
from griptape_ollama.cli.params import (
    CommandWithExamples,
    GroupWithExitCodes,
    json_option,
    to_keep_alive,
    to_parameters,
    with_server_options,
)
from griptape_ollama.cli.progress import quiet_option, show_progress
from griptape_ollama.errors import OllamaModelNotFoundError
from griptape_ollama.models.ollama_models import OllamaModels
from griptape_ollama.models.types import LoadedModel, LoadResult, ModelDetails, ModelInfo, TransferResult
from griptape_ollama.protocol.numbers import format_bytes

_command = functools.partial(click.command, cls=CommandWithExamples)
_SERVER_CODES = (ExitCode.UNREACHABLE, ExitCode.TIMEOUT, ExitCode.NOT_ALLOWED)
_MODEL_CODES = (ExitCode.NOT_FOUND, *_SERVER_CODES)
_TRANSFER_CODES = (*_MODEL_CODES, ExitCode.DISK_FULL, ExitCode.BUSY, ExitCode.STOPPED)

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
_insecure = click.option("--insecure", is_flag=True, help="Allow a registry without TLS, or with a bad certificate.")


@click.group(cls=GroupWithExitCodes)
def models() -> None:
    """List, get, create and load the models of an Ollama server.

    Data goes to the standard output, as a table or with --json as one JSON document. Progress, hints and errors go to
    the standard error. Names are compared as the server does: qwen3 is Qwen3:latest.
    """


@_command(
    "list",
    examples=[
        ("griptape-ollama models list", "All of them, newest first."),
        ("griptape-ollama models list --json | jq -r '.[].name'", "Their names only."),
    ],
    exit_codes=_SERVER_CODES,
)
@json_option
@with_server_options()
def list_models(models: OllamaModels, *, as_json: bool) -> None:
    """List the installed models."""
    found = models.list()
    if as_json:
        print_json(found)
        return
    headings = ("NAME", "SIZE", "CONTEXT", "MODIFIED", "CAPABILITIES")
    print_table(headings, map(_installed_row, found), folding="CAPABILITIES")
    if not found:
        print_hint("There are none. Get one, for example with: griptape-ollama models pull qwen3")


@_command(
    examples=[
        ("griptape-ollama models show qwen3", "What it can do, its window, its parameters, its system prompt."),
        ("griptape-ollama models show qwen3 --json | jq .context_length", "One of these fields."),
        ("griptape-ollama models show qwen3 --json | jq -r .modelfile", "What it could be made from."),
    ],
    exit_codes=_MODEL_CODES,
)
@click.argument("name")
@json_option
@with_server_options()
def show(models: OllamaModels, *, name: str, as_json: bool) -> None:
    """Describe the model NAME.

    With --json also its template, licence and messages.
    """
    details = models.show(name)
    if as_json:
        print_json(details)
    else:
        print_fields(_detail_fields(details))


@_command(
    examples=[
        ("griptape-ollama models pull qwen3:0.6b", "Get it, with a bar."),
        ("griptape-ollama models pull hf.co/me/mine-GGUF:Q4_K_M --host gpu-box", "From another registry, to gpu-box."),
        ("griptape-ollama models pull qwen3 --quiet || exit", "In a script: silent unless something goes wrong."),
    ],
    exit_codes=_TRANSFER_CODES,
)
@click.argument("name")
@_insecure
@quiet_option
@json_option
@with_server_options(when_stopped="What was pulled is kept: the same command goes on from there.")
def pull(models: OllamaModels, *, name: str, insecure: bool, quiet: bool, as_json: bool) -> None:
    """Get the model NAME, or its newest version.

    It comes from the registry in its name, ollama.com by default. A broken transfer is retried from where it stopped;
    after Ctrl-C, the same command goes on from what the server has kept. A model that is up to date is not downloaded
    again.
    """
    with show_progress("pull", name, quiet=quiet) as on_progress:
        result = models.pull(name, insecure=insecure, on_progress=on_progress)
    unmoved = f"{result.model.name} is up to date ({format_bytes(result.model.size)})."
    _print(
        result, unmoved if result.is_unchanged else f"Pulled {_format_transfer(result)}", quiet=quiet, as_json=as_json
    )


@_command(
    examples=[
        ("griptape-ollama models cp mine me/mine:v2", "Give it a name in your namespace,"),
        ("griptape-ollama models push me/mine:v2", "and upload it; what the registry has is not sent again."),
    ],
    exit_codes=_TRANSFER_CODES,
)
@click.argument("name")
@_insecure
@quiet_option
@json_option
@with_server_options(when_stopped="What was pushed is kept: the same command goes on from there.")
def push(models: OllamaModels, *, name: str, insecure: bool, quiet: bool, as_json: bool) -> None:
    """Upload the model NAME to its registry.

    The server signs in there with its own key (`ollama signin` on the server).
    """
    with show_progress("push", name, quiet=quiet) as on_progress:
        result = models.push(name, insecure=insecure, on_progress=on_progress)
    _print(result, f"Pushed {_format_transfer(result)}", quiet=quiet, as_json=as_json)


@_command(
    examples=[
        ("griptape-ollama models create pirate --from qwen3 --system 'You are a pirate.'", "With a system prompt."),
        ("griptape-ollama models create long --from qwen3 --parameter num_ctx=32768", "With a larger window."),
        ('griptape-ollama models create mine --from qwen3 --system "$(cat system.txt)"', "With a text of a file."),
    ],
    exit_codes=(*_MODEL_CODES, ExitCode.DISK_FULL, ExitCode.STOPPED),
)
@click.argument("name")
@click.option("--from", "base", metavar="MODEL", required=True, help="Model to create it from.")
@_system
@_parameters
@click.option("--template", metavar="TEXT", help="Prompt template in place of the model's own.")
@click.option("--quantize", metavar="LEVEL", help="Quantize it, for example to q4_K_M.")
@quiet_option
@json_option
@with_server_options()
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
    """Create the model NAME from another.

    A model that has the name is replaced. The server pulls a MODEL that it does not have. Weights are shared: the new
    model takes almost no disk space unless it is quantized.
    """
    with show_progress("create", name, quiet=quiet) as on_progress:
        result = models.create(name, from_model=base, parameters=parameters or None, on_progress=on_progress, **texts)
    text = f"{result.model.name} is the same as before." if result.is_unchanged else f"Made {result.model.name}."
    _print(result, text, as_json=as_json, quiet=quiet)


@_command(
    examples=[("griptape-ollama models cp qwen3 mine", "The same model under another name.")],
    exit_codes=_MODEL_CODES,
)
@click.argument("source")
@click.argument("destination")
@json_option
@with_server_options()
def cp(models: OllamaModels, *, source: str, destination: str, as_json: bool) -> None:
    """Copy the model SOURCE to the name DESTINATION.

    The copy takes no disk space. A model that has the name is replaced in one step.
    """
    copy = models.copy(source, destination)
    _print(copy, f"{copy.name} is a copy of {source}.", as_json=as_json)


@_command(
    examples=[
        ("griptape-ollama models alias main qwen3", "Requests for main get qwen3."),
        ("griptape-ollama models alias main gemma3 --parameter temperature=0.5", "From now on gemma3, a bit bolder."),
    ],
    exit_codes=_MODEL_CODES,
)
@click.argument("name")
@click.argument("target")
@_system
@_parameters
@json_option
@with_server_options()
def alias(
    models: OllamaModels, *, name: str, target: str, system: str | None, parameters: Mapping[str, Any], as_json: bool
) -> None:
    """Point NAME to the model TARGET.

    This holds for all users of the server. NAME is the old model or the new one at any moment. The old model is
    unloaded unless both have the same weights. If anything fails, NAME stays what it was.
    """
    meant = models.alias(name, target, parameters=parameters or None, system=system)
    _print(meant, f"{meant.name} means {target} now.", as_json=as_json)


@_command(
    examples=[
        ("griptape-ollama models rm pirate mine", "Two at once."),
        ("griptape-ollama models rm --force scratch", "In a script that cleans up: no error if it is gone already."),
    ],
    exit_codes=_MODEL_CODES,
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("-f", "--force", is_flag=True, help="Ignore models that do not exist.")
@json_option
@with_server_options()
def rm(models: OllamaModels, *, names: Sequence[str], force: bool, as_json: bool) -> None:
    """Delete models without asking.

    Files that other models use stay. A model in memory is unloaded first. A missing model is an error, but the rest
    are deleted all the same; any other failure ends the command.
    """
    outcome: dict[str, list[str]] = {"deleted": [], "missing": []}
    try:
        for name in names:
            outcome["deleted" if _delete(models, name, force=force) else "missing"].append(name)
            if not as_json and name in outcome["deleted"]:
                print_result(f"Deleted {name}.")
    finally:
        if as_json:
            print_json(outcome)
    if outcome["missing"] and not force:
        raise click.exceptions.Exit(ExitCode.NOT_FOUND)


@_command(
    examples=[
        ("griptape-ollama models ps", "How much of each is on GPUs, and when it is unloaded if it gets no request."),
        ("griptape-ollama models ps --json | jq 'map(.size) | add'", "Bytes that they take together."),
    ],
    exit_codes=_SERVER_CODES,
)
@json_option
@with_server_options()
def ps(models: OllamaModels, *, as_json: bool) -> None:
    """List the models in memory.

    Models with the same weights are loaded once, under the name that loaded them.
    """
    loaded = models.loaded()
    if as_json:
        print_json(loaded)
    else:
        headings = ("NAME", "SIZE", "ON GPU", "CONTEXT", "EXPIRES")
        print_table(headings, map(_loaded_row, loaded))


@_command(
    examples=[
        (
            "griptape-ollama models warm qwen3 --keep-alive 30m",
            "Load it, and keep it for half an hour without requests.",
        ),
        ("griptape-ollama models warm qwen3 --keep-alive -1", "Keep it until it is stopped."),
        ("griptape-ollama models warm qwen3 --parameter num_ctx=8192", "With the window that your driver asks for."),
    ],
    exit_codes=(*_MODEL_CODES, ExitCode.BUSY, ExitCode.STOPPED),
)
@click.argument("name")
@click.option(
    "--keep-alive",
    metavar="DURATION",
    callback=to_keep_alive,
    help="How long it stays without a request: seconds, 10m, 1h30m, or -1 for good. [default: the server's, 5m]",
)
@click.option(
    "--parameter",
    "parameters",
    metavar="NAME=VALUE",
    multiple=True,
    callback=to_parameters,
    help="Option to load it with, such as num_ctx=8192: requests with another num_ctx load it again.",
)
@json_option
@with_server_options(when_stopped="A model that is not loaded yet is given up.")
def warm(
    models: OllamaModels, *, name: str, keep_alive: float | str | None, parameters: Mapping[str, Any], as_json: bool
) -> None:
    """Load the model NAME without a prompt.

    The first answer then comes sooner. If it is loaded already, its keep-alive begins anew.
    """
    result = models.warm(name, keep_alive, options=parameters or None)
    _print(result, _format_load(result), as_json=as_json)


@_command(
    examples=[
        ("griptape-ollama models stop qwen3", "Unload it."),
        ("griptape-ollama models stop --all --wait 60", "Unload all, and wait until their memory is free."),
    ],
    exit_codes=_MODEL_CODES,
)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--all", "everything", is_flag=True, help="Unload all models, no matter who loaded them.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="Wait for each until it is out of memory, at most this long.",
)
@json_option
@with_server_options()
def stop(models: OllamaModels, *, names: Sequence[str], everything: bool, wait: float | None, as_json: bool) -> None:
    """Unload models; they stay installed.

    A model that is answering is unloaded after its answer: --wait waits for that. Models with the same weights are
    unloaded together. A model that is not loaded is no error.
    """
    if everything == bool(names):
        raise click.UsageError("Name models, or give --all: one of them.")
    unloaded = models.unload_all() if everything else [name for name in names if models.unload(name)]
    if wait is not None:
        for name in unloaded:
            models.wait_until_unloaded(name, wait)
    if as_json:
        print_json({"unloaded": unloaded, "not_loaded": [name for name in names if name not in unloaded]})
        return
    for name in names or unloaded:
        print_result(f"Stopped {name}." if name in unloaded else f"{name} was not loaded.")
    if everything and not unloaded:
        print_result("No model was loaded.")


def _installed_row(model: ModelInfo) -> tuple[str, ...]:
    return (
        model.name,
        # For a model in the cloud, the size is that of a file of a few bytes.
        f"in {model.remote_host}" if model.remote_host else format_bytes(model.size),
        str(model.context_length or "-"),
        format_relative_time(model.modified_at),
        ", ".join(sorted(model.capabilities or ())) or "-",
    )


def _loaded_row(model: LoadedModel) -> tuple[str, ...]:
    return (
        model.name,
        format_bytes(model.size),
        f"{model.gpu_share:.0%}",
        str(model.context_length or "-"),
        "never" if model.stays_for_good else format_relative_time(model.expires_at),
    )


def _detail_fields(details: ModelDetails) -> dict[str, str]:
    return {
        "Model": details.name,
        "Runs at": details.remote_host or "",
        "Capabilities": ", ".join(sorted(details.capabilities or ())),
        "Context length": str(details.context_length or ""),
        "Embedding length": str(details.embedding_length or ""),
        "Weights": details.parameter_size,
        "Quantization": details.quantization_level,
        "Family": details.family,
        "Format": details.format,
        "Made from": details.parent_model,
        "Modified": format_relative_time(details.modified_at),
        "Parameters": "\n".join(f"{name} {json.dumps(value)}" for name, value in details.parameters.items()),
        "System prompt": details.system.strip(),
        "License": next(iter(details.license.strip().splitlines()), ""),
    }


def _format_transfer(result: TransferResult) -> str:
    return f"{result.model.name}: {format_bytes(result.bytes_moved)} moved in {format_duration(result.seconds)}."


def _print(result: Any, text: str, *, as_json: bool, quiet: bool = False) -> None:
    if as_json:
        print_json(result)
    elif not quiet:
        print_result(text)


def _delete(models: OllamaModels, name: str, *, force: bool) -> bool:
    """Delete a model; return whether it existed."""
    try:
        models.delete(name)
    except OllamaModelNotFoundError as error:
        if not force:
            print_error(str(error))
        return False
    return True


def _format_load(result: LoadResult) -> str:
    how = "was loaded before" if result.was_loaded else f"was loaded in {format_duration(result.load_seconds)}"
    if result.loaded is None:
        return f"{result.model} {how}."
    until = "for good" if result.loaded.stays_for_good else f"expires {format_relative_time(result.loaded.expires_at)}"
    return f"{result.model} {how}: {result.loaded.gpu_share:.0%} of it on GPUs, {until}."


for _command in (list_models, show, pull, push, create, cp, alias, rm, ps, warm, stop):
    models.add_command(_command)
