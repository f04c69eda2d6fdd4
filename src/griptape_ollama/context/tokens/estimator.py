"""How many tokens prompts have: estimated without asking the server, and learned from what it counted."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from typing import Any, Generic, TypeVar

from griptape_ollama.context.recent_cache import RecentMemory
from griptape_ollama.context.text_estimator import TextEstimator
from griptape_ollama.context.tokens.features import (
    AROUND_TEXTS,
    Row,
    TextRows,
    added,
    fixed_row,
    has_system,
    messages_row,
    parts_of,
    prefixes,
)
from griptape_ollama.context.tokens.priors import BYTE_PRIORS, PROMPT_PRIORS
from griptape_ollama.context.tokens.regression import Calibration, TokenEstimate, to_estimate
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

_logger = logging.getLogger(__name__)

_PROMPTS = 64
# Below this share of what is expected a count is not one of the prompt: it was cut, or is no count at all.
_LEAST_SHARE = 0.05
# What is taken for typical follows the last ten prompts or so.
_NEW_SHARE = 0.1


class PromptEstimator:
    """Estimates the tokens of prompts for one model, and learns from each reply. Threads may share it.

    Args:
        count: Counts the tokens of a text in place of the built-in classes, for example with the model's own tokenizer.
            What it says is calibrated as well. Where it fails, the built-in estimate is used.
    """

    def __init__(self, count: Callable[[str], float] | None = None) -> None:
        self._texts = TextRows(count)
        others = (*PROMPT_PRIORS, *BYTE_PRIORS) if count is None else None
        self._calibration = Calibration((*PROMPT_PRIORS, *self._texts.priors), others)
        # Of the last prompts: what they were made of, and the server's count.
        self._prompts: RecentMemory[tuple[int, Row, int]] = RecentMemory(_PROMPTS)
        # Number of the weights, the weights of what surrounds texts, those of texts: replaced at one go.
        self._weights = self._current_weights()
        self._typical: Row = (*((0,) * AROUND_TEXTS), *self._texts.typical())
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of a lock that a thread may have held which is gone."""
        self._lock = threading.Lock()

    @property
    def replies(self) -> int:
        """How many replies were learned from."""
        return self._weights[0]

    @property
    def uncertainty(self) -> float:
        """How far an estimate may be off, as a share of it, for a prompt like the last ones."""
        with self._lock:
            return self._estimate(self._typical).uncertainty

    def text_tokens(self, text: str) -> int:
        """Estimate the tokens of a text alone, without what a template puts around it."""
        return round(self._text_tokens(text))

    def text_estimate(self, text: str) -> TokenEstimate:
        """Estimate the tokens of a text alone, with how sure that is."""
        row = (*((0,) * AROUND_TEXTS), *self._texts.row(text))
        with self._lock:
            return self._estimate(row)

    def message_tokens(self, message: Mapping[str, Any]) -> float:
        """Estimate the tokens that a message adds to a prompt."""
        _, around, _ = self._weights
        content = message.get("content")
        if len(message) == 2 and isinstance(content, str) and message.get("role") != "tool":  # nearly all of them
            return around[1] + (self._text_tokens(content) if content else 0.0)
        parts = parts_of(message)
        surrounding = sum(map(mul, (0, 1, 0, 0, 0, parts.images, parts.calls), around))
        return surrounding + sum(map(self._text_tokens, parts.texts))

    def plain_tokens(self, texts: Sequence[str]) -> float:
        """Estimate the tokens that messages add to a prompt that are nothing but a text each."""
        version, around, of_texts = self._weights
        tokens = self._texts.tokens
        return len(texts) * around[1] + sum(tokens(text, version, of_texts) for text in texts)

    def fixed_tokens(self, tools: Sequence[Mapping[str, Any]] = (), *, has_system: bool = True) -> float:
        """Estimate the tokens of what does not depend on the messages: template and tools.

        Args:
            tools: Tools as they go over the wire.
            has_system: Whether one of the messages is a system message; the model's own counts otherwise.
        """
        _, around, of_texts = self._weights
        return sum(map(mul, fixed_row(tools, self._texts, has_system=has_system), around + of_texts))

    def estimate(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> TokenEstimate:
        """Estimate the tokens of a prompt: `fixed_tokens` and the `message_tokens` of all messages together.

        Args:
            messages: Messages as they go over the wire.
            tools: Tools as they go over the wire.
        """
        row = added(fixed_row(tools, self._texts, has_system=has_system(messages)), messages_row(messages, self._texts))
        with self._lock:
            return self._estimate(row)

    def learn(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], prompt_eval_count: int
    ) -> None:
        """Learn from a reply whose prompt was not cut.

        Where the prompt goes on from one that was counted before, only what came after that is learned from: the rest
        would otherwise count again with each turn.

        Args:
            messages: Messages that were sent.
            tools: Tools that were sent.
            prompt_eval_count: What the server counted. One that cannot be is left out.
        """
        if not _is_count(prompt_eval_count):
            return
        numbers = list(prefixes(messages, tools))
        fixed = fixed_row(tools, self._texts, has_system=has_system(messages))
        with self._lock:
            length, before, counted = self._counted_before(numbers)
            new = messages_row(messages[length:], self._texts)
            row = added(before, new) if length else added(fixed, new)
            if not self._is_possible(row, prompt_eval_count):
                _logger.debug("%d tokens are no count of this prompt; nothing is learned.", prompt_eval_count)
                return
            if numbers:
                self._prompts.put(numbers[-1], (len(numbers), row, prompt_eval_count))
            if length == len(numbers) and length:
                return
            # A shorter prompt cannot have had more: one of the two counts is wrong, and which is for the calibration.
            goes_on = 0 < counted < prompt_eval_count
            self._learn(new if goes_on else row, prompt_eval_count - counted if goes_on else prompt_eval_count)

    def _counted_before(self, numbers: Sequence[int]) -> tuple[int, Row, int]:
        for length in range(len(numbers), 0, -1):
            known = self._prompts.get(numbers[length - 1])
            if known is not None and known[0] == length:
                return known
        return 0, (), 0

    def _is_possible(self, row: Row, tokens: int) -> bool:
        return _LEAST_SHARE * self._calibration.expected(row) <= tokens <= self._calibration.most(row)

    def _learn(self, row: Row, tokens: int) -> None:
        self._calibration.learn(row, tokens)
        self._weights = self._current_weights()
        padded = added(self._typical, (0,) * len(row))
        self._typical = added(
            tuple(number * (1 - _NEW_SHARE) for number in padded), tuple(number * _NEW_SHARE for number in row)
        )

    def _current_weights(self) -> tuple[int, Row, Row]:
        weights = self._calibration.weights
        return self._calibration.counts, weights[:AROUND_TEXTS], weights[AROUND_TEXTS:]

    def _text_tokens(self, text: str) -> float:
        version, _, of_texts = self._weights
        return self._texts.tokens(text, version, of_texts)

    def _estimate(self, row: Row) -> TokenEstimate:
        return to_estimate(self._calibration.expected(row), self._calibration.deviation(row) if any(row) else 0.0)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_MODELS = 128

