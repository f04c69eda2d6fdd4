"""What is said of a request that failed on the way; what the server refuses is in `refusals`."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
"""How much of the body of a refusal is read."""

# A hostile server can make the HTTP library quote 100 KB of what it sent.
_EXCERPT = 500
# Somebody was there, and hung up: during the TLS handshake, for instance. It passes, as later in the request.
_BREAKS = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
# What TLS says of bytes that are none of its own: those of plain HTTP (OpenSSL 1.1 to 3.5).
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
# A proxy that wants a login, and one that does not let this host through.
_LOGIN = (403, 407)
_WANTS_CERTIFICATE = "CERTIFICATE_REQUIRED"


@dataclass(frozen=True)
class RequestErrors:
    """Makes the errors of one request, which all name its server and its model.

    Attributes:
        host: Address of the server, without user and password.
        model: Model that the request is about; None where it is about none.
        method: HTTP method.
        path: Path of the request.
        proxy: Proxy that the server is asked through; None where it is asked directly.
    """

    host: str
    model: str | None
    method: str
    path: str
    proxy: Proxy | None = None

    @property
    def subject(self) -> str:
        """Who was asked."""
        server = f"Ollama at {self.host}"
        return f"model {self.model!r} of {server}" if self.model else server

    def cancelled(self) -> OllamaError:
        """Somebody stopped the request."""
        return OllamaCancelledError(f"The call of {self.subject} was cancelled.", **self._context)

    def only_loaded(self) -> OllamaError:
        """The reply is that of a request without a prompt."""
        text = f"{self.subject} answered only that the model was loaded."
        return OllamaStreamError(text, **self._context, retryable=True)

    def cannot_be_sent(self, error: Exception) -> OllamaError:
        """The HTTP library refuses a setting, whose value may be secret."""
        return OllamaConnectionError(
            f"{self.subject} cannot be reached: {type(error).__name__}. Check host, headers and proxy.",
            **self._context,
            refused=True,
        )

    def not_connected(self, error: httpx.ConnectError) -> OllamaError:
        """Nobody is there, or TLS fails, or the connection broke while it was made."""
        cause = _root_cause(error)
        if isinstance(cause, _BREAKS):
            between = self._through or " If it always does, look at what stands between, such as a proxy."
            return OllamaConnectionError(
                f"{self.subject} did not answer: the connection broke while it was made ({cause}).{between}",
                **self._context,
            )
        if self.proxy is not None and not (isinstance(cause, ssl.SSLError) and self._is_tunnelled):
            return OllamaConnectionError(
                f"The {self.proxy.name} does not answer ({cause}); Ollama at {self.host} is asked through it. "
                f"{self.proxy.advice}",
                **self._context,
                refused=True,
            )
        if isinstance(cause, ssl.SSLError):
            advice = _advice_on_tls(cause)
        elif isinstance(cause, socket.gaierror):
            advice = "Check the host name."
        else:
            advice = "Start it with `ollama serve`, or set host or OLLAMA_HOST."
        return OllamaConnectionError(
            f"No Ollama server answers at {self.host} ({cause}). {advice}", **self._context, refused=True
        )

    def proxy_refused(self, error: httpx.ProxyError) -> OllamaError:
        """Return the error of a proxy that opens no tunnel to the server: an HTTP status, or the words of SOCKS."""
        proxy = self.proxy or Proxy("between")
        said = str(error)[:_EXCERPT]
        status = int(said[:3]) if said[:3].isascii() and said[:3].isdigit() else None
        answer: dict[str, Any] = {"status": status, "server_message": said, "method": "CONNECT", "path": self.path}
        text = f"The {proxy.name} did not connect to Ollama at {self.host}: {said or 'it did not say why'}."
        if status is None:
            return OllamaConnectionError(f"{text} {proxy.advice}", **self._context, refused=True)
        if status in _LOGIN:
            advice = proxy.advice_on_login if status == 407 else proxy.advice
            return OllamaAuthError(f"{text} {advice}", **self._context, **answer)
        if status >= 500 or status == 429:
            return OllamaGatewayError(f"{text} {proxy.advice}", **self._context, **answer, permanent=False)
        return OllamaResponseError(f"{text} {proxy.advice}", **self._context, **answer)

    def no_answer(self, error: Exception, *, stale: bool) -> OllamaError:
        """The connection broke before any output.

        Args:
            error: How.
            stale: Whether it was a kept connection.
        """
        cause = _root_cause(error)
        if isinstance(cause, ssl.SSLError) and _WANTS_CERTIFICATE in str(cause).upper().replace(" ", "_"):
            # In TLS 1.3 a server says so after the handshake.
            return OllamaConnectionError(
                f"{self.subject} ended the connection ({cause}). {_advice_on_tls(cause)}", **self._context, refused=True
            )
        return OllamaConnectionError(
            f"{self.subject} did not answer: {self.broken_connection(error)}.{self._through}",
            **self._context,
            stale=stale,
        )

    @staticmethod
    def broken_connection(error: Exception) -> str:
        """Say how a connection broke."""
        return f"the connection broke ({str(error)[:_EXCERPT] or type(error).__name__})"

    def no_reply_of_ollama(self, error: Exception) -> OllamaError:
        """What came cannot be read."""
        advice = gateways.advice_on_address(self.host) or "Is it an Ollama server?"
        text = f"{self.subject} gave a reply that is not Ollama's: {error}. {advice}"
        return OllamaStreamError(text, **self._context)

    def page(self, error: PageError) -> OllamaError:
        """Return the error of a page in place of a reply."""
        title = gateways.title_of(error.page.decode(errors="replace"))
        advice = gateways.advice_on_address(self.host) or (
            "Is it an Ollama server? It may be the login of a proxy in between: check host, and give what it asks for "
            "(api_key, headers, user:password@ in host)."
        )
        return OllamaStreamError(
            f"{self.subject} gave a page in place of a reply: {title or 'it has no text'!r}. {advice}{self._through}",
            **self._context,
        )

    def broken(self, reason: str, lines: int, **details: Any) -> OllamaError:
        """The reply broke after it had begun.

        Args:
            reason: How.
            lines: How many lines had come.
            **details: Attributes of the error.
        """
        text = f"The reply of {self.subject} broke after {lines} lines: {reason}."
        return OllamaStreamError(text, **self._context, **details)

    def error_line(self, line: Mapping[str, Any]) -> OllamaResponseError:
        """The server says within its reply that something is wrong."""
        return to_response_error(ErrorReply(None, json.dumps(line), {}, self.method, self.path, self.host, self.model))

    def error_after(self, error: OllamaResponseError, lines: int) -> OllamaError:
        """The server said so after some of its reply.

        Args:
            error: What it said.
            lines: How many lines had come.
        """
        return self.broken(error.server_message[:_EXCERPT], lines, server_message=error.server_message)

    def refused(self, response: httpx.Response, sent: int | None = None) -> OllamaError:
        """The status is another than 200.

        Args:
            response: The response.
            sent: Bytes of the body of the request.
        """
        text = read_error_body(response, MAX_ERROR_BYTES).decode(errors="replace")
        if response.has_redirect_location:
            where = gateways.redirected(self.host, self.path, response.headers["location"])
            return OllamaConnectionError(f"{self.subject} {where}.", **self._context, refused=True, redirected=True)
        return to_response_error(
            ErrorReply(
                response.status_code,
                text,
                response.headers,
                self.method,
                self.path,
                self.host,
                self.model,
                sent,
                None if self._is_tunnelled else self.proxy,
            )
        )

    def timed_out(self, limit: str, what: str, seconds: float | None) -> OllamaError:
        """A limit was reached.

        Args:
            limit: Its name.
            what: What it means, with a place for its length.
            seconds: Its length; None where the HTTP library has a limit of its own.
        """
        how_long = "its own limit" if seconds is None else f"{seconds:g} s"
        kind = OllamaSlotError if limit == "slot" else OllamaTimeoutError
        through = self._through if limit == "connect" else ""
        text = f"{self.subject} {what.format(how_long)} (limit: {limit}).{through}"
        return kind(text, **self._context, limit=limit, seconds=seconds)

    def no_slot(self, seconds: float, *, slots: int, ahead: int) -> OllamaError:
        """No slot of the server became free in time.

        Args:
            seconds: How long it was waited for.
            slots: How many there are.
            ahead: How many others were to get one before.
        """
        return OllamaSlotError(
            f"{self.subject} was not asked: no slot became free within {seconds:g} s, with max_concurrency={slots} "
            f"and {ahead} others ahead in the queue (limit: slot). Send fewer requests at once, or raise "
            "max_concurrency or max_wait.",
            **self._context,
            limit="slot",
            seconds=seconds,
        )

    @property
    def _is_tunnelled(self) -> bool:
        """Whether a proxy passes on bytes, and cannot answer in place of the server."""
        return self.proxy is not None and (self.host.startswith("https:") or self.proxy.address.startswith("socks"))

    @property
    def _through(self) -> str:
        """A sentence about the proxy, with a blank before it; empty where there is none."""
        return "" if self.proxy is None else f" It was asked through the {self.proxy.name}. {self.proxy.advice}"

    @property
    def _context(self) -> dict[str, Any]:
        return {"host": self.host, "model": self.model}


def _advice_on_tls(error: ssl.SSLError) -> str:
    said = str(error).upper().replace(" ", "_")
    if any(each in said for each in _NO_TLS):
        return "The port speaks plain HTTP, it seems: write http:// in host."
    if _WANTS_CERTIFICATE in said:
        return "It wants a client certificate: give it as cert=."
    return "Check the certificate, or the settings verify and cert."


def _root_cause(error: BaseException) -> BaseException:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return error
