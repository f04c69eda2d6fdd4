"""What the last requests came to, by address: where no server was found, and which models answered."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from griptape_ollama.protocol.counters import to_count
from griptape_ollama.protocol.keep_alive import keep_alive_seconds
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.shared_state import reset_with_shared_state

_MAX_MODELS = 100


class Use(NamedTuple):
    """The last whole reply of a model.

    Attributes:
        at: When it ended, on the clock of `time.monotonic`.
        stay: Seconds that the model was to stay loaded; None for the server's default.
        load_seconds: Seconds that the server loaded it for the reply; None where it did not tell.
    """

    at: float
    stay: float | None
    load_seconds: float | None


# Each step is one of a dict, so that threads share them without a lock.
_absences: dict[str, float] = {}
_uses: dict[str, dict[str, Use]] = {}


def note_absence(address: str) -> None:
    """Record that a request found no server just now, or a gateway that did not reach it, or did not let it in.

    Args:
        address: Address of the server, without user and password.
    """
    _absences[address] = time.monotonic()


def last_absence(address: str) -> float:
    """Return when a request last found no server, on the clock of `time.monotonic`; before all time where none did."""
    return _absences.get(address, float("-inf"))


def note_reply(address: str, model: str, keep_alive: Any, last: Mapping[str, Any]) -> None:
    """Record the whole reply of a model.

    Args:
        address: Address of the server, without user and password.
        model: The model, as the request names it.
        keep_alive: That of the request; None for the server's default.
        last: The reply, or its last line.
    """
    nanoseconds = to_count(last.get("load_duration"))
    uses = _uses.setdefault(address, {})
    if len(uses) >= _MAX_MODELS:
        uses.clear()
    load_seconds = None if nanoseconds is None else nanoseconds / 1e9
    uses[model_key(model)] = Use(time.monotonic(), _stay(keep_alive), load_seconds)


def last_uses(address: str) -> dict[str, Use]:
    """Return the last reply of each model, by the key of its name."""
    return dict(_uses.get(address, {}))


@reset_with_shared_state
def _forget() -> None:
    _absences.clear()
    _uses.clear()


def _stay(keep_alive: Any) -> float | None:
    try:
        return None if keep_alive is None else keep_alive_seconds(keep_alive)
    except (TypeError, ValueError, OverflowError):  # of extra_params, which go as they are
        return None