Estimator = TypeVar("Estimator", PromptEstimator, TextEstimator)


class Estimators(Generic[Estimator]):
    """Returns the same estimator to all who ask about a model of a server; those asked for last are kept.

    Args:
        make: Makes an estimator.
    """

    def __init__(self, make: Callable[[], Estimator]) -> None:
        self._make = make
        self._known: OrderedDict[tuple[str, str], Estimator] = OrderedDict()
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of a lock that a thread may have held which is gone."""
        self._lock = threading.Lock()

    def of(self, address: str, model: str) -> Estimator:
        """Give the estimator of a model."""
        with self._lock:
            estimator = self._known.get((address, model))
            if estimator is None:
                estimator = self._known[address, model] = self._make()
            self._known.move_to_end((address, model))
            while len(self._known) > _MODELS:
                self._known.popitem(last=False)
            return estimator

    def forget(self) -> None:
        """Forget all that was learned."""
        with self._lock:
            self._known.clear()


_of_prompts = Estimators(PromptEstimator)
_of_texts = Estimators(TextEstimator)
reset_with_shared_state(_of_prompts.forget)
reset_with_shared_state(_of_texts.forget)


def estimator_of(address: str, model: str) -> PromptEstimator:
    """Give the estimator of a model, shared by all who ask for it in this process.

    Args:
        address: Address of the server.
        model: Name of the model, spelled in one way (`ModelName.key`).
    """
    return _of_prompts.of(address, model)


def text_estimator_of(address: str, model: str) -> TextEstimator:
    """Return the estimator of an embedding model, as `estimator_of` does that of a chat model."""
    return _of_texts.of(address, model)
