"""Texts to vectors: one request for many of them, and as many as it takes where that one fails."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence

from griptape_ollama.conversion.embeddings import STAND_IN, Passage, mean_of
from griptape_ollama.conversion.passages import least_tokens, likely_tokens, split_text
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
SURELY_FITS = 128
"""Characters of a text that takes one request: no model in use has a window of fewer tokens."""

# A text has to fit into one batch of the runner, which has 2048 tokens by default (0.33), whatever the window.
_USUAL_BATCH_TOKENS = 2048
_MARGIN = 1.25  # how far the estimate of a text's tokens is off, for prose
# What can be about one of the texts: refused, too large for a proxy, a runner that died, vectors that are no numbers.
_ABOUT_TEXTS = (400, 413, 500)

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
        found: dict[int, _Parts | OllamaError] = {}
        others: list[int] = []
        for index, passage in enumerate(passages):
            if self._is_surely_long(passage):
                found[index] = self._long(passage)
            elif self._is_probably_long(passage):
                # Alone it is refused at once; among others only when the server has embedded them all (0.33).
                found[index] = self._found([passage], is_part=False)[0]
            else:
                others.append(index)
        found.update(zip(others, self._in_batches([passages[index] for index in others]), strict=True))
        return [_joined(found[index]) for index in range(len(passages))]

    def _in_batches(self, passages: Sequence[Passage], *, is_part: bool = False) -> list[_Parts | OllamaError]:
        found: list[_Parts | OllamaError] = []
        while len(found) < len(passages):
            rest = passages[len(found) :]
            size = self._order.batches.fitting([len(passage.sent) for passage in rest])
            found += self._found(rest[:size], is_part=is_part)
        return found

    def _found(self, passages: Sequence[Passage], *, is_part: bool) -> list[_Parts | OllamaError]:
        try:
            values = self._asker.ask(passages, is_part=is_part)
        except OllamaError as error:
            if not _may_be_about_a_text(error):
                raise
            if len(passages) > 1:
                return self._halves(passages, by_length=isinstance(error, OllamaContextError))
            return [self._alone(passages[0], error, is_part=is_part)]
        self._has_succeeded = True
        return [
            self._again(passage, value, is_part=is_part or len(passages) > 1)
            if isinstance(value, str)
            else [(len(passage.text), value)]
            for passage, value in zip(passages, values, strict=True)
        ]

    def _halves(self, passages: Sequence[Passage], *, by_length: bool) -> list[_Parts | OllamaError]:
        """Ask for one half, then the other; if some are too long, they will be found among the longer ones."""
        indexes = list(range(len(passages)))
        if by_length:
            indexes.sort(key=lambda index: len(passages[index].text))
        middle = len(indexes) // 2
        found: dict[int, _Parts | OllamaError] = {}
        for half in (indexes[:middle], indexes[middle:]):
            found.update(zip(half, self._found([passages[index] for index in half], is_part=True), strict=True))
        return [found[index] for index in range(len(passages))]

    def _alone(self, passage: Passage, error: OllamaError, *, is_part: bool) -> _Parts | OllamaError:
        """Say what becomes of a text that failed by itself."""
        if isinstance(error, OllamaContextError):
            return self._in_pieces(passage, error) if self._order.on_long_text == "chunk" else _about(passage, error)
        if is_part and not self._has_succeeded:
            # Is it the text, or does everything fail? The latter is raised, before each text is asked for by itself.
            self._asker.ask([Passage("", STAND_IN)], is_part=True)
            self._has_succeeded = True
        return _about(passage, error)

    def _again(self, passage: Passage, wrong: str, *, is_part: bool) -> _Parts | OllamaError:
        """Ask once more, alone, for a vector that was wrong in company."""
        if is_part:
            return self._found([passage], is_part=False)[0]
        host, model = self._order.connection.base_url, self._order.model
        error = OllamaStreamError(
            f"Model {model!r} of Ollama at {host} gave no vector: {wrong}.", host=host, model=model
        )
        return _about(passage, error)

    def _is_surely_long(self, passage: Passage) -> bool:
        if self._order.on_long_text == "truncate" or len(passage.text) <= SURELY_FITS:
            return False
        window = self._window()
        return window is not None and self._least_tokens(passage) > window

    def _is_probably_long(self, passage: Passage) -> bool:
        if self._order.on_long_text == "truncate" or len(passage.text) <= SURELY_FITS:
            return False
        window = min(self._window() or _USUAL_BATCH_TOKENS, _USUAL_BATCH_TOKENS)
        return likely_tokens(passage.sent) > window * _MARGIN

    def _least_tokens(self, passage: Passage) -> int:
        return (self._order.count_tokens or least_tokens)(passage.sent)

    def _long(self, passage: Passage) -> _Parts | OllamaError:
        """Handle a text of which the length is known without asking."""
        window, tokens = self._window(), self._least_tokens(passage)
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
        window = self._window()
        tokens = (self._order.count_tokens or likely_tokens)(passage.sent)
        texts = split_text(passage.text, -(-tokens // window) if window else 2)
        if len(texts) == 1 or len(passage.text) < _SHORTEST:
            return _about(passage, error)
        found = self._in_batches([Passage(passage.prefix, text) for text in texts], is_part=True)
        parts: _Parts = []
        for part in found:
            if isinstance(part, OllamaError):
                return _about(passage, part)
            parts += part
        return parts


def _joined(found: _Parts | OllamaError) -> Outcome:
    if isinstance(found, OllamaError):
        return found
    return found[0][1] if len(found) == 1 else mean_of(found)


def _may_be_about_a_text(error: OllamaError) -> bool:
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
