"""The way to one server: an `ollama.Client`, and the HTTP session inside it. No other module touches that session."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import ssl
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeGuard, cast

import httpcore
import httpx
import ollama

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.host import Host, origin_of, parse_host
from griptape_ollama.transport.bodies import ACCEPTED
from griptape_ollama.transport.idle import watch
from griptape_ollama.transport.slots import DEFAULT_MAX_WAIT, Admission, slots_of
from griptape_ollama.transport.sockets import Guard, GuardedBackend

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
        admission: The rule by which requests get slots; None where there is no limit.
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
        self.identity = _identity(self.base_url, self._session, headers)
        self.admission = (
            None if max_concurrency is None else Admission(slots_of(self.base_url), max_concurrency, max_wait)
        )
        self._urls: dict[str, httpx.URL] = {}
        self._own_pools: Sequence[httpcore.ConnectionPool] = ()
        guard_sockets(self._session)

    @classmethod
    def open(  # noqa: D417 # the others are the driver's fields of the same names
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
        """Make a client for the address, and close it when nobody uses it any more.

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
        settings = _session_settings(address, verify=verify, cert=cert)
        # Who sends many requests at once wants their connections back for the next ones.
        kept = max(_MAX_KEPT_CONNECTIONS, max_concurrency or 0)
        # No queue of the pool's: a thread that waits for a place in it cannot be stopped.
        settings["limits"] = httpx.Limits(
            max_connections=None, max_keepalive_connections=kept, keepalive_expiry=_IDLE_SECONDS
        )
        client = _new_client(address, fixed, settings)
        session = session_of(client)
        # Ollama sets none; what a proxy sets would be kept without a bound, and shown to it with everybody's requests.
        session.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        _authorize(session, address, api_key, fixed)
        connection = cls(
            client,
            headers=headers if callable(headers) else None,
            max_concurrency=max_concurrency,
            max_wait=max_wait,
        )
        connection._own_pools = _pools(session)
        # As long as anybody has the client, be it without the connection, it stays open.
        weakref.finalize(client, session.close)
        return connection

    def headers_here(self) -> tuple[tuple[str, str], ...] | None:
        """Give the headers that are made anew for each request, as they are here: they may depend on who asks.

        Returns:
            Names and values; None where all requests have the same headers.

        Raises:
            OllamaContentError: They are no headers.
        """
        return None if self._headers is None else tuple(sorted(_checked_headers(self._headers()).items()))

    @property
    def timeout(self) -> httpx.Timeout:
        """The limits that the client was made with."""
        return self._session.timeout

    @contextlib.contextmanager
    def send(
        self, guard: Guard, method: str, path: str, content: bytes | None, limits: Mapping[str, float | None]
    ) -> Generator[httpx.Response, None, None]:
        """Send a request and give the response with its body still to be read.

        Args:
            guard: Told of the socket that carries the request.
            method: HTTP method.
            path: Path below the base URL.
            content: Body.
            limits: Seconds for `connect`, `read`, `write` and `pool`; None for no limit.

        Raises:
            httpx.TransportError: As the HTTP library says it; the caller translates.
        """
        headers = {"Accept-Encoding": ACCEPTED, **(_checked_headers(self._headers()) if self._headers else {})}
        request = self._session.build_request(
            method, self._urls.get(path, path), content=content, headers=headers, extensions={"timeout": dict(limits)}
        )
        # Joining a path to the base URL is a tenth of what a request costs (httpx 0.28).
        self._urls[path] = request.url
        with guard.active():
            # A client of the user's would take along the prompt, and headers that are secrets, wherever it is sent.
            response = self._session.send(request, stream=True, follow_redirects=False)
        try:
            for pool in self._own_pools:
                watch(pool)
            yield response
        finally:
            response.close()

    def close(self) -> None:
        """Close the client and its idle connections."""
        self._session.close()


def _new_client(address: Host, headers: Mapping[str, str], settings: Mapping[str, Any]) -> ollama.Client:
    try:
        httpx.URL(address.base_url)
    except httpx.InvalidURL as error:
        raise OllamaContentError(f"host {address.base_url!r} is not an address: {error}") from error
    try:
        # With a header in its place, the client does not look for OLLAMA_API_KEY, which `_authorize` sees to.
        return ollama.Client(host=address.base_url, headers={"Authorization": "-", **headers}, **settings)
    except (httpx.InvalidURL, ValueError, ImportError) as error:
        advice = (
            "install httpx[socks] for a SOCKS proxy" if isinstance(error, ImportError) else "write http://proxy:8080"
        )
    # Without the error: it may quote the password of the proxy.
    raise OllamaContentError(
        f"The proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {advice}, or unset the variable."
    )


