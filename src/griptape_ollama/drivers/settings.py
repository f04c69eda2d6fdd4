"""Settings of a driver, as they are checked when they are given and stored when the driver is."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import ollama
from typing_extensions import Self

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.host import mask_host, parse_host
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.options import check_options
from griptape_ollama.transport.limits import OllamaTimeout

_CERT_FILES = 2

ON_EMPTY_RETRY = "retry_without_thinking"

DEFAULT_TEMPERATURE = 0.1
"""Griptape's default for all prompt drivers."""


class HostWithCredentials(str):
    """An address that shows itself without the user and password that it was written with.

    Attributes:
        whole: The address as it was written.
    """

    __slots__ = ("whole",)
    whole: str

    def __new__(cls, whole: str) -> Self:
        """Keep the whole address, and show the rest of it."""
        host = super().__new__(cls, mask_host(whole))
        host.whole = whole
        return host

    def __eq__(self, other: object) -> bool:
        """Two addresses that differ in their credentials are two."""
        return self.whole == other.whole if isinstance(other, HostWithCredentials) else super().__eq__(other)

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle with the credentials."""
        return HostWithCredentials, (self.whole,)


def to_temperature(value: Any) -> float | None:
    """Give the temperature; None is "not set"."""
    return (
        None if value is None else _checked(lambda: cast("float", check_options({"temperature": value})["temperature"]))
    )


def to_options(value: Any) -> dict[str, Any]:
    """Give options as a dict, and check those that are set.

    Args:
        value: A mapping, an `ollama.Options`, or None.
    """
    if value is None:
        return {}
    if isinstance(value, ollama.Options):
        value = value.model_dump(exclude_none=True)
    if not isinstance(value, Mapping):
        raise OllamaContentError(f"options must be a mapping of option names to values, got {value!r}")
    options = dict(cast("Mapping[str, Any]", value))
    _checked(lambda: check_options(options))
    return options


def to_keep_alive(value: Any) -> int | float | str | None:
    """Give what goes over the wire for a keep_alive; None is "not set"."""
    return None if value is None else _checked(lambda: normalize_keep_alive(value))


def to_on_empty(value: Any) -> str | None:
    """Give what is done when thinking used up all tokens; None is "nothing"."""
    if value not in (None, ON_EMPTY_RETRY):
        raise OllamaContentError(f"on_empty={value!r} must be None or {ON_EMPTY_RETRY!r}")
    return value


def to_limits(value: Any) -> OllamaTimeout | None:
    """Give the limits of a timeout setting; None is "not set"."""
    return None if value is None else _checked(lambda: OllamaTimeout.of(value))


def to_host(value: Any) -> str | None:
    """Give the host as it was written, but for its credentials, after a look whether it is one."""
    if value is None or isinstance(value, HostWithCredentials):
        return value
    if not isinstance(value, str):
        raise OllamaContentError(f"host must be a text, got {value!r}")
    _checked(lambda: parse_host(value))
    return HostWithCredentials(value) if mask_host(value) != value else value


def to_verify(value: Any) -> bool | str:
    """Give whether certificates are checked, or the path of the CA certificates."""
    if value is None or isinstance(value, bool):
        return value is not False
    if isinstance(value, (str, os.PathLike)):
        return str(cast("str | os.PathLike[str]", value))
    raise OllamaContentError(f"verify must be True, False or a path, got {value!r}; pass an SSLContext as ssl_context")


def to_cert(value: Any) -> tuple[str, ...] | None:
    """Give the files of a client certificate: one that holds both, or certificate and key."""
    if value is None:
        return None
    files = list(cast("list[Any]", value)) if isinstance(value, (list, tuple)) else [value]
    if not 1 <= len(files) <= _CERT_FILES or not all(isinstance(file, (str, os.PathLike)) for file in files):
        raise OllamaContentError(
            "cert must be a file, or a pair of certificate file and key file; a key with a password needs ssl_context"
        )
    return tuple(map(str, files))


def _checked(check: Callable[[], Any]) -> Any:
    try:
        return check()
    except ValueError as error:
        raise OllamaContentError(str(error)) from error
