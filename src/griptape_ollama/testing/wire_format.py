"""JSON, timestamps and error responses in the form of the server, and safe access to decoded JSON."""

import json
import time
from functools import lru_cache
from typing import Any, cast

from griptape_ollama.protocol.surrogates import replace_surrogates

# Go's encoder escapes these inside strings, so that JSON can stand inside HTML and JavaScript.
_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_SECOND = 1_000_000_000


def dumps(value: Any) -> str:
    """Encode a value as the server does: compact, not ASCII-only, with `<`, `>` and `&` escaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)


def encode(value: Any) -> bytes:
    """Encode a value to UTF-8; what UTF-8 cannot carry (half a surrogate pair) becomes U+FFFD."""
    return replace_surrogates(dumps(value)).encode()


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def timestamp(nanoseconds: int | None = None) -> str:
    """Format a time (nanoseconds since 1970, by default now) as the server does: UTC, without trailing zeros."""
    seconds, rest = divmod(time.time_ns() if nanoseconds is None else nanoseconds, _SECOND)
    return _second(seconds) + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def as_object(value: Any) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return the value if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def as_text(value: Any) -> str:
    """Return the value if it is a string, else an empty one."""
    return value if isinstance(value, str) else ""


def go_type(value: Any) -> str:
    """Return the name that Go's decoder has for the JSON type of a value."""
    if isinstance(value, bool):
        return "bool"
    for kinds, name in (((int, float), "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kinds):
            return name
    return "null"


class ErrorResponse(Exception):  # noqa: N818  it is a response, not a fault of the simulator
    """Response with an error status, as the real server sends it for this request.

    Attributes:
        status: HTTP status.
        message: Text of the `error` field.
        from_runner: Whether the process that runs the model reports the error. With `stream: true` such an error has
            another content type and no length.
    """

    def __init__(self, status: int, message: str, *, from_runner: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.from_runner = from_runner


def runner_error(code: int, message: str, kind: str = "invalid_request_error", **extra: int) -> ErrorResponse:
    """Build an error as the process that runs a model words it: JSON inside the `error` text."""
    error = {"code": code, "message": message, "type": kind, **extra}
    return ErrorResponse(
        code, json.dumps({"error": error}, separators=(",", ":"), ensure_ascii=False), from_runner=True
    )
