"""Threads that are started for an event loop, which must not wait for them.

`Thread.start` returns when the new thread has begun, which may have worked for some milliseconds by then. A hundred
calls that begin at the same time would keep the event loop from everything else for the sum of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import sys
import threading
import warnings
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

from typing_extensions import Self

from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state
from griptape_ollama.transport.cancel_scope import CancelScope

THREAD_NAME = "griptape-ollama-start"


class ThreadStarter:
    """Calls functions in a thread, one after the other. The thread ends when there are no more."""

    def __init__(self) -> None:
        self._due: deque[Callable[[], object]] = deque()
        self._lock = threading.Lock()
        self._is_running = False
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Drop what was queued in the parent process."""
        self.__init__()

    def add(self, start: Callable[[], object]) -> None:
        """Call a function soon, in the thread.

        Args:
            start: The function. It must be quick, and raise nothing.

        Raises:
            RuntimeError: The system has no more threads.
        """
        with self._lock:
            if not self._is_running:
                # Its first step waits for the lock.
                threading.Thread(target=self._work, name=THREAD_NAME, daemon=True).start()
                self._is_running = True
            self._due.append(start)

    def _work(self) -> None:
        while (start := self._next()) is not None:
            start()

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            if self._due:
                return self._due.popleft()
            self._is_running = False
            return None


starter = ThreadStarter()
"""Starts the threads of all event loops of this process."""


T = TypeVar("T")
Work = Callable[[Callable[[T], None]], object]
"""Makes items, and hands each to the function that it is given."""

STOP_SECONDS = 1.0
"""Longest wait of `close` for the end of the thread. It takes milliseconds, unless a tool is running."""


# A wait without an end may miss a Ctrl-C: on Windows, or if the signal came right before the wait.
_POLL_SECONDS = 0.25


