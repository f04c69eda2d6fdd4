"""Estimates the tokens of prompts and texts without asking the server, and learns from what it counted."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from operator import mul
from typing import Any, Generic, TypeVar

from cachetools import LRUCache

from griptape_ollama.context.tokens.features import (
    TEMPLATE_FEATURES,
    Features,
    RecentCache,
    TextFeatures,
    added,
    fixed_features,
    has_system,
    message_features,
    parts_of,
    prefix_hashes,
)
from griptape_ollama.context.tokens.priors import (
    BYTE_PRIORS,
    OWN_COUNT_PRIORS,
    PROMPT_PRIORS,
    TEXT_PRIORS,
    TEXT_WEIGHTS,
    TYPICAL,
)
from griptape_ollama.context.tokens.regression import Prior, TokenEstimate, TokenRegression, to_estimate
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

_logger = logging.getLogger(__name__)

_AROUND = len(TEMPLATE_FEATURES)
_PROMPTS = 64
# Below this share of what is expected a count is not one of the prompt: it was truncated, or is no count at all.
_LEAST_SHARE = 0.05
# The typical prompt is an average over the last ten or so.
_NEW_SHARE = 0.1


class PromptEstimator:
    """Estimates the tokens of prompts for one model, and learns from each reply. Threads may share it.

    Args:
        count: Counts the tokens of a text in place of the built-in features, for example with the model's own
            tokenizer. Its counts are calibrated as well. Where it fails, the built-in estimate is used.
    """

    def __init__(self, count: Callable[[str], float] | None = None) -> None:
        self._texts = TextFeatures(TEXT_WEIGHTS, count)
        alternative = (*PROMPT_PRIORS, *BYTE_PRIORS) if count is None else None
        priors = TEXT_PRIORS if count is None else OWN_COUNT_PRIORS
        self._regression = TokenRegression((*PROMPT_PRIORS, *priors), alternative)
        # Of the last prompts: how many messages, their features, and the server's count.
        self._prompts: RecentCache[tuple[int, Features, int]] = RecentCache(_PROMPTS)
        # Version of the weights, weights of what surrounds texts, those of texts: replaced together.
        self._weights = self._current_weights()
        self._typical: Features = (*((0,) * _AROUND), *self._texts.typical(TYPICAL))
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
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
        features = (*((0,) * _AROUND), *self._texts.of(text))
        with self._lock:
            return self._estimate(features)

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
        """Estimate the tokens that messages of nothing but a text each add to a prompt."""
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
        return sum(map(mul, fixed_features(tools, self._texts, has_system=has_system), around + of_texts))

    def estimate(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> TokenEstimate:
        """Estimate the tokens of a prompt: `fixed_tokens` and the `message_tokens` of all messages together.

        Args:
            messages: Messages as they go over the wire.
            tools: Tools as they go over the wire.
        """
        fixed = fixed_features(tools, self._texts, has_system=has_system(messages))
        features = added(fixed, message_features(messages, self._texts))
        with self._lock:
            return self._estimate(features)

    def learn(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], prompt_eval_count: int
    ) -> None:
        """Learn from a reply whose prompt was not truncated.

        Where the prompt continues one that was counted before, only what came after that is learned from: the rest
        would otherwise count again with each turn.

        Args:
            messages: Messages that were sent.
            tools: Tools that were sent.
            prompt_eval_count: What the server counted. An impossible count is ignored.
        """
        if not _is_count(prompt_eval_count):
            return
        hashes = list(prefix_hashes(messages, tools))
        fixed = fixed_features(tools, self._texts, has_system=has_system(messages))
        with self._lock:
            length, before, counted = self._longest_counted(hashes)
            new = message_features(messages[length:], self._texts)
            features = added(before, new) if length else added(fixed, new)
            if not self._is_possible(features, prompt_eval_count):
                _logger.debug("%d tokens are no count of this prompt; nothing is learned.", prompt_eval_count)
                return
            if hashes:
                self._prompts.put(hashes[-1], (len(hashes), features, prompt_eval_count))
            if length == len(hashes) and length:
                return
            # A shorter prompt cannot have had more: one of the two counts is wrong, and the regression has to judge.
            continues = 0 < counted < prompt_eval_count
            self._learn(new if continues else features, prompt_eval_count - counted if continues else prompt_eval_count)

    def _longest_counted(self, hashes: Sequence[int]) -> tuple[int, Features, int]:
        for length in range(len(hashes), 0, -1):
            known = self._prompts.get(hashes[length - 1])
            if known is not None and known[0] == length:
                return known
        return 0, (), 0

    def _is_possible(self, features: Features, tokens: int) -> bool:
        return _LEAST_SHARE * self._regression.expected(features) <= tokens <= self._regression.most(features)

    def _learn(self, features: Features, tokens: int) -> None:
        self._regression.learn(features, tokens)
        self._weights = self._current_weights()
        padded = added(self._typical, (0,) * len(features))
        self._typical = added(
            tuple(number * (1 - _NEW_SHARE) for number in padded), tuple(number * _NEW_SHARE for number in features)
        )

    def _current_weights(self) -> tuple[int, Features, Features]:
        weights = self._regression.weights
        return self._regression.counts, weights[:_AROUND], weights[_AROUND:]

    def _text_tokens(self, text: str) -> float:
        version, _, of_texts = self._weights
        return self._texts.tokens(text, version, of_texts)

    def _estimate(self, features: Features) -> TokenEstimate:
        deviation = self._regression.deviation(features) if any(features) else 0.0
        return to_estimate(self._regression.expected(features), deviation)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


# Around each text that is embedded: [CLS] and [SEP] of BERT, one mark at its end (Qwen 3), or none.
_AROUND_A_TEXT = Prior("texts", 2.0, 1.0, 16.0)


class TextEstimator:
    """Estimates the tokens of texts for one embedding model, and learns from each reply. Threads may share it."""

    def __init__(self) -> None:
        self._texts = TextFeatures(TEXT_WEIGHTS)
        self._regression = TokenRegression((_AROUND_A_TEXT, *TEXT_PRIORS))
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def estimate(self, text: str) -> TokenEstimate:
        """Estimate the tokens of a text, with how sure that is."""
        features = (1, *self._texts.of(text))
        with self._lock:
            return to_estimate(self._regression.expected(features), self._regression.deviation(features))

    def most_tokens(self, text: str) -> int:
        """Estimate the tokens of a text, so high that it has more of them in 2 of 100 cases only."""
        return self.estimate(text).high

    def learn(self, texts: Sequence[str], tokens: int) -> None:
        """Learn from the reply to a request of which nothing was truncated.

        Args:
            texts: The texts of the request.
            tokens: What the server counted for all of them. An impossible count is ignored.
        """
        found: list[Features] = [self._texts.of(text) for text in texts]
        features: Features = (len(found), *map(sum, zip_longest(*found, fillvalue=0)))
        with self._lock:
            if 0 < tokens <= self._regression.most(features):
                self._regression.learn(features, tokens)


_unlearned = TextEstimator()


def unlearned_tokens(text: str) -> int:
    """Estimate the most tokens that a text has in any vocabulary: the same number each time."""
    return _unlearned.most_tokens(text)


_MODELS = 128

Estimator = TypeVar("Estimator", PromptEstimator, TextEstimator)


class EstimatorCache(Generic[Estimator]):
    """One estimator for each model of a server, shared by all drivers; those asked for last are kept.

    Args:
        create: Creates an estimator.
    """

    def __init__(self, create: Callable[[], Estimator]) -> None:
        self._create = create
        self._known: LRUCache[tuple[str, str], Estimator] = LRUCache(_MODELS)
        self._lock = threading.Lock()
        renew_when_forked(self)
        reset_with_shared_state(self.clear)

    def start_afresh(self) -> None:
        """Replace a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def of(self, address: str, model: str) -> Estimator:
        """Return the estimator of a model."""
        with self._lock:
            estimator = self._known.get((address, model))
            if estimator is None:
                estimator = self._known[address, model] = self._create()
            return estimator

    def clear(self) -> None:
        """Forget all that was learned."""
        with self._lock:
            self._known.clear()


_of_prompts = EstimatorCache(PromptEstimator)
_of_texts = EstimatorCache(TextEstimator)


def estimator_of(address: str, model: str) -> PromptEstimator:
    """Return the estimator of a model, which all drivers of this process share.

    Args:
        address: Address of the server.
        model: Name of the model, spelled in one way (`ModelName.key`).
    """
    return _of_prompts.of(address, model)


def text_estimator_of(address: str, model: str) -> TextEstimator:
    """Return the estimator of an embedding model, as `estimator_of` does for a chat model."""
    return _of_texts.of(address, model)
