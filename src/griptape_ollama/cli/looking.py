"""Commands that only look: `list`, `show`, `ps`."""

from __future__ import annotations

import json

import click

from griptape_ollama.cli.exit_codes import ExitCode
from griptape_ollama.cli.formatting import hint, print_facts, print_json, print_table, relative_time
from griptape_ollama.cli.help import TeachingCommand
from griptape_ollama.cli.params import json_option, on_server
from griptape_ollama.models.disk import human_size
from griptape_ollama.models.ollama_models import OllamaModels
from griptape_ollama.models.types import LoadedModel, ModelDetails, ModelInfo


@click.command(
    "list",
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models list", "All of them, newest first."),
        ("griptape-ollama models list --json | jq -r '.[].name'", "Their names only."),
    ],
    exit_codes=[ExitCode.UNREACHABLE, ExitCode.TIMEOUT, ExitCode.NOT_ALLOWED],
)
@json_option
@on_server()
def list_models(models: OllamaModels, *, as_json: bool) -> None:
    """List the installed models."""
    found = models.list()
    if as_json:
        print_json(found)
        return
    headings = ("NAME", "SIZE", "CONTEXT", "MODIFIED", "CAPABILITIES")
    print_table(headings, map(_installed_row, found), folding="CAPABILITIES")
    if not found:
        hint("There are none. Get one, for example with: griptape-ollama models pull qwen3")


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models show qwen3", "What it can do, its window, its parameters, its system prompt."),
        ("griptape-ollama models show qwen3 --json | jq .context_length", "One of these facts."),
        ("griptape-ollama models show qwen3 --json | jq -r .modelfile", "What it could be made from."),
    ],
    exit_codes=[ExitCode.NOT_FOUND, ExitCode.UNREACHABLE, ExitCode.TIMEOUT, ExitCode.NOT_ALLOWED],
)
@click.argument("name")
@json_option
@on_server()
def show(models: OllamaModels, *, name: str, as_json: bool) -> None:
    """Describe the model NAME.

    With --json also its template, licence and messages.
    """
    details = models.show(name)
    if as_json:
        print_json(details)
    else:
        print_facts(_facts(details))


@click.command(
    cls=TeachingCommand,
    examples=[
        ("griptape-ollama models ps", "How much of each is on GPUs, and when it goes if nobody asks it."),
        ("griptape-ollama models ps --json | jq 'map(.size) | add'", "Bytes that they take together."),
    ],
    exit_codes=[ExitCode.UNREACHABLE, ExitCode.TIMEOUT, ExitCode.NOT_ALLOWED],
)
@json_option
@on_server()
def ps(models: OllamaModels, *, as_json: bool) -> None:
    """List the models in memory.

    Models with the same weights share a place there, under the name that loaded it.
    """
    loaded = models.loaded()
    if as_json:
        print_json(loaded)
    else:
        headings = ("NAME", "SIZE", "ON GPU", "CONTEXT", "EXPIRES")
        print_table(headings, map(_loaded_row, loaded))


def _installed_row(model: ModelInfo) -> tuple[str, ...]:
    return (
        model.name,
        # A few bytes stand for a model that is in the cloud.
        f"in {model.remote_host}" if model.remote_host else human_size(model.size),
        str(model.context_length or "-"),
        relative_time(model.modified_at),
        ", ".join(sorted(model.capabilities or ())) or "-",
    )


def _loaded_row(model: LoadedModel) -> tuple[str, ...]:
    return (
        model.name,
        human_size(model.size),
        f"{model.gpu_share:.0%}",
        str(model.context_length or "-"),
        "never" if model.stays_for_good else relative_time(model.expires_at),
    )


def _facts(details: ModelDetails) -> dict[str, str]:
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
        "Modified": relative_time(details.modified_at),
        "Parameters": "\n".join(f"{name} {json.dumps(value)}" for name, value in details.parameters.items()),
        "System prompt": details.system.strip(),
        "License": next(iter(details.license.strip().splitlines()), ""),
    }
