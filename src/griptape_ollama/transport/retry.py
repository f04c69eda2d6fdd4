"""Which failures are worth another try, and how long to wait for it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import Any

import tenacity

from griptape_ollama.errors import (
    OllamaConnectionError,
    OllamaGatewayError,
    OllamaResponseError,
    OllamaStreamError,
)
from griptape_ollama.escaping import printable

MAX_RETRY_AFTER = 60.0
"""Longest Retry-After, in seconds, that is waited for; a server that asks for more gets no second try."""

SERVER_POLL_SECONDS = 0.5
"""How often a server that is not there is asked again, with `wait_for_server`."""

_MAX_DOUBLINGS = 30

_POLLS = "griptape_ollama_polls"
_LOGGED = "griptape_ollama_logged"

_logger = logging.getLogger(__name__)


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may succeed a little later.

    A refused connection, a limit that was reached and a cancelled call are not transient; neither is an error that the
    server would return again. Broken connections, busy servers and dead runners are.
    """
    if isinstance(error, OllamaResponseError):
        return not error.permanent and (error.retry_after or 0) <= MAX_RETRY_AFTER
    if isinstance(error, OllamaConnectionError):
        return not error.refused
    return isinstance(error, OllamaStreamError) and error.retryable


def retry_policy(
    *,
    max_attempts: int = 2,
    min_delay: float = 2.0,
    max_delay: float = 10.0,
    wait_for_server: float = 0.0,
    ignored: tuple[type[BaseException], ...] = (),
    after: Callable[[tenacity.RetryCallState], Any] | None = None,
    progress: Callable[[], float] | None = None,
) -> tenacity.Retrying:
    """Build the policy: exponential backoff with full jitter, on top of Retry-After where the server sends it.

    A kept connection that broke silently is replaced without a wait.

    Args:
        max_attempts: Tries in all, not counting those that found no server while it is waited for.
        min_delay: Upper end of the first wait, in seconds; it doubles with each try.
        max_delay: Longest wait of the backoff, in seconds.
        wait_for_server: Seconds from the first try for which a server that is not there is asked again, also one behind
            a gateway that answers in its place.
        ignored: Types of errors that are never tried again.
        after: Called after each try that failed.
        progress: Returns a number that grows while the work makes progress; a policy with it serves one call. Tries and
            seconds then count from the last try that made progress: a resumed transfer may break any number of times.
    """
    tries = _Tries(progress)

    def backoff(state: tenacity.RetryCallState) -> float:
        longest = min_delay * 2.0 ** min(tries.count(state) - 1, _MAX_DOUBLINGS)
        return random.uniform(0, min(longest, max_delay))  # noqa: S311 # nothing secret

    def wait(state: tenacity.RetryCallState) -> float:
        error = _error_of(state)
        if _is_stale(error):
            return 0.0
        longest = SERVER_POLL_SECONDS if is_waited_for(state) else backoff(state)
        asked = error.retry_after if isinstance(error, OllamaResponseError) else None
        # On top, so that clients with the same Retry-After do not return together; never below that value.
        return longest if asked is None else asked + longest

    def is_waited_for(state: tenacity.RetryCallState) -> bool:
        return _is_absent(_error_of(state)) and tries.seconds(state) < wait_for_server

    def is_worth_it(error: BaseException) -> bool:
        return (is_transient(error) or (wait_for_server > 0 and _is_refused(error))) and not isinstance(error, ignored)

    def stop(state: tenacity.RetryCallState) -> bool:
        if is_waited_for(state):
            tries.record_poll(state)
            return False
        return _is_refused(_error_of(state)) or tries.count(state) >= max_attempts

    def noop(_: Any) -> None:
        pass

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_worth_it),
        stop=stop,
        wait=wait,
        before_sleep=_log,
        after=after or noop,
        reraise=True,
    )


class _Tries:
    """Counts the tries of a call since its last progress, or all tries without a progress function.

    Args:
        progress: Returns a number that grows while the work makes progress.
    """

    def __init__(self, progress: Callable[[], float] | None) -> None:
        self._progress = progress
        self._reached = progress() if progress else 0.0
        self._before = 0
        self._since: float | None = None

    def count(self, state: tenacity.RetryCallState) -> int:
        """Return the failed tries since the last progress, that one included, without those that found no server."""
        self._update(state)
        return state.attempt_number - self._before - vars(state).get(_POLLS, 0)

    @staticmethod
    def record_poll(state: tenacity.RetryCallState) -> None:
        """Record that a try found no server: it does not count as a try."""
        # On the state, which belongs to one call, while policies serve many.
        vars(state)[_POLLS] = vars(state).get(_POLLS, 0) + 1

    def seconds(self, state: tenacity.RetryCallState) -> float:
        """Return the seconds since then."""
        self._update(state)
        return (state.seconds_since_start or 0.0) if self._since is None else time.monotonic() - self._since

    def _update(self, state: tenacity.RetryCallState) -> None:
        if self._progress is not None and (reached := self._progress()) > self._reached:
            self._reached = reached
            self._before = state.attempt_number - 1
            vars(state)[_POLLS] = 0
            self._since = time.monotonic()


def stale_connection_policy() -> tenacity.Retrying:
    """Build the policy of requests that are not worth a wait: only a kept connection that broke is replaced, once."""
    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_stale),
        stop=tenacity.stop_after_attempt(2),
        before_sleep=_log,
        reraise=True,
    )


def _is_stale(error: BaseException | None) -> bool:
    return isinstance(error, OllamaConnectionError) and error.stale


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_refused(error: BaseException | None) -> bool:
    # A server that redirects is there, and will do so again.
    return isinstance(error, OllamaConnectionError) and error.refused and not error.redirected


def _is_absent(error: BaseException | None) -> bool:
    """Return whether no server is there, or a gateway does not reach it."""
    return _is_refused(error) or isinstance(error, OllamaGatewayError)


def _log(state: tenacity.RetryCallState) -> None:
    text = printable(str(_error_of(state)))
    wait = state.next_action.sleep if state.next_action else 0
    if vars(state).get(_LOGGED) == text:
        _logger.warning("Attempt %d failed in the same way. Trying again in %.1f s.", state.attempt_number, wait)
        return
    vars(state)[_LOGGED] = text
    _logger.warning("Attempt %d failed: %s Trying again in %.1f s.", state.attempt_number, text, wait)
