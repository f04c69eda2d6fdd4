"""Methods of a driver that a subclass or a test replaced, called where Griptape's base class calls them."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

import tenacity
from griptape.common import BaseDeltaMessageContent, DeltaMessage

from griptape_ollama.drivers.chunks import StreamedMessageBuilder
from griptape_ollama.errors import OllamaError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.connection_settings import OllamaServerMixin
from griptape_ollama.transport.run import Run

T = TypeVar("T")

_OWN_RETRYING = vars(OllamaServerMixin)["retrying"]
_END = object()

_current: ContextVar[PromptRun | None] = ContextVar("ollama_prompt_run", default=None)


class _Retrying(Protocol):
    ignored_exception_types: tuple[type[Exception], ...]

    def retrying(self) -> tenacity.Retrying: ...


def is_overridden(driver: Any, name: str, own: Mapping[str, Any]) -> bool:
    """Return whether a method of a driver is another one than that of our class.

    Args:
        driver: The driver. A method that was set on it, as tests do, counts as well.
        name: Name of the method.
        own: The methods of our class, as they stand in its body.
    """
    # As `getattr_static`, which costs many times as much. `getattr` would bind a method that a descriptor decorates.
    kinds = cast("type[Any]", type(driver)).__mro__
    return name in vars(driver) or next(vars(kind)[name] for kind in kinds if name in vars(kind)) is not own[name]


class PromptRun:
    """The run of one prompt, for inherited methods that a subclass calls from its own.

    The signatures of these methods are Griptape's, so they find it in the context; our own methods pass it on.

    Args:
        driver: The driver that runs.
        api: The run on the server.

    Attributes:
        api: As given.
        publish: Publishes a delta that no `DeltaMessage` can carry; None if chunks are not published.
        metadata: The metadata of the reply, once the inherited `try_stream` has set it.
    """

    def __init__(self, driver: Any, api: OllamaApi) -> None:
        self.api = api
        self.publish: Callable[[BaseDeltaMessageContent], None] | None = None
        self.metadata: dict[str, Any] | None = None
        self._driver = driver
        self._in_use = threading.Lock()

    @contextlib.contextmanager
    def current(self) -> Generator[None, None, None]:
        """Make it the current one in a `with` block, for inherited methods of the same driver."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    @contextlib.contextmanager
    def used(self, driver: Any) -> Generator[bool, None, None]:
        """Reserve it for a method of a driver, and return whether it is free and of that driver."""
        is_reserved = driver is self._driver and self._in_use.acquire(blocking=False)
        try:
            yield is_reserved
        finally:
            if is_reserved:
                self._in_use.release()


@contextlib.contextmanager
def run_of_caller(
    driver: Any, start: Callable[[], contextlib.AbstractContextManager[OllamaApi]]
) -> Generator[PromptRun, None, None]:
    """Return the current run of a driver; if there is none, or where it is in use on another thread, a new one.

    Args:
        driver: The driver.
        start: Starts a run.
    """
    current = _current.get()
    with contextlib.ExitStack() as entered:
        if current is not None and entered.enter_context(current.used(driver)):
            yield current
        else:
            yield PromptRun(driver, entered.enter_context(start()))


def check_run(run: Run) -> None:
    """Raise if a run was cancelled or its time is over, between steps of a subclass.

    Raises:
        OllamaCancelledError: It was cancelled.
        OllamaTimeoutError: Its total limit has passed.
    """
    run.check()
    if run.is_over:
        raise run.timeout_error()


def add_deltas(deltas: Iterable[DeltaMessage], message: StreamedMessageBuilder, prompt_run: PromptRun) -> None:
    """Add to a message what the `try_stream` of a subclass yields, and close the stream in any case.

    Raises:
        OllamaError: The stream failed or was cancelled; with the text so far as `partial_text`.
    """
    iterator = iter(deltas)
    try:
        while (delta := _next_delta(iterator, prompt_run)) is not _END:
            check_run(prompt_run.api.run)
            message.add(delta)
    except OllamaError as error:
        error.partial_text = error.partial_text or message.text
        raise
    finally:
        if close := getattr(iterator, "close", None):
            close()


def _next_delta(deltas: Iterator[DeltaMessage], prompt_run: PromptRun) -> Any:
    with prompt_run.current():  # not while listeners get the delta
        return next(deltas, _END)


def with_retries(
    driver: _Retrying, work: Callable[[], T], run: Run, *, may_retry: Callable[[], bool] = lambda: True
) -> T:
    """Call a method of a subclass as often as Griptape's base class does.

    Failures of the server are not retried: the inherited method did that.

    Args:
        driver: The driver, with its policy.
        work: Calls the method.
        run: The run, whose end ends the waits.
        may_retry: Returns whether nothing was published yet.
    """
    policy = driver.retrying()
    passes = tenacity.retry_if_exception(
        lambda error: isinstance(error, Exception) and not isinstance(error, driver.ignored_exception_types)
    )
    # Our own policy knows failures of the server only.
    is_ours = inspect.getattr_static(driver, "retrying") is _OWN_RETRYING
    decide: Callable[[tenacity.RetryCallState], bool] = passes if is_ours else cast("Any", policy.retry)

    def is_retried(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return error is not None and not isinstance(error, OllamaError) and may_retry() and decide(state)

    def attempt() -> T:
        check_run(run)
        return work()

    return policy.copy(retry=cast("Any", is_retried), sleep=run.sleep)(attempt)
