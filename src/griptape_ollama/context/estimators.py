"""The estimators of this process: one for each model of each server, shared by all drivers."""

from __future__ import annotations

import threading
from collections import OrderedDict

from griptape_ollama.context.estimator import PromptEstimator
from griptape_ollama.transport.forking import renew_when_forked

_MODELS = 128


class Estimators:
    """Gives everybody who asks about a model of a server the same estimator; those asked for last are kept."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], PromptEstimator] = OrderedDict()
        self._lock = threading.Lock()
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Let go of a lock that a thread may have held which is gone."""
        self._lock = threading.Lock()

    def of(self, address: str, model: str) -> PromptEstimator:
        """Give the estimator of a model."""
        with self._lock:
            estimator = self._known.get((address, model))
            if estimator is None:
                estimator = self._known[address, model] = PromptEstimator()
            self._known.move_to_end((address, model))
            while len(self._known) > _MODELS:
                self._known.popitem(last=False)
            return estimator

    def forget(self) -> None:
        """Forget all that was learned."""
        with self._lock:
            self._known.clear()


_estimators = Estimators()


def estimator_of(address: str, model: str) -> PromptEstimator:
    """Give the estimator of a model, shared by all who ask for it in this process.

    Args:
        address: Address of the server.
        model: Name of the model, spelled in one way (`ModelName.key`).
    """
    return _estimators.of(address, model)


def forget_estimators() -> None:
    """Forget all that was learned from replies, as tests do."""
    _estimators.forget()
