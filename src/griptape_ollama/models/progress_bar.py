"""A bar on the terminal that shows how far a transfer is."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from griptape_ollama.escaping import printable
from griptape_ollama.models.progress import OnProgress, Progress


@contextlib.contextmanager
def progress_bar(action: str, model: str, console: Console | None = None) -> Generator[OnProgress, None, None]:
    """Show a bar while the block runs, and give what moves it.

    Args:
        action: What is done, for example `pull`.
        model: To which model.
        console: Where it is shown; by default the standard error, so that what a program prints stays its own.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
    )
    with RichProgress(*columns, console=console or Console(stderr=True)) as bars:
        task = bars.add_task(f"{action} {escape(model)}", total=None, status="")

        def move(progress: Progress) -> None:
            status = escape(printable(progress.status))
            bars.update(task, completed=progress.completed, total=progress.total or None, status=status)

        yield move