def session_of(client: ollama.Client) -> httpx.Client:
    """Find the HTTP session inside a client.

    Raises:
        OllamaContentError: The client is not an `ollama.Client`, or this release of `ollama` keeps no session in it.
    """
    session = getattr(client, "_client", None)
    if isinstance(session, httpx.Client):
        return session
    if isinstance(session, httpx.AsyncClient):
        raise OllamaContentError("client is an ollama.AsyncClient: give an ollama.Client")
    raise OllamaContentError(
        f"client must be an ollama.Client, got {type(client).__name__}. If it is one, this release of the ollama "
        "package keeps its HTTP session elsewhere: use ollama 0.6"
    )


def address_of(client: ollama.Client) -> str:
    """Give the address that a client talks to, without user and password."""
    return origin_of(str(session_of(client).base_url))


def _identity(base_url: str, session: httpx.Client, headers: object) -> tuple[str, str]:
    secrets = [f"{name}:{value}" for name, value in sorted(session.headers.items()) if name not in _OF_THE_CLIENT]
    auth: Any = session.auth
    secrets += [str(getattr(auth, "_auth_header", "")), "" if headers is None else str(id(headers))]
    return base_url, hashlib.sha256("\n".join(secrets).encode()).hexdigest()


def guard_sockets(session: httpx.Client, backend: httpcore.NetworkBackend | None = None) -> bool:
    """Wrap the network backend of a session, so that calls over it can be stopped while they wait.

    Where the transport is none of httpx's own, nothing is wrapped: a call is then stopped between two lines only.

    Args:
        session: The session.
        backend: What opens connections in place of the backend that the session has.

    Returns:
        Whether every transport is wrapped.
    """
    guarded = [_guard_pool(getattr(transport, "_pool", None), backend) for transport in _transports(session)]
    return all(guarded)


def guarded_transport(backend: httpcore.NetworkBackend) -> httpx.HTTPTransport:
    """Make a transport over a backend, whose requests can be stopped while they wait. It asks no proxy.

    Args:
        backend: What opens connections.
    """
    transport = httpx.HTTPTransport(trust_env=False)
    _guard_pool(getattr(transport, "_pool", None), backend)
    return transport


def _transports(session: httpx.Client) -> Iterable[Any]:
    mounts = cast("Mapping[Any, Any]", getattr(session, "_mounts", {}))
    return [getattr(session, "_transport", None), *(transport for transport in mounts.values() if transport)]


def _is_pool(pool: Any) -> TypeGuard[httpcore.ConnectionPool]:
    return isinstance(pool, httpcore.ConnectionPool)


def _pools(session: httpx.Client) -> Sequence[httpcore.ConnectionPool]:
    found = (getattr(transport, "_pool", None) for transport in _transports(session))
    return [pool for pool in found if _is_pool(pool)]


def _guard_pool(pool: Any, backend: httpcore.NetworkBackend | None) -> bool:
    backend = backend or getattr(pool, "_network_backend", None)
    if not _is_pool(pool) or not isinstance(backend, httpcore.NetworkBackend):
        return False
    if not isinstance(backend, GuardedBackend):
        pool._network_backend = GuardedBackend(backend)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        # What was opened before is not wrapped; idle connections are cheap to open again.
        for connection in pool.connections:
            if connection.is_idle():
                connection.close()
    return True


def _session_settings(
    address: Host, *, verify: bool | str | ssl.SSLContext, cert: tuple[str, ...] | None
) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "verify": _tls_context(address, verify, cert),
        "timeout": None,
        # Ollama never redirects; following would carry the prompt, and headers that are secrets, to another host.
        "follow_redirects": False,
    }
    if address.is_loopback:
        # A proxy from the environment does not know this machine's loopback; it may not even be an address.
        settings["trust_env"] = False
        if settings["verify"] is True:
            settings["verify"] = httpx.create_ssl_context()  # with SSL_CERT_FILE and SSL_CERT_DIR
    if address.user is not None:
        settings["auth"] = httpx.BasicAuth(address.user, address.password or "")
    return settings


def _tls_context(
    address: Host, verify: bool | str | ssl.SSLContext, cert: tuple[str, ...] | None
) -> ssl.SSLContext | bool:
    if verify is True and not address.base_url.startswith("https:"):
        # Reading the CA certificates takes 20 ms; an empty context trusts nobody, should the server redirect to TLS.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if isinstance(verify, bool) and cert is None:
        return verify
    try:
        context = verify if isinstance(verify, ssl.SSLContext) else _new_tls_context(verify)
    except (OSError, ssl.SSLError) as error:
        raise OllamaContentError(f"verify={verify!r} is not a file or folder of CA certificates: {error}") from error
    if cert is not None:
        try:
            context.load_cert_chain(*cert)
        except (OSError, ssl.SSLError, TypeError) as error:
            raise OllamaContentError(
                f"cert={cert!r} is not a certificate file, or a certificate and a key: {error}"
            ) from error
    return context


def _new_tls_context(verify: bool | str) -> ssl.SSLContext:
    if isinstance(verify, bool):
        return httpx.create_ssl_context(verify=verify)
    is_folder = Path(verify).is_dir()
    return ssl.create_default_context(capath=verify if is_folder else None, cafile=None if is_folder else verify)


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
