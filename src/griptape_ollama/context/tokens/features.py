"""Features of prompts: what of a text, a message and a template has tokens, counted for the regression."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import mul
from typing import Any, Generic, NamedTuple, TypeVar, cast

_logger = logging.getLogger(__name__)

Features = tuple[float, ...]
"""How often each feature occurs; trailing zeros may be left out."""

# Fits into a processor's cache; a word that is cut in two every so many characters changes nothing.
_PIECE = 1 << 14

TEXT_FEATURES = (
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
)
"""Names of the features of a text, in order.

words: runs of Latin letters. letters: all of them. long_words: seven more letters of a word.
case_changes: a capital after a small letter. capitals: pairs of capitals.
joined_words: words right after a sign other than `_`, `.` and `(`, as after a quote: most tokens of words begin with
the blank before them.
digit_groups: runs of digits, one more for each four digits of a run, which is about one for each three.
more_digits: all digits but one of each group.
rules: eight signs in a row, punctuation: signs outside of rules.
punctuation_runs, blanks: runs; a tab is a blank. wide_blanks: runs of two blanks or more.
lone_blanks: a blank before a digit or punctuation, which most tokenizers keep apart.
line_ends: line breaks after punctuation, which most tokenizers put into one token with it.
line_breaks: the other line breaks, two in a row being one.
accents: Latin letters with a mark. alphabets: Greek, Cyrillic and Armenian letters. abjads: Hebrew and Arabic.
abugidas: Indic scripts, Thai and more of three bytes. symbols: dashes, quotes, arrows and the like.
kana: kana and the punctuation of Chinese and Japanese. wide: full-width forms.
astral: emoji and all that has four bytes.
"""


def count_features(text: str) -> tuple[int, ...]:
    """Count the features of a text: how often each of TEXT_FEATURES occurs; trailing zeros are left out.

    Args:
        text: Any text; lone surrogates and control characters are fine.
    """
    if len(text) <= _PIECE:
        return _count(text)
    totals = [0] * len(TEXT_FEATURES)
    for start in range(0, len(text), _PIECE):
        for place, number in enumerate(_count(text[start : start + _PIECE])):
            totals[place] += number
    return tuple(totals)


def _count(text: str) -> tuple[int, ...]:
    # With the line break in front, a run at the beginning begins like any other.
    encoded = b"\n" + text.encode("utf-8", "surrogatepass")
    kinds = encoded.translate(_KIND_OF, _CONTINUATIONS)
    count = kinds.count
    letters = kinds.translate(_LETTERS)
    blanks = kinds.translate(_BLANKS)
    digit_groups = kinds.translate(_DIGITS).count(b" 0") + count(b"0000")
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
        kinds.translate(_PUNCTUATION).count(b" ."),
        max(0, count(b"n", 1) - count(b"nn", 1) - line_ends),
        line_ends,
        blanks.count(b"-bb"),
        blanks.count(b"-b"),
        count(b" 0") + count(b" ."),
        count(b"c"),
    )
    if text.isascii():
        return ascii_counts
    return (*ascii_counts, *map(kinds.translate(None, _ASCII).count, _NON_ASCII))


def _kind_of(byte: int) -> str:
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
# D6 to DF Hebrew and Arabic, E0 and E1 Indic and more, E2 signs, E3 kana, E4 to E9 ideographs, EA to ED Hangul.
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
_NON_ASCII = (b"e", b"g", b"s", b"i", b"q", b"k", b"C", b"h", b"w", b"x")
_ASCII = b"aA0. nc"
_CONTINUATIONS = bytes(range(0x80, 0xC0))


def _table(mapped: Callable[[int], str]) -> bytes:
    return "".join(map(mapped, range(256))).encode("latin-1")


def _only(kept: str, shown: str, other: str = " ") -> bytes:
    return _table(lambda byte: shown if chr(byte) in kept else other)


_KIND_OF = _table(_kind_of)
_LETTERS = _only("aAe", "a")
_DIGITS = _only("0", "0")
_PUNCTUATION = _only(".", ".")
_BLANKS = _only(" ", "b", "-")
# Code has words after these so often that vocabularies have them, too.
_LIKE_A_BLANK = b"_.("
_SIGNS = _table(lambda byte: _kind_of(byte).lower() if byte < 0x80 and byte not in _LIKE_A_BLANK else " ")


class MessageParts(NamedTuple):
    """The parts of a message that have tokens.

    Attributes:
        texts: Content, thinking, and the calls as JSON.
        images: How many images it has.
        calls: How many calls it asks for; 1 for the result of one.
    """

    texts: tuple[str, ...]
    images: int
    calls: int


def parts_of(message: Mapping[str, Any]) -> MessageParts:
    """Return the parts of a message that have tokens; a field of a wrong type counts as its text."""
    texts = [_to_text(message[name]) for name in ("content", "thinking") if message.get(name)]
    calls = to_list(message.get("tool_calls"))
    if calls:
        texts.append(to_json([_to_call(call) for call in calls]))
    images = to_list(message.get("images"))
    return MessageParts(tuple(texts), len(images), len(calls) + (message.get("role") == "tool"))


def to_json(value: Any) -> str:
    """Return a value as templates write it, as JSON; what JSON does not know is written as Python does."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _to_call(call: Any) -> object:
    """Return what a template shows of a call: neither the id nor the index."""
    function = cast("Mapping[str, Any]", call).get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return cast("object", call)
    function = cast("Mapping[str, Any]", function)
    return {name: function.get(name) for name in ("name", "arguments")}


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value)


