"""A bounded memory of what was worked out for texts that come again."""

from __future__ import annotations

from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class RecentMemory(Generic[_Value]):
    """Remembers at least the last `size` values that were asked for, and at most twice as many.

    What was asked for since the young half was last full is kept; each step is a single operation of a dict, so that
    threads may share it without a lock. What gets lost when two of them are at it is worked out again.

    Args:
        size: Values of one half.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[object, _Value] = {}
        self._old: dict[object, _Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: object) -> _Value | None:
        """Give what is known for a key."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old = {}, {}

    def put(self, key: object, value: _Value) -> None:
        """Remember a value."""
        young = self._young
        if len(young) >= self._size:
            self._old = young
            self._young = young = {}
        young[key] = value
