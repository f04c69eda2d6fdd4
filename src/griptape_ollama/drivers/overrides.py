"""Methods of a driver that a subclass or a test replaced, called where Griptape's base class calls them."""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast

import tenacity
from griptape.common import BaseDeltaMessageContent

from griptape_ollama.errors import OllamaError
from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.transport.run import Run

T = TypeVar("T")

_OWN_RETRYING = vars(OllamaServerMixin)["retrying"]

_handed_over: ContextVar[HandOver | None] = ContextVar("ollama_handed_over", default=None)


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
    return inspect.getattr_static(driver, name) is not own[name]


class HandOver:
    """What a run passes on to the inherited method, where a subclass calls it from its own.

    Args:
        driver: The driver that runs.
        run: The run, with its limits and its end.

    Attributes:
        run: The run.
        publish: Publishes a delta that no `DeltaMessage` can carry; None where no chunks are wanted.
        metadata: What the server told of the reply, as the inherited `try_stream` left it here.
    """

    def __init__(self, driver: Any, run: Run) -> None:
        self.run = run
        self.publish: Callable[[BaseDeltaMessageContent], None] | None = None
        self.metadata: dict[str, Any] | None = None
        self._driver = driver
        self._in_use = threading.Lock()

    @contextlib.contextmanager
    def offered(self) -> Generator[None, None, None]:
        """Offer it to what is called here; nothing of it stays behind."""
        before = _handed_over.set(self)
        try:
            yield
        finally:
            _handed_over.reset(before)

    def take(self, driver: Any) -> bool:
        """Take it for a method of a driver. False where it is not for that one, or in use: that has its own run."""
        return driver is self._driver and self._in_use.acquire(blocking=False)

    @contextlib.contextmanager
    def taken(self) -> Generator[HandOver, None, None]:
        """Give it back at the end."""
        try:
            yield self
        finally:
            self._in_use.release()


def handed_over_to(driver: Any) -> HandOver | None:
    """Return what was offered to a method of this driver, taken for it."""
    offered = _handed_over.get()
    return offered if offered is not None and offered.take(driver) else None


def check(run: Run) -> None:
    """Raise if a run was stopped or its time is over, between steps of a subclass.

    Raises:
        OllamaCancelledError: It was stopped.
        OllamaTimeoutError: Its total limit has passed.
    """
    run.check()
    if run.is_over:
        raise run.out_of_time()


def with_retries(
    driver: _Retrying, work: Callable[[], T], run: Run, *, may_retry: Callable[[], bool] = lambda: True
) -> T:
    """Call a method of a subclass as often as Griptape's base class does.

    Failures of the server are not tried again: the inherited method did that.

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

    def is_worth_it(state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        return error is not None and not isinstance(error, OllamaError) and may_retry() and decide(state)

    def sleep(seconds: float) -> None:
        run.guard.sleep(run.shorter(seconds) or 0.0)
        run.check()

    def attempt() -> T:
        check(run)
        return work()

    return policy.copy(retry=cast("Any", is_worth_it), sleep=sleep)(attempt)
