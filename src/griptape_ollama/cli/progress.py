"""How far a transfer is, on the standard error: a bar on a terminal, lines in a log."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator

import click
from rich.console import Console

from griptape_ollama.cli.output import hint, is_terminal
from griptape_ollama.models.disk import human_size
from griptape_ollama.models.progress import OnProgress, Progress
from griptape_ollama.models.progress_bar import progress_bar

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Say nothing unless it fails.")
"""`--quiet`, for whatever takes long."""

# A pull of an hour makes some ten lines, not thousands.
_STEP = 0.1


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
    """Says each new status in a line, and every tenth of the bytes."""

    def __init__(self) -> None:
        self._status = ""
        self._next = 0.0

    def tell(self, progress: Progress) -> None:
        """Say how far it is, if that is news."""
        status = "moving files" if progress.digest else progress.status
        share = progress.share or 0.0
        if progress.digest and share >= self._next:
            self._next = (share // _STEP + 1) * _STEP
        elif status == self._status:
            return
        self._status = status
        of = f" ({share:.0%} of {human_size(progress.total)})" if progress.digest and progress.total else ""
        hint(f"{progress.action} {progress.model}: {progress.status}{of}")
