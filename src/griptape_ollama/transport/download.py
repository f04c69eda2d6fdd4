"""An image from somewhere on the network, within limits, and from nowhere private."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import httpcore
import httpx

from griptape_ollama.errors import OllamaCancelledError, OllamaConnectionError, OllamaContentError, OllamaTimeoutError
from griptape_ollama.protocol.image_formats import shown_url
from griptape_ollama.transport.connection import stoppable_transport
from griptape_ollama.transport.happy_eyeballs import AddressInfo, resolve
from griptape_ollama.transport.response_body import ACCEPTED, read_at_most
from griptape_ollama.transport.run import Run

MAX_BYTES = 20 * 1024 * 1024
"""Largest image that is fetched: a photograph of 50 megapixels as a JPEG."""

SECONDS = 30.0
"""Longest time that fetching an image may take."""

_MAX_REDIRECTS = 5
# IPv6 addresses that end in an IPv4 address: translated ones (RFC 6052), and the compatible ones of old.
_EMBEDDING = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/96", "::ffff:0:0:0/96", "::/96")))
_LOCAL_TRANSLATION = ipaddress.IPv6Network("64:ff9b:1::/48")
# Azure's metadata service has an address that is public on paper.
_CLOUD_INTERNAL = frozenset({"168.63.129.16"})
_OK = 200


class Download:
    """Fetches what is at a URL.

    Args:
        url: An http or https URL.
        run: The run that needs it, which can be stopped from any thread; by default one of its own.
        allow_private: Whether addresses of this machine and of private networks may be asked. A URL may come from a
            model or a web page, and must not reach what only this machine can reach.
        max_bytes: Largest body.
        seconds: Longest time in all.
    """

    def __init__(
        self,
        url: str,
        *,
        run: Run | None = None,
        allow_private: bool = False,
        max_bytes: int = MAX_BYTES,
        seconds: float = SECONDS,
    ) -> None:
        self._url = url
        self._shown = shown_url(url)
        self._allow_private = allow_private
        self._max_bytes = max_bytes
        run = run or Run()
        self._seconds = run.shorter(seconds) or seconds
        self._cancellation = run.cancellation

    def cancel(self) -> None:
        """Stop, from any thread."""
        self._cancellation.cancel()

    def read(self) -> bytes:
        """Fetch.

        Raises:
            OllamaContentError: The address is private, the body too large, or the status not 200.
            OllamaConnectionError: Nothing answered.
            OllamaTimeoutError: It took too long.
            OllamaCancelledError: It was stopped.
        """
        try:
            return self._read()
        except httpx.HTTPError as error:
            raise self._translate(error) from error
        except httpx.InvalidURL:
            text = f"The image at {self._shown!r} cannot be fetched: this, or where it redirects to, is no URL."
        # Without the error: it may quote a password.
        raise OllamaConnectionError(text, refused=True)

    def _read(self) -> bytes:
        if self._cancellation.is_cancelled:
            raise self._cancelled()
        self._cancellation.set_limit(self._seconds)
        resolver = resolve if self._allow_private else _resolve_public
        # No client around it: that would log the address, with its credentials and query. No proxy either: it would
        # look up the name itself, and reach what must not be reached.
        with stoppable_transport(resolver) as transport, self._cancellation.active():
            url = httpx.URL(self._url)
            for _ in range(_MAX_REDIRECTS + 1):
                body = self._body_or_next(transport, url)
                if isinstance(body, bytes):
                    return body
                url = body
        raise httpx.TooManyRedirects(f"more than {_MAX_REDIRECTS} redirects")

    def _body_or_next(self, transport: httpx.HTTPTransport, url: httpx.URL) -> bytes | httpx.URL:
        """Request one address, and return its body, or the address that it redirects to."""
        response = transport.handle_request(self._request(url))
        try:
            if response.has_redirect_location:
                return url.join(response.headers["location"])
            if response.status_code != _OK:
                raise OllamaContentError(f"No image at {self._shown!r}: status {response.status_code}.")
            body = read_at_most(response, self._max_bytes + 1)
        finally:
            self._cancellation.release()
            response.close()
        if len(body) > self._max_bytes:
            raise OllamaContentError(f"The image at {self._shown!r} is larger than {self._max_bytes:,} bytes.")
        if self._cancellation.is_cancelled:
            raise self._cancelled()
        return body

    def _request(self, url: httpx.URL) -> httpx.Request:
        # The time is for all redirects together.
        limits = dict.fromkeys(("connect", "read", "write", "pool"), max(self._cancellation.remaining() or 0.0, 0.001))
        headers = {"Accept": "*/*", "Accept-Encoding": ACCEPTED, "User-Agent": "griptape-ollama"}
        request = httpx.Request("GET", url, headers=headers, extensions={"timeout": limits})
        if url.userinfo:
            # It belongs to this host: a redirect to another one does not have it.
            next(httpx.BasicAuth(url.username, url.password).auth_flow(request))
        return request

    def _translate(self, error: Exception) -> Exception:
        if self._cancellation.is_cancelled:
            return self._cancelled()
        if isinstance(error, httpx.TimeoutException):
            text = f"Fetching the image at {self._shown!r} took longer than {self._seconds:g} s."
            return OllamaTimeoutError(text, limit="total", seconds=self._seconds)
        if any(isinstance(each, _PrivateAddressError) for each in _causes(error)):
            return OllamaContentError(
                f"The image at {self._shown!r} is on a private network: load it into an ImageArtifact, or set "
                "allow_private_image_urls=True."
            )
        return OllamaConnectionError(f"The image at {self._shown!r} cannot be fetched: {error}.", refused=True)

    def _cancelled(self) -> OllamaCancelledError:
        return OllamaCancelledError(f"Fetching the image at {self._shown!r} was cancelled.")


class _PrivateAddressError(httpcore.ConnectError):
    """The name stands for an address that is not on the internet."""


def _resolve_public(host: str, port: int) -> Sequence[AddressInfo]:
    """Resolve a name, and raise if any of its addresses is private. The checked addresses are those connected to."""
    found = resolve(host, port)
    if not all(_is_public(str(each[4][0])) for each in found):
        raise _PrivateAddressError(host)
    return found


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and (inner := ip.ipv4_mapped or ip.sixtofour) is not None:
        ip = inner
    elif any(ip in network for network in _EMBEDDING):
        ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    if isinstance(ip, ipaddress.IPv6Address) and (ip.is_site_local or ip in _LOCAL_TRANSLATION):
        return False
    return ip.is_global and not ip.is_multicast and str(ip) not in _CLOUD_INTERNAL


def _causes(error: BaseException | None) -> Iterable[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
