"""Texts to vectors: one request for many of them, and as many as it takes where that one fails."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal

from griptape_ollama.conversion.embeddings import STAND_IN, Passage, mean_of
from griptape_ollama.conversion.passages import least_tokens, split_text
from griptape_ollama.embeddings.asking import Asker
from griptape_ollama.embeddings.order import Order, Reply
from griptape_ollama.errors import (
    OllamaContextError,
    OllamaError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.transport.run import Run

Outcome = list[float] | OllamaError
"""A vector of length 1, or why there is none."""

EXCERPT = 60
"""How many characters of a text an error names."""

_SHORTEST = 16  # characters; what is too long at this length is so for another reason than its length
_MARKS = 4  # tokens that a model puts around a text, at most
_LEAST_ROOM = 8  # pieces have at least this part of the window
_FILLED = 0.9  # of the window, by pieces: they are not all of the same length
SURELY_FITS = 128
"""Characters of a text that takes one request: no model in use has a window of fewer tokens."""

# A text has to fit into one batch of the runner, which has 2048 tokens by default (0.33), whatever the window.
_USUAL_BATCH_TOKENS = 2048
# What can be about one of the texts: refused, too large for a proxy, a runner that died, vectors that are no numbers.
_ABOUT_TEXTS = (400, 413, 500)

_Share = Literal["whole", "half", "piece", "again"]
"""What is asked for: texts as they came, those of a request that failed, pieces of one text that is too long, or a text
whose vector was wrong among others."""

_Parts = list[tuple[int, list[float]]]
"""Vectors of the pieces of a text, each with the length of its piece; of a text that fits, of one piece."""


class Embedder:
    """Gets the vectors of texts within one run.

    Where a request fails because of a text, its texts are halved until that one is found; the others get their vectors.

    Args:
        order: What is asked for.
        run: The run that the requests belong to.
        replied: Told of each reply.
    """

    def __init__(self, order: Order, run: Run, replied: Callable[[Reply], None]) -> None:
        self._order = order
        self._window = functools.partial(order.window, run)
        self._asker = Asker(order, run, replied)
        self._has_succeeded = False

    def embed(self, passages: Sequence[Passage]) -> list[Outcome]:
        """Give a vector or an error for each text, in their order.

        Raises:
            OllamaError: Nothing came of it, for a reason that has nothing to do with single texts.
        """
        # Alone a long text is refused at once; among others only when the server has embedded them all (0.33).
        alone = [index for index, passage in enumerate(passages) if self._is_probably_long(passage)]
        others = sorted(set(range(len(passages))) - set(alone))
        found = dict(zip(others, self._in_batches([passages[index] for index in others]), strict=True))
        for index in alone:
            found[index] = self._long(passages[index])
        return [_joined(found[index]) for index in range(len(passages))]

    def _in_batches(self, passages: Sequence[Passage]) -> list[_Parts | OllamaError]:
        found: list[_Parts | OllamaError] = []
        while len(found) < len(passages):
            rest = passages[len(found) :]
            found += self._found(rest[: self._fitting(rest)], "whole")
        return found

    def _fitting(self, passages: Sequence[Passage]) -> int:
        number = self._order.batches.fitting([len(passage.sent) for passage in passages])
        return self._asker.fitting(passages[:number])

    def _found(self, passages: Sequence[Passage], share: _Share) -> list[_Parts | OllamaError]:
        try:
            values = self._asker.ask(passages, is_part=share in ("half", "piece"), is_repeated=share == "again")
        except OllamaError as error:
            is_too_long = isinstance(error, OllamaContextError)
            if not may_be_about_a_text(error) or (is_too_long and share == "piece"):
                raise
            if len(passages) > 1:
                return self._halves(passages, share, by_length=is_too_long)
            return [self._alone(passages[0], error, share)]
        self._has_succeeded = self._has_succeeded or any(isinstance(value, list) for value in values)
        is_alone = share in ("whole", "again") and len(passages) == 1
        return [
            self._again(passage, value, is_alone=is_alone) if isinstance(value, str) else [(len(passage.text), value)]
            for passage, value in zip(passages, values, strict=True)
        ]

    def _halves(self, passages: Sequence[Passage], share: _Share, *, by_length: bool) -> list[_Parts | OllamaError]:
        """Ask for one half, then the other; if some are too long, they will be found among the longer ones."""
        indexes = list(range(len(passages)))
        if by_length:
            indexes.sort(key=lambda index: len(passages[index].text))
        middle = len(indexes) // 2
        share = "half" if share == "whole" else share
        found: dict[int, _Parts | OllamaError] = {}
        for half in (indexes[:middle], indexes[middle:]):
            found.update(zip(half, self._found([passages[index] for index in half], share), strict=True))
        return [found[index] for index in range(len(passages))]

    def _alone(self, passage: Passage, error: OllamaError, share: _Share) -> _Parts | OllamaError:
        """Say what becomes of a text that failed by itself."""
        if isinstance(error, OllamaContextError):
            return self._in_pieces(passage, error) if self._order.on_long_text == "chunk" else _about(passage, error)
        if share != "whole":
            self._try_anything()
        return _about(passage, error)

    def _again(self, passage: Passage, wrong: str, *, is_alone: bool) -> _Parts | OllamaError:
        """Ask once more, alone, for a vector that was wrong in company."""
        if is_alone:
            return _about(passage, self._no_vector(wrong))
        (found,) = self._found([passage], "again")
        if isinstance(found, OllamaError):
            self._try_anything()
        return found

    def _try_anything(self) -> None:
        """Tell a text that fails from a server that fails at everything, before each text is asked for by itself.

        Raises:
            OllamaError: Everything fails.
        """
        if not self._has_succeeded:
            (value,) = self._asker.ask([Passage("", STAND_IN)], is_part=True)
            if isinstance(value, str):
                raise self._no_vector(value)
            self._has_succeeded = True

    def _no_vector(self, wrong: str) -> OllamaStreamError:
        host, model = self._order.connection.base_url, self._order.model
        return OllamaStreamError(
            f"Model {model!r} of Ollama at {host} gave no vector: {wrong}.", host=host, model=model
        )

    def _is_probably_long(self, passage: Passage) -> bool:
        if self._order.on_long_text == "truncate" or len(passage.sent) <= SURELY_FITS:
            return False
        window = min(self._window() or _USUAL_BATCH_TOKENS, _USUAL_BATCH_TOKENS)
        is_likely = self._order.density.is_likely_above(passage.sent, window)
        return is_likely or self._least_tokens(passage.sent) > window

    def _least_tokens(self, text: str) -> int:
        return (self._order.count_tokens or least_tokens)(text)

    def _long(self, passage: Passage) -> _Parts | OllamaError:
        """Embed a text that is probably too long; one that surely is, is not sent."""
        window, tokens = self._window(), self._least_tokens(passage.sent)
        if window is None or tokens <= window:
            return self._found([passage], "whole")[0]
        error = OllamaContextError(
            f"A text is too long for model {self._order.model!r}: it has {tokens} tokens or more, and the window has "
            f"{window}. Shorten it, or use on_long_text='chunk' or 'truncate'.",
            host=self._order.connection.base_url,
            model=self._order.model,
            tokens_wanted=tokens,
            tokens_available=window,
        )
        return self._in_pieces(passage, error) if self._order.on_long_text == "chunk" else _about(passage, error)

    def _in_pieces(self, passage: Passage, error: OllamaContextError) -> _Parts | OllamaError:
        """Embed a text piece by piece. As long as some do not fit, all that are left are halved."""
        number = self._number_of_pieces(passage)
        if number is None or len(passage.text) < _SHORTEST:
            return _about(passage, error)
        rest = split_text(passage.text, number)
        parts: _Parts = []
        while rest:
            pieces = [Passage(passage.prefix, text) for text in rest]
            size = self._fitting(pieces)
            try:
                found = self._found(pieces[:size], "piece")
            except OllamaContextError as too_long:
                if max(map(len, rest[:size])) < _SHORTEST:
                    return _about(passage, too_long)
                rest = [half for text in rest for half in split_text(text, 2)]
                continue
            for part in found:
                if isinstance(part, OllamaError):
                    return _about(passage, part)
                parts += part
            rest = rest[size:]
        return parts

    def _number_of_pieces(self, passage: Passage) -> int | None:
        """Tell how many pieces should do; None where the prefix fills the window alone."""
        window = self._window()
        if window is None:
            return 2
        if self._least_tokens(passage.prefix) >= window:
            return None
        count = self._order.count_tokens or self._order.density.tokens
        # A prefix counts rather too much: what it really leaves is found out by asking.
        room = max(window - count(passage.prefix) - _MARKS, window / _LEAST_ROOM)
        return math.ceil(count(passage.text) / (_FILLED * room))


def _joined(found: _Parts | OllamaError) -> Outcome:
    if isinstance(found, OllamaError):
        return found
    return found[0][1] if len(found) == 1 else mean_of(found)


def may_be_about_a_text(error: OllamaError) -> bool:
    """Whether other texts may fare better."""
    if isinstance(error, OllamaContextError):
        return True
    if isinstance(error, OllamaResponseError):
        # A permanent 500 is about an option, or about a model that cannot be loaded.
        return error.status in _ABOUT_TEXTS and not (error.status == 500 and error.permanent)
    return isinstance(error, OllamaStreamError)


def _about(passage: Passage, error: OllamaError) -> OllamaError:
    """Add to an error which text it is about."""
    text = passage.text
    beginning = repr(text if len(text) <= EXCERPT else f"{text[:EXCERPT]}...")
    named = copy.copy(error)
    if beginning not in str(error):
        named.args = (f"{error} The text is {beginning}.",)
    named.__cause__ = error
    return named
