"""Facts in words for people: times, and texts that come from a server."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, TextIO, cast

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Name, length in seconds, and how many of it are said before the next one is.
_UNITS = (
    ("second", 1, 100),
    ("minute", 60, 100),
    ("hour", 3600, 48),
    ("day", 86400, 60),
    ("month", 30 * 86400, 24),
    ("year", 365 * 86400, math.inf),
)
_WHOLE_SECONDS_FROM = 10
# A text of a server must not move the cursor or colour the terminal; line ends and tabs are harmless.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def relative_time(time: datetime | None, now: datetime | None = None) -> str:
    """Say how far away a time is: "3 days ago", "in 4 minutes", "now"; a dash where it is not known.

    Args:
        time: The time, with its zone.
        now: What it is compared with; by default the present.
    """
    if time is None:
        return "-"
    seconds = round((time - (now or datetime.now(timezone.utc))).total_seconds())
    if seconds == 0:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(-seconds)} ago"


def duration(seconds: float) -> str:
    """Say how long something takes, in one rounded unit: "3 days", "90 minutes", "0.4 seconds"."""
    if seconds < _WHOLE_SECONDS_FROM:
        return _counted(round(seconds, 1), "second")
    counts = ((round(seconds / length), name, most) for name, length, most in _UNITS)
    return next(_counted(count, name) for count, name, most in counts if count < most)


def plain(text: str) -> str:
    """Give a text without what would steer the terminal: control characters are written as escapes."""
    return _CONTROLS.sub(lambda match: f"\\x{ord(match[0]):02x}", text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Give a text as one line that is safe for the terminal."""
    return plain(" ".join(text.split()))


def _counted(count: float, name: str) -> str:
    return f"{count:g} {name}{'' if count == 1 else 's'}"


# Wider than any line: what is read by a program is neither folded nor cut.
_ENDLESS = 10_000


def ready_the_streams() -> None:
    """Let a terminal that lacks a character show an escape in its place, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches a stream; nobody does where it is closed."""
    return stream is not None and stream.isatty()


def say(text: str) -> None:
    """Say on the standard output what was done."""
    click.echo(plain(text))


def hint(text: str) -> None:
    """Say on the standard error what is no part of the data."""
    click.echo(plain(text), err=True)


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, folding: str = "") -> None:
    """Print a table without lines: columns are apart by two spaces or more, the headings stand above.

    Args:
        headings: Names of the columns.
        rows: Cells of each row.
        folding: Column that takes several lines where the terminal is narrow. The others stay whole, since names and
            sizes are copied from tables.
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, column in zip(headings, zip(headings, *cells, strict=True), strict=True):
        widest = max(map(cell_len, column))
        table.add_column(heading, overflow="fold", min_width=len(heading) if heading == folding else widest)
    for row in cells:
        table.add_row(*map(Text, row))
    _print(table)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values, one under the other; those without a value are left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, Text(plain(value)))
    _print(table)


def print_json(value: Any) -> None:
    """Print one JSON document: times as ISO 8601, sizes in bytes.

    Args:
        value: What JSON can hold, and results of OllamaModels in it.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    is_unicode = encoding.lower().replace("-", "").startswith("utf")
    click.echo(json.dumps(to_json(value), indent=2, ensure_ascii=not is_unicode))


def to_json(value: Any) -> Any:
    """Give a result of OllamaModels as what JSON can hold.

    The whole replies (`raw`) are left out; what is worked out from the fields (properties) is put in.
    """
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
    watched = is_terminal(sys.stdout)
    text = io.StringIO()
    console = Console(file=text, force_terminal=watched, width=None if watched else _ENDLESS)
    # A line that does not fit is continued by the terminal: better than one that is cut.
    console.print(table, crop=False)
    # click writes it, which knows what to do when the reader has gone.
    click.echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))
