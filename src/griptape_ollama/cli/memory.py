"""Commands about what is in memory: `warm`, `stop`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from griptape_ollama.cli.exit_codes import ExitCode
from griptape_ollama.cli.formatting import duration, print_json, relative_time, say
from griptape_ollama.cli.help import TeachingCommand
from griptape_ollama.cli.params import json_option, on_server, to_keep_alive, to_parameters
from griptape_ollama.models.ollama_models import OllamaModels
from griptape_ollama.models.types import LoadResult

_COMMON = (ExitCode.NOT_FOUND, ExitCode.UNREACHABLE, ExitCode.TIMEOUT, ExitCode.NOT_ALLOWED)


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models warm qwen3 --keep-alive 30m", "Load it, and keep it for half an hour of silence."),
        ("griptape-ollama models warm qwen3 --keep-alive -1", "Keep it until it is stopped."),
        ("griptape-ollama models warm qwen3 --parameter num_ctx=8192", "With the window that your driver asks for."),
    ],
    exit_codes=(*_COMMON, ExitCode.BUSY, ExitCode.STOPPED),
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
@on_server(when_stopped="A model that is not loaded yet is given up.")
def warm(
    models: OllamaModels, *, name: str, keep_alive: float | str | None, parameters: Mapping[str, Any], as_json: bool
) -> None:
    """Load the model NAME without a prompt.

    The first answer comes sooner then. Where it is loaded already, its time begins anew.
    """
    result = models.warm(name, keep_alive, options=parameters or None)
    if as_json:
        print_json(result)
    else:
        say(_loaded(result))


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models stop qwen3", "Let it go."),
        ("griptape-ollama models stop --all --wait 60", "Let all go, and wait until their memory is free."),
    ],
    exit_codes=_COMMON,
)
@click.argument("names", nargs=-1, metavar="[NAME...]")
@click.option("--all", "everything", is_flag=True, help="Let all models go, whoever loaded them.")
@click.option(
    "--wait",
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="Wait for each until it is out of memory, but not longer than this.",
)
@json_option
@on_server()
def stop(models: OllamaModels, *, names: Sequence[str], everything: bool, wait: float | None, as_json: bool) -> None:
    """Unload models; they stay installed.

    A model that is answering somebody goes when it has answered: --wait tells when. Models with the same weights go
    together. One that is not loaded is no error.
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
        say(f"Stopped {name}." if name in unloaded else f"{name} was not loaded.")
    if everything and not unloaded:
        say("No model was loaded.")


def _loaded(result: LoadResult) -> str:
    how = "was loaded before" if result.was_loaded else f"was loaded in {duration(result.load_seconds)}"
    if result.loaded is None:
        return f"{result.model} {how}."
    until = "for good" if result.loaded.stays_for_good else f"expires {relative_time(result.loaded.expires_at)}"
    return f"{result.model} {how}: {result.loaded.gpu_share:.0%} of it on GPUs, {until}."
