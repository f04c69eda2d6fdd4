"""What others wrote, as one line."""

import pytest

from griptape_ollama.escaping import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain text", "plain text"),
        ("Grüße 😀 👩‍🚀 漢字", "Grüße 😀 👩‍🚀 漢字"),
        ("one\ntwo\r\nthree\tfour", r"one\ntwo\r\nthree\tfour"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x07\x00\x7f\x85\x9b", r"\x07\x00\x7f\x85\x9b"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("\u202etxt.exe\u2066\u200f", r"\u202etxt.exe\u2066\u200f"),
        ("half \ud83d of a pair", r"half \ud83d of a pair"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_what_ends_lines_or_steers_a_terminal_is_shown_as_an_escape(text, shown):
    assert printable(text) == shown
    printable(text).encode()
