"""What the exit codes of the command mean, and how an error becomes one."""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Generator
from enum import IntEnum

import click

from griptape_ollama.cli.formatting import is_terminal, one_line
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
    """How a command ended. Scripts rely on the numbers: they stay what they are."""

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


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "something else failed; the message says what",
    ExitCode.USAGE: "the command is wrong: an option, a value, a name that is none; nothing was sent",
    ExitCode.NOT_FOUND: "the server, or its registry, does not have the model",
    ExitCode.UNREACHABLE: "the server does not answer, or the connection broke",
    ExitCode.TIMEOUT: "it took longer than --timeout or --wait, or another limit",
    ExitCode.NOT_ALLOWED: "key, sign-in or rights are missing",
    ExitCode.DISK_FULL: "no room on the server's disk",
    ExitCode.BUSY: "the server is busy, or a quota is used up: try again later",
    ExitCode.STOPPED: "Ctrl-C",
}
"""What each of them means, in words of the help."""

# The first that fits counts.
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
    """Give the exit code of an error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


@contextlib.contextmanager
def exiting(when_stopped: str = "") -> Generator[None, None, None]:
    """Turn what goes wrong in the block into one line on the standard error, and an exit code.

    Args:
        when_stopped: What somebody who presses Ctrl-C should know.
    """
    try:
        yield
    except OllamaError as error:
        say_error(str(error))
        raise click.exceptions.Exit(exit_code_of(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise  # click ends the command without a word: its reader has gone
        say_error(f"The system refused to read or write: {error}.")
        raise click.exceptions.Exit(ExitCode.FAILED) from error
    except KeyboardInterrupt:
        # The terminal shows ^C where the cursor is.
        newline = "\n" if is_terminal(sys.stderr) else ""
        click.echo(f"{newline}Stopped. {when_stopped}".rstrip(" "), err=True)
        raise click.exceptions.Exit(ExitCode.STOPPED) from None


def say_error(text: str) -> None:
    """Say on the standard error, in one line, what went wrong."""
    click.echo(f"Error: {one_line(text)}", err=True)
