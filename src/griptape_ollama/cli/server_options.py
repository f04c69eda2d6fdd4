"""Options that say which server is meant, the same for all commands that talk to one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from griptape_ollama.cli.exit_codes import exiting
from griptape_ollama.cli.output import ready_the_streams
from griptape_ollama.models.ollama_models import OllamaModels

Action = Callable[..., None]

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document: bytes, ISO 8601 times.")
"""`--json`, for whatever prints data."""

_host = click.option(
    "--host",
    metavar="ADDRESS",
    help="Server, for example gpu-box, gpu-box:11434 or https://ollama.example.com. "
    "[default: $OLLAMA_HOST, or http://127.0.0.1:11434]",
)
_api_key = click.option(
    "--api-key",
    metavar="KEY",
    envvar="GRIPTAPE_OLLAMA_API_KEY",
    help="Bearer token for that server. Better in $GRIPTAPE_OLLAMA_API_KEY, since others may see the command line. "
    "$OLLAMA_API_KEY goes to ollama.com only.",
)
_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Give up after so long. [default: no limit in all, but 5 s to connect]",
)


def on_server(when_stopped: str = "") -> Callable[[Action], Action]:
    """Give a command the models of the server that its options name, and its failures an exit code.

    Args:
        when_stopped: What somebody who presses Ctrl-C should know.
    """

    def decorate(action: Action) -> Action:
        @_host
        @_api_key
        @_timeout
        @functools.wraps(action)
        def run(*, host: str | None, api_key: str | None, timeout: float | None, **arguments: Any) -> None:
            ready_the_streams()
            with exiting(when_stopped):
                # An empty text is a variable of a script that is not set.
                action(OllamaModels(host=host or None, api_key=api_key or None, timeout=timeout), **arguments)

        return run

    return decorate
