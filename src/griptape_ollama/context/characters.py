"""What texts are made of, as far as tokenizers care: words, digits, punctuation, scripts. Pure, and fast.

Texts are read as UTF-8 whose bytes are replaced by one letter per class, continuation bytes dropped. All the rest is
counting short patterns of these letters, which bytes do in a nanosecond or two per character.
"""

from __future__ import annotations

from collections.abc import Callable

from griptape_ollama.context.ideographs import count_rare

# What fits into a processor's cache; a word that is cut in two in so many characters changes nothing.
_PIECE = 1 << 14

Counts = tuple[int, ...]
"""How many there are of each of CLASSES; trailing zeros are left out."""

CLASSES = (
    "words",
    "letters",
    "long_words",
    "case_changes",
    "capitals",
    "joined_words",
    "digit_groups",
    "more_digits",
    "punctuation",
    "rules",
    "punctuation_runs",
    "line_breaks",
    "line_ends",
    "wide_blanks",
    "blanks",
    "lone_blanks",
    "controls",
    # What follows is not in ASCII.
    "accents",
    "alphabets",
    "abjads",
    "abugidas",
    "symbols",
    "kana",
    "ideographs",
    "hangul",
    "wide",
    "astral",
    "rare_ideographs",
)
"""Names of what is counted.

words: runs of Latin letters. letters: all of them. long_words: seven more letters of a word.
case_changes: a capital behind a small letter. capitals: pairs of capitals.
joined_words: words right behind a sign other than `_`, `.` and `(`, as behind a quote: most tokens for words have the
blank in front of them.
digit_groups: runs of digits, one more for each four digits of a run, which is about one for each three.
more_digits: all digits but one of each group.
rules: eight signs in a row, which are most often the same one. punctuation: signs outside of rules.
punctuation_runs, blanks: runs; a tab is a blank. wide_blanks: runs of two blanks or more.
lone_blanks: a blank before a digit or punctuation, which most tokenizers keep apart.
line_ends: line breaks behind punctuation, which most tokenizers put into one token with it.
line_breaks: all others, two in a row being one.
accents: Latin letters with a mark. alphabets: Greek, Cyrillic and Armenian letters. abjads: Hebrew and Arabic.
abugidas: Indic scripts, Thai and others of three bytes. symbols: dashes, quotes, arrows and the like.
kana: kana and the punctuation of Chinese and Japanese. wide: full-width forms.
astral: emoji and all that has four bytes.
ideographs: common ones. rare_ideographs: all others, of which small vocabularies have the bytes only.
"""


def count_classes(text: str) -> Counts:
    """Count what a text is made of.

    Args:
        text: Any text; lone surrogates and control characters are fine.
    """
    if len(text) <= _PIECE:
        return _count(text)
    totals = [0] * len(CLASSES)
    for start in range(0, len(text), _PIECE):
        for place, number in enumerate(_count(text[start : start + _PIECE])):
            totals[place] += number
    return tuple(totals)


def _count(text: str) -> Counts:
    # The line break in front lets a run that begins the text begin like the others.
    encoded = b"\n" + text.encode("utf-8", "surrogatepass")
    classes = encoded.translate(_CLASS_OF, _CONTINUATIONS)
    count = classes.count
    letters = classes.translate(_LETTERS)
    blanks = classes.translate(_BLANKS)
    digit_groups = classes.translate(_DIGITS).count(b" 0") + count(b"0000")
    rules = count(b"........")
    line_ends = count(b".n")
    ascii_counts = (
        letters.count(b" a"),
        letters.count(b"a"),
        letters.count(b"aaaaaaa"),
        count(b"aA"),
        count(b"AA"),
        encoded.translate(_SIGNS).count(b".a"),
        digit_groups,
        count(b"0") - digit_groups,
        count(b".") - 8 * rules,
        rules,
        classes.translate(_PUNCTUATION).count(b" ."),
        max(0, count(b"n", 1) - count(b"nn", 1) - line_ends),
        line_ends,
        blanks.count(b"-bb"),
        blanks.count(b"-b"),
        count(b" 0") + count(b" ."),
        count(b"c"),
    )
    if text.isascii():
        return ascii_counts
    others = tuple(map(classes.translate(None, _ASCII_CLASSES).count, _OTHER_CLASSES))
    ideographs = others[_IDEOGRAPHS]
    if not ideographs:
        return (*ascii_counts, *others)
    rare = min(ideographs, count_rare(text))
    return (*ascii_counts, *others[:_IDEOGRAPHS], ideographs - rare, *others[_IDEOGRAPHS + 1 :], rare)


def _class_of(byte: int) -> str:
    if byte >= 0x80:
        return next(name for last, name in _BY_FIRST_BYTE if byte <= last)
    character = chr(byte)
    if character.isalpha():
        return "A" if character.isupper() else "a"
    if character.isdigit():
        return "0"
    if character in "\r\n":
        return "n"
    if character in " \t":
        return " "
    return "." if character.isprintable() else "c"


# First bytes of UTF-8, up to and including each: C2 begins the signs of Latin-1, CE to D5 Greek, Cyrillic and Armenian,
# D6 to DF Hebrew and Arabic, E0 and E1 Indic and others, E2 signs, E3 kana, E4 to E9 ideographs, EA to ED Hangul.
_BY_FIRST_BYTE = (
    (0xC1, "c"),
    (0xC2, "q"),
    (0xCD, "e"),
    (0xD5, "g"),
    (0xDF, "s"),
    (0xE1, "i"),
    (0xE2, "q"),
    (0xE3, "k"),
    (0xE9, "C"),
    (0xED, "h"),
    (0xEF, "w"),
    (0xFF, "x"),
)
_OTHER_CLASSES = (b"e", b"g", b"s", b"i", b"q", b"k", b"C", b"h", b"w", b"x")
_ASCII_CLASSES = b"aA0. nc"
_IDEOGRAPHS = _OTHER_CLASSES.index(b"C")
_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _table(mapped: Callable[[int], str]) -> bytes:
    return "".join(map(mapped, range(256))).encode("latin-1")


def _only(kept: str, shown: str, other: str = " ") -> bytes:
    return _table(lambda byte: shown if chr(byte) in kept else other)


_CLASS_OF = _table(_class_of)
_LETTERS = _only("aAe", "a")
_DIGITS = _only("0", "0")
_PUNCTUATION = _only(".", ".")
_BLANKS = _only(" ", "b", "-")
# Code has words behind these so often that vocabularies have them, too.
_LIKE_A_BLANK = b"_.("
_SIGNS = _table(lambda byte: _class_of(byte).lower() if byte < 0x80 and byte not in _LIKE_A_BLANK else " ")
