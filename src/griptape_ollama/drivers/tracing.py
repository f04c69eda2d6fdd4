"""Tracing of streams: spans that last as long as the stream, not as long as it takes to create a generator."""

from __future__ import annotations

import contextvars
import functools
import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from griptape.common import Observable
from griptape.observability.observability import Observability

P = ParamSpec("P")
T = TypeVar("T")

_logger = logging.getLogger(__name__)


def observable_stream(stream: Callable[P, Iterator[T]]) -> Callable[P, Iterator[T]]:
    """Trace a method that is a generator, as Griptape's `observable` traces functions.

    An observability driver measures a function while it runs. Where a driver is set, a thread runs such a function
    beside the stream, from its first piece to its end.

    Args:
        stream: The method.
    """

    @functools.wraps(stream)
    def observed(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        if Observability.get_global_driver() is None:
            yield from stream(*args, **kwargs)
            return
        span = _Span(stream, args, kwargs)
        error: Exception | None = None
        try:
            yield from stream(*args, **kwargs)
        except Exception as raised:
            error = raised
            raise
        finally:
            span.end(error)

    return observed


class _Span:
    """The span of one call of a stream, until `end`.

    Args:
        stream: The method.
        args: Its arguments, the instance first.
        kwargs: Its keyword arguments.
    """

    def __init__(self, stream: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._error: Exception | None = None
        self._has_ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        # The driver names the span after the function.
        call = Observable.Call(
            func=functools.wraps(stream)(lambda *_, **__: self._wait()), instance=args[0], args=args[1:], kwargs=kwargs
        )
        # A span belongs to the one that is current where it begins.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._observe, call), name="griptape-ollama-span", daemon=True
        )
        self._thread.start()

    def end(self, error: Exception | None) -> None:
        """End the span with the error of the stream, and wait until the driver has recorded it."""
        self._error = error
        self._has_ended.put(None)
        self._thread.join()

    def _observe(self, call: Observable.Call) -> None:
        try:
            Observability.observe(call)
        except Exception as error:
            if error is not self._error:
                _logger.exception("The observability driver failed.")

    def _wait(self) -> None:
        self._has_ended.get()
        if self._error is not None:
            raise self._error
