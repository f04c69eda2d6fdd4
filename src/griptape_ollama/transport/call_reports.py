"""What became of each call, for whoever wants to know. Nobody listens by default, and then nothing is made."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

from griptape_ollama.errors import OllamaCancelledError


@dataclass(frozen=True)
class CallReport:
    """One call that is over, retries included.

    Attributes:
        host: Address of the server, without user and password.
        model: Model that it was about; None where it was about none.
        path: Path of the request, for example `/api/chat`.
        seconds: From its start to its end.
        time_to_first_token: Seconds from its start to the first output; None where none came, or where the reply is no
            stream.
        seconds_in_queue: Part of `seconds` for which it waited for one of `max_concurrency` places.
        retries: Tries after the first.
        input_tokens: Tokens of the prompt, where the server told.
        cached_tokens: Those of them that the server need not read again, likewise.
        output_tokens: Tokens of the reply, likewise.
        error: Why it failed; None where it did not. An OllamaCancelledError where the reply was left before its end.
    """

    host: str
    model: str | None
    path: str
    seconds: float
    time_to_first_token: float | None = None
    seconds_in_queue: float = 0.0
    retries: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    error: BaseException | None = None
    cached_tokens: int | None = None


Listener = Callable[[CallReport], object]

_logger = logging.getLogger(__name__)
_lock = threading.Lock()
# Replaced as a whole, so that calls read it without the lock.
_listeners: tuple[Listener, ...] = ()


def listen(listener: Listener) -> None:
    """Call a function with the report of each call that starts from now on, in the thread in which the call ends.

    Args:
        listener: The function. It must be quick, for the caller waits for it; what it raises is logged.
    """
    global _listeners  # noqa: PLW0603
    with _lock:
        _listeners = (*_listeners, listener)


def stop_listening(listener: Listener) -> None:
    """Call a function no more. Harmless where it never was."""
    global _listeners  # noqa: PLW0603
    with _lock:
        _listeners = tuple(each for each in _listeners if each != listener)


def reported(
    report: Callable[[BaseException | None], CallReport],
    is_complete: Callable[[], bool],
    listener: Listener | None = None,
) -> contextlib.AbstractContextManager[None]:
    """Report the call that is made inside, however it ends.

    Args:
        report: Makes the report of how it ended.
        is_complete: Whether the whole reply is there, so that leaving now is no cancelling.
        listener: A function that listens to this call alone.
    """
    is_wanted = _listeners or listener is not None
    return _reporting(report, is_complete, listener) if is_wanted else contextlib.nullcontext()


@contextlib.contextmanager
def _reporting(
    report: Callable[[BaseException | None], CallReport], is_complete: Callable[[], bool], listener: Listener | None
) -> Generator[None, None, None]:
    error: BaseException | None = None
    try:
        yield
    except GeneratorExit:
        error = None if is_complete() else OllamaCancelledError("The reply was left before its end.")
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        _tell(report(error), listener)


def _tell(report: CallReport, own: Listener | None) -> None:
    for listener in _listeners if own is None else (*_listeners, own):
        _tell_one(listener, report)


def _tell_one(listener: Listener, report: CallReport) -> None:
    try:
        listener(report)
    except Exception:
        _logger.exception("A listener to calls failed.")
