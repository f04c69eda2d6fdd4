"""How far a transfer is, on the standard error: a bar on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator

import click
from rich.console import Console

from griptape_ollama.cli.formatting import hint, is_terminal
from griptape_ollama.models.disk import human_size
from griptape_ollama.models.progress import OnProgress, Progress, progress_bar

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress and no result, only what goes wrong.")
"""`--quiet`, for whatever takes long."""


@contextlib.contextmanager
def shown_progress(action: str, model: str, *, quiet: bool = False) -> Generator[OnProgress | None, None, None]:
    """Show how far a transfer is while the block runs, and give what tells it.

    Args:
        action: `pull`, `push` or `create`.
        model: To which model.
        quiet: Whether nothing is to be shown.
    """
    if quiet:
        yield None
        return
    console = Console(stderr=True)
    # Also where colours are forced, a log is not a place for a bar.
    if console.is_interactive and is_terminal(sys.stderr):
        with progress_bar(action, model, console) as move:
            yield move
    else:
        yield ProgressLines().tell


class ProgressLines:
    """Says each new status in a line, and each tenth of the bytes: a pull of an hour makes some ten lines."""

    def __init__(self) -> None:
        self._status = ""
        self._tenths = -1

    def tell(self, progress: Progress) -> None:
        """Say how far it is, if that is news."""
        if progress.digest is None:
            is_news, of = progress.status != self._status, ""
        else:
            share = progress.share or 0.0
            is_news, of = int(share * 10) > self._tenths, f" ({share:.0%} of {human_size(progress.total)})"
            self._tenths = max(self._tenths, int(share * 10))
        self._status = progress.status
        if is_news:
            hint(f"{progress.action} {progress.model}: {progress.status}{of}")
