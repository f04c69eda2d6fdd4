"""The way to the server, as every driver has it: address, credentials, limits, retries, and how it is stored."""

from __future__ import annotations

import copy
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import ollama
import tenacity
from attrs import Factory, define, field

from griptape_ollama.drivers.settings import HostWithCredentials, to_cert, to_host, to_limits, to_verify
from griptape_ollama.models.facts import Facts
from griptape_ollama.transport.connection import Connection, address_of
from griptape_ollama.transport.limits import OllamaTimeout
from griptape_ollama.transport.retry import retrying
from griptape_ollama.transport.running import RunningCalls

_opening = threading.Lock()
_LIVE = ("_connection", "_running")
_SHARED = ("_client", "ssl_context")  # they cannot be copied, but used by several


@define(kw_only=True, slots=False)
class OllamaServerMixin:
    """Everything about the server that a driver talks to.

    Attributes:
        host: Address of the server, for example `gpu-box`, `gpu-box:11434` or `https://user:password@gpu-box/prefix`.
            `OLLAMA_HOST`, then `http://127.0.0.1:11434`, where it is not given.
        api_key: Sent as a bearer token. `OLLAMA_API_KEY` goes to ollama.com only.
        headers: Headers to add to each request: a mapping, or a callable that gives one, for tokens that live a short
            time.
        client: An `ollama.Client` to use in place of one made from `host`. The caller closes it.
        verify: Whether certificates are checked; or a file or folder of CA certificates.
        cert: Client certificate: a file, or a pair of certificate file and key file.
        ssl_context: In place of `verify`, for everything else that TLS can do.
        timeout: Limits in seconds: a number (total), a pair (connect, read), `httpx.Timeout` or `OllamaTimeout`. By
            default a `client`'s own limits, then those of `OllamaTimeout`.
        max_attempts: Tries in all, for failures that pass.
        min_retry_delay: Upper end of the first wait before another try, in seconds; it doubles each time.
        max_retry_delay: Longest wait before another try, in seconds.
        after_hook: Called with tenacity's state after each try that failed.
    """

    host: str | None = field(default=None, converter=to_host, metadata={"serializable": True})
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)
    _client: Any = field(default=None, alias="client", repr=False)
    verify: Any | None = field(default=True, converter=to_verify, metadata={"serializable": True})
    cert: Any | None = field(default=None, converter=to_cert, metadata={"serializable": True})
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    timeout: OllamaTimeout | None = field(default=None, converter=to_limits, metadata={"serializable": True})
    max_attempts: int = field(default=2, metadata={"serializable": True})
    min_retry_delay: float = field(default=2.0, metadata={"serializable": True})
    max_retry_delay: float = field(default=10.0, metadata={"serializable": True})
    after_hook: Any = None
    # Stored, since loading would otherwise look for the class among Griptape's own, and find one of the same name.
    module_name: str = field(
        default=Factory(lambda self: type(self).__module__, takes_self=True), metadata={"serializable": True}
    )
    _connection: tuple[Any, Connection] | None = field(default=None, init=False, repr=False, eq=False)
    _running: RunningCalls = field(factory=RunningCalls, init=False, repr=False, eq=False)

    @property
    def client(self) -> ollama.Client:
        """The client in use; made now if need be."""
        return self.connection.client

    @client.setter
    def client(self, client: ollama.Client | None) -> None:
        self._client = client
        if isinstance(client, ollama.Client):
            self.host = address_of(client)

    @property
    def connection(self) -> Connection:
        """The way to the server. Opened when first asked for, and anew when a setting that concerns it has changed."""
        key = self._connection_key
        known = self._connection
        if known is not None and known[0] == key:
            return known[1]
        with _opening:
            if self._connection is None or self._connection[0] != key:
                self._connection = (key, self._open())
            return self._connection[1]

    @property
    def facts(self) -> Facts:
        """What the server tells of itself and its models, remembered for a short time."""
        return Facts(self.connection, limits=self.limits, running=self._running)

    @property
    def limits(self) -> OllamaTimeout:
        """The limits that a call has."""
        if self.timeout is not None:
            return self.timeout
        if self._client is None:
            return OllamaTimeout()
        own = self.connection.timeout
        given = {"connect": own.connect, "first_token": own.read, "between_tokens": own.read}
        return OllamaTimeout(**{name: seconds for name, seconds in given.items() if seconds is not None})

    def cancel(self) -> None:
        """Stop all calls of this driver that are under way, from any thread and in any phase.

        Their callers get OllamaCancelledError within milliseconds, and the server stops generating. Calls that start
        later are not concerned; when nothing is under way, nothing happens.
        """
        self._running.cancel()

    def retrying(self) -> tenacity.Retrying:
        """Give the policy: what passes is tried again, what the server would say again is not."""
        return retrying(
            max_attempts=self.max_attempts,
            min_delay=self.min_retry_delay,
            max_delay=self.max_retry_delay,
            ignored=getattr(self, "ignored_exception_types", ()),
            after=self.after_hook,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Give every setting; live connections, a client and a TLS context stay behind."""
        names = (attribute.name for attribute in attrs.fields(type(self)))
        return {name: getattr(self, name) for name in names if name not in (*_LIVE, *_SHARED)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._restore({**state, **dict.fromkeys(_SHARED)})

    def __copy__(self) -> Any:
        """Copy the settings; the copy opens a connection of its own, but shares a client that was given."""
        return self._twin(self.__getstate__())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy the settings; the copy opens a connection of its own, but shares a client that was given."""
        return self._twin(copy.deepcopy(self.__getstate__(), memo))

    def _twin(self, settings: dict[str, Any]) -> Any:
        twin = object.__new__(type(self))
        twin._restore({**settings, **{name: getattr(self, name) for name in _SHARED}})
        return twin

    def _restore(self, settings: dict[str, Any]) -> None:
        for name, value in settings.items():
            object.__setattr__(self, name, value)
        self._connection = None
        self._running = RunningCalls()

    def __attrs_post_init__(self) -> None:
        """Take the address of a client that was given, so that it is there when the settings are stored without it."""
        if self.host is None and isinstance(self._client, ollama.Client):
            self.host = address_of(self._client)

    @property
    def _connection_key(self) -> tuple[Any, ...]:
        host = self.host.whole if isinstance(self.host, HostWithCredentials) else self.host
        environment = os.environ.get("OLLAMA_HOST") if host is None else None
        # A mapping may be changed in place.
        headers = self.headers if self.headers is None or callable(self.headers) else dict(self.headers)
        return self._client, host, environment, self.api_key, headers, self.verify, self.cert, self.ssl_context

    def _open(self) -> Connection:
        client, host, _, api_key, headers, verify, cert, ssl_context = self._connection_key
        if client is None:
            return Connection.open(
                host, api_key=api_key, headers=headers, verify=verify if ssl_context is None else ssl_context, cert=cert
            )
        return Connection(client, headers=self._extra_headers if api_key or headers else None)

    def _extra_headers(self) -> Mapping[str, str]:
        headers = dict((self.headers() if callable(self.headers) else self.headers) or {})
        if self.api_key is not None:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers
