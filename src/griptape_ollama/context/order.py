"""The order in which requests for one model reach the server, so that its window only grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from queue import SimpleQueue

ARRIVAL_SECONDS = 10.0
"""After so long a request has reached the server, which lets none that came later load another window before it."""


@dataclass
class Order:
    """Requests for one model that were not heard of yet, and those that wait for them. Whoever uses it holds the lock.

    A request that was decided before another made the window grow, and that arrives after it, would have the model
    loaded with the window before, and then anew. So whoever needs a larger window waits for the others to be answered,
    and who comes meanwhile waits with it: then the largest window that any of them needs is loaded at once.
    """

    _sent: dict[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])
    _waiting: dict[SimpleQueue[None], int] = field(default_factory=dict[SimpleQueue[None], int])

    def most(self, needed: int) -> int:
        """Give the most tokens that one of those who wait needs, or `needed`."""
        return max((needed, *self._waiting.values()))

    def seconds_ahead(self, tokens: int, now: float) -> float:
        """Give how long a request for a window may have to wait for those with a smaller one; 0 for not at all."""
        return max((at + ARRIVAL_SECONDS - now for smaller, at in self._sent.values() if smaller < tokens), default=0.0)

    def wait(self, needed: int) -> SimpleQueue[None]:
        """Begin to wait, and give what is put into whenever a request was answered."""
        woken: SimpleQueue[None] = SimpleQueue()
        self._waiting[woken] = needed
        return woken

    def stop_waiting(self, woken: SimpleQueue[None]) -> None:
        """End a wait."""
        del self._waiting[woken]

    def send(self, request: object, tokens: int, now: float) -> None:
        """Note that a request, which is known by its identity, is about to be sent for a window."""
        self._sent = {key: sent for key, sent in self._sent.items() if now - sent[1] < ARRIVAL_SECONDS}
        self._sent[id(request)] = tokens, now

    def arrived(self, request: object) -> None:
        """Note that a request was answered, or failed."""
        if self._sent.pop(id(request), None) is not None:
            for woken in self._waiting:
                woken.put(None)
