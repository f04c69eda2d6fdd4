"""Times, durations and texts for the terminal."""

import contextlib
import io
import json
from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama.cli.formatting import (
    escape_controls,
    format_duration,
    format_relative_time,
    print_fields,
    print_json,
    print_result,
    print_table,
    to_json,
    to_one_line,
)
from griptape_ollama.models.types import LoadedModel

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.4, "now"),
        (-1, "1 second ago"),
        (1, "in 1 second"),
        (89.6, "in 90 seconds"),
        (1799, "in 30 minutes"),
        (-5400, "90 minutes ago"),
        (-86400, "24 hours ago"),
        (-3 * 86400, "3 days ago"),
        (-90 * 86400, "3 months ago"),
        (-3 * 365 * 86400, "3 years ago"),
    ],
)
def test_a_relative_time_has_one_rounded_unit(seconds, text):
    assert format_relative_time(NOW + timedelta(seconds=seconds), NOW) == text


def test_a_time_is_compared_with_the_present_across_zones():
    zone = timezone(timedelta(hours=5))
    assert format_relative_time(datetime.now(zone) - timedelta(days=4)) == "4 days ago"


def test_an_unknown_time_is_a_dash():
    assert format_relative_time(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (0.04, "0 seconds"),
        (1.04, "1 second"),
        (9.94, "9.9 seconds"),
        (9.96, "10 seconds"),
        (99.4, "99 seconds"),
        (99.6, "2 minutes"),
        (48 * 3600, "2 days"),
    ],
)
def test_a_duration_has_one_unit(seconds, text):
    assert format_duration(seconds) == text


def test_control_characters_are_escaped():
    assert escape_controls("a\x1b[31m\x9b\x7f\rb\tc\nd\r\né") == "a\\x1b[31m\\x9b\\x7f\\rb\tc\nd\né"
    assert to_one_line(" a\r\nb \x1b c ") == "a b \\x1b c"


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self):
        return True


@pytest.fixture
def print_on_terminal(monkeypatch):
    """Return a function that prints on a terminal of 30 columns and returns the lines."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def print_on_terminal(function, *arguments, **options):
        with contextlib.redirect_stdout(Terminal()) as terminal:
            function(*arguments, **options)
        return terminal.getvalue().splitlines()

    return print_on_terminal


def test_a_narrow_terminal_wraps_only_the_folding_column(print_on_terminal):
    rows = [("a-name-of-twenty-two-x", "completion, tools")]
    headings, *lines = print_on_terminal(print_table, ("NAME", "CAN"), rows, folding="CAN")
    assert headings.startswith("\x1b[1mNAME")
    assert [line.split() for line in lines] == [["a-name-of-twenty-two-x", "completion,"], ["tools"]]


def test_a_column_that_is_not_folded_is_whole_on_a_narrow_terminal(print_on_terminal):
    name = "a-name-that-is-longer-than-the-terminal"
    assert any(name in line for line in print_on_terminal(print_table, ("NAME", "CAN"), [(name, "-")], folding="CAN"))


def test_a_table_with_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        print_table(("A", "B"), [("1", "2"), ("3",)])


def test_fields_without_a_value_are_left_out_and_long_values_are_wrapped(print_on_terminal, capsys):
    fields = {"Model": "qwen3", "Runs at": "", "System prompt": "You are kind.\x1b"}
    print_fields(fields)
    assert capsys.readouterr().out == "Model          qwen3\nSystem prompt  You are kind.\\x1b\n"
    lines = print_on_terminal(print_fields, {"Parameters": "stop " + 30 * "x"})
    assert lines[0].startswith("\x1b[1mParameters\x1b[0m")
    assert sum(line.count("x") for line in lines) - lines[0].count("\\x") == 30


def test_a_result_is_printed_with_escapes(capsys):
    print_result("Deleted a\x1b.")
    assert capsys.readouterr().out == "Deleted a\\x1b.\n"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf-8", "ähem …"), ("UTF8", "ähem …"), ("latin-1", "\\u00e4hem \\u2026"), ("ascii", "\\u00e4hem \\u2026")],
)
def test_json_has_escapes_where_the_output_is_not_unicode(encoding, text):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with contextlib.redirect_stdout(stream):
        print_json({"said": "ähem …"})
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding) == f'{{\n  "said": "{text}"\n}}\n'


def test_json_has_fields_and_properties_of_results_without_the_raw_reply():
    model = LoadedModel(name="a", size=10, size_vram=5, expires_at=NOW, raw={"name": "a"})
    data = to_json({1: (model, frozenset({"b", "a"}))})
    (loaded, names) = data["1"]
    assert names == ["a", "b"]
    assert (loaded["name"], loaded["gpu_share"], loaded["expires_at"]) == ("a", 0.5, NOW.isoformat())
    assert "raw" not in loaded
    assert json.dumps(data)
