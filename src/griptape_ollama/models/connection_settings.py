"""The connection of a driver: address, credentials, timeouts, retries; copied, pickled and stored with the driver."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import pickle
import ssl
import threading
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

import attrs
import tenacity
from attrs import Factory, define, field
from typing_extensions import Self

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.models.redeclared_fields import FieldOverrides
from griptape_ollama.models.validators import (
    HostWithCredentials,
    to_cert,
    to_host,
    to_limits,
    to_max_attempts,
    to_max_concurrency,
    to_max_wait,
    to_seconds_of,
    to_verify,
)
from griptape_ollama.ollama_package import ollama
from griptape_ollama.shared_state import when_forked
from griptape_ollama.transport.async_bridge import warn_if_blocking
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.concurrency import DEFAULT_MAX_WAIT
from griptape_ollama.transport.connection import Connection, address_of
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.run import ActiveRuns, PendingCall, Run
from griptape_ollama.transport.timeouts import OllamaTimeout

_opening = threading.Lock()
LIVE: Mapping[str, Any] = {"live": True}
"""Metadata of a field that belongs to one object: it is neither stored nor copied, but created anew."""

_DEFAULT_LIMITS = OllamaTimeout()
_SHARED = ("_client", "ssl_context")  # they cannot be copied, but shared
_SURELY_PICKLED = (str, int, float, bool, type(None), OllamaTimeout)

_logger = logging.getLogger(__name__)


@define(kw_only=True, slots=False)
class OllamaServerMixin(FieldOverrides):
    """The server of a driver, and how requests are sent to it.

    Attributes:
        host: Address of the server, for example `gpu-box`, `gpu-box:11434` or `https://user:password@gpu-box/prefix`.
            By default `OLLAMA_HOST`, then `http://127.0.0.1:11434`.
        api_key: Sent as a bearer token. `OLLAMA_API_KEY` goes to ollama.com only.
        headers: Headers to add to each request: a mapping, or a callable that returns one, for tokens that expire soon.
        client: An `ollama.Client` to use in place of one for `host`. The caller closes it.
        verify: Whether certificates are checked; or a file or folder of CA certificates.
        cert: Client certificate: a file, or a pair of certificate file and key file.
        ssl_context: Used in place of `verify`, for other settings of TLS.
        timeout: Limits in seconds: a number (total), a pair (connect, read), `httpx.Timeout` or `OllamaTimeout`. By
            default a `client`'s own limits, then those of `OllamaTimeout`.
        max_attempts: Attempts in all, for failures that may pass.
        min_retry_delay: Upper end of the first wait before a retry, in seconds; it doubles each time.
        max_retry_delay: Longest wait before a retry, in seconds. A Retry-After of up to 60 s takes its place.
        max_concurrency: How many prompts and embedding requests may be under way to the server at the same time,
            together with those of other drivers in this process with such a limit and the same address. The rest wait
            for a slot. None for no limit.
        max_wait: Longest wait for a slot, in seconds; None for no limit. After it, OllamaSlotError is raised.
        wait_for_server: Seconds for which requests to a server that is not there are retried; 0 fails at once.
        after_hook: Called with tenacity's state after each attempt that failed.
    """

    host: str | None = field(default=None, converter=to_host, metadata={"serializable": True})
    api_key: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = field(default=None, repr=False)
    _client: Any = field(default=None, alias="client", repr=False)
    verify: Any | None = field(default=True, converter=to_verify, metadata={"serializable": True})
    cert: Any | None = field(default=None, converter=to_cert, metadata={"serializable": True})
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)
    timeout: OllamaTimeout | None = field(default=None, converter=to_limits, metadata={"serializable": True})
    max_attempts: int = field(default=2, converter=to_max_attempts, metadata={"serializable": True})
    min_retry_delay: float = field(
        default=2.0, converter=to_seconds_of("min_retry_delay"), metadata={"serializable": True}
    )
    max_retry_delay: float = field(
        default=10.0, converter=to_seconds_of("max_retry_delay"), metadata={"serializable": True}
    )
    max_concurrency: int | None = field(default=None, converter=to_max_concurrency, metadata={"serializable": True})
    max_wait: float | None = field(default=DEFAULT_MAX_WAIT, converter=to_max_wait, metadata={"serializable": True})
    wait_for_server: float = field(
        default=0.0, converter=to_seconds_of("wait_for_server"), metadata={"serializable": True}
    )
    after_hook: Any = None
    # Stored, since loading would otherwise look for the class among Griptape's own, and find one of the same name.
    module_name: str = field(
        default=Factory(lambda self: type(self).__module__, takes_self=True), metadata={"serializable": True}
    )
    _connection: tuple[Any, Connection] | None = field(
        factory=lambda: None, init=False, repr=False, eq=False, metadata=LIVE
    )
    _running: ActiveRuns = field(factory=ActiveRuns, init=False, repr=False, eq=False, metadata=LIVE)

    @property
    def client(self) -> ollama.Client:
        """The client in use."""
        return self.connection.client

    @client.setter
    def client(self, client: ollama.Client | None) -> None:
        self._client = client
        if isinstance(client, ollama.Client):
            self.host = address_of(client)

    @client.deleter
    def client(self) -> None:
        del self._client

    @property
    def connection(self) -> Connection:
        """The connection to the server. It is opened when it is first used, and anew after a change of its settings."""
        key = self._connection_key
        known = self._connection
        if known is not None and known[0] == key:
            return known[1]
        with _opening:
            if self._connection is None or self._connection[0] != key:
                self._connection = (key, self._open())
            return self._connection[1]

    @property
    def facts(self) -> ServerMetadata:
        """Metadata of the server and its models, cached for a short time."""
        return ServerMetadata(self.connection, self._new_run())

    @property
    def limits(self) -> OllamaTimeout:
        """The timeouts of a call."""
        if self.timeout is not None:
            return self.timeout
        if self._client is None:
            return _DEFAULT_LIMITS
        own = self.connection.timeout
        given = {"connect": own.connect, "first_token": own.read, "between_tokens": own.read}
        return OllamaTimeout(**{name: seconds for name, seconds in given.items() if seconds is not None})

    def with_settings(self, **settings: Any) -> Self:
        """Return a driver of the same class with other settings, which shares the connection if those allow it.

        It is cheap enough for each task: `PromptTask(prompt_driver=driver.with_settings(keep_alive=0))`.

        Args:
            **settings: Arguments of the constructor, in place of those of this driver.

        Raises:
            TypeError: There is no such argument.
            OllamaContentError: A setting is invalid.
        """
        known = {attribute.alias for attribute in attrs.fields(type(self)) if attribute.init}
        if unknown := settings.keys() - known:
            raise TypeError(f"{type(self).__name__} has no setting {', '.join(map(repr, sorted(unknown)))}")
        twin = copy.copy(self)
        for name, value in settings.items():
            setattr(twin, name, value)
        twin._share_connection(self)  # noqa: SLF001 # its own class
        return twin

    def _share_connection(self, other: OllamaServerMixin) -> None:
        if (key := self._connection_key) == other._connection_key:
            self._connection = (key, other.connection)

    def load_options(self) -> dict[str, Any]:
        """Return the options that requests of this driver load their model with; other options would reload it."""
        return {}

    def cancel(self) -> None:
        """Cancel all calls of this driver that are under way, from any thread and in any phase.

        Their callers get OllamaCancelledError within milliseconds, and the server stops generating. Calls that start
        later are not affected; if nothing is under way, nothing happens.
        """
        self._running.cancel()

    def _watch(self, awaited: PendingCall) -> None:
        """Register an awaited call for `cancel`, also before its run begins."""
        self._running.watch(awaited)

    def _tracked_run(self) -> contextlib.AbstractContextManager[Run]:
        """Start a run that `cancel` stops."""
        warn_if_blocking()
        return self._running.tracking(self._new_run())

    @contextlib.contextmanager
    def _runs_until_cancelled(self) -> Generator[Callable[[], contextlib.AbstractContextManager[Run]], None, None]:
        """Return a function that starts runs, one after another, until `cancel` is called: also between two of them."""
        # Each run is cancelled by the scopes that are open when it starts.
        with outside_scopes():
            whole = self._new_run()

        @contextlib.contextmanager
        def next_run() -> Generator[Run, None, None]:
            whole.check()
            with self._tracked_run() as run:
                # A server that was waited for in vain is not waited for again by the first request.
                run.has_waited = has_waited = whole.has_waited
                yield run
                whole.has_waited = run.has_waited and not has_waited

        with self._running.tracking(whole):
            yield next_run

    def _tracked_api(self) -> contextlib.AbstractContextManager[OllamaApi]:
        """Start a run on the server that is set now. `cancel` can stop it; all its requests go to that server."""
        warn_if_blocking()
        return self._tracking_api(self.connection)

    @contextlib.contextmanager
    def _tracking_api(self, connection: Connection) -> Generator[OllamaApi, None, None]:
        with self._running.tracking(self._run_on(connection)) as run:
            yield OllamaApi(connection, run, self.retrying)

    def _new_run(self) -> Run:
        return self._run_within(self.limits)

    def _run_within(self, limits: OllamaTimeout) -> Run:
        return self._run_on(self.connection, limits)

    def _run_on(self, connection: Connection, limits: OllamaTimeout | None = None) -> Run:
        model: str | None = getattr(self, "model", None)
        limits = limits or self.limits
        return Run(limits, wait_for_server=self.wait_for_server, host=connection.base_url, model=model)

    def retrying(self, *, progress: Callable[[], float] | None = None) -> tenacity.Retrying:
        """Return the retry policy: failures that may pass are retried, permanent ones are not.

        Args:
            progress: Returns a number that grows with progress; attempts count from the last one with progress.
        """
        return retry_policy(
            max_attempts=self.max_attempts,
            min_delay=self.min_retry_delay,
            max_delay=self.max_retry_delay,
            wait_for_server=self.wait_for_server,
            ignored=getattr(self, "ignored_exception_types", ()),
            after=self.after_hook,
            progress=progress,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return every setting, without live connections, a client and a TLS context."""
        names = [*vars(self), *(attribute.name for attribute in attrs.fields(type(self)))]
        # A property has its value under another name.
        names = [name for name in names if not isinstance(getattr(type(self), name, None), property)]
        left_behind = {*_SHARED, *(attribute.name for attribute in _live_fields(type(self)))}
        return {name: getattr(self, name) for name in dict.fromkeys(names) if name not in left_behind}

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle the settings, also of a subclass for which attrs writes a `__getstate__` of its own.

        Raises:
            OllamaContentError: A setting cannot be pickled.
        """
        state = OllamaServerMixin.__getstate__(self)
        for name, value in state.items():
            if not isinstance(value, _SURELY_PICKLED):
                _check_pickled(type(self), name, value, protocol)
        self._warn_of_unstored("pickled")
        return _restored, (type(self), state)

    def to_dict(self, **options: Any) -> dict[str, Any]:
        """Return the settings that may be stored, as Griptape stores them; a warning names those that are left out."""
        self._warn_of_unstored("stored")
        return cast("Any", super()).to_dict(**options)

    def _warn_of_unstored(self, how: str) -> None:
        names = [name.lstrip("_") for name in _SHARED if getattr(self, name) is not None]
        if names:
            _logger.warning(
                "%s of %s is not %s and stays behind: set it again on what is made of this, "
                "or use host=, verify= and cert= with files in place of it.",
                " and ".join(names),
                type(self).__name__,
                how,
            )

    def __copy__(self) -> Any:
        """Copy the settings; the copy opens a connection of its own, but shares a `client`."""
        return self._twin(lambda value: value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copy the settings; the copy opens a connection of its own, but shares a `client`."""
        # Functions are shared: the objects that they belong to may hold locks.
        return self._twin(lambda value: value if callable(value) else copy.deepcopy(value, memo))

    def _twin(self, copied: Callable[[Any], Any]) -> Any:
        settings = {name: copied(value) for name, value in OllamaServerMixin.__getstate__(self).items()}
        return _restored(type(self), {**settings, **{name: getattr(self, name) for name in _SHARED}})

    def __attrs_post_init__(self) -> None:
        """Set the host to that of the client, for when the settings are stored without the client."""
        if self.host is None and isinstance(self._client, ollama.Client):
            self.host = address_of(self._client)
        if following := getattr(super(), "__attrs_post_init__", None):
            following()

    @property
    def _connection_key(self) -> tuple[Any, ...]:
        host = self.host.whole if isinstance(self.host, HostWithCredentials) else self.host
        environment = os.environ.get("OLLAMA_HOST") if host is None else None
        # A mapping may be changed in place.
        headers = self.headers if self.headers is None or callable(self.headers) else dict(self.headers)
        tls = (self.verify, self.cert, self.ssl_context)
        load = (self.max_concurrency, self.max_wait)
        return self._client, host, environment, self.api_key or None, headers, tls, load

    def _open(self) -> Connection:
        client, host, _, api_key, headers, (verify, cert, ssl_context), (max_concurrency, max_wait) = (
            self._connection_key
        )
        load: dict[str, Any] = {"max_concurrency": max_concurrency, "max_wait": max_wait}
        if client is not None:
            return Connection(client, headers=self._extra_headers if api_key or headers else None, **load)
        verify = verify if ssl_context is None else ssl_context
        return Connection.open(host, api_key=api_key, headers=headers, verify=verify, cert=cert, **load)

    def _extra_headers(self) -> Mapping[str, str]:
        headers = dict((self.headers() if callable(self.headers) else self.headers) or {})
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        return headers


