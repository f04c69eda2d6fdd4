"""Which failures are worth another try, and how long to wait for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import tenacity

from griptape_ollama.errors import (
    OllamaConnectionError,
    OllamaError,
    OllamaResponseError,
    OllamaStreamError,
)

MAX_RETRY_AFTER = 60.0
"""Longest Retry-After, in seconds, that is waited for; a server that asks for more gets no second try."""

_logger = logging.getLogger(__name__)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed a little later.

    A refused connection, a limit that was reached and a cancelled call are not passing; neither is whatever the
    server would say again. Broken connections, busy servers and dead runners are.
    """
    if isinstance(error, OllamaConnectionError):
        return not error.refused
    if isinstance(error, OllamaResponseError):
        return not error.permanent and (error.retry_after or 0) <= MAX_RETRY_AFTER
    return isinstance(error, OllamaStreamError) and error.retryable


def retrying(
    *,
    max_attempts: int = 2,
    min_delay: float = 2.0,
    max_delay: float = 10.0,
    ignored: tuple[type[BaseException], ...] = (),
    after: Callable[[tenacity.RetryCallState], Any] | None = None,
) -> tenacity.Retrying:
    """Make the policy: exponential backoff with full jitter, and Retry-After where the server sends it.

    Args:
        max_attempts: Tries in all.
        min_delay: Upper end of the first wait, in seconds; it doubles with each try.
        max_delay: Longest wait, in seconds.
        ignored: Types of errors that are never tried again.
        after: Called after each try that failed.
    """
    backoff = tenacity.wait_random_exponential(multiplier=min_delay, max=max_delay)

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, OllamaResponseError) else None
        return backoff(state) if asked is None else asked

    def is_worth_it(error: BaseException) -> bool:
        return is_passing(error) and not isinstance(error, ignored)

    def noop(_: Any) -> None:
        pass

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_worth_it),
        stop=tenacity.stop_after_attempt(max_attempts),
        wait=wait,
        before_sleep=_log,
        after=after or noop,
        reraise=True,
    )


def _log(state: tenacity.RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, OllamaError)  # noqa: S101 # is_worth_it lets no other through
    wait = state.next_action.sleep if state.next_action else 0
    _logger.warning("Attempt %d failed: %s Trying again in %.1f s.", state.attempt_number, error, wait)
