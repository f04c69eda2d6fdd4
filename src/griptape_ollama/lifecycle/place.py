"""A model in memory, and what its replies tell of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from griptape_ollama.lifecycle.ledger import Load
from griptape_ollama.lifecycle.policies import Use
from griptape_ollama.models.types import LoadedModel

# For a model that is there, servers tell load times of some milliseconds (server 0.33).
_SHORTEST_LOAD_SECONDS = 0.1
# A model is listed for a moment after its time is over. One that is listed long after it answers just now, and stays
# for its keep_alive afterwards; or the server's clock is another, which a proxy with a `Date` of its own hides.
_LEAVING_SECONDS = 5.0
_USUAL_STAY_SECONDS = 300.0


@dataclass
class Place:
    """A model in memory.

    Attributes:
        seen: The model as the server lists it; as far as is known, where it has not been seen.
        is_foreign: Whether somebody else loaded it.
        is_touched: Whether the structure used it.
        stay: Seconds that it would have stayed when it was seen first; -1 for good, None where unknown.
        options: Options that the structure asked it with the last time, of those that it is loaded with.
        load: How it was loaded; None where somebody else did.
        ready_at: When it was there, at the latest, on the clock of `time.monotonic`.
    """

    seen: LoadedModel
    is_foreign: bool = False
    is_touched: bool = False
    stay: float | None = None
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    load: Load | None = None
    ready_at: float = field(default_factory=time.monotonic)

    def note(self, use: Use) -> None:
        """Take in what a use of the model tells."""
        self.is_touched = True
        if self.load is not None and self.load.seconds is None:
            self.load.seconds = use.load_seconds or None
        self.ready_at = max(self.ready_at, use.begin + use.load_seconds)

    def was_reloaded_for(self, use: Use) -> bool:
        """Whether a use had the model loaded again, as one with other options does; not so one that waited with others.

        Who waited for the same load began before the model was ready.
        """
        known = (self.load.seconds if self.load is not None else None) or 0.0
        is_load = use.load_seconds >= max(_SHORTEST_LOAD_SECONDS, known / 2)
        has_load = self.load is None or self.load.seconds is not None
        return is_load and has_load and use.begin + use.load_seconds / 2 > self.ready_at


def remaining_seconds(model: LoadedModel) -> float | None:
    """Return the seconds that a model has left if nobody uses it; -1 for good, None where unknown.

    Where the time is long over, that is Ollama's default.
    """
    if model.expires_at is None or model.stays_for_good:
        return -1 if model.stays_for_good else None
    left = (model.expires_at - datetime.now(timezone.utc)).total_seconds()
    return max(left, 0.0) if left > -_LEAVING_SECONDS else _USUAL_STAY_SECONDS
