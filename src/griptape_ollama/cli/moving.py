"""Commands that move models between a server and its registry: `pull`, `push`."""

from __future__ import annotations

import click

from griptape_ollama.cli.exit_codes import ExitCode
from griptape_ollama.cli.formatting import duration, print_json, say
from griptape_ollama.cli.help import TeachingCommand
from griptape_ollama.cli.params import json_option, on_server
from griptape_ollama.cli.progress import quiet_option, shown_progress
from griptape_ollama.models.disk import human_size
from griptape_ollama.models.ollama_models import OllamaModels
from griptape_ollama.models.types import TransferResult

_insecure = click.option("--insecure", is_flag=True, help="Allow a registry without TLS, or with a bad certificate.")
_EXIT_CODES = (
    ExitCode.NOT_FOUND,
    ExitCode.UNREACHABLE,
    ExitCode.TIMEOUT,
    ExitCode.NOT_ALLOWED,
    ExitCode.DISK_FULL,
    ExitCode.BUSY,
    ExitCode.STOPPED,
)


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models pull qwen3:0.6b", "Get it, with a bar."),
        ("griptape-ollama models pull hf.co/me/mine-GGUF:Q4_K_M --host gpu-box", "From another registry, for gpu-box."),
        ("griptape-ollama models pull qwen3 --quiet || exit", "In a script: silent unless something goes wrong."),
    ],
    exit_codes=_EXIT_CODES,
)
@click.argument("name")
@_insecure
@quiet_option
@json_option
@on_server(when_stopped="What was pulled is kept: the same command goes on from there.")
def pull(models: OllamaModels, *, name: str, insecure: bool, quiet: bool, as_json: bool) -> None:
    """Get the model NAME, or its newest version.

    It comes from the registry in its name, ollama.com by default. What breaks is tried again and goes on from where it
    was. After Ctrl-C, too, the same command goes on from what the server has kept. Where everything is there, nothing
    is moved.
    """
    with shown_progress("pull", name, quiet=quiet) as on_progress:
        result = models.pull(name, insecure=insecure, on_progress=on_progress)
    unmoved = f"{result.model.name} is up to date ({human_size(result.model.size)})."
    _report(result, unmoved if result.is_unchanged else f"Pulled {_moved(result)}", quiet=quiet, as_json=as_json)


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models cp mine me/mine:v2", "Give it a name in your namespace,"),
        ("griptape-ollama models push me/mine:v2", "and upload it; what the registry has is not moved again."),
    ],
    exit_codes=_EXIT_CODES,
)
@click.argument("name")
@_insecure
@quiet_option
@json_option
@on_server(when_stopped="What was pushed is kept: the same command goes on from there.")
def push(models: OllamaModels, *, name: str, insecure: bool, quiet: bool, as_json: bool) -> None:
    """Upload the model NAME to its registry.

    The server signs in there with its own key (`ollama signin` on the server).
    """
    with shown_progress("push", name, quiet=quiet) as on_progress:
        result = models.push(name, insecure=insecure, on_progress=on_progress)
    _report(result, f"Pushed {_moved(result)}", quiet=quiet, as_json=as_json)


def _moved(result: TransferResult) -> str:
    return f"{result.model.name}: {human_size(result.bytes_moved)} moved in {duration(result.seconds)}."


def _report(result: TransferResult, text: str, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        print_json(result)
    elif not quiet:
        say(text)
