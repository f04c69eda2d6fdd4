"""The body of a request, as bytes of JSON."""

from __future__ import annotations

import json
from typing import Any

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.numbers import to_plain
from griptape_ollama.protocol.surrogates import replace_surrogates


def encode_body(body: Any) -> bytes | None:
    """Encode the body of a request; None stays None.

    Raises:
        OllamaContentError: JSON cannot hold it.
    """
    if body is None:
        return None
    try:
        text = json.dumps(body, allow_nan=False, default=_to_plain, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise OllamaContentError(f"The request cannot be written as JSON: {error}.") from error
    # U+FFFD in place of half a surrogate pair is what a server makes of one that is escaped.
    return replace_surrogates(text).encode()


def body_size(body: Any) -> int:
    """Return how many bytes a body, or a part of it, has in a request."""
    return len(encode_body(body) or b"")


def _to_plain(value: object) -> Any:
    try:
        return to_plain(value)
    except TypeError as error:
        # Griptape replaces the encoder's own refusal by one that does not name the value.
        raise TypeError(f"{value!r} is a {type(value).__name__}") from error


class BodyLimits:
    """The largest body that each path of a connection accepts, as far as replies have shown.

    Threads may share it without a lock: each step is one of a dict, and the next reply corrects what one misses.
    """

    def __init__(self) -> None:
        self._accepted: dict[str, int] = {}
        self._refused: dict[str, int] = {}

    def record_accepted(self, path: str, size: int) -> None:
        """Record that a path accepted a body of so many bytes."""
        if size > self._accepted.get(path, 0):
            self._accepted[path] = size
            if size >= self._refused.get(path, size + 1):
                self._refused.pop(path, None)  # the limit was raised

    def record_refused(self, path: str, size: int) -> None:
        """Record that a path refused a body of so many bytes for its size."""
        self._refused[path] = min(size, self._refused.get(path, size))
        if self._accepted.get(path, 0) >= size:
            self._accepted.pop(path, None)  # the limit was lowered

    def largest(self, path: str) -> int | None:
        """Return how many bytes a body may have; None if none was refused.

        That is the largest one that was accepted, or half of the smallest that was refused, if that is more.
        """
        refused = self._refused.get(path)
        return None if refused is None else max(self._accepted.get(path, 0), refused // 2)
