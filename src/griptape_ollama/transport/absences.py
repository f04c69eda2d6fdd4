"""When prompts and embeddings last found no server at an address, or a gateway that did not reach it, or no entry."""

from __future__ import annotations

import time

# Each step is one of a dict, so that threads share it without a lock.
_last: dict[str, float] = {}


def note_absence(address: str) -> None:
    """Record that a request found no server just now.

    Args:
        address: Address of the server, without user and password.
    """
    _last[address] = time.monotonic()


def last_absence(address: str) -> float:
    """Return when a request last found no server, on the clock of `time.monotonic`; before all time where none did."""
    return _last.get(address, float("-inf"))
