"""The HTTP library of a session: httpx, or httpx2, which continues it under the same names.

The maker of the session decides which it is; neither knows the classes of the other. A session is known by what it can
do, what is given to one is made by its own library, and what it raises is raised again as httpx would.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Generator, Iterator
from types import ModuleType
from typing import Any, TypeGuard

import httpcore
import httpx

_LIBRARIES = ("httpx", "httpx2")
_SESSION = ("build_request", "send", "base_url", "headers", "cookies", "auth", "timeout", "close")
_TIMEOUT = ("connect", "read", "write", "pool")


def is_session(value: Any) -> TypeGuard[httpx.Client]:
    """Return whether a value can send requests as `httpx.Client` does."""
    return all(hasattr(value, name) for name in _SESSION) and not is_async_session(value)


def is_async_session(value: Any) -> bool:
    """Return whether a value sends requests as `httpx.AsyncClient` does, which is no use to threads."""
    return inspect.iscoroutinefunction(getattr(value, "send", None))


def is_pool(value: Any) -> TypeGuard[httpcore.ConnectionPool]:
    """Return whether a value is a connection pool whose sockets can be guarded."""
    backend = getattr(value, "_network_backend", None)
    return hasattr(value, "connections") and hasattr(backend, "connect_tcp")


def is_timeout(value: Any) -> TypeGuard[httpx.Timeout]:
    """Return whether a value holds limits as `httpx.Timeout` does."""
    return isinstance(value, httpx.Timeout) or (
        type(value).__name__ == "Timeout" and all(hasattr(value, name) for name in _TIMEOUT)
    )


def library_of(value: object) -> Any:
    """Return the library that a session, or a client class, builds on; httpx where that cannot be told.

    Args:
        value: A session, or a class whose module imports the library.
    """
    kinds = value.__mro__ if isinstance(value, type) else type(value).__mro__
    for kind in kinds:
        module = sys.modules.get(kind.__module__)
        for name in _LIBRARIES:
            if kind.__module__.partition(".")[0] == name and name in sys.modules:
                return sys.modules[name]
        imported = (each for each in vars(module).values() if isinstance(each, ModuleType)) if module else ()
        for each in imported:
            if each.__name__ in _LIBRARIES:
                return each
    return httpx


@contextlib.contextmanager
def raised_as_httpx() -> Generator[None, None, None]:
    """Raise what another library raises as the exception of httpx that has the same name."""
    try:
        yield
    except Exception as error:
        if (same := _as_httpx(error)) is None:
            raise
        raise same from error


def raw_pieces(response: Any) -> Iterator[bytes]:
    """Yield the body of a response as it arrives, still packed; exceptions are those of httpx."""
    if isinstance(response, httpx.Response) and isinstance(response.stream, httpx.SyncByteStream):
        return iter(response.stream)  # `iter_raw` adds two calls for each piece
    return _raised_as_httpx(response.iter_raw())


def _raised_as_httpx(chunks: Iterator[bytes]) -> Iterator[bytes]:
    with raised_as_httpx():
        yield from chunks


def _as_httpx(error: Exception) -> Exception | None:
    """Build the exception of httpx; None if it is one already, or of no such library."""
    for kind in type(error).__mro__:
        same = getattr(httpx, kind.__name__, None)
        if kind is same:
            return None
        if kind.__module__.partition(".")[0] in _LIBRARIES and isinstance(same, type):
            # The constructors of some classes below these want more than a text.
            bases = (httpx.StreamError, httpx.InvalidURL, httpx.RequestError, httpx.HTTPError)
            base = next((each for each in bases if issubclass(same, each)), None)
            if base is not None:
                return same(str(error)) if base is httpx.RequestError else base(str(error))
    return None
