"""Reports of calls that are over: for listeners, and the last use of each model."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from griptape_ollama.errors import OllamaCancelledError
from griptape_ollama.protocol.keep_alive import keep_alive_seconds
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.shared_state import reset_with_shared_state


@dataclass(frozen=True)
class CallReport:
    """One call that is over, retries included.

    Attributes:
        host: Address of the server, without user and password.
        model: Model that it was about; None if it was about none.
        path: Path of the request, for example `/api/chat`.
        seconds: From its start to its end.
        time_to_first_token: Seconds from its start to the first output; None if none came, or where the reply is no
            stream.
        seconds_in_queue: Part of `seconds` for which it waited for one of `max_concurrency` places.
        retries: Tries after the first.
        input_tokens: Tokens of the prompt, where the server reports them.
        cached_tokens: Those of them that the server need not read again, likewise.
        output_tokens: Tokens of the reply, likewise.
        error: Why it failed; None if it did not. An OllamaCancelledError where the reply was left before its end.
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


def add_listener(listener: Listener) -> None:
    """Call a function with the report of each call that starts from now on, in the thread in which the call ends.

    Args:
        listener: The function. It must be quick, for the caller waits for it; what it raises is logged.
    """
    global _listeners  # noqa: PLW0603
    with _lock:
        _listeners = (*_listeners, listener)


def remove_listener(listener: Listener) -> None:
    """Call a function no more. Harmless where it never was."""
    global _listeners  # noqa: PLW0603
    with _lock:
        _listeners = tuple(each for each in _listeners if each != listener)


def reporting(
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


_MAX_MODELS = 100


class ModelUse(NamedTuple):
    """The last whole reply of a model.

    Attributes:
        at: When it ended, on the clock of `time.monotonic`.
        stay: Seconds that the model was to stay loaded; None for the server's default.
        load_seconds: Seconds that the server loaded it for the reply; None if it did not tell.
    """

    at: float
    stay: float | None
    load_seconds: float | None


# Each step is one of a dict, so that threads share them without a lock.
_absences: dict[str, float] = {}
_uses: dict[str, dict[str, ModelUse]] = {}


def record_unreachable(address: str) -> None:
    """Record that a request did not reach the server: it was absent, or a gateway did not pass the request on.

    Args:
        address: Address of the server, without user and password.
    """
    _absences[address] = time.monotonic()


def last_unreachable(address: str) -> float:
    """Return when a request last found no server, on the clock of `time.monotonic`; before all time where none did."""
    return _absences.get(address, float("-inf"))


def record_use(address: str, model: str, keep_alive: Any, last: Mapping[str, Any]) -> None:
    """Record the whole reply of a model.

    Args:
        address: Address of the server, without user and password.
        model: The model, as the request names it.
        keep_alive: That of the request; None for the server's default.
        last: The reply, or its last line.
    """
    nanoseconds = reported_count(last.get("load_duration"))
    uses = _uses.setdefault(address, {})
    if len(uses) >= _MAX_MODELS:
        uses.clear()
    load_seconds = None if nanoseconds is None else nanoseconds / 1e9
    uses[model_key(model)] = ModelUse(time.monotonic(), _stay(keep_alive), load_seconds)


def last_uses(address: str) -> dict[str, ModelUse]:
    """Return the last reply of each model, by the key of its name."""
    return dict(_uses.get(address, {}))


@reset_with_shared_state
def _forget() -> None:
    _absences.clear()
    _uses.clear()


def _stay(keep_alive: Any) -> float | None:
    try:
        return None if keep_alive is None else keep_alive_seconds(keep_alive)
    except (TypeError, ValueError, OverflowError):  # of extra_params, which go as they are
        return None
