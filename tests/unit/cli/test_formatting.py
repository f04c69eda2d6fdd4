"""Times, durations and texts for the terminal."""

from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama.cli.formatting import escape_controls, format_duration, format_relative_time, to_one_line

NOW = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "now"),
        (0.4, "now"),
        (-1, "1 second ago"),
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
