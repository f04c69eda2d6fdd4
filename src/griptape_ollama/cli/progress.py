"""Progress of a transfer on the standard error: a bar on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator

import click
from rich.console import Console

from griptape_ollama.cli.formatting import is_terminal, print_hint
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.models.progress import OnProgress, progress_bar
from griptape_ollama.protocol.numbers import format_bytes

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress and no result, only what goes wrong.")
"""`--quiet`, for commands that take long."""


@contextlib.contextmanager
def show_progress(action: str, model: str, *, quiet: bool = False) -> Generator[OnProgress | None, None, None]:
    """Show the progress of a transfer while the block runs, and yield what to call with each update.

    Args:
        action: `pull`, `push` or `create`.
        model: Model that is transferred.
        quiet: Whether nothing is shown.
    """
    if quiet:
        yield None
        return
    console = Console(stderr=True)
    # A log is no place for a bar, even where colours are forced.
    if console.is_interactive and is_terminal(sys.stderr):
        with progress_bar(action, model, console) as update:
            yield update
    else:
        yield ProgressLines().update


class ProgressLines:
    """Prints a line for each new status and each tenth of the bytes: about ten lines for a pull of an hour."""

    def __init__(self) -> None:
        self._status = ""
        self._tenths = -1

    def update(self, progress: OllamaProgressEvent) -> None:
        """Print the progress if it is new."""
        if progress.digest is None:
            is_new, share_text = progress.status != self._status, ""
        else:
            share = progress.share or 0.0
            is_new, share_text = int(share * 10) > self._tenths, f" ({share:.0%} of {format_bytes(progress.total)})"
            self._tenths = max(self._tenths, int(share * 10))
        self._status = progress.status
        if is_new:
            print_hint(f"{progress.action} {progress.model}: {progress.status}{share_text}")
