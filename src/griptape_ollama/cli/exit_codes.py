"""Exit codes of the command, and how an error becomes one."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Generator
from enum import IntEnum

import click

from griptape_ollama.cli.formatting import is_terminal, to_one_line
from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaBusyError,
    OllamaConnectionError,
    OllamaContentError,
    OllamaDiskError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaTimeoutError,
)


class ExitCode(IntEnum):
    """How a command ended. Scripts rely on the numbers: they never change."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    TIMEOUT = 5
    NOT_ALLOWED = 6
    DISK_FULL = 7
    BUSY = 8
    STOPPED = 130


DESCRIPTIONS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "something else failed; the message says what",
    ExitCode.USAGE: "the command is wrong: an option, a value, a name that is none; nothing was sent",
    ExitCode.NOT_FOUND: "the server, or its registry, does not have the model",
    ExitCode.UNREACHABLE: "the server does not answer, or the connection broke",
    ExitCode.TIMEOUT: "it took longer than --timeout or --wait, or another limit",
    ExitCode.NOT_ALLOWED: "key, sign-in or rights are missing",
    ExitCode.DISK_FULL: "the server's disk is full",
    ExitCode.BUSY: "the server is busy, or a quota is used up: try again later",
    ExitCode.STOPPED: "Ctrl-C",
}
"""What the help prints for each exit code."""

# The first match counts.
_CODES: tuple[tuple[type[OllamaError], ExitCode], ...] = (
    (OllamaContentError, ExitCode.USAGE),
    (OllamaModelNotFoundError, ExitCode.NOT_FOUND),
    (OllamaConnectionError, ExitCode.UNREACHABLE),
    (OllamaTimeoutError, ExitCode.TIMEOUT),
    (OllamaAuthError, ExitCode.NOT_ALLOWED),
    (OllamaDiskError, ExitCode.DISK_FULL),
    (OllamaBusyError, ExitCode.BUSY),
    (OllamaQuotaError, ExitCode.BUSY),
)


def exit_code_of(error: OllamaError) -> ExitCode:
    """Return the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


@contextlib.contextmanager
def exit_on_error(when_stopped: str = "") -> Generator[None, None, None]:
    """Turn an error in the block into one line on the standard error and an exit code.

    Args:
        when_stopped: What to print after Ctrl-C.
    """
    try:
        yield
    except OllamaError as error:
        print_error(str(error))
        raise click.exceptions.Exit(exit_code_of(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # the reader of the output has gone: click ends the command silently
        print_error(f"The system refused to read or write: {error}.")
        raise click.exceptions.Exit(ExitCode.FAILED) from error
    except KeyboardInterrupt:
        # The terminal shows ^C at the cursor.
        newline = "\n" if is_terminal(sys.stderr) else ""
        click.echo(f"{newline}Stopped. {when_stopped}".rstrip(" "), err=True)
        raise click.exceptions.Exit(ExitCode.STOPPED) from None


def print_error(text: str) -> None:
    """Print an error in one line on the standard error."""
    click.echo(f"Error: {to_one_line(text)}", err=True)