def to_list(value: Any) -> Sequence[Any]:
    """Return a list; a value that is none becomes its only element."""
    if not value:
        return ()
    return cast("Sequence[Any]", value) if isinstance(value, (list, tuple)) else (value,)


_Value = TypeVar("_Value")


class RecentCache(Generic[_Value]):
    """Caches at least the last `size` values that were asked for, and at most twice as many. Threads may share it.

    It has two generations: a value that is asked for moves to the young one, and the old one is dropped when the young
    one is full. Each step is a single operation of a dict, which needs no lock: a lookup takes a twentieth of the time
    of an LRU cache with a lock, and a long conversation needs thousands. A value that is lost when two threads write at
    once is computed again.

    Args:
        size: Values of one generation.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[object, _Value] = {}
        self._old: dict[object, _Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: object) -> _Value | None:
        """Return the value of a key; None if there is none."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: object, value: _Value) -> None:
        """Cache a value."""
        young = self._young
        if len(young) >= self._size:
            self._old = young
            self._young = young = {}
        young[key] = value

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}


# A conversation of 10,000 runs has 20,000 messages, and several may be active. An entry has about 0.4 KB.
_TEXTS = 65_536
# No tokenizer makes more than a few tokens of one byte, and a character has four of these at most.
_MOST_PER_CHARACTER = 16
_MOST_AROUND = 1024


class TextFeatures:
    """Features of texts, and the tokens that they come to.

    Texts are not kept: a text is found by its hash and its length.

    Args:
        weights: Tokens of one of each feature in most vocabularies.
        count: Counts the tokens of a text in place of the built-in features.
    """

    def __init__(self, weights: Features, count: Callable[[str], float] | None = None) -> None:
        self._weights = weights
        self._count = count
        self._has_warned = False
        self._known: RecentCache[tuple[Features, int, float]] = RecentCache(_TEXTS)

    def __len__(self) -> int:
        return len(self._known)

    def typical(self, text: str) -> Features:
        """Return the features of a plain text, without asking the user's tokenizer."""
        return count_features(text) if self._count is None else self._expected(text)

    def of(self, text: str) -> Features:
        """Return the features of a text."""
        key = hash(text), len(text)
        known = self._known.get(key)
        if known is not None:
            return known[0]
        features = self._new(text)
        self._known.put(key, (features, -1, 0.0))
        return features

    def tokens(self, text: str, version: int, weights: Features) -> float:
        """Return the tokens that a text comes to.

        Args:
            text: The text.
            version: Number of the weights: as long as it is the same, the result is cached.
            weights: Tokens of one of each feature.
        """
        key = hash(text), len(text)
        known = self._known.get(key)
        if known is not None and known[1] == version:
            return known[2]
        features = known[0] if known else self._new(text)
        tokens = sum(map(mul, features, weights))
        self._known.put(key, (features, version, tokens))
        return tokens

    def _new(self, text: str) -> Features:
        if self._count is None:
            return count_features(text)
        try:
            tokens = float(self._count(text))
        except Exception as error:  # noqa: BLE001 - whatever a user's tokenizer raises, a prompt goes on
            return self._fallback(text, f"failed: {error!r}")
        most = _MOST_PER_CHARACTER * len(text) + _MOST_AROUND
        return (tokens,) if 0 <= tokens <= most else self._fallback(text, f"gave {tokens!r}")

    def _fallback(self, text: str, problem: str) -> Features:
        """Return what most tokenizers would count, and log once why."""
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "The tokenizer that counts the prompts' tokens %s; its count is estimated instead.", problem
            )
        return self._expected(text)

    def _expected(self, text: str) -> Features:
        return (sum(map(mul, count_features(text), self._weights)),)


TEMPLATE_FEATURES = ("prompts", "messages", "tool_sets", "tools", "without_system", "images", "calls")
"""Names of the features of what surrounds texts; they precede those of the texts.

prompts: 1 for a whole prompt. tool_sets: 1 where there are tools. without_system: 1 where there is no system message.
calls: tool calls and their results.
"""


def fixed_features(tools: Sequence[Mapping[str, Any]], texts: TextFeatures, *, has_system: bool) -> Features:
    """Return the features of what does not depend on the messages: template and tools."""
    template = (1, 0, bool(tools), len(tools), not has_system, 0, 0)
    return (*template, *texts.of(to_json(list(tools)))) if tools else template


def message_features(messages: Iterable[Mapping[str, Any]], texts: TextFeatures) -> Features:
    """Return the features of messages."""
    count = images = calls = 0
    found: list[Features] = []
    for message in messages:
        parts = parts_of(message)
        count += 1
        images += parts.images
        calls += parts.calls
        found.extend(map(texts.of, parts.texts))
    return (0, count, 0, 0, 0, images, calls, *map(sum, zip_longest(*found, fillvalue=0)))


def added(one: Features, other: Features) -> Features:
    """Add two sets of features."""
    return tuple(map(sum, zip_longest(one, other, fillvalue=0)))


def has_system(messages: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether there is a system message; without one, the model's own system prompt counts."""
    return any(message.get("role") == "system" for message in messages)


def prefix_hashes(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Iterator[int]:
    """Yield a hash of the first message, of the first two, and so on: equal ones mean the same prompt."""
    # Whether there is a system message decides whether the model's own is used.
    number = hash((to_json(list(tools)) if tools else "", has_system(messages)))
    for message in messages:
        parts = parts_of(message)
        number = hash((number, str(message.get("role")), parts))
        yield number
