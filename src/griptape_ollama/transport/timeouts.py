"""How long a call may take, phase by phase."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from typing import Any, cast

from attrs import Attribute, field, frozen

from griptape_ollama.protocol.numbers import to_real
from griptape_ollama.transport.http_libraries import is_timeout

DEFAULT_CONNECT = 5.0
DEFAULT_FIRST_TOKEN = 300.0
DEFAULT_BETWEEN_TOKENS = 60.0

_PAIR = 2


def _check_seconds(_: Any, attribute: Attribute[float | None], value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0 or math.isnan(value):
        raise ValueError(
            f"timeout {attribute.name}={value!r} must be a number of seconds above 0, or None for no limit"
        )


def _to_seconds(value: Any) -> Any:
    # What is longer than any wait can be is no limit; infinity is.
    seconds = to_real(value)
    if seconds is None:
        return value
    return None if seconds > threading.TIMEOUT_MAX else seconds


def _limit(default: float | None) -> Any:
    # Griptape stores the fields that are marked so.
    return field(default=default, converter=_to_seconds, validator=_check_seconds, metadata={"serializable": True})


@frozen
class OllamaTimeout:
    """Limits of one call, in seconds; None means no limit.

    The server sends nothing, not even headers, while a request waits in its queue or the model loads: all of that
    counts as waiting for the first token.

    Attributes:
        connect: From the first try to reach the server until the connection stands.
        first_token: From the start of a try until the first line of its reply.
        between_tokens: From one line of the reply to the next.
        total: From the start of the call to its end, retries and the waits between them included.
    """

    connect: float | None = _limit(DEFAULT_CONNECT)
    first_token: float | None = _limit(DEFAULT_FIRST_TOKEN)
    between_tokens: float | None = _limit(DEFAULT_BETWEEN_TOKENS)
    total: float | None = _limit(None)

    @classmethod
    def of(cls, value: Any) -> OllamaTimeout:
        """Build limits from what users write.

        Args:
            value: An OllamaTimeout; a number (total); a pair (connect, read); an `httpx.Timeout`; a mapping of field
                names to seconds; None (the defaults).

        Raises:
            ValueError: The value is none of these, or not a number of seconds above 0.
        """
        if value is None:
            return cls()
        if isinstance(value, OllamaTimeout):
            return value
        if is_timeout(value):
            return cls(connect=value.connect, first_token=value.read, between_tokens=value.read)
        if isinstance(value, Mapping):
            return cls._of_mapping(cast("Mapping[str, Any]", value))
        if isinstance(value, (tuple, list)):
            pair = cast("tuple[Any, ...]", value)
            if len(pair) == _PAIR:
                return cls(connect=pair[0], first_token=pair[1], between_tokens=pair[1])
        elif to_real(value) is not None or isinstance(value, float):
            return cls(total=value)  # which refuses a number that is none
        raise ValueError(
            f"timeout={value!r} is not a limit: use seconds (total), a pair (connect, read), httpx.Timeout or "
            "OllamaTimeout(connect=5, first_token=300, between_tokens=60, total=None)"
        )

    @classmethod
    def _of_mapping(cls, value: Mapping[str, Any]) -> OllamaTimeout:
        if unknown := set(value) - {"connect", "first_token", "between_tokens", "total"}:
            raise ValueError(f"timeout has no limit called {', '.join(map(repr, sorted(unknown)))}")
        return cls(**value)
