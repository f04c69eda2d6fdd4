"""Extraction of entities from a text: numbers, arithmetic, names, dates, addresses, quotes."""

import re
from dataclasses import dataclass
from functools import cached_property

_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w]|\.\d)")
_OPERATOR_WORDS = {
    "times": "*",
    "multiplied by": "*",
    "divided by": "/",
    "plus": "+",
    "minus": "-",
    "to the power of": "**",
}
_EXPRESSION = re.compile(
    r"\(*\s*-?\d[\d.]*(?:\s*[)(]*\s*(?:\*\*|//|[-+*/^%x\u00d7\u00f7])\s*[)(]*\s*-?\d[\d.]*\s*\)*)+"
)
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|`([^`]+)`|(?<!\w)'([^']+)'(?!\w)")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?Z?)?\b")
_DAY = re.compile(
    r"\b(?:today|tomorrow|yesterday|(?:next |last )?(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b", re.IGNORECASE
)
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.-]*\w")
_URL = re.compile(r"https?://[^\s\"'<>)]*[\w/]")
_PATH = re.compile(r"(?<![\w/:])(?:[\w.-]*/)*[\w-]+\.[A-Za-z]{1,5}(?![\w.@])")
_CAPITALISED = re.compile(r"\b[A-Z][\w'-]*(?:[ -](?:de |of |la |am )?[A-Z][\w'-]*)*")
# "Weather in Paris": a word that is capitalised because it comes first.
_HEADLINE = re.compile(r"(?<![^.!?\n ])(?<!\w )[A-Z]\w+ (?:in|for|at|of|on|from|to)\b")
# Capitalised words that begin sentences and are not names.
_SENTENCE_WORDS = frozenset(
    """a add after all also and are as ask at before by calculate call can check compare compute convert could create
    define describe do does evaluate extract find first for from get give hello hey hi how i if in is it let list look
    make may my name next no now of on or our please read remember return run save say search send should show so solve
    summarise summarize tell thank thanks that the then there these this to today tomorrow translate use using was we
    what what's when where which who whose why will with work would write yes you your answer question user context
    january february march april june july august september october november december
    monday tuesday wednesday thursday friday saturday sunday celsius fahrenheit json""".split()  # noqa: SIM905  a list of this length reads better as a text
)


@dataclass(frozen=True)
class TextEntities:
    """The entities of a text, each kind extracted when it is first used."""

    text: str

    @cached_property
    def numbers(self) -> list[float]:
        """Numbers in order, without those of dates."""
        found = _NUMBER.findall(_DATE.sub(" ", self.text))
        return [float(number) for number in found]

    @cached_property
    def expression(self) -> str:
        """The first arithmetic expression, such as `17 * 23`, in Python's notation; empty if there is none."""
        text = self.text
        for words, sign in _OPERATOR_WORDS.items():
            text = re.sub(rf"(?<=[\d)])\s+{words}\s+(?=[\d(-])", f" {sign} ", text, flags=re.IGNORECASE)
        found = _EXPRESSION.search(_DATE.sub(" ", text))
        if found is None:
            return ""
        sign = found.group().strip()
        sign = re.sub(r"(?<=[\d)\s])[x\u00d7](?=[\s\d(-])", "*", sign).replace("\u00f7", "/").replace("^", "**")
        return _balanced(sign)

    @cached_property
    def quotes(self) -> list[str]:
        """Texts in quotation marks."""
        return ["".join(groups) for groups in _QUOTED.findall(self.text)]

    @cached_property
    def dates(self) -> list[str]:
        """Dates as in 2024-05-17, and words such as `tomorrow`."""
        return _DATE.findall(self.text) + _DAY.findall(self.text)

    @cached_property
    def emails(self) -> list[str]:
        """Mail addresses."""
        return _EMAIL.findall(self.text)

    @cached_property
    def urls(self) -> list[str]:
        """Web addresses."""
        return _URL.findall(self.text)

    @cached_property
    def paths(self) -> list[str]:
        """File names."""
        text = _URL.sub(" ", _EMAIL.sub(" ", self.text))
        return [path for path in _PATH.findall(text) if not path.replace(".", "").isdigit()]

    @cached_property
    def names(self) -> list[str]:
        """Capitalised words that are names: of places, people, things."""
        found: list[str] = []
        for match in _CAPITALISED.finditer(self.text):
            words = match.group().removesuffix("'s").split(" ")
            while words and words[0].lower().removesuffix("'s") in _SENTENCE_WORDS:
                words.pop(0)
            while words and words[-1].lower() in _SENTENCE_WORDS:
                words.pop()
            if len(words) == 1 and _HEADLINE.match(self.text, match.start()):
                continue
            name = " ".join(words)
            if name and name not in found:
                found.append(name)
        return found

    @cached_property
    def after_preposition(self) -> list[str]:
        """Words after "in", "for" and the like: the names of a text without capitals."""
        found = re.findall(r"\b(?:in|at|for|near|from|of)\s+(?!the\b|a\b|an\b|my\b)([a-z]\w{2,})", self.text)
        return [word for word in found if word not in _SENTENCE_WORDS]

    def choice(self, options: list[str]) -> str | None:
        """Return the option that the text mentions first."""
        lowered = self.text.lower()
        places = {option: _word_place(option.lower(), lowered) for option in options}
        named = [option for option in options if places[option] >= 0]
        return min(named, key=lambda option: places[option]) if named else None


def _word_place(word: str, text: str) -> int:
    found = re.search(rf"(?<!\w){re.escape(word).replace('_', '[ _-]')}(?!\w)", text)
    return found.start() if found else -1


def _balanced(text: str) -> str:
    """Drop unbalanced brackets."""
    while text.count("(") > text.count(")") and text.startswith("("):
        text = text[1:].lstrip()
    while text.count(")") > text.count("(") and text.endswith(")"):
        text = text[:-1].rstrip()
    return text.rstrip(" .")
