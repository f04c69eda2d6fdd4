"""JSON as a Go server writes it, and safe looks into JSON that somebody else wrote."""

import json
import time
from functools import lru_cache
from typing import Any, cast

from griptape_ollama.protocol.surrogates import without_halves

# Go's encoder escapes these inside strings, so that JSON can stand inside HTML and JavaScript.
_ESCAPES = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})
_SECOND = 1_000_000_000


def dumps(value: Any) -> str:
    """Encode a value the way the server does: compact, not ASCII-only, with `<`, `>` and `&` escaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPES)


def encode(value: Any) -> bytes:
    """Encode a value to UTF-8; what UTF-8 cannot carry (half a surrogate pair) becomes U+FFFD."""
    return without_halves(dumps(value)).encode()


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def timestamp(nanoseconds: int | None = None) -> str:
    """Write a moment (nanoseconds since 1970, by default now) as the server does: UTC, trailing zeros dropped."""
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
    """Name the JSON type of a value as Go's decoder does in its errors."""
    if isinstance(value, bool):
        return "bool"
    for kinds, name in (((int, float), "number"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kinds):
            return name
    return "null"


class Refusal(Exception):  # noqa: N818  it is an answer, not a fault of the simulator
    """A request that the real server answers with an error.

    Attributes:
        status: HTTP status.
        message: Text of the `error` field.
        from_runner: Whether the refusal comes from the process that runs the model. With `stream: true` such
            an error has another content type and no length.
    """

    def __init__(self, status: int, message: str, *, from_runner: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.from_runner = from_runner


def runner_refusal(code: int, message: str, kind: str = "invalid_request_error", **extra: int) -> Refusal:
    """Make a refusal as the model's own process words it: a JSON text inside the `error` text."""
    error = {"code": code, "message": message, "type": kind, **extra}
    return Refusal(code, json.dumps({"error": error}, separators=(",", ":"), ensure_ascii=False), from_runner=True)
