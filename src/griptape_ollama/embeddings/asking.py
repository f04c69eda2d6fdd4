"""One request for vectors."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tenacity

from griptape_ollama.conversion.embeddings import Passage, to_vectors, tokens_of, vector_size
from griptape_ollama.embeddings.order import SURELY_FITS, Order, Reply
from griptape_ollama.errors import OllamaContentError, OllamaResponseError, OllamaStreamError
from griptape_ollama.models.audit import audited_call
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.request_body import body_size
from griptape_ollama.transport.run import Run

_PATH = "/api/embed"
# The largest vectors in use have 8192 numbers, and a number takes 25 bytes at most.
_BYTES_PER_VECTOR = 8192 * 25
_BYTES_PER_REPLY = 1024 * 1024
# What a runner that died gives: 400 since 0.13.3, 500 before.
_FAILED = (400, 500)

_logger = logging.getLogger(__name__)
_scaled: set[str] = set()


class Asker:
    """Makes the requests of one run.

    Args:
        order: What is asked for.
        run: The run that the requests belong to.
        replied: Told of each reply.
    """

    def __init__(self, order: Order, run: Run, replied: Callable[[Reply], None]) -> None:
        self._order = order
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
        order = self._order
        call = Call(
            order.connection,
            _PATH,
            self._body(passages),
            limits=order.limits,
            run=self._run,
            policy=_but_for_failures(order.policy) if is_part or len(passages) > 1 else order.policy,
        )
        reply = self._reply(call, len(passages))
        self._learn(passages, reply)
        self._replied((len(passages), reply))
        identity, subject = order.identity, (order.connection, order.model, order.dimensions)
        size = vector_size(reply)
        known = identity.size(*subject)
        if size is not None and known is not None and not is_repeated:
            identity.check_size(*subject, size, self._run)
        try:
            values, were_scaled = to_vectors(reply, len(passages), dimensions=order.dimensions, size=known)
        except (OllamaStreamError, OllamaContentError) as error:
            text = f"Model {order.model!r} of Ollama at {call.host} gave vectors that are of no use: {error}."
            raise type(error)(text, host=call.host, model=order.model) from error
        if known is None and (vector := next((value for value in values if not isinstance(value, str)), None)):
            identity.check_size(*subject, len(vector), self._run)
        if were_scaled and order.model not in _scaled:
            _scaled.add(order.model)
            _logger.warning("Vectors of model %r had a length other than 1; they were scaled.", order.model)
        return values

    def fitting(self, passages: Sequence[Passage]) -> int:
        """Return how many of the first texts fit into one request, at least one, where a proxy has refused a larger."""
        largest = self._order.connection.body_limits.largest(_PATH)
        if largest is None:
            return len(passages)
        size = body_size(self._body([]))
        for number, passage in enumerate(passages):
            size += body_size([passage.sent])  # with brackets, where there will be a comma and a blank
            if size > largest and number:
                return number
        return len(passages)

    def _body(self, passages: Sequence[Passage]) -> dict[str, Any]:
        return {**self._order.body, "input": [passage.sent for passage in passages]}

    def _reply(self, call: Call, count: int) -> dict[str, Any]:
        record = audited_call(call) if self._order.is_audited else contextlib.nullcontext(dict[str, Any]())
        with record as last:
            reply = call.document(max_bytes=_BYTES_PER_REPLY + count * _BYTES_PER_VECTOR)
            last.update(reply)
        return reply

    def _learn(self, passages: Sequence[Passage], reply: Mapping[str, Any]) -> None:
        learn, tokens = self._order.learn_tokens, tokens_of(reply)
        # A text that was cut counts as the window, which says nothing of its tokens.
        if learn is None or tokens is None or self._order.on_long_text == "truncate":
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
