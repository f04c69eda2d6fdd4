"""What commands share: options of the server, values of options, and help with examples and exit codes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from griptape_ollama.cli.exit_codes import DESCRIPTIONS, ExitCode, exit_on_error
from griptape_ollama.cli.formatting import escape_unencodable_output
from griptape_ollama.models.ollama_models import OllamaModels
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.options import OPTION_TYPES, check_options


def to_keep_alive(_context: click.Context, option: click.Parameter, text: str | None) -> float | str | None:
    """Parse `--keep-alive`: a bare number is seconds, everything else is as in the library.

    Raises:
        click.BadParameter: It is not a duration.
    """
    try:
        return None if text is None else normalize_keep_alive(_number(text))
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from error


def to_parameters(_context: click.Context, option: click.Parameter, pairs: Iterable[str]) -> dict[str, Any]:
    """Parse all `--parameter name=value`, with the types that the server expects.

    `stop` may be repeated; its value is always a text. Other values are parsed as JSON if possible, else kept as text.

    Raises:
        click.BadParameter: One is not a pair, is given twice, or has a value that the server refuses.
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
"""`--json`, for commands that print data."""

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
    help="Bearer token for that server. Better in $GRIPTAPE_OLLAMA_API_KEY, since other users can see the command "
    "line. $OLLAMA_API_KEY goes to ollama.com only.",
)
_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    help="Give up after this time. [default: no limit in all, but 5 s to connect]",
)


def with_server_options(when_stopped: str = "") -> Callable[[Action], Action]:
    """Add the options of the server to a command, pass it the OllamaModels of it, and exit with a code on errors.

    Args:
        when_stopped: What to print after Ctrl-C.
    """

    def decorate(action: Action) -> Action:
        @_host
        @_api_key
        @_timeout
        @functools.wraps(action)
        def run(*, host: str | None, api_key: str | None, timeout: float | None, **arguments: Any) -> None:
            escape_unencodable_output()
            with exit_on_error(when_stopped):
                # An empty text comes from a variable that is not set in a script.
                action(OllamaModels(host=host or None, api_key=api_key or None, timeout=timeout), **arguments)

        return run

    return decorate


class CommandWithExamples(click.Command):
    """A command whose help ends with examples and exit codes.

    Args:
        examples: Commands to copy, each with what it does.
        exit_codes: Codes that a script should handle besides 0, 1 and 2.
    """

    def __init__(
        self,
        *arguments: Any,
        examples: Sequence[tuple[str, str]] = (),
        exit_codes: Sequence[ExitCode] = (),
        **more: Any,
    ) -> None:
        super().__init__(*arguments, **more)
        self.examples = examples
        self._exit_codes = exit_codes

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and the exit codes."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for command, explanation in self.examples:
                    formatter.write(f"  {command}\n      {explanation}\n")
        if self._exit_codes:
            _write_exit_codes(formatter, [ExitCode.OK, ExitCode.FAILED, ExitCode.USAGE, *self._exit_codes])


class GroupWithExitCodes(click.Group):
    """A group whose help ends with the exit codes of its commands."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        super().format_epilog(ctx, formatter)
        _write_exit_codes(formatter, list(ExitCode))


def _write_exit_codes(formatter: click.HelpFormatter, codes: Sequence[ExitCode]) -> None:
    with formatter.section("Exit codes"):
        formatter.write_dl([(str(code.value), DESCRIPTIONS[code]) for code in codes])
