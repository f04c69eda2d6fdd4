"""How far a transfer is: one line of the server after the other, added up over all files, and never falling."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as RichProgress

from griptape_ollama.escaping import printable
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.protocol.counters import to_count


@dataclass(frozen=True)
class Progress:
    """How far a transfer is.

    Attributes:
        action: `pull`, `push` or `create`.
        model: Model, as it was asked for.
        host: Address of the server, without user and password.
        status: What the server is doing, in its words.
        digest: File that it is about; None where it is about none.
        completed: Bytes that are there, of all files that the server has told of. It never falls.
        total: Bytes of these files together. It grows as the server tells of more of them, the largest first.
    """

    action: str
    model: str
    host: str
    status: str
    digest: str | None = None
    completed: int = 0
    total: int = 0

    @property
    def share(self) -> float | None:
        """Share of the bytes that are there, from 0 to 1 whatever the server counts; None before it counts any."""
        if not self.total > 0:
            return None
        share = min(max(self.completed, 0), self.total) / self.total
        return None if math.isnan(share) else share

    def to_event(self) -> OllamaProgressEvent:
        """Give it as an event."""
        return OllamaProgressEvent(**vars(self))


OnProgress = Callable[[Progress], object]


# What the server says only after all files are there; it tells of no file that it is done with it (0.33).
_ALL_THERE = ("verifying", "writing manifest", "pushing manifest", "success")


@dataclass
class _File:
    total: int
    first: int
    completed: int


class Meter:
    """Adds up what the lines of a transfer say.

    Args:
        action: `pull`, `push` or `create`.
        model: Model, as it was asked for.
        host: Address of the server.
    """

    def __init__(self, action: str, model: str, host: str) -> None:
        self._first = Progress(action, model, host, "")
        self._files: dict[str, _File] = {}
        self._last = self._first

    @property
    def last(self) -> Progress:
        """How far it is."""
        return self._last

    @property
    def moved(self) -> int:
        """Bytes that were moved so far; those that were there at the start, and those moved twice, do not count."""
        return sum(file.completed - file.first for file in self._files.values())

    def read(self, line: Mapping[str, Any]) -> Progress | None:
        """Take in a line; give how far it is, None where the line says nothing new."""
        digest = line.get("digest")
        total = to_count(line.get("total"))
        if isinstance(digest, str) and total is not None:
            self._take(digest, total, to_count(line.get("completed")) or 0)
        elif str(line.get("status", "")).startswith(_ALL_THERE):
            for file in self._files.values():
                file.completed = file.total
        progress = Progress(
            self._first.action,
            self._first.model,
            self._first.host,
            str(line.get("status", "")),
            digest if isinstance(digest, str) else None,
            sum(file.completed for file in self._files.values()),
            sum(file.total for file in self._files.values()),
        )
        # The server repeats itself every 60 ms while nothing moves (0.33).
        if progress == self._last:
            return None
        self._last = progress
        return progress

    def missing_of(self, digest: str) -> int:
        """Bytes that are still missing of a file; 0 where the server did not tell how large it is."""
        file = self._files.get(digest)
        return 0 if file is None else file.total - file.completed

    def _take(self, digest: str, total: int, completed: int) -> None:
        file = self._files.get(digest)
        if file is None:
            # The first line of a file tells what was there: all of it, or what an earlier pull had left.
            there = min(completed, total)
            self._files[digest] = _File(total, there, there)
        else:
            # The server takes back what a broken part had moved; it moves it again. What was moved twice may count
            # twice, so that a file seems to have more than there is of it.
            file.total = max(file.total, total)
            file.completed = min(max(file.completed, completed), file.total)


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
