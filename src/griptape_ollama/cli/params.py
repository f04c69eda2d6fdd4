"""Values of options that are more than a text: parameters of models, and durations."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from typing import Any

import click

from griptape_ollama.cli.exit_codes import exiting
from griptape_ollama.cli.formatting import ready_the_streams
from griptape_ollama.models.ollama_models import OllamaModels
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.options import OPTION_TYPES, check_options


def to_keep_alive(_context: click.Context, option: click.Parameter, text: str | None) -> float | str | None:
    """Give what `--keep-alive` says: a bare number is seconds, everything else is as the library takes it.

    Raises:
        click.BadParameter: It is no duration.
    """
    try:
        return None if text is None else normalize_keep_alive(_number(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def to_parameters(_context: click.Context, option: click.Parameter, pairs: Iterable[str]) -> dict[str, Any]:
    """Give what several `--parameter name=value` say, typed as the server types it.

    `stop` may be given several times; its value is a text as it stands. Other values are read as JSON where they are
    such, and as texts otherwise.

    Raises:
        click.BadParameter: One is no pair, is given twice, or has a value that the server would not take.
    """
    parameters: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not a pair: write it like temperature=0.5", param=option)
        if OPTION_TYPES.get(name) == "array of strings":
            parameters.setdefault(name, []).append(text)
        elif name in parameters:
            raise click.BadParameter(f"{name!r} is given twice", param=option)
        else:
            parameters[name] = _json_or_text(text)
    try:
        return check_options(parameters)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=str)
    except (ValueError, RecursionError):
        return text


def _number(text: str) -> float | str:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


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
