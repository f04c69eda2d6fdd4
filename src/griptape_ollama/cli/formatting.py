"""Output of the command: times and durations as text, tables, JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TextIO, cast

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from griptape_ollama.escaping import readable

# Name, length in seconds, and the count from which the next unit is used.
_UNITS = (
    ("second", 1, 100),
    ("minute", 60, 100),
    ("hour", 3600, 48),
    ("day", 86400, 60),
    ("month", 30 * 86400, 24),
    ("year", 365 * 86400, math.inf),
)
_WHOLE_SECONDS_FROM = 10
# Wider than any line: output for a program is neither folded nor cut.
_UNLIMITED_WIDTH = 10_000


def format_relative_time(time: datetime | None, now: datetime | None = None) -> str:
    """Return a time relative to now: "3 days ago", "in 4 minutes", "now"; a dash where it is unknown.

    Args:
        time: The time, with its zone.
        now: What it is compared with; by default the present.
    """
    if time is None:
        return "-"
    seconds = round((time - (now or datetime.now(timezone.utc))).total_seconds())
    if seconds == 0:
        return "now"
    return f"in {format_duration(seconds)}" if seconds > 0 else f"{format_duration(-seconds)} ago"


def format_duration(seconds: float) -> str:
    """Return a duration in one rounded unit: "3 days", "90 minutes", "0.4 seconds"."""
    if seconds < _WHOLE_SECONDS_FROM:
        return _counted(round(seconds, 1), "second")
    counts = ((round(seconds / length), name, most) for name, length, most in _UNITS)
    return next(_counted(count, name) for count, name, most in counts if count < most)


def escape_controls(text: str) -> str:
    """Return a text with escapes for characters that would control the terminal; it keeps its lines and tabs."""
    return readable(text.replace("\r\n", "\n"))


def to_one_line(text: str) -> str:
    """Return a text as one line that is safe for the terminal."""
    return escape_controls(" ".join(text.split()))


def _counted(count: float, name: str) -> str:
    return f"{count:g} {name}{'' if count == 1 else 's'}"


def escape_unencodable_output() -> None:
    """Have the output streams escape characters that their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal; not so where it is closed."""
    return stream is not None and stream.isatty()


def print_result(text: str) -> None:
    """Print on the standard output what was done."""
    click.echo(escape_controls(text))


def print_hint(text: str) -> None:
    """Print on the standard error what is not part of the data."""
    click.echo(escape_controls(text), err=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, folding: str = "") -> None:
    """Print a table without lines: two spaces or more separate the columns.

    Args:
        headings: Names of the columns.
        rows: Cells of each row.
        folding: Column that is wrapped on a narrow terminal. The other columns are never wrapped, since users copy
            names and sizes from them.
    """
    cells = [[escape_controls(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, column in zip(headings, zip(headings, *cells, strict=True), strict=True):
        widest = max(map(cell_len, column))
        table.add_column(heading, overflow="fold", min_width=len(heading) if heading == folding else widest)
    for row in cells:
        table.add_row(*map(Text, row))
    _print(table)


def print_fields(fields: Mapping[str, str]) -> None:
    """Print names and values, one per line; those without a value are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields.items():
        if value:
            table.add_row(name, Text(escape_controls(value)))
    _print(table)


def print_json(value: Any) -> None:
    """Print one JSON document: times as ISO 8601, sizes in bytes.

    Args:
        value: What JSON can hold, and results of OllamaModels inside it.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    is_unicode = encoding.lower().startswith("utf")
    click.echo(json.dumps(to_json(value), indent=2, ensure_ascii=not is_unicode))


def to_json(value: Any) -> Any:
    """Convert a result of OllamaModels to what JSON can hold: without `raw` (the whole reply), with its properties."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value) if each.name != "raw"]
        names += [name for name, each in vars(type(value)).items() if isinstance(each, property)]
        return {name: to_json(getattr(value, name)) for name in names}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(cast("set[Any]", value))
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [to_json(each) for each in cast("Sequence[Any]", value)]
    return value


def _print(table: Table) -> None:
    on_terminal = is_terminal(sys.stdout)
    text = io.StringIO()
    console = Console(file=text, force_terminal=on_terminal, width=None if on_terminal else _UNLIMITED_WIDTH)
    # The terminal wraps a line that is too long: better than cutting it.
    console.print(table, crop=False)
    # click handles a reader that has gone.
    click.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))
