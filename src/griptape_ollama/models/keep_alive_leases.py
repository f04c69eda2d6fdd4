"""Leases: models with a keep_alive of 0 that stay loaded for several requests; and keep_alives set from outside."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

from griptape_ollama.errors import OllamaError
from griptape_ollama.escaping import printable
from griptape_ollama.protocol.keep_alive import keep_alive_seconds
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.shared_state import when_forked
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.timeouts import OllamaTimeout

_logger = logging.getLogger(__name__)

LEASE_SECONDS = 300
"""The keep_alive that is sent during a lease: the server unloads the model after it if the holder is gone."""

# An unload must not delay the program.
_LIMITS = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=5)

# Reentrant, since the garbage collector may release a lease in the very thread that is acquiring one.
_lock = threading.RLock()
_leases: dict[tuple[str, str], dict[int, float]] = {}
"""The end of each lease, by server and model, and by the identity of its holder."""


def is_unloading(keep_alive: Any) -> bool:
    """Return whether a keep_alive, as it is sent, unloads the model right after the reply."""
    return keep_alive is not None and keep_alive_seconds(keep_alive) == 0


def is_leased(connection: Connection, model: str) -> bool:
    """Return whether a model is kept loaded for several requests."""
    now = time.monotonic()
    with _lock:
        return any(until > now for until in _leases.get((connection.base_url, model_key(model)), {}).values())


def acquire_lease(connection: Connection, model: str, holder: object, *, seconds: float = LEASE_SECONDS) -> None:
    """Keep a model loaded for a holder, for so many seconds at most."""
    with _lock:
        _leases.setdefault((connection.base_url, model_key(model)), {})[id(holder)] = time.monotonic() + seconds


def release_lease(connection: Connection, model: str, holder: object) -> None:
    """End the lease of a holder; if it was the last one, the model is unloaded."""
    key, now = (connection.base_url, model_key(model)), time.monotonic()
    with _lock:
        rest = {each: until for each, until in _leases.pop(key, {}).items() if each != id(holder) and until > now}
        if rest:
            _leases[key] = rest
    if not rest:
        _unload(connection, model)


@contextlib.contextmanager
def leased(connection: Connection, model: str) -> Generator[None, None, None]:
    """Keep a model loaded until the end of the block."""
    holder = object()
    acquire_lease(connection, model, holder, seconds=math.inf)
    try:
        yield
    finally:
        release_lease(connection, model, holder)


def _unload(connection: Connection, model: str) -> None:
    """Unload a model after its current replies; nothing happens if it is not loaded.

    If the server does not answer, the request is not repeated: the model is unloaded when its keep_alive is over.
    """
    try:
        body = {"model": model, "keep_alive": 0, "stream": False}
        # A cancelled caller unloads it, too.
        with outside_scopes():
            Call(connection, "/api/generate", body, limits=_LIMITS).document()
    except OllamaError as error:
        _logger.debug("Model %r was not unloaded: %s", model, printable(str(error)))


@when_forked
def _start_afresh() -> None:
    """Drop leases, and a lock that a thread of the parent may hold."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _leases.clear()


KeepAliveOverride = Callable[[str, str], Any]
"""Returns the keep_alive for the address of a server and the name of a model, as it is sent; None for models that it
does not decide on."""

_override: ContextVar[KeepAliveOverride | None] = ContextVar("ollama_keep_alive_override", default=None)


def keep_alive_override(connection: Connection, model: str) -> Any:
    """Return the keep_alive that takes the place of the driver's; None for none."""
    override = _override.get()
    return None if override is None else override(connection.base_url, model)


@contextlib.contextmanager
def overriding_keep_alives(override: KeepAliveOverride) -> Generator[None, None, None]:
    """Override the keep_alive of requests in the block; for models without one, an outer block decides."""
    outer = _override.get()

    def keep_alive(host: str, model: str) -> Any:
        own = override(host, model)
        return own if own is not None or outer is None else outer(host, model)

    token = _override.set(keep_alive)
    try:
        yield
    finally:
        _override.reset(token)
