"""How large a request may be: what a gateway in between refused teaches, and what it took."""

from __future__ import annotations


class BodyLimits:
    """The largest body that each path of a connection takes, as far as replies have told.

    Threads may share it without a lock: each step is one of a dict, and what one of them misses the next reply tells.
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._refused: dict[str, int] = {}

    def note_taken(self, path: str, size: int) -> None:
        """Record that a path took a body of so many bytes."""
        if size > self._taken.get(path, 0):
            self._taken[path] = size
            if size >= self._refused.get(path, size + 1):
                self._refused.pop(path, None)  # the limit was raised

    def note_refused(self, path: str, size: int) -> None:
        """Record that a path refused a body of so many bytes for its size."""
        self._refused[path] = min(size, self._refused.get(path, size))
        if self._taken.get(path, 0) >= size:
            self._taken.pop(path, None)  # the limit was lowered

    def largest(self, path: str) -> int | None:
        """Return how many bytes a body may have; None where none was refused.

        That is the largest one that was taken, or half of the smallest that was refused, if that is more.
        """
        refused = self._refused.get(path)
        return None if refused is None else max(self._taken.get(path, 0), refused // 2)
