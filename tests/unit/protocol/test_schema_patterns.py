"""Regular expressions in the form that the server's grammar takes."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from griptape_ollama.protocol.schema_patterns import to_grammar_pattern

_ANY = r'[^"\\\x00-\x1F\x7F]'
# Characters that JSON writes as themselves; patterns are for these.
_WRITTEN_AS_THEMSELVES = "".join(chr(code) for code in range(32, 127) if chr(code) not in '"\\') + "äß日🎉"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("^abc$", "^abc$"),
        ("abc", f"^{_ANY}*abc{_ANY}*$"),
        ("^abc", f"^abc{_ANY}*$"),
        ("abc$", f"^{_ANY}*abc$"),
        ("", f"^{_ANY}*{_ANY}*$"),
        ("^.$", f"^{_ANY}$"),
        (r"^\d{3}-\w+\s?$", "^[0-9]{3}-[0-9A-Z_a-z]+[ ]?$"),
        (r"^(?:a|b)c(?P<name>d)(?<other>e)$", "^(a|b)c(d)(e)$"),
        ("^a{2,}b{1,3}c*$", "^a{2,}b{1,3}c*$"),
        ("a|b", f"^{_ANY}*(a|b){_ANY}*$"),
        (r"^\.\*\\?$", None),
        (r"^\.\*\/$", r"^\.\*/$"),
        (r"^\x41\u0042$", "^AB$"),
        ("^ä+$", "^[ä]+$"),
        ("^[a-c_.-]$", r"^[a-c_.\x2D]$"),
        ("^[^a]$", r"^[^a\x00-\x1F\x22\x5C\x7F]$"),
        (r"^[\d\-x]$", r"^[0-9\x2Dx]$"),
        ("^[ -~]$", r"^[ -!#-\x5B\x5D-\x7E]$"),
        (r"^[\n\ta]$", "^[a]$"),
        ("^[|&~0]$", r"^[\x7C\x26\x7E0]$"),
        ("^[]a]$", r"^[\x5Da]$"),
        (r"^[\u200B\u200C]$", r"^[\u200B\u200C]$"),
        (r"^a\$$", r"^a\$$"),
        (r"a\$", rf"^{_ANY}*a\${_ANY}*$"),
    ],
)
def test_a_pattern_is_anchored_and_made_of_what_the_grammar_knows(pattern, found):
    assert to_grammar_pattern(pattern) == found


@pytest.mark.parametrize(
    "pattern",
    [
        "^(?=a)b$",
        "^(?!a)b$",
        "^(?<=a)b$",
        r"^(a)\1$",
        r"^\bword\b$",
        "^a*?$",
        "^a++$",
        "^*a$",
        "^(*a)$",
        "^a|b$",
        "^(^a)$",
        "^(a$)$",
        '^"$',
        r"^\\$",
        r"^\n$",
        r'^["]$',
        r"^[\n]$",
        "^(a$",
        "^a)$",
        "^[a",
        "^[",
        "^[z-a]$",
        r"^[\d-a]$|",
        r"^[a-\d]$",
        r"^[\q]$",
        r"^\p{L}$",
        r"^\D$",
        "^a{x}$",
        "^a]$",
        "^a}$",
        "(?i)^a$",
        r"^\uD83D$",
        r"^[\uD83D]$",
        "^\\",
        None,
        7,
    ],
)
def test_what_the_grammar_cannot_say_is_left_out(pattern):
    assert to_grammar_pattern(pattern) is None


_ATOMS = st.one_of(
    st.sampled_from(list("abc019 -_/,äß日")),
    st.sampled_from([r"\d", r"\w", r"\.", r"\-", r"\$", r"\[", ".", r"\x41", r"\u00e4"]),
    st.sampled_from(["[abc]", "[a-z]", r"[\d_]", "[^a]", "[^a-f0-9]", "[ -~]", "[ä-ü]", r"[\]\^-]", r"[^\w ]"]),
)


def _composed(inner):
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(st.sampled_from(["(", "(?:"]), inner, st.sampled_from([")", ")*", ")+", ")?", "){1,2}"])).map(
            "".join
        ),
    )


_BODIES = st.recursive(_ATOMS, _composed, max_leaves=6)
_PATTERNS = st.tuples(st.sampled_from(["^", ""]), _BODIES, st.sampled_from(["$", ""])).map("".join)


@given(st.data(), _PATTERNS)
def test_a_text_that_fits_the_original_fits_the_rewritten_pattern(data, pattern):
    rewritten = to_grammar_pattern(pattern)
    assert rewritten is not None
    ascii_classes = re.compile(pattern, re.ASCII)
    alphabet = st.sampled_from(_WRITTEN_AS_THEMSELVES)
    text = data.draw(st.from_regex(pattern, alphabet=alphabet) | st.text(alphabet, max_size=4))
    if ascii_classes.search(text) and "\n" not in text:  # `$` of Python also matches before a line's end
        assert re.fullmatch(rewritten[1:-1], text)


@given(st.data(), _PATTERNS)
def test_what_fits_the_rewritten_pattern_is_written_by_json_as_it_stands(data, pattern):
    text = data.draw(st.from_regex(to_grammar_pattern(pattern), fullmatch=True))
    assert not re.search(r'["\\\x00-\x1f\x7f]', text)
    assert re.search(pattern, text, re.ASCII)


@example("[0||]")
@given(st.text(max_size=12) | st.text("()[]{}|*+?^$\\.-,01adx", max_size=12))
def test_any_text_gives_a_pattern_or_none(text):
    rewritten = to_grammar_pattern(text)
    if rewritten is not None:
        assert rewritten.startswith("^")
        assert rewritten.endswith("$")
        re.compile(rewritten)
