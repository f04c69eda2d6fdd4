"""Texts that look like a manual's, all of them different and the same in every run."""

import itertools
import random

_SUBJECTS = (
    "the keeper of the archive",
    "a pump in the lower hall",
    "every second valve",
    "the night shift",
    "an old survey map",
    "the harbour office",
    "our smallest crane",
    "the first inspection",
    "a letter from the mill",
    "the water below the bridge",
)
_VERBS = (
    "is checked against",
    "replaces",
    "was drawn up for",
    "has to wait for",
    "leads back to",
    "should not be stored near",
    "takes longer than",
    "depends on",
    "was repaired together with",
    "stands in for",
)
_OBJECTS = (
    "the list of spare parts",
    "what the engineers measured in spring",
    "two barrels of lamp oil",
    "the gauge on the north wall",
    "a permit that nobody signed",
    "the timetable of the ferry",
    "cold weather",
    "the drawings in chapter {number}",
    "order number {number}",
    "{number} bags of cement",
)
_ENDINGS = (
    "",
    " before noon",
    " unless the tide is high",
    ", as a rule",
    " until the inspector comes",
    " in most years",
)


def sentences(seed):
    """Yield sentences without end."""
    chance = random.Random(seed)
    while True:
        what = chance.choice(_OBJECTS).format(number=chance.randrange(10_000))
        words = f"{chance.choice(_SUBJECTS)} {chance.choice(_VERBS)} {what}{chance.choice(_ENDINGS)}."
        yield words[0].upper() + words[1:]


def chunks(count, characters):
    """Return texts of about so many characters."""
    source = sentences(count)
    for number in range(count):
        text = f"{number + 1}."
        while len(text) < characters:
            text += f" {next(source)}"
        yield text


def short_texts(count):
    """Return texts of one sentence each."""
    return (f"{number}. {text}" for number, text in enumerate(itertools.islice(sentences(count), count)))
