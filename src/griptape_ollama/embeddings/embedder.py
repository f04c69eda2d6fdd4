"""Vectors of texts within one run: requests, texts that fail, and texts that are too long."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import tenacity

from griptape_ollama.conversion.chunking import least_tokens, split_text
from griptape_ollama.conversion.vectors import PLACEHOLDER, Passage, mean_of, to_vectors, tokens_of, vector_size
from griptape_ollama.embeddings.spec import SURELY_FITS, EmbeddingSpec, Reply
from griptape_ollama.errors import (
    OllamaContentError,
    OllamaContextError,
    OllamaError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.log_once import log_once
from griptape_ollama.models.audit import record_call
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.request_body import body_size
from griptape_ollama.transport.run import Run

_logger = logging.getLogger(__name__)

_PATH = "/api/embed"
# The largest vectors in use have 8192 numbers, and a number takes 25 bytes at most.
_BYTES_PER_VECTOR = 8192 * 25
_BYTES_PER_REPLY = 1024 * 1024
# Status of a runner that died: 400 since 0.13.3, 500 before.
_FAILED = (400, 500)
# Status of an error that can be about one of the texts: refused, too large for a proxy, a runner that died.
_ABOUT_TEXTS = (400, 413, 500)

Outcome = list[float] | OllamaError
"""A vector of length 1, or why there is none."""

EXCERPT = 60
"""How many characters of a text an error quotes."""

_SHORTEST = 16  # characters; a text of this length that is too long fails for another reason than its length
_MARKS = 4  # tokens that a model adds to a text, at most
_LEAST_SHARE = 8  # pieces have at least this part of the window
_MOST_TRIES = 4  # to cut a text so that all of its pieces probably fit
_SUSPECTS = 4  # one of so many texts that are too long together is sent alone
_MOST_ALONE = 8
# A text has to fit into one batch of the runner, which has 2048 tokens by default (0.33), whatever the window.
_USUAL_BATCH_TOKENS = 2048

_Part = Literal["whole", "half", "piece", "again"]
"""What a request has: texts as they came, texts of a request that failed, pieces of one text that is too long, or one
text whose vector was wrong in a larger request."""

_Pieces = list[tuple[int, list[float]]]
"""The vectors of a text's pieces, each with the length of its piece; a text that fits is one piece."""


