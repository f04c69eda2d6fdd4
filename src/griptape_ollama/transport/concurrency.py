"""How many requests a server gets from this process at the same time, first come, first served."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

from griptape_ollama.protocol.host import server_key
from griptape_ollama.shared_state import renew_when_forked
from griptape_ollama.transport.stoppable_sockets import Cancellation

DEFAULT_MAX_WAIT = 300.0
"""Longest wait for a slot, in seconds: as long as that for the first token, which waits in the server's own queue."""


class SlotTimeoutError(Exception):
    """No slot became free in time.

    Attributes:
        ahead: How many requests were ahead in the queue.
        seconds: How long the wait was.
    """

    def __init__(self, ahead: int, seconds: float) -> None:
        super().__init__(ahead, seconds)
        self.ahead = ahead
        self.seconds = seconds


class SlotRequest:
    """A place in the queue, and then a slot.

    Args:
        limit: How many may be under way at the same time, this one included.
        notify: Called when it gets its slot, from any thread; at once where one is free.
        thread: The thread that will wait; None if no thread does.

    Attributes:
        is_admitted: Whether it has a slot.
    """

    __slots__ = ("has_left", "is_admitted", "limit", "notify", "thread")

    def __init__(self, limit: int, notify: Callable[[], object], *, thread: int | None = None) -> None:
        self.limit = limit
        self.notify = notify
        self.thread = thread
        self.is_admitted = False
        self.has_left = False


class SlotQueue:
    """The slots of one server, and the queue for them.

    No thread waits for a lock here. A reply that is collected as garbage returns its slot in any thread, even in the
    midst of this code: such a change is queued, and the thread that holds the lock handles it.
    """

    def __init__(self) -> None:
        self._changed: deque[SlotRequest] = deque()
        self._working = threading.Lock()
        self._waiting: OrderedDict[SlotRequest, None] = OrderedDict()
        self._under_way: dict[SlotRequest, None] = {}
        renew_when_forked(self)

    def start_afresh(self) -> None:
        """Drop the calls of the parent process."""
        self.__init__()

    @property
    def under_way(self) -> int:
        """How many slots are taken."""
        return len(self._under_way)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def enter(self, ticket: SlotRequest) -> None:
        """Acquire a slot, or a place in the queue. Each `enter` needs a `leave`, also where entering is interrupted.

        A thread that has a slot gets another at once: it would wait for itself.
        """
        self._settle(ticket)

    def leave(self, ticket: SlotRequest) -> None:
        """Return a slot, or a place in the queue. Harmless when repeated."""
        ticket.has_left = True
        self._settle(ticket)

    def ahead_of(self, ticket: SlotRequest) -> int:
        """Return how many requests wait ahead; approximate while requests come and go."""
        return next((number for number, each in enumerate(tuple(self._waiting)) if each is ticket), 0)

    def _settle(self, changed: SlotRequest) -> None:
        self._changed.append(changed)
        # The thread at work checks again after it has released the lock.
        while self._changed and self._working.acquire(blocking=False):
            try:
                self._work()
            finally:
                self._working.release()

    def _work(self) -> None:
        while self._changed:
            # It stays queued until all is done, since Ctrl-C can strike anywhere; doing it twice is harmless.
            ticket = self._changed[0]
            if ticket.has_left:
                self._waiting.pop(ticket, None)
                self._under_way.pop(ticket, None)
            elif self._has_slot(ticket.thread):
                self._admit(ticket)
            elif not ticket.is_admitted:
                self._waiting[ticket] = None
            while self._waiting and len(self._under_way) < (first := next(iter(self._waiting))).limit:
                self._admit(first)
            self._changed.popleft()

    def _has_slot(self, thread: int | None) -> bool:
        return thread is not None and any(each.thread == thread for each in self._under_way)

    def _admit(self, ticket: SlotRequest) -> None:
        self._under_way[ticket] = None
        self._waiting.pop(ticket, None)
        ticket.is_admitted = True
        try:
            ticket.notify()
        except Exception:  # noqa: BLE001 # the waiter is gone, as an event loop that was closed
            del self._under_way[ticket]


@dataclass(frozen=True)
class ConcurrencyLimit:
    """The rule by which the calls of one driver get their slots.

    Attributes:
        slots: The slots of the server, which other drivers may share.
        limit: How many may be under way at the same time.
        max_wait: Longest wait for a slot, in seconds; None for no limit.
    """

    slots: SlotQueue
    limit: int
    max_wait: float | None = DEFAULT_MAX_WAIT

    @contextlib.contextmanager
    def slot(self, cancellation: Cancellation, seconds: float | None) -> Generator[float, None, None]:
        """Hold a slot, and yield the seconds that it took to get it.

        Args:
            cancellation: Ends the wait when it is stopped.
            seconds: Longest wait; None for no limit.

        Raises:
            SlotTimeoutError: None became free in time, or the cancellation was stopped.
        """
        admitted = threading.Event()
        ticket = SlotRequest(self.limit, admitted.set, thread=threading.get_ident())
        try:
            self.slots.enter(ticket)
            yield 0.0 if ticket.is_admitted else self._waited(ticket, admitted, cancellation, seconds)
        finally:
            self.slots.leave(ticket)

    def _waited(
        self, ticket: SlotRequest, admitted: threading.Event, cancellation: Cancellation, seconds: float | None
    ) -> float:
        started = time.monotonic()
        with cancellation.wakes(admitted.set):
            admitted.wait(seconds)
        waited = time.monotonic() - started
        if not ticket.is_admitted:
            raise SlotTimeoutError(self.slots.ahead_of(ticket), waited)
        return waited


_slots_of: weakref.WeakValueDictionary[str, SlotQueue] = weakref.WeakValueDictionary()
_finding = threading.Lock()


def slots_of(host: str) -> SlotQueue:
    """Return the slots of a server: one queue per server and process, whatever its spelling.

    Args:
        host: Address of the server, without user and password.
    """
    server = server_key(host)
    with _finding:
        slots = _slots_of.get(server)
        if slots is None:
            slots = _slots_of[server] = SlotQueue()
        return slots
