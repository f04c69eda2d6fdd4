"""Circuit breakers: requests that failed, and are not sent again for a while.

A gateway in front of a server may refuse `/api/show` and the like, while it passes prompts on. If prompts fail, too,
the server does not answer at all, and its endpoints are tried again.
"""

from __future__ import annotations

import logging
import threading
import time

from cachetools import LRUCache

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.escaping import printable
from griptape_ollama.log_once import log_once
from griptape_ollama.transport.call_reports import last_unreachable

REFUSED_SECONDS = 60.0
"""How long a refused endpoint is not tried again, for any model."""

DOUBTFUL_SECONDS = 10.0
"""The same after the first refusal, if a server that starts, or a key that is not valid yet, may be the reason."""

_STATUSES = frozenset({401, 403, 404, 405, 406, 407, 410, 418, 421, 451, 501})
# A status below it other than 200 is no answer either: no content, or a redirect to nowhere.
_LEAST_ERROR = 400
_MAX_ENDPOINTS = 512

Endpoint = tuple[tuple[str, str], str]
"""The identity of a connection, which includes its credentials, and a path."""

_logger = logging.getLogger(__name__)


class CircuitBreaker:
    """Is open for a number of seconds after a failure: nothing is sent meanwhile.

    Attributes:
        opened_at: When it was opened, on the clock of `time.monotonic()`.
    """

    def __init__(self) -> None:
        self.opened_at = self._until = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether nothing is to be sent."""
        return self._until > time.monotonic()

    def open(self, seconds: float) -> None:
        """Open it."""
        self.opened_at = time.monotonic()
        self._until = self.opened_at + seconds


class _RefusedEndpoint(CircuitBreaker):
    is_doubtful = False


class RefusedEndpoints:
    """The endpoints that gateways refuse. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._breakers: LRUCache[Endpoint, _RefusedEndpoint] = LRUCache(_MAX_ENDPOINTS)

    def __contains__(self, endpoint: Endpoint) -> bool:
        """Return whether an endpoint was refused a short time ago."""
        if endpoint not in self._breakers:
            return False
        with self._lock:
            breaker = self._breakers.get(endpoint)
        if breaker is None or not breaker.is_open:
            return False
        return not breaker.is_doubtful or last_unreachable(endpoint[0][0]) < breaker.opened_at

    def add(self, endpoint: Endpoint, error: OllamaError) -> None:
        """Record a refusal; the first one of a connection is logged."""
        identity, path = endpoint
        with self._lock:
            breaker = self._breakers.get(endpoint)
            is_first = breaker is None
            if breaker is None:
                breaker = self._breakers[endpoint] = _RefusedEndpoint()
            breaker.is_doubtful = isinstance(error, (OllamaConnectionError, OllamaAuthError))
            seconds = DOUBTFUL_SECONDS if breaker.is_doubtful and is_first else REFUSED_SECONDS
            breaker.open(seconds)
        log_once(
            _logger,
            logging.WARNING,
            "%s does not tell %s: prompts go on without it, and it is asked for again in %d s. If a proxy in "
            "between refuses it, let /api/show, /api/ps, /api/tags and /api/version through. %s",
            identity[0],
            path,
            seconds,
            printable(str(error)),
            key=("refused", identity),
        )

    def remove(self, endpoint: Endpoint) -> None:
        """Record that an endpoint answered."""
        if endpoint in self._breakers:
            with self._lock:
                self._breakers.pop(endpoint, None)

    def clear(self) -> None:
        """Forget all refusals."""
        with self._lock:
            self._breakers.clear()


def is_refusal(error: OllamaError) -> bool:
    """Return whether an error is about the endpoint: not about the model, nor about a server that is gone."""
    if isinstance(error, OllamaConnectionError):
        # A gateway may answer with an error of its own, redirect to its login, or close the connection.
        return error.redirected or not error.refused
    if isinstance(error, OllamaResponseError):
        is_refused = error.status in _STATUSES or (error.status is not None and error.status < _LEAST_ERROR)
        return is_refused and not isinstance(error, OllamaModelNotFoundError)
    return isinstance(error, OllamaStreamError) and not error.retryable