def _check_pickled(kind: type[Any], name: str, value: Any, protocol: Any) -> None:
    """Raise an error that names the setting if it cannot be pickled: that of pickle does not."""
    try:
        pickle.dumps(value, protocol)
    except Exception as error:
        raise OllamaContentError(
            f"{kind.__name__} cannot be pickled because of its setting {name.lstrip('_')!r}: {error}. Use a value that "
            "can be, such as a function of a module in place of a lambda; or take it out with "
            f"with_settings({name.lstrip('_')}=...) and set it again on the copy."
        ) from error


def _restored(kind: type[Any], settings: dict[str, Any]) -> Any:
    """Build an object from settings, without its constructor."""
    driver = object.__new__(kind)
    for name, value in {**dict.fromkeys(_SHARED), **settings}.items():
        object.__setattr__(driver, name, value)
    for attribute in _live_fields(kind):
        object.__setattr__(driver, attribute.name, attribute.default.factory())
    for attribute in attrs.fields(kind):
        # An object that an earlier version stored lacks newer settings.
        if attribute.init and attribute.default is not attrs.NOTHING and not hasattr(driver, attribute.name):
            object.__setattr__(driver, attribute.name, _default(attribute.default, driver))
    return driver


def _default(default: Any, driver: Any) -> Any:
    if not hasattr(default, "takes_self"):
        return default
    return default.factory(driver) if default.takes_self else default.factory()


def _live_fields(kind: type[Any]) -> list[Any]:
    return [attribute for attribute in attrs.fields(kind) if attribute.metadata.get("live")]


@when_forked
def _renew_lock() -> None:
    """Replace a lock that a thread of the parent may hold."""
    global _opening  # noqa: PLW0603
    _opening = threading.Lock()