class BackgroundIterator(Iterator[T], AsyncIterator[T]):
    """Items that a thread makes, for one consumer: sync or async.

    The thread begins with the first item that is asked for, carries the context variables from where the feed was made,
    and is there for this feed only: there is no pool that could be full, and none that outlives its work. Items wait
    for a slow consumer in memory, where a reply is small.

    Leaving early, by `close` or `aclose`, by the end of a `with` block, by cancelling the task that waits, or by
    dropping the feed, stops what the thread asks of Ollama. Leaving in an event loop never blocks it; elsewhere, and
    with `aclose`, it waits for the end of the thread, for a second at most.

    Args:
        work: Makes the items, in the thread.
        name: Name of the thread.
    """

    def __init__(self, work: Work[T], *, name: str) -> None:
        self._channel: _Channel[T] = _Channel()
        self._scope = CancelScope()
        target, arguments = contextvars.copy_context().run, (_make, work, self._channel, self._scope)
        self._thread = threading.Thread(target=target, args=arguments, name=name, daemon=True)
        self._is_started = False
        self._is_begun = threading.Event()
        self._waker: _LoopWaker | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether an item was asked for, and the end has not come."""
        return self._is_started and not self._channel.is_over

    def cancel(self) -> None:
        """Stop what the thread asks of Ollama, from any thread; the consumer gets OllamaCancelledError.

        Harmless before the start, when repeated, and after the end.
        """
        self._scope.cancel()

    def close(self) -> None:
        """Leave: stop the thread, and wait for its end, but not in an event loop. Harmless after the end."""
        self._leave()
        if self._is_started and self._thread is not threading.current_thread() and not has_running_loop():
            self._join()

    async def aclose(self) -> None:
        """Leave: stop the thread, and wait for its end. Harmless after the end."""
        self._leave()
        if self._is_started:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._ended(), STOP_SECONDS)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        warn_if_blocking()
        self._start()
        try:
            self._channel.wait()
        except BaseException:  # Ctrl-C
            self.close()
            raise
        return self._channel.take()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        self._start(later=True)
        waker = self._waker_here()
        try:
            await waker.wait_for(lambda: self._channel.has_news)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        except BaseException:
            self._leave()
            raise
        try:
            return self._channel.take()
        except StopIteration:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # The thread knows the belt, but not the feed: leaving a loop by `break` ends up here.
        if getattr(self, "_is_started", False) and not self._channel.is_left and not sys.is_finalizing():
            self.close()

    def _start(self, *, later: bool = False) -> None:
        if self._is_started or self._channel.is_left:
            return
        self._is_started = True
        # Without a reference to the feed, which is left by dropping it.
        begin = functools.partial(_begin, self._thread, self._channel, self._is_begun)
        if later:
            with contextlib.suppress(RuntimeError):  # no thread to spare: the one that matters may still begin
                starter.add(begin)
                return
        begin()

    def _join(self) -> None:
        if self._is_begun.wait(STOP_SECONDS):
            with contextlib.suppress(RuntimeError):  # the thread never began
                self._thread.join(STOP_SECONDS)

    def _leave(self) -> None:
        if self._channel.leave():
            self._scope.cancel()
            self._left()

    def _left(self) -> None:
        """Called once when the consumer leaves; for subclasses."""

    async def _ended(self) -> None:
        await self._waker_here().wait_for(lambda: self._channel.is_over)

    def _waker_here(self) -> _LoopWaker:
        loop = asyncio.get_running_loop()
        if self._waker is None or self._waker.loop is not loop:
            self._waker = _LoopWaker(loop)
        self._channel.set_wake(self._waker.wake)
        return self._waker


async def run_in_thread(
    work: Callable[[], T], *, name: str, watch: Callable[[BackgroundIterator[T]], object] | None = None
) -> T:
    """Run a blocking function in a thread, so that the event loop continues meanwhile.

    Cancelling the task stops what the thread asks of Ollama, and ends once the thread has, in a second at most.

    Args:
        work: What is done; it sees the context variables of the caller.
        name: Name of the thread.
        watch: Told of the feed that carries the result, which can be cancelled.
    """
    feed = BackgroundIterator[T](lambda put: put(work()), name=name)
    if watch is not None:
        watch(feed)
    return await feed.__anext__()


class _Channel(Generic[T]):
    """The queue between the thread and the consumer. Each operation is one atomic step, so that it needs no lock."""

    def __init__(self) -> None:
        self.is_over = False
        self.is_left = False
        self._items: deque[T] = deque()
        self._error: BaseException | None = None
        self._news = threading.Event()
        self._wake: Callable[[], object] = self._news.set

    @property
    def has_news(self) -> bool:
        """Whether there is an item, or none will come."""
        return bool(self._items) or self.is_over or self.is_left

    def put(self, item: T) -> None:
        """Add an item, unless the consumer has left."""
        if not self.is_left:
            self._items.append(item)
            self._wake()

    def end(self, error: BaseException | None) -> None:
        """Record that no more items come."""
        self._error = error
        self.is_over = True
        self._wake()

    def leave(self) -> bool:
        """Record that the consumer has left, and return whether this is the first time."""
        if self.is_left:
            return False
        self.is_left = True
        self._items.clear()
        self._wake()
        return True

    def set_wake(self, wake: Callable[[], object]) -> None:
        """Set what wakes the consumer. The caller checks for news afterwards: earlier news did not wake it."""
        self._wake = wake

    def wait(self) -> None:
        """Wait for news, where no event loop does."""
        self.set_wake(self._news.set)
        while not self.has_news:
            self._news.clear()
            if not self.has_news:
                self._news.wait(_POLL_SECONDS)

    def take(self) -> T:
        """Return the next item.

        Raises:
            StopIteration: There are no more.
        """
        if self.is_left:
            raise StopIteration
        if self._items:
            return self._items.popleft()
        error, self._error = self._error, None
        self.is_left = True
        if error is not None:
            raise error
        raise StopIteration


class _LoopWaker:
    """Wakes a task of an event loop from a thread; many calls between two checks cost as much as one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._woken = asyncio.Event()
        self._is_pending = False

    def wake(self) -> None:
        """Wake it."""
        if not self._is_pending:
            self._is_pending = True
            with contextlib.suppress(RuntimeError):  # the loop was closed
                self.loop.call_soon_threadsafe(self._woken.set)

    async def wait_for(self, is_so: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is checked after each wake-up."""
        while not is_so():
            self._woken.clear()
            self._is_pending = False
            # News after the check did not wake the task if an earlier wake-up was still pending.
            if not is_so():
                await self._woken.wait()


def _make(work: Work[T], channel: _Channel[T], scope: CancelScope) -> None:
    error: BaseException | None = None
    try:
        with scope:
            work(channel.put)
    except BaseException as caught:  # noqa: BLE001 # raised again where the items are taken
        error = caught
    channel.end(error)


def _begin(thread: threading.Thread, channel: _Channel[T], is_begun: threading.Event) -> None:
    if channel.is_left:
        channel.end(None)
    else:
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            channel.end(error)
    is_begun.set()


# Modules between the caller and the warning.
_NOT_THE_CALLER = ("griptape_ollama", "griptape", "contextlib")


class OllamaBlockingWarning(RuntimeWarning):
    """A call blocks the event loop in whose thread it is made. Issued once per process."""


class _Warned:
    has_warned = False


@reset_with_shared_state
def _forget_warning() -> None:
    _Warned.has_warned = False


def has_running_loop() -> bool:
    """Whether an event loop runs in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def warn_if_blocking() -> None:
    """Warn, once, that a call blocks the event loop in whose thread it is made.

    Raises:
        OllamaBlockingWarning: Warnings are errors here; then each such call raises.
    """
    if _Warned.has_warned or not has_running_loop():
        return
    _Warned.has_warned = True
    try:
        warnings.warn(
            "This call blocks the event loop that runs in its thread, and with it all other tasks. Await arun, aembed "
            "or aembed_batch of the driver, go through astream or OllamaStream with `async for`, or move the call to "
            "another thread: `await asyncio.to_thread(agent.run, ...)`. (Said once; ignore OllamaBlockingWarning "
            "where it may block.)",
            OllamaBlockingWarning,
            stacklevel=_level_of_caller(),
        )
    except OllamaBlockingWarning:
        _Warned.has_warned = False
        raise


def _level_of_caller() -> int:
    """Count the frames up to the caller of this package, or of the framework above it."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _NOT_THE_CALLER:
        frame, level = frame.f_back, level + 1
    # The innermost of these frames is this function, which is not there when the warning is issued.
    return level
