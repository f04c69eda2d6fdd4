"""The keep_alive that drivers send while somebody plans how long models stay, in place of their own.

It is a context variable, so that it is sent in what the planned tasks do, in whatever threads, and nowhere else: other
users of the same driver keep the driver's own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

from griptape_ollama.transport.connection import Connection

KeepAlives = Callable[[str, str], Any]
"""Gives the keep_alive for the address of a server and the name of a model, as it goes over the wire; None for models
that are not planned for."""

_planned: ContextVar[KeepAlives | None] = ContextVar("ollama_planned_keep_alive", default=None)


def planned_keep_alive(connection: Connection, model: str) -> Any:
    """Give the keep_alive of a request, whatever its driver says; None where nobody plans for its model."""
    planned = _planned.get()
    return None if planned is None else planned(connection.base_url, model)


@contextlib.contextmanager
def planning(keep_alives: KeepAlives) -> Generator[None, None, None]:
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
