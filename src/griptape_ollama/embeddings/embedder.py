"""One request for vectors."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import tenacity

from griptape_ollama.conversion.chunking import least_tokens, split_text
from griptape_ollama.conversion.embeddings import STAND_IN, Passage, mean_of, to_vectors, tokens_of, vector_size
from griptape_ollama.embeddings.spec import SURELY_FITS, EmbeddingSpec, Reply
from griptape_ollama.errors import (
    OllamaContentError,
    OllamaContextError,
    OllamaError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.models.audit import record_call
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.request_body import body_size
from griptape_ollama.transport.run import Run

_logger = logging.getLogger(__name__)

_PATH = "/api/embed"
# The largest vectors in use have 8192 numbers, and a number takes 25 bytes at most.
_BYTES_PER_VECTOR = 8192 * 25
_BYTES_PER_REPLY = 1024 * 1024
# What a runner that died gives: 400 since 0.13.3, 500 before.
_FAILED = (400, 500)

_scaled: set[str] = set()


class Asker:
    """Makes the requests of one run.

    Args:
        spec: What is asked for.
        run: The run that the requests belong to.
        replied: Told of each reply.
    """

    def __init__(self, spec: EmbeddingSpec, run: Run, replied: Callable[[Reply], None]) -> None:
        self._spec = spec
        self._run = run
        self._replied = replied

    def ask(
        self, passages: Sequence[Passage], *, is_part: bool = False, is_repeated: bool = False
    ) -> list[list[float] | str]:
        """Ask for the vectors of texts, in one request.

        Args:
            passages: The texts.
            is_part: Whether the texts were part of a request that failed. A failure of the server is then not worth
                a wait; neither is it where there are several texts, since halving them is another try already.
            is_repeated: Whether the vector of the text was wrong among others that were right: if its size is wrong
                again, then so is the vector, and not the model.

        Returns:
            A vector of length 1 for each text, or what is wrong with it.

        Raises:
            OllamaEmbeddingError: The vectors have another size than those before: the model has changed.
            OllamaError: As `Call.document` does; or the reply has the wrong number of vectors, or the wrong size.
        """
        spec = self._spec
        call = Call(
            spec.connection,
            _PATH,
            self._body(passages),
            limits=spec.limits,
            run=self._run,
            policy=_but_for_failures(spec.policy) if is_part or len(passages) > 1 else spec.policy,
            listener=record_call if spec.is_audited else None,
        )
        reply = call.document(max_bytes=_BYTES_PER_REPLY + len(passages) * _BYTES_PER_VECTOR)
        self._learn(passages, reply)
        self._replied((len(passages), reply))
        identity, subject = spec.identity, (spec.connection, spec.model, spec.dimensions)
        size = vector_size(reply)
        known = identity.size(*subject)
        if size is not None and known is not None and not is_repeated:
            identity.check_size(*subject, size, self._run)
        try:
            values, were_scaled = to_vectors(reply, len(passages), dimensions=spec.dimensions, size=known)
        except (OllamaStreamError, OllamaContentError) as error:
            text = f"Model {spec.model!r} of Ollama at {call.host} gave vectors that are of no use: {error}."
            raise type(error)(text, host=call.host, model=spec.model) from error
        if known is None and (vector := next((value for value in values if not isinstance(value, str)), None)):
            identity.check_size(*subject, len(vector), self._run)
        if were_scaled and spec.model not in _scaled:
            _scaled.add(spec.model)
            _logger.warning("Vectors of model %r had a length other than 1; they were scaled.", spec.model)
        return values

    def fitting(self, passages: Sequence[Passage]) -> int:
        """Return how many of the first texts fit into one request, at least one, where a proxy has refused a larger."""
        largest = self._spec.connection.body_limits.largest(_PATH)
        if largest is None:
            return len(passages)
        size = body_size(self._body([]))
        for number, passage in enumerate(passages):
            size += body_size([passage.sent])  # with brackets, where there will be a comma and a blank
            if size > largest and number:
                return number
        return len(passages)

    def _body(self, passages: Sequence[Passage]) -> dict[str, Any]:
        return {**self._spec.body, "input": [passage.sent for passage in passages]}

    def _learn(self, passages: Sequence[Passage], reply: Mapping[str, Any]) -> None:
        learn, tokens = self._spec.learn_tokens, tokens_of(reply)
        # A text that was cut counts as the window, which says nothing of its tokens.
        if learn is None or tokens is None or self._spec.on_long_text == "truncate":
            return
        texts = [passage.sent for passage in passages]
        if max(map(len, texts)) > SURELY_FITS:  # shorter ones are never estimated
            learn(texts, tokens)


def _but_for_failures(policy: tenacity.Retrying) -> tenacity.Retrying:
    """Take failures of the server out of what is tried again."""
    is_worth_it = policy.retry

    def retry(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        is_failure = isinstance(error, OllamaResponseError) and error.status in _FAILED
        return not is_failure and bool(is_worth_it(state))

    return policy.copy(retry=retry)


Outcome = list[float] | OllamaError
"""A vector of length 1, or why there is none."""

EXCERPT = 60
"""How many characters of a text an error names."""

_SHORTEST = 16  # characters; what is too long at this length is so for another reason than its length
_MARKS = 4  # tokens that a model puts around a text, at most
_LEAST_ROOM = 8  # pieces have at least this part of the window
_MOST_TRIES = 4  # to cut a text so that all of its pieces probably fit
_SUSPECTS = 4  # one of so many texts that are too long together is asked for alone
_MOST_ALONE = 8

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
        spec: What is asked for.
        run: The run that the requests belong to.
        replied: Told of each reply.
    """

    def __init__(self, spec: EmbeddingSpec, run: Run, replied: Callable[[Reply], None]) -> None:
        self._spec = spec
        self._window = functools.partial(spec.window, run)
        self._asker = Asker(spec, run, replied)
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
        number = self._spec.batches.fitting([len(passage.sent) for passage in passages])
        return self._asker.fitting(passages[:number])

    def _found(self, passages: Sequence[Passage], share: _Share) -> list[_Parts | OllamaError]:
        try:
            values = self._asker.ask(passages, is_part=share in ("half", "piece"), is_repeated=share == "again")
        except OllamaError as error:
            is_too_long = isinstance(error, OllamaContextError)
            if not may_be_about_a_text(error) or (is_too_long and share == "piece"):
                raise
            if len(passages) > 1:
                return self._apart(passages, share, by_length=is_too_long)
            return [self._alone(passages[0], error, share)]
        self._has_succeeded = self._has_succeeded or any(isinstance(value, list) for value in values)
        is_alone = share in ("whole", "again") and len(passages) == 1
        return [
            self._again(passage, value, is_alone=is_alone) if isinstance(value, str) else [(len(passage.text), value)]
            for passage, value in zip(passages, values, strict=True)
        ]

    def _apart(self, passages: Sequence[Passage], share: _Share, *, by_length: bool) -> list[_Parts | OllamaError]:
        """Ask for the texts of a request that failed in several requests, two halves as a rule.

        Where some are too long, they are among the longest: those go alone, and are refused before anything is done
        for them, where the server would embed all the others of a request first (0.33).
        """
        indexes = list(range(len(passages)))
        middle = len(indexes) // 2
        if by_length:
            indexes.sort(key=lambda index: self._most_tokens(passages[index].sent))
            middle = len(indexes) - max(1, len(indexes) // _SUSPECTS)
        groups = [indexes[:middle], indexes[middle:]]
        if by_length and len(groups[1]) <= _MOST_ALONE:
            groups = [groups[0], *([index] for index in groups[1])]
        share = "half" if share == "whole" else share
        found: dict[int, _Parts | OllamaError] = {}
        for group in groups:
            found.update(zip(group, self._found([passages[index] for index in group], share), strict=True))
        return [found[index] for index in range(len(passages))]

    def _alone(self, passage: Passage, error: OllamaError, share: _Share) -> _Parts | OllamaError:
        """Say what becomes of a text that failed by itself."""
        if isinstance(error, OllamaContextError):
            return self._in_pieces(passage, error) if self._spec.on_long_text == "chunk" else _about(passage, error)
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
        host, model = self._spec.connection.base_url, self._spec.model
        return OllamaStreamError(
            f"Model {model!r} of Ollama at {host} gave no vector: {wrong}.", host=host, model=model
        )

    def _is_probably_long(self, passage: Passage) -> bool:
        if self._spec.on_long_text == "truncate" or len(passage.sent) <= SURELY_FITS:
            return False
        return self._most_tokens(passage.sent) > self._room()

    def _room(self) -> int:
        """Return how many tokens a text may have; it has to fit into one batch of the runner, too."""
        batch = self._spec.body.get("options", {}).get("num_batch") or _USUAL_BATCH_TOKENS
        return min(self._window() or batch, batch)

    def _most_tokens(self, text: str) -> int:
        return max(self._least_tokens(text), (self._spec.count_tokens or self._spec.most_tokens)(text))

    def _cut_tokens(self, text: str) -> int:
        return max(self._least_tokens(text), (self._spec.count_tokens or self._spec.cut_tokens)(text))

    def _least_tokens(self, text: str) -> int:
        return (self._spec.count_tokens or least_tokens)(text)

    def _long(self, passage: Passage) -> _Parts | OllamaError:
        """Embed a text that is probably too long; one that surely is, is not sent."""
        window, tokens = self._window(), self._least_tokens(passage.sent)
        if window is None or tokens <= window:
            return self._found([passage], "whole")[0]
        error = OllamaContextError(
            f"A text is too long for model {self._spec.model!r}: it has {tokens} tokens or more, and the window has "
            f"{window}. Shorten it, or use on_long_text='chunk' or 'truncate'.",
            host=self._spec.connection.base_url,
            model=self._spec.model,
            tokens_wanted=tokens,
            tokens_available=window,
        )
        return self._in_pieces(passage, error) if self._spec.on_long_text == "chunk" else _about(passage, error)

    def _in_pieces(self, passage: Passage, error: OllamaContextError) -> _Parts | OllamaError:
        """Embed a text piece by piece. As long as some do not fit, all that are left are halved."""
        rest = self._pieces(passage) if len(passage.text) >= _SHORTEST else []
        if not rest:
            return _about(passage, error)
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

    def _pieces(self, passage: Passage) -> list[str]:
        """Cut a text into pieces that probably fit; none where the prefix fills the window alone."""
        if (window := self._window()) is None:
            return split_text(passage.text, 2)
        if self._least_tokens(passage.prefix) >= window:
            return []
        # A prefix counts rather too much: what it really leaves is found out by asking.
        room = max(self._room() - self._cut_tokens(passage.prefix) - _MARKS, window / _LEAST_ROOM)
        number = math.ceil(self._cut_tokens(passage.text) / room)
        pieces = split_text(passage.text, number)
        for _ in range(_MOST_TRIES):
            # Some parts of a text are denser than others.
            excess = max(map(self._cut_tokens, pieces)) / room
            if excess <= 1 or max(map(len, pieces)) < 2 * _SHORTEST:
                break
            number = max(number + 1, math.ceil(number * excess))
            pieces = split_text(passage.text, number)
        return pieces


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
