"""How many tokens prompts have: estimated without asking the server, and learned from what it counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from operator import mul
from typing import Any

from griptape_ollama.context.calibration import Calibration
from griptape_ollama.context.estimates import TokenEstimate, to_estimate
from griptape_ollama.context.message_parts import parts_of
from griptape_ollama.context.priors import BYTE_PRIORS, PROMPT_PRIORS
from griptape_ollama.context.prompt_rows import AROUND_TEXTS, added, fixed_row, has_system, messages_row, prefixes
from griptape_ollama.context.recent_cache import RecentMemory
from griptape_ollama.context.text_rows import Row, TextRows
from griptape_ollama.transport.fork_safety import renew_when_forked

_PROMPTS = 64
# Below this share of what is expected a count is not one of the prompt: it was cut, or is no count at all.
_LEAST_SHARE = 0.05
# What is taken for typical follows the last ten prompts or so.
_NEW_SHARE = 0.1

_logger = logging.getLogger(__name__)


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
