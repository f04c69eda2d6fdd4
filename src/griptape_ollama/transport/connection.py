"""A connection to one server: an `ollama.Client`, and the HTTP session inside it, used by no other module."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import ssl
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from typing import Any, cast

import httpcore
import httpx

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.ollama_package import ollama
from griptape_ollama.protocol.host import Host, origin_of, parse_host
from griptape_ollama.transport.concurrency import DEFAULT_MAX_WAIT, ConcurrencyLimit, slots_of
from griptape_ollama.transport.environment_proxies import Proxy, environment_proxy
from griptape_ollama.transport.happy_eyeballs import Resolver, resolve
from griptape_ollama.transport.http_libraries import (
    is_async_session,
    is_pool,
    is_session,
    library_of,
    raised_as_httpx,
)
from griptape_ollama.transport.idle_connections import close_when_idle
from griptape_ollama.transport.request_body import BodyLimits
from griptape_ollama.transport.response_body import STREAMED
from griptape_ollama.transport.stoppable_sockets import Cancellation, StoppableBackend
from griptape_ollama.transport.tls import tls_context

_MAX_KEPT_CONNECTIONS = 20
# Shorter than what proxies and load balancers usually wait before they close an idle connection (60 s).
_IDLE_SECONDS = 30.0
_OF_THE_CLIENT = frozenset({"accept", "accept-encoding", "connection", "content-type", "user-agent"})
_FRAMING_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})
# A token (RFC 9110, 5.6.2).
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

Headers = Mapping[str, str] | Callable[[], Mapping[str, str]]


class Connection:
    """Sends requests through the HTTP session of an `ollama.Client`, and makes the sockets below it stoppable.

    Args:
        client: The client to use.
        headers: Called before each request for headers to add to it, for tokens that live a short time.
        max_concurrency: How many requests that models work for may be under way to the server at the same time, those
            of other connections with such a limit included; None for no limit.
        max_wait: Longest wait for one of these slots, in seconds; None for no limit.

    Attributes:
        client: The client.
        base_url: Address of the server, without user and password.
        identity: The address and a digest of the credentials: what one of them may know, another may not.
        is_cloud: Whether the server is Ollama's own service, whose models all run there.
        admission: The rule by which requests get slots; None if there is no limit.
        proxy: The proxy over which the server is asked; None if it is asked directly.
        body_limits: How large requests may be.
    """

    def __init__(
        self,
        client: ollama.Client,
        *,
        headers: Callable[[], Mapping[str, str]] | None = None,
        max_concurrency: int | None = None,
        max_wait: float | None = DEFAULT_MAX_WAIT,
    ) -> None:
        self.client = client
        self._headers = headers
        self._session = session_of(client)
        self.base_url = address_of(client)
        self.is_cloud = _is_cloud(self.base_url)
        self.identity = _identity(self.base_url, self._session, headers)
        self.admission = (
            None if max_concurrency is None else ConcurrencyLimit(slots_of(self.base_url), max_concurrency, max_wait)
        )
        self.body_limits = BodyLimits()
        self._urls: dict[str, httpx.URL] = {}
        self._own_pools: Sequence[httpcore.ConnectionPool] = ()
        self._users_encoding = _users_encoding(self._session)
        self.proxy = _proxy_of(self._session)
        make_stoppable(self._session)

    @classmethod
    def open(  # noqa: D417 # further arguments are the driver's fields of the same names
        cls,
        host: str | None = None,
        *,
        api_key: str | None = None,
        headers: Headers | None = None,
        verify: bool | str | ssl.SSLContext = True,
        cert: tuple[str, ...] | None = None,
        max_concurrency: int | None = None,
        max_wait: float | None = DEFAULT_MAX_WAIT,
    ) -> Connection:
        """Build a client for the address; it is closed when it is garbage.

        Args:
            host: Address; `OLLAMA_HOST`, then the default one, where it is not given.

        Raises:
            OllamaContentError: The address or the TLS settings cannot be understood, or there are two credentials.
        """
        try:
            address = parse_host(host or os.environ.get("OLLAMA_HOST"))
        except ValueError as error:
            raise OllamaContentError(str(error)) from error
        if api_key is not None and address.user is not None:
            raise OllamaContentError("give either api_key or user:password@ in the host: both use one header")
        fixed = {} if callable(headers) or headers is None else _checked_headers(headers)
        _check_header("api_key", api_key or "none")
        # A proxy does not know this machine's loopback.
        proxy = None if address.is_loopback else environment_proxy(address.base_url)
        settings = _session_settings(address, proxy, verify=verify, cert=cert)
        # A caller that sends many requests at once reuses their connections for the next ones.
        kept = max(_MAX_KEPT_CONNECTIONS, max_concurrency or 0)
        # No queue of the pool's: a thread that waits for a place in it cannot be stopped.
        settings["limits"] = library_of(ollama.Client).Limits(
            max_connections=None, max_keepalive_connections=kept, keepalive_expiry=_IDLE_SECONDS
        )
        client = _new_client(address, fixed, settings, proxy)
        session = session_of(client)
        # Ollama sets none; what a proxy sets would be kept without a bound, and sent to it with all requests.
        session.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        _authorize(session, address, api_key, fixed)
        connection = cls(
            client,
            headers=headers if callable(headers) else None,
            max_concurrency=max_concurrency,
            max_wait=max_wait,
        )
        connection._own_pools = _pools(session)
        connection.proxy = proxy
        connection._users_encoding = httpx.Headers(fixed).get("Accept-Encoding")
        # It stays open as long as the client is referenced, even without the connection.
        weakref.finalize(client, session.close)
        return connection

    def headers_here(self) -> tuple[tuple[str, str], ...] | None:
        """Return the headers that are built for each request, as they are here: they may depend on the caller.

        Returns:
            Names and values; None if all requests have the same headers.

        Raises:
            OllamaContentError: They are no headers.
        """
        return None if self._headers is None else tuple(sorted(_checked_headers(self._headers()).items()))

    @property
    def timeout(self) -> httpx.Timeout:
        """The limits that the client was made with."""
        own: Any = self._session.timeout
        return own if isinstance(own, httpx.Timeout) else httpx.Timeout(**own.as_dict())

    @contextlib.contextmanager
    def send(
        self,
        cancellation: Cancellation,
        method: str,
        path: str,
        content: bytes | None,
        limits: Mapping[str, float | None],
        *,
        accepted: str = STREAMED,
    ) -> Generator[httpx.Response, None, None]:
        """Send a request and yield the response with its body still to be read.

        Args:
            cancellation: Told of the socket that carries the request.
            method: HTTP method.
            path: Path below the base URL.
            content: Body.
            limits: Seconds for `connect`, `read`, `write` and `pool`; None for no limit.
            accepted: How the body of the response may be packed, where the user's headers do not set it.

        Raises:
            httpx.TransportError: As the HTTP library raises it; the caller converts it.
        """
        # A mapping that knows that names of headers are the same in capitals.
        headers = httpx.Headers({"Accept-Encoding": self._users_encoding or accepted})
        if self._headers is not None:
            headers.update(_checked_headers(self._headers()))
        with cancellation.active(), raised_as_httpx():
            url = self._urls.get(path, path)
            request = self._session.build_request(
                method, url, content=content, headers=headers, extensions={"timeout": dict(limits)}
            )
            # Joining a path to the base URL is a tenth of what a request costs (httpx 0.28).
            self._urls[path] = request.url
            # A client of the user's would take along the prompt, and headers that are secrets, wherever it is sent.
            response = self._session.send(request, stream=True, follow_redirects=False)
        try:
            for pool in self._own_pools:
                close_when_idle(pool)
            yield response
        finally:
            response.close()

    def close(self) -> None:
        """Close the client and its idle connections."""
        self._session.close()


def _new_client(
    address: Host, headers: Mapping[str, str], settings: Mapping[str, Any], proxy: Proxy | None
) -> ollama.Client:
    try:
        httpx.URL(address.base_url)
        # With a header in its place, the client does not look for OLLAMA_API_KEY, which `_authorize` handles.
        return ollama.Client(host=address.base_url, headers={"Authorization": "-", **headers}, **settings)
    except httpx.InvalidURL as error:
        raise OllamaContentError(f"host {address.base_url!r} is not an address: {error}") from error
    except ImportError as error:
        name = "The proxy" if proxy is None else f"The proxy of {proxy.variable}"
        raise OllamaContentError(
            f"{name} cannot be used: install httpx[socks] for a SOCKS proxy, or add the host to NO_PROXY."
        ) from error


def session_of(client: ollama.Client) -> httpx.Client:
    """Return the HTTP session inside a client.

    Raises:
        OllamaContentError: The client is not an `ollama.Client`, or this release of `ollama` keeps no session in it.
    """
    session = getattr(client, "_client", None)
    if is_session(session):
        return session
    if is_async_session(session):
        raise OllamaContentError("client is an ollama.AsyncClient: give an ollama.Client")
    raise OllamaContentError(
        f"client must be an ollama.Client, got {type(client).__name__}. If it is one, this release of the ollama "
        "package keeps its HTTP session elsewhere, or one that is neither of httpx nor of httpx2: use ollama 0.6"
    )


def address_of(client: ollama.Client) -> str:
    """Return the address that a client talks to, without user and password."""
    return origin_of(str(session_of(client).base_url))


def _is_cloud(base_url: str) -> bool:
    try:
        return parse_host(base_url).is_cloud
    except ValueError:  # a client of the user's may lead anywhere
        return False


def _identity(base_url: str, session: httpx.Client, headers: object) -> tuple[str, str]:
    secrets = [f"{name}:{value}" for name, value in sorted(session.headers.items()) if name not in _OF_THE_CLIENT]
    auth: Any = session.auth
    secrets += [str(getattr(auth, "_auth_header", "")), "" if headers is None else str(id(headers))]
    return base_url, hashlib.sha256("\n".join(secrets).encode()).hexdigest()


def _users_encoding(session: httpx.Client) -> str | None:
    """Return the Accept-Encoding that a session was given; None for the one that the library sets by itself."""
    fresh = library_of(session).Client(transport=object(), trust_env=False)
    name = "Accept-Encoding"
    return None if session.headers.get(name) == fresh.headers.get(name) else session.headers.get(name)


def make_stoppable(session: httpx.Client) -> bool:
    """Wrap the network backend of a session, so that calls over it can be stopped while they wait.

    Where a transport is none of httpx's own, nor keeps one, nothing is wrapped: a call is then stopped between two
    lines only.

    Args:
        session: The session.

    Returns:
        Whether every transport is wrapped.
    """
    pools = [_pools_of(transport) for transport in _transports(session)]
    for pool in itertools.chain.from_iterable(pools):
        _make_pool_stoppable(pool)
    return all(pools)


def stoppable_transport(resolver: Resolver) -> httpx.HTTPTransport:
    """Build a transport whose requests can be stopped while they wait. It uses no proxy.

    Args:
        resolver: Looks up names.
    """
    transport = httpx.HTTPTransport(trust_env=False)
    for pool in _pools_of(transport):
        _make_pool_stoppable(pool, resolver)
    return transport


def _transports(session: httpx.Client) -> Iterable[Any]:
    mounts = cast("Mapping[Any, Any]", getattr(session, "_mounts", {}))
    return [getattr(session, "_transport", None), *(transport for transport in mounts.values() if transport)]


def _pools(session: httpx.Client) -> Sequence[httpcore.ConnectionPool]:
    return [pool for transport in _transports(session) for pool in _pools_of(transport)]


def _pools_of(transport: Any, depth: int = 3) -> Sequence[httpcore.ConnectionPool]:
    """Return the pool of a transport, or those of the transports that it wraps, as for logging or caching."""
    pool = getattr(transport, "_pool", None)
    if is_pool(pool):
        return [pool]
    inner = [each for each in getattr(transport, "__dict__", {}).values() if hasattr(each, "handle_request")]
    return [pool for each in inner if depth for pool in _pools_of(each, depth - 1)]


def _make_pool_stoppable(pool: httpcore.ConnectionPool, resolver: Resolver = resolve) -> None:
    backend = pool._network_backend  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    if not isinstance(backend, StoppableBackend):
        pool._network_backend = StoppableBackend(backend, resolver, pool=pool)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        # What was opened before is not wrapped; idle connections are cheap to open again.
        for connection in pool.connections:
            if connection.is_idle():
                connection.close()


def _proxy_of(session: httpx.Client) -> Proxy | None:
    """Return the proxy over which a session reaches its server."""
    find = getattr(session, "_transport_for_url", None)
    for pool in _pools_of(find(session.base_url)) if callable(find) else ():
        url = getattr(pool, "_proxy_url", None) or getattr(getattr(pool, "_proxy", None), "url", None)
        if url is not None:
            port = f":{url.port}" if url.port else ""
            return Proxy(f"{url.scheme.decode()}://{url.host.decode()}{port}")
    return None


def _session_settings(
    address: Host, proxy: Proxy | None, *, verify: bool | str | ssl.SSLContext, cert: tuple[str, ...] | None
) -> dict[str, Any]:
    library = library_of(ollama.Client)
    settings: dict[str, Any] = {
        "verify": tls_context(address.base_url, verify=verify, cert=cert),
        "timeout": None,
        # Ollama never redirects; following would carry the prompt, and headers that are secrets, to another host.
        "follow_redirects": False,
        # Proxies and certificates of the environment are in the other settings.
        "trust_env": False,
    }
    if proxy is not None:
        settings["proxy"] = library.Proxy(proxy.address, auth=proxy.auth)
    if address.user is not None:
        settings["auth"] = library.BasicAuth(address.user, address.password or "")
    return settings


def _checked_headers(headers: Any) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        raise OllamaContentError(f"headers must be a mapping of names to texts, got a {type(headers).__name__}")
    for name, value in cast("Mapping[Any, Any]", headers).items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name) or name.lower() in _FRAMING_HEADERS:
            raise OllamaContentError(f"{name!r} is not a header that can be added")
        _check_header(name, value)
    return dict(cast("Mapping[str, str]", headers))


def _check_header(name: str, value: Any) -> None:
    # The HTTP library would quote the value, which may be a secret, in its error.
    if not isinstance(value, str) or not value.isprintable() or not value.isascii() or value != value.strip():
        raise OllamaContentError(
            f"{name} must be a text of printable ASCII characters, without line breaks and without blanks at its ends"
        )


def _authorize(session: httpx.Client, address: Host, api_key: str | None, headers: Mapping[str, str]) -> None:
    if api_key is not None:
        session.headers["Authorization"] = f"Bearer {api_key}"
    elif not any(name.lower() == "authorization" for name in headers):
        # OLLAMA_API_KEY of the environment belongs to ollama.com only.
        session.headers.pop("Authorization", None)
        if address.is_cloud and (key := os.environ.get("OLLAMA_API_KEY", "").strip()):
            _check_header("OLLAMA_API_KEY", key)
            session.headers["Authorization"] = f"Bearer {key}"
