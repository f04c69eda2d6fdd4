"""Progress of a transfer: bytes added up over all files, and a bar on the terminal."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from griptape_ollama.escaping import printable
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.protocol.numbers import reported_count

OnProgress = Callable[[OllamaProgressEvent], object]

Progress = OllamaProgressEvent
"""Earlier name, for programs that import it."""

# Statuses after which all files are there; no line reports the end of a single file (server 0.33).
_ALL_THERE = ("verifying", "writing manifest", "pushing manifest", "success")


@dataclass
class _File:
    total: int
    first: int
    completed: int


class ProgressMeter:
    """Adds up the bytes that the lines of a transfer report.

    Args:
        action: `pull`, `push` or `create`.
        model: Model, as it was requested.
        host: Address of the server.
    """

    def __init__(self, action: str, model: str, host: str) -> None:
        self._new_event = functools.partial(OllamaProgressEvent, action=action, model=model, host=host)
        self._files: dict[str, _File] = {}
        self._state: tuple[str, str | None, int, int] = ("", None, 0, 0)
        self._last = self._new_event(status="")

    @property
    def last(self) -> OllamaProgressEvent:
        """The progress so far."""
        return self._last

    @property
    def moved(self) -> int:
        """Bytes that were moved so far; those that were there at the start, and those moved twice, do not count."""
        return sum(file.completed - file.first for file in self._files.values())

    def read(self, line: Mapping[str, Any]) -> OllamaProgressEvent | None:
        """Add a line, and return the progress; None if the line reports nothing new."""
        status, digest = line.get("status"), line.get("digest")
        status = status if isinstance(status, str) else ""
        total = reported_count(line.get("total"))
        if isinstance(digest, str) and total is not None:
            self._add(digest, total, reported_count(line.get("completed")) or 0)
        elif status.startswith(_ALL_THERE):
            for file in self._files.values():
                file.completed = file.total
        state = (
            status,
            digest if isinstance(digest, str) else None,
            sum(file.completed for file in self._files.values()),
            sum(file.total for file in self._files.values()),
        )
        # The server repeats its last line every 60 ms (0.33).
        if state == self._state:
            return None
        self._state = state
        status, digest, completed, total = state
        self._last = self._new_event(status=status, digest=digest, completed=completed, total=total)
        return self._last

    def missing_of(self, digest: str) -> int:
        """Return how many bytes of a file are still missing; 0 if the server has not reported its size."""
        file = self._files.get(digest)
        return 0 if file is None else file.total - file.completed

    def _add(self, digest: str, total: int, completed: int) -> None:
        file = self._files.get(digest)
        if file is None:
            # The first line of a file has what was there: all of it, or the rest of an earlier pull.
            there = min(completed, total)
            self._files[digest] = _File(total, there, there)
        else:
            # The server subtracts the bytes of a part that broke, and moves them again; they may be counted twice.
            file.total = max(file.total, total)
            file.completed = min(max(file.completed, completed), file.total)


@contextlib.contextmanager
def progress_bar(action: str, model: str, console: Console | None = None) -> Generator[OnProgress, None, None]:
    """Show a bar while the block runs, and yield the function that moves it.

    Args:
        action: What is done, for example `pull`.
        model: The model.
        console: Where the bar is shown; by default the standard error, since programs print to the standard output.
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

        def update(progress: OllamaProgressEvent) -> None:
            status = escape(printable(progress.status))
            bars.update(task, completed=progress.completed, total=progress.total or None, status=status)

        yield update
