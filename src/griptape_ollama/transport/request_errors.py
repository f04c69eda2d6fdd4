"""Errors of a request that got no usable reply: failed connections, limits, broken replies.

Error replies are in `response_errors`.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaCancelledError,
    OllamaConnectionError,
    OllamaError,
    OllamaGatewayError,
    OllamaResponseError,
    OllamaSlotError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.transport import gateways
from griptape_ollama.transport.environment_proxies import Proxy
from griptape_ollama.transport.response_body import PageError, read_error_body
from griptape_ollama.transport.response_errors import ErrorReply, to_response_error

MAX_ERROR_BYTES = 64 * 1024
"""How much of the body of an error reply is read."""

# A hostile server can make the HTTP library quote 100 KB of what it sent.
_EXCERPT = 500
# The other side hung up, for example during the TLS handshake. It is transient, as later in the request.
_BREAKS = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
# Errors of TLS about bytes of plain HTTP (OpenSSL 1.1 to 3.5).
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
# A proxy that wants a login, and one that does not let this host through.
_LOGIN = (403, 407)
_WANTS_CERTIFICATE = "CERTIFICATE_REQUIRED"


E = TypeVar("E", bound=OllamaError)


@dataclass(frozen=True)
class RequestErrors:
    """Builds the errors of one request, which all name its server and its model.

    Attributes:
        host: Address of the server, without user and password.
        model: Model that the request is about; None if it is not about a model.
        method: HTTP method.
        path: Path of the request.
        proxy: Proxy that passes the request on; None if it goes directly.
    """

    host: str
    model: str | None
    method: str
    path: str
    proxy: Proxy | None = None

    def _error(self, kind: type[E], text: str, **details: Any) -> E:
        return kind(text, host=self.host, model=self.model, **details)

    @property
    def subject(self) -> str:
        """The server, and the model where there is one."""
        server = f"Ollama at {self.host}"
        return f"model {self.model!r} of {server}" if self.model else server

    # Before a reply

    def cancelled(self) -> OllamaError:
        """The request was cancelled."""
        return self._error(OllamaCancelledError, f"The call of {self.subject} was cancelled.")

    def timed_out(self, limit: str, what: str, seconds: float | None) -> OllamaError:
        """A limit was reached.

        Args:
            limit: Its name.
            what: What it means, with a place for its length.
            seconds: Its length; None if the HTTP library has a limit of its own.
        """
        how_long = "its own limit" if seconds is None else f"{seconds:g} s"
        kind = OllamaSlotError if limit == "slot" else OllamaTimeoutError
        through = self._through if limit == "connect" else ""
        text = f"{self.subject} {what.format(how_long)} (limit: {limit}).{through}"
        return self._error(kind, text, limit=limit, seconds=seconds)

    def no_slot(self, seconds: float, *, slots: int, ahead: int) -> OllamaError:
        """No slot of the server became free in time.

        Args:
            seconds: Length of the wait.
            slots: How many slots there are.
            ahead: How many requests were ahead in the queue.
        """
        return self._error(
            OllamaSlotError,
            f"{self.subject} was not asked: no slot became free within {seconds:g} s, with max_concurrency={slots} "
            f"and {ahead} others ahead in the queue (limit: slot). Send fewer requests at once, or raise "
            "max_concurrency or max_wait.",
            limit="slot",
            seconds=seconds,
        )

    def cannot_be_sent(self, error: Exception) -> OllamaError:
        """The HTTP library refuses a setting, whose value may be secret."""
        text = f"{self.subject} cannot be reached: {type(error).__name__}. Check host, headers and proxy."
        return self._error(OllamaConnectionError, text, refused=True)

    def not_connected(self, error: httpx.ConnectError) -> OllamaError:
        """Nothing answers at the address, TLS fails, or the connection broke while it was made."""
        cause = _root_cause(error)
        if isinstance(cause, _BREAKS):
            between = self._through or " If it always does, look at what stands between, such as a proxy."
            text = f"{self.subject} did not answer: the connection broke while it was made ({cause}).{between}"
            return self._error(OllamaConnectionError, text)
        if self.proxy is not None and not (isinstance(cause, ssl.SSLError) and self._is_tunnelled):
            text = (
                f"The {self.proxy.name} does not answer ({cause}); Ollama at {self.host} is asked through it. "
                f"{self.proxy.advice}"
            )
            return self._error(OllamaConnectionError, text, refused=True)
        if isinstance(cause, ssl.SSLError):
            advice = _advice_on_tls(cause)
        elif isinstance(cause, socket.gaierror):
            advice = "Check the host name."
        else:
            advice = "Start it with `ollama serve`, or set host or OLLAMA_HOST."
        text = f"No Ollama server answers at {self.host} ({cause}). {advice}"
        return self._error(OllamaConnectionError, text, refused=True)

    def proxy_refused(self, error: httpx.ProxyError) -> OllamaError:
        """The proxy opens no tunnel to the server: it returns an HTTP status, or an error of SOCKS."""
        proxy = self.proxy or Proxy("between")
        message = str(error)[:_EXCERPT]
        status = int(message[:3]) if message[:3].isascii() and message[:3].isdigit() else None
        text = f"The {proxy.name} did not connect to Ollama at {self.host}: {message or 'it did not say why'}."
        if status is None:
            return self._error(OllamaConnectionError, f"{text} {proxy.advice}", refused=True)
        kind = OllamaResponseError
        if status in _LOGIN:
            kind = OllamaAuthError
        elif status >= 500 or status == 429:
            kind = OllamaGatewayError
        return self._error(
            kind,
            f"{text} {proxy.advice_on_login if status == 407 else proxy.advice}",
            status=status,
            server_message=message,
            method="CONNECT",
            path=self.path,
            permanent=kind is not OllamaGatewayError,
        )

    def no_answer(self, error: Exception, *, stale: bool) -> OllamaError:
        """The connection broke before any output.

        Args:
            error: How.
            stale: Whether it was a kept connection.
        """
        cause = _root_cause(error)
        if isinstance(cause, ssl.SSLError) and _WANTS_CERTIFICATE in str(cause).upper().replace(" ", "_"):
            # In TLS 1.3 a server sends this after the handshake.
            text = f"{self.subject} ended the connection ({cause}). {_advice_on_tls(cause)}"
            return self._error(OllamaConnectionError, text, refused=True)
        text = f"{self.subject} did not answer: {self.broken_connection(error)}.{self._through}"
        return self._error(OllamaConnectionError, text, stale=stale)

    # Replies

    def refused(self, response: httpx.Response, sent: int | None = None) -> OllamaError:
        """The status is not 200.

        Args:
            response: The response.
            sent: Bytes of the body of the request.
        """
        text = read_error_body(response, MAX_ERROR_BYTES).decode(errors="replace")
        if response.has_redirect_location:
            where = gateways.redirected(self.host, self.path, response.headers["location"])
            return self._error(OllamaConnectionError, f"{self.subject} {where}.", refused=True, redirected=True)
        proxy = None if self._is_tunnelled else self.proxy
        return self._error_reply(response.status_code, text, response.headers, sent, proxy)

    def error_line(self, line: Mapping[str, Any]) -> OllamaResponseError:
        """The reply has a line with an error."""
        return self._error_reply(None, json.dumps(line), {})

    def error_after(self, error: OllamaResponseError, lines: int) -> OllamaError:
        """The reply has a line with an error after other lines.

        Args:
            error: What `error_line` returned.
            lines: How many lines had come.
        """
        return self.broken(error.server_message[:_EXCERPT], lines, server_message=error.server_message)

    def broken(self, reason: str, lines: int, **details: Any) -> OllamaError:
        """The reply broke after it had begun.

        Args:
            reason: How.
            lines: How many lines had come.
            **details: Attributes of the error.
        """
        text = f"The reply of {self.subject} broke after {lines} lines: {reason}."
        return self._error(OllamaStreamError, text, **details)

    def only_loaded(self) -> OllamaError:
        """The reply is that of a request without a prompt."""
        text = f"{self.subject} answered only that the model was loaded."
        return self._error(OllamaStreamError, text, retryable=True)

    def no_reply_of_ollama(self, error: Exception) -> OllamaError:
        """The reply cannot be decoded."""
        advice = gateways.advice_on_address(self.host) or "Is it an Ollama server?"
        text = f"{self.subject} gave a reply that is not Ollama's: {error}. {advice}"
        return self._error(OllamaStreamError, text)

    def page(self, error: PageError) -> OllamaError:
        """The reply is a page."""
        title = gateways.title_of(error.page.decode(errors="replace"))
        advice = gateways.advice_on_address(self.host) or (
            "Is it an Ollama server? It may be the login of a proxy in between: check host, and give what it asks for "
            "(api_key, headers, user:password@ in host)."
        )
        text = f"{self.subject} gave a page in place of a reply: {title or 'it has no text'!r}. {advice}{self._through}"
        return self._error(OllamaStreamError, text)

    @staticmethod
    def broken_connection(error: Exception) -> str:
        """Return how a connection broke, for an error."""
        return f"the connection broke ({str(error)[:_EXCERPT] or type(error).__name__})"

    def _error_reply(
        self,
        status: int | None,
        text: str,
        headers: Mapping[str, str],
        sent: int | None = None,
        proxy: Proxy | None = None,
    ) -> OllamaResponseError:
        reply = ErrorReply(status, text, headers, self.method, self.path, self.host, self.model, sent, proxy)
        return to_response_error(reply)

    @property
    def _is_tunnelled(self) -> bool:
        """Whether the proxy passes on bytes, and cannot answer in place of the server."""
        return self.proxy is not None and (self.host.startswith("https:") or self.proxy.address.startswith("socks"))

    @property
    def _through(self) -> str:
        """A sentence about the proxy, with a blank before it; empty if there is none."""
        return "" if self.proxy is None else f" It was asked through the {self.proxy.name}. {self.proxy.advice}"


def _advice_on_tls(error: ssl.SSLError) -> str:
    text = str(error).upper().replace(" ", "_")
    if any(each in text for each in _NO_TLS):
        return "The port speaks plain HTTP, it seems: write http:// in host."
    if _WANTS_CERTIFICATE in text:
        return "It wants a client certificate: give it as cert=."
    return "Check the certificate, or the settings verify and cert."


def _root_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