class Embedder:
    """Gets the vectors of texts within one run.

    If a request fails because of a text, its texts are halved until that one is found; the rest get their vectors.

    Args:
        spec: Settings of the requests.
        run: The run of the requests.
        replied: Called with each reply.
    """

    def __init__(self, spec: EmbeddingSpec, run: Run, replied: Callable[[Reply], None]) -> None:
        self._spec = spec
        self._window = functools.partial(spec.window, run)
        self._requests = _EmbedRequests(spec, run, replied)
        self._has_succeeded = False

    def embed(self, passages: Sequence[Passage]) -> list[Outcome]:
        """Return a vector or an error for each text, in their order.

        Raises:
            OllamaError: All texts failed, for a reason that has nothing to do with single texts.
        """
        # The server refuses a long text at once if it is alone, and only after it has embedded the rest if not (0.33).
        alone = {index for index, passage in enumerate(passages) if self._is_probably_long(passage)}
        rest = [index for index in range(len(passages)) if index not in alone]
        found = dict(zip(rest, self._in_batches([passages[index] for index in rest]), strict=True))
        for index in sorted(alone):
            found[index] = self._long(passages[index])
        return [_joined(found[index]) for index in range(len(passages))]

    def _in_batches(self, passages: Sequence[Passage]) -> list[_Pieces | OllamaError]:
        found: list[_Pieces | OllamaError] = []
        while len(found) < len(passages):
            rest = passages[len(found) :]
            found += self._found(rest[: self._requests.fitting(rest)], "whole")
        return found

    def _found(self, passages: Sequence[Passage], part: _Part) -> list[_Pieces | OllamaError]:
        try:
            values = self._requests.send(passages, is_part=part in ("half", "piece"), is_repeated=part == "again")
        except OllamaError as error:
            is_too_long = isinstance(error, OllamaContextError)
            if not may_be_about_a_text(error) or (is_too_long and part == "piece"):
                raise
            if len(passages) > 1:
                return self._split(passages, part, by_length=is_too_long)
            return [self._failed_alone(passages[0], error, part)]
        self._has_succeeded = self._has_succeeded or any(isinstance(value, list) for value in values)
        is_alone = part in ("whole", "again") and len(passages) == 1
        return [
            self._retried(passage, value, is_alone=is_alone) if isinstance(value, str) else [(len(passage.text), value)]
            for passage, value in zip(passages, values, strict=True)
        ]

    def _split(self, passages: Sequence[Passage], part: _Part, *, by_length: bool) -> list[_Pieces | OllamaError]:
        """Send the texts of a request that failed in several requests, two halves as a rule.

        If some are too long, they are among the longest: those are sent alone. The server refuses them before it
        embeds anything, but embeds all other texts of a request first (0.33).
        """
        indexes = list(range(len(passages)))
        middle = len(indexes) // 2
        if by_length:
            indexes.sort(key=lambda index: self._most_tokens(passages[index].sent))
            middle = len(indexes) - max(1, len(indexes) // _SUSPECTS)
        groups = [indexes[:middle], indexes[middle:]]
        if by_length and len(groups[1]) <= _MOST_ALONE:
            groups = [groups[0], *([index] for index in groups[1])]
        part = "half" if part == "whole" else part
        found: dict[int, _Pieces | OllamaError] = {}
        for group in groups:
            found.update(zip(group, self._found([passages[index] for index in group], part), strict=True))
        return [found[index] for index in range(len(passages))]

    def _failed_alone(self, passage: Passage, error: OllamaError, part: _Part) -> _Pieces | OllamaError:
        if isinstance(error, OllamaContextError):
            return self._too_long(passage, error)
        if part != "whole":
            self._check_server()
        return _about(passage, error)

    def _retried(self, passage: Passage, problem: str, *, is_alone: bool) -> _Pieces | OllamaError:
        """Send a text alone whose vector was wrong in a larger request."""
        if is_alone:
            return _about(passage, self._no_vector(problem))
        (found,) = self._found([passage], "again")
        if isinstance(found, OllamaError):
            self._check_server()
        return found

    def _check_server(self) -> None:
        """Embed a full stop, unless something has been embedded: does the text fail, or everything?

        Raises:
            OllamaError: Everything fails.
        """
        if not self._has_succeeded:
            (value,) = self._requests.send([Passage("", PLACEHOLDER)], is_part=True)
            if isinstance(value, str):
                raise self._no_vector(value)
            self._has_succeeded = True

    def _no_vector(self, problem: str) -> OllamaStreamError:
        host, model = self._spec.connection.base_url, self._spec.model
        text = f"Model {model!r} of Ollama at {host} gave no vector: {problem}."
        return OllamaStreamError(text, host=host, model=model)

    def _is_probably_long(self, passage: Passage) -> bool:
        if self._spec.on_long_text == "truncate" or len(passage.sent) <= SURELY_FITS:
            return False
        return self._most_tokens(passage.sent) > self._capacity()

    def _capacity(self) -> int:
        """Return how many tokens a text may have; it has to fit into one batch of the runner, too."""
        batch = self._spec.body.get("options", {}).get("num_batch") or _USUAL_BATCH_TOKENS
        return min(self._window() or batch, batch)

    def _most_tokens(self, text: str) -> int:
        return max(self._least_tokens(text), (self._spec.count_tokens or self._spec.most_tokens)(text))

    def _cut_tokens(self, text: str) -> int:
        return max(self._least_tokens(text), (self._spec.count_tokens or self._spec.cut_tokens)(text))

    def _least_tokens(self, text: str) -> int:
        return (self._spec.count_tokens or least_tokens)(text)

    def _long(self, passage: Passage) -> _Pieces | OllamaError:
        """Embed a text that is probably too long; a text that is certainly too long is not sent."""
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
        return self._too_long(passage, error)

    def _too_long(self, passage: Passage, error: OllamaContextError) -> _Pieces | OllamaError:
        """Embed a text piece by piece, if that is wanted. As long as some pieces do not fit, the rest are halved."""
        is_chunked = self._spec.on_long_text == "chunk" and len(passage.text) >= _SHORTEST
        rest = self._cut(passage) if is_chunked else []
        if not rest:
            return _about(passage, error)
        found: _Pieces = []
        while rest:
            pieces = [Passage(passage.prefix, text) for text in rest]
            size = self._requests.fitting(pieces)
            try:
                outcomes = self._found(pieces[:size], "piece")
            except OllamaContextError as too_long:
                if max(map(len, rest[:size])) < _SHORTEST:
                    return _about(passage, too_long)
                rest = [half for text in rest for half in split_text(text, 2)]
                continue
            for outcome in outcomes:
                if isinstance(outcome, OllamaError):
                    return _about(passage, outcome)
                found += outcome
            rest = rest[size:]
        return found

    def _cut(self, passage: Passage) -> list[str]:
        """Cut a text into pieces that probably fit; none if the prefix fills the window alone."""
        if (window := self._window()) is None:
            return split_text(passage.text, 2)
        if self._least_tokens(passage.prefix) >= window:
            return []
        # The tokens of a prefix are estimated too high.
        capacity = max(self._capacity() - self._cut_tokens(passage.prefix) - _MARKS, window / _LEAST_SHARE)
        number = math.ceil(self._cut_tokens(passage.text) / capacity)
        pieces = split_text(passage.text, number)
        for _ in range(_MOST_TRIES):
            # Some parts of a text have more tokens per character.
            excess = max(map(self._cut_tokens, pieces)) / capacity
            if excess <= 1 or max(map(len, pieces)) < 2 * _SHORTEST:
                break
            number = max(number + 1, math.ceil(number * excess))
            pieces = split_text(passage.text, number)
        return pieces


class _EmbedRequests:
    """Sends the requests of one run."""

    def __init__(self, spec: EmbeddingSpec, run: Run, replied: Callable[[Reply], None]) -> None:
        self._spec = spec
        self._run = run
        self._replied = replied

    def send(
        self, passages: Sequence[Passage], *, is_part: bool = False, is_repeated: bool = False
    ) -> list[list[float] | str]:
        """Send texts in one request, and return a vector of length 1 for each text, or what is wrong with it.

        Args:
            passages: The texts.
            is_part: Whether the texts were part of a request that failed. The server's failures are then not retried,
                as they are not for several texts, which are halved.
            is_repeated: Whether the vector of the text was wrong in a larger request: if its size is wrong again,
                the vector is to blame, not the model.

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
            policy=_without_failures(spec.policy) if is_part or len(passages) > 1 else spec.policy,
            listener=record_call if spec.is_audited else None,
        )
        reply = call.document(max_bytes=_BYTES_PER_REPLY + len(passages) * _BYTES_PER_VECTOR)
        self._learn(passages, tokens_of(reply))
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
        if were_scaled:
            text = "Vectors of model %r had a length other than 1; they were scaled."
            log_once(_logger, logging.WARNING, text, spec.model)
        return values

    def fitting(self, passages: Sequence[Passage]) -> int:
        """Return how many of the first texts fit into one request, at least one.

        A proxy that has refused a large request limits its bytes.
        """
        number = self._spec.batches.fitting([len(passage.sent) for passage in passages])
        largest = self._spec.connection.body_limits.largest(_PATH)
        if largest is None:
            return number
        size = body_size(self._body([]))
        for index, passage in enumerate(passages[:number]):
            size += body_size([passage.sent])  # with brackets in place of a comma and a blank
            if size > largest and index:
                return index
        return number

    def _body(self, passages: Sequence[Passage]) -> dict[str, Any]:
        return {**self._spec.body, "input": [passage.sent for passage in passages]}

    def _learn(self, passages: Sequence[Passage], tokens: int | None) -> None:
        learn = self._spec.learn_tokens
        # For a text that was truncated, the server counts the window.
        if learn is None or tokens is None or self._spec.on_long_text == "truncate":
            return
        texts = [passage.sent for passage in passages]
        if max(map(len, texts)) > SURELY_FITS:  # shorter ones are never estimated
            learn(texts, tokens)


def _without_failures(policy: tenacity.Retrying) -> tenacity.Retrying:
    """Return a policy that does not retry failures of the server."""
    is_worth_it = policy.retry

    def retry(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        is_failure = isinstance(error, OllamaResponseError) and error.status in _FAILED
        return not is_failure and bool(is_worth_it(state))

    return policy.copy(retry=retry)


def _joined(found: _Pieces | OllamaError) -> Outcome:
    if isinstance(found, OllamaError):
        return found
    return found[0][1] if len(found) == 1 else mean_of(found)


def may_be_about_a_text(error: OllamaError) -> bool:
    """Return whether an error may be about one text, so that other texts may succeed."""
    if isinstance(error, OllamaContextError):
        return True
    if isinstance(error, OllamaResponseError):
        # A permanent 500 is about an option, or about a model that cannot be loaded.
        return error.status in _ABOUT_TEXTS and not (error.status == 500 and error.permanent)
    return isinstance(error, OllamaStreamError)


def _about(passage: Passage, error: OllamaError) -> OllamaError:
    """Add the beginning of the text to an error."""
    text = passage.text
    beginning = repr(text if len(text) <= EXCERPT else f"{text[:EXCERPT]}...")
    named = copy.copy(error)
    if beginning not in str(error):
        named.args = (f"{error} The text is {beginning}.",)
    named.__cause__ = error
    return named
