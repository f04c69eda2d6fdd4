"""Converters of connection settings: they check a value when it is set, and return what is stored."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, cast

from typing_extensions import Self

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.host import parse_host, without_credentials
from griptape_ollama.protocol.numbers import check_seconds, check_whole, to_python, to_whole
from griptape_ollama.transport.timeouts import OllamaTimeout

_CERT_FILES = 2


class HostWithCredentials(str):
    """An address that shows itself without the user and password that it was written with.

    Attributes:
        whole: The address as it was written.
    """

    __slots__ = ("whole",)
    whole: str

    def __new__(cls, whole: str) -> Self:
        """Keep the whole address, and show it without credentials."""
        host = super().__new__(cls, without_credentials(whole))
        host.whole = whole
        return host

    def __eq__(self, other: object) -> bool:
        """Compare addresses with their credentials."""
        return self.whole == other.whole if isinstance(other, HostWithCredentials) else super().__eq__(other)

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the address with its credentials."""
        return HostWithCredentials, (self.whole,)


def to_limits(value: Any) -> OllamaTimeout | None:
    """Return the limits of a timeout setting; None is "not set"."""
    return None if value is None else checked(lambda: OllamaTimeout.of(value))


def to_max_concurrency(value: Any) -> int | None:
    """Return how many requests may be under way; None is no limit."""
    if value is None:
        return None
    return check_whole(value, name="max_concurrency", hint=", or None for no limit")


def to_max_wait(value: Any) -> float | None:
    """Return the longest wait for a slot in seconds; None is no limit."""
    if value is None:
        return None
    seconds = check_seconds(value, name="max_wait", hint=", or None for no limit")
    # A wait cannot be longer than this.
    return None if seconds > threading.TIMEOUT_MAX else seconds


def to_max_attempts(value: Any) -> int:
    """Return the number of attempts; 0 is one, as in Griptape."""
    attempts = to_whole(value)
    if attempts is None or attempts < 0:
        raise OllamaContentError(f"max_attempts={value!r} must be a whole number from 1")
    return attempts


def to_seconds_of(name: str) -> Callable[[Any], float]:
    """Build the converter of a setting that is a number of seconds from 0."""

    def converted(value: Any) -> float:
        # A lock cannot wait longer.
        return min(check_seconds(value, name=name), threading.TIMEOUT_MAX)

    return converted


def to_host(value: Any) -> str | None:
    """Check a host, and return it so that its text has no credentials."""
    if value is None or isinstance(value, HostWithCredentials):
        return value
    checked(lambda: parse_host(value))
    return HostWithCredentials(value) if without_credentials(value) != value else value


def to_verify(value: Any) -> bool | str:
    """Return whether certificates are checked, or the path of the CA certificates."""
    value = to_python(value)
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, (str, os.PathLike)):
        return str(cast("str | os.PathLike[str]", value))
    raise OllamaContentError(f"verify must be True, False or a path, got {value!r}; pass an SSLContext as ssl_context")


def to_cert(value: Any) -> tuple[str, ...] | None:
    """Return the files of a client certificate: one file with both parts, or certificate and key."""
    if value is None:
        return None
    files = list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(files) <= _CERT_FILES or not all(isinstance(file, (str, os.PathLike)) for file in files):
        raise OllamaContentError(
            "cert must be a file, or a pair of certificate file and key file; a key with a password needs ssl_context"
        )
    return tuple(map(str, files))


def checked(check: Callable[[], Any]) -> Any:
    """Run a check, and raise its ValueError as an OllamaContentError.

    Raises:
        OllamaContentError: The check raised a ValueError.
    """
    try:
        return check()
    except ValueError as error:
        raise OllamaContentError(str(error)) from error
