"""The body of a request, as bytes of JSON."""

from __future__ import annotations

import json
from typing import Any

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.numbers import to_plain
from griptape_ollama.protocol.surrogates import without_halves


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
    return without_halves(text).encode()


def body_size(body: Any) -> int:
    """Return how many bytes a body, or a part of it, has in a request."""
    return len(encode_body(body) or b"")


def _to_plain(value: object) -> Any:
    try:
        return to_plain(value)
    except TypeError as error:
        # Griptape replaces the encoder's own refusal by one that does not name the value.
        raise TypeError(f"{value!r} is a {type(value).__name__}") from error
