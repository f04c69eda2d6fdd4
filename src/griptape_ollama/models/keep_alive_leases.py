"""Models with a keep_alive of 0 that stay in memory while something takes several requests."""

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
"""The keep_alive that is sent meanwhile: for so long the server keeps the model, should whoever needs it vanish."""

# Letting a model go is a courtesy, for which nobody should have to wait.
_LIMITS = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=5)

# Reentrant, since the garbage collector may end what holds a model in the very thread that is noting a hold.
_lock = threading.RLock()
_needed: dict[tuple[str, str], dict[int, float]] = {}
"""Who needs a model, by server and model; with the time at which each is given up."""


def is_unloading(keep_alive: Any) -> bool:
    """Whether a keep_alive, as it goes over the wire, lets the model go right after the reply."""
    return keep_alive is not None and keep_alive_seconds(keep_alive) == 0


def is_leased(connection: Connection, model: str) -> bool:
    """Whether somebody needs the model for more than one request."""
    now = time.monotonic()
    with _lock:
        return any(until > now for until in _needed.get((connection.base_url, model_key(model)), {}).values())


def acquire_lease(connection: Connection, model: str, who: object, *, seconds: float = LEASE_SECONDS) -> None:
    """Note that somebody needs the model from now on, for so many seconds at most."""
    with _lock:
        _needed.setdefault((connection.base_url, model_key(model)), {})[id(who)] = time.monotonic() + seconds


def release_lease(connection: Connection, model: str, who: object) -> None:
    """Note that somebody does not need the model any more; if nobody does, it is unloaded."""
    key, now = (connection.base_url, model_key(model)), time.monotonic()
    with _lock:
        others = {other: until for other, until in _needed.pop(key, {}).items() if other != id(who) and until > now}
        if others:
            _needed[key] = others
    if not others:
        _unload(connection, model)


@contextlib.contextmanager
def leased(connection: Connection, model: str) -> Generator[None, None, None]:
    """Keep a model while something takes several requests."""
    who = object()
    acquire_lease(connection, model, who, seconds=math.inf)
    try:
        yield
    finally:
        release_lease(connection, model, who)


def _unload(connection: Connection, model: str) -> None:
    """Let a model go once it has answered whom it is answering; nothing happens where it is not loaded.

    A server that does not answer is not asked again: the model leaves when its keep_alive is over.
    """
    try:
        body = {"model": model, "keep_alive": 0, "stream": False}
        # Whoever was stopped still lets it go.
        with outside_scopes():
            Call(connection, "/api/generate", body, limits=_LIMITS).document()
    except OllamaError as error:
        _logger.debug("Model %r was not unloaded: %s", model, printable(str(error)))


@when_forked
def _start_afresh() -> None:
    """Begin anew in a forked process, where threads that held the lock, or a model, are gone."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _needed.clear()


KeepAliveOverride = Callable[[str, str], Any]
"""Gives the keep_alive for the address of a server and the name of a model, as it goes over the wire; None for models
that are not planned for."""

_planned: ContextVar[KeepAliveOverride | None] = ContextVar("ollama_planned_keep_alive", default=None)


def keep_alive_override(connection: Connection, model: str) -> Any:
    """Give the keep_alive of a request, whatever its driver says; None where nobody plans for its model."""
    override = _planned.get()
    return None if override is None else override(connection.base_url, model)


@contextlib.contextmanager
def overriding_keep_alives(keep_alives: KeepAliveOverride) -> Generator[None, None, None]:
    """Decide on the keep_alive of what is asked in here; for models left out, whoever planned before decides."""
    outer = _planned.get()

    def keep_alive(host: str, model: str) -> Any:
        own = keep_alives(host, model)
        return own if own is not None or outer is None else outer(host, model)

    token = _planned.set(keep_alive)
    try:
        yield
    finally:
        _planned.reset(token)
