"""Questions about a server and its models that a gateway in front of it refuses, while it lets prompts through.

Where prompts fail, too, it is the server that does not answer: then the questions are asked anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.escaping import printable
from griptape_ollama.transport.outcomes import last_absence

REFUSED_SECONDS = 60.0
"""How long a refused question is not asked again, whatever model it is about."""

DOUBTFUL_SECONDS = 10.0
"""How long after the first refusal, where it may be that of a server that starts, or of a key that is soon known."""

_STATUSES = frozenset({401, 403, 404, 405, 406, 407, 410, 418, 421, 451, 501})
# What is below, and not 200, is no answer either: nothing, or a redirect to nowhere.
_LEAST_ERROR = 400
_MAX_ENTRIES = 512

Question = tuple[tuple[str, str], str]
"""The identity of a connection, which includes its credentials, and a path."""

_logger = logging.getLogger(__name__)


def is_refusal(error: OllamaError) -> bool:
    """Return whether an error is about the question itself: not about the model, nor about a server that is gone."""
    if isinstance(error, OllamaConnectionError):
        # A gateway may answer with its own failure, lead to its login, or close the connection.
        return error.redirected or not error.refused
    if isinstance(error, OllamaResponseError):
        is_refused = error.status in _STATUSES or (error.status is not None and error.status < _LEAST_ERROR)
        return is_refused and not isinstance(error, OllamaModelNotFoundError)
    return isinstance(error, OllamaStreamError) and not error.retryable


class _Refusal(NamedTuple):
    at: float
    until: float
    is_doubtful: bool


class RefusedEndpoints:
    """Remembers refused questions. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refusals: OrderedDict[Question, _Refusal] = OrderedDict()
        self._said: set[tuple[str, str]] = set()

    def __contains__(self, question: Question) -> bool:
        """Return whether a question was refused a short time ago."""
        refusal = self._refusals.get(question)
        if refusal is None or refusal.until <= time.monotonic():
            return False
        return not refusal.is_doubtful or last_absence(question[0][0]) < refusal.at

    def add(self, question: Question, error: OllamaError) -> None:
        """Record a refusal; the first one of a connection is logged.

        Args:
            question: What was asked.
            error: What came of it.
        """
        (address, _), path = identity, _ = question
        is_doubtful = isinstance(error, (OllamaConnectionError, OllamaAuthError))
        seconds = DOUBTFUL_SECONDS if is_doubtful and question not in self._refusals else REFUSED_SECONDS
        now = time.monotonic()
        with self._lock:
            self._refusals[question] = _Refusal(now, now + seconds, is_doubtful)
            if len(self._refusals) > _MAX_ENTRIES:
                self._refusals.popitem(last=False)
            is_news = identity not in self._said
            if len(self._said) >= _MAX_ENTRIES:
                self._said.clear()
            self._said.add(identity)
        if is_news:
            _logger.warning(
                "%s does not tell %s: prompts go on without it, and it is asked for again in %d s. If a proxy in "
                "between refuses it, let /api/show, /api/ps, /api/tags and /api/version through. %s",
                address,
                path,
                seconds,
                printable(str(error)),
            )

    def remove(self, question: Question) -> None:
        """Record that a question was answered."""
        if question in self._refusals:
            with self._lock:
                self._refusals.pop(question, None)

    def clear(self) -> None:
        """Forget all refusals."""
        with self._lock:
            self._refusals.clear()
            self._said.clear()
