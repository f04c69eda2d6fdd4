"""The estimators of this process: for prompts and for texts, one for each model of each server, for all drivers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from griptape_ollama.context.estimator import PromptEstimator
from griptape_ollama.context.text_estimator import TextEstimator
from griptape_ollama.transport.fork_safety import renew_when_forked

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


def forget_estimators() -> None:
    """Forget all that was learned from replies, as tests do."""
    _of_prompts.forget()
    _of_texts.forget()
