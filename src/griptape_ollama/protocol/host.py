"""Addresses of servers, as users write them."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 11434

_SCHEME_PORTS = {"http": 80, "https": 443}
# A server that listens everywhere is reached over loopback; connecting to these works on some systems only.
_MAX_NAME = 253
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_LISTEN_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # replaced, never bound
# Labels of at most 63 characters (RFC 1035), the last of which is no number, or else the whole an IPv4 address.
_HOST_NAME = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*(?!\d+\.?$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?"
)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_MAX_PORT_DIGITS = 5
# What people write between addresses.
_SEVERAL = re.compile(r"[,;|]")
_ANOTHER_URL = re.compile(r"[,;|\s]\s*[A-Za-z][A-Za-z0-9+.-]*://")
_SEVERAL_ADVICE = (
    "it is several addresses, and a driver talks to one: give each server a driver, or put a proxy before them; see "
    "'Several servers' in docs/production.md"
)


@dataclass(frozen=True)
class Host:
    """A parsed address.

    Attributes:
        base_url: Scheme, host, port and path prefix, without a slash at the end and without user and password.
        is_loopback: Whether the server is on this machine.
        is_cloud: Whether it is Ollama's own service, at ollama.com, over TLS.
        user: User name of `user:password@`.
        password: Password of `user:password@`.
    """

    base_url: str
    is_loopback: bool
    is_cloud: bool
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def parse_host(host: str | None) -> Host:
    """Parse an address.

    | given | becomes |
    |---|---|
    | None, empty | http://127.0.0.1:11434 |
    | `gpu`, `gpu:8080`, `:8080` | http://gpu:11434, http://gpu:8080, http://127.0.0.1:8080 |
    | `::1`, `[::1]:8080` | http://[::1]:11434, http://[::1]:8080 |
    | `http://gpu`, `https://gpu` | http://gpu:80, https://gpu:443 |
    | `https://gpu/ollama/` | https://gpu:443/ollama |
    | `https://user:password@gpu` | https://gpu:443, with user and password |
    | `ollama.com` | https://ollama.com:443 |
    | `0.0.0.0` | http://127.0.0.1:11434 |

    Args:
        host: What the user wrote, in the constructor or in `OLLAMA_HOST`.

    Raises:
        ValueError: The address cannot be understood. The text never quotes a password.
    """
    if host is not None and not isinstance(host, str):  # pyright: ignore[reportUnnecessaryIsInstance] # users' input
        raise _no_text(host)
    text = (host or "").strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    scheme = scheme.lower()
    if _SEVERAL.search(scheme) or _ANOTHER_URL.search(rest):
        raise _error(text, _SEVERAL_ADVICE)
    if scheme not in _SCHEME_PORTS:
        raise _error(text, "the scheme {} is not http or https", scheme)
    address, slash, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise _error(text, "it has a query or a fragment")
    if "@" in path:
        raise _error(text, "it has an @ behind a slash; a slash in a password is written %2F, an @ in a path %40")
    address, user, password = _split_user(address)
    if _SEVERAL.search(address):
        raise _error(text, _SEVERAL_ADVICE)
    if not separator and _is_cloud(address.lower().removesuffix(":443")):
        scheme, separator = "https", "://"
    name, port = _split_port(address, text)
    name = _LISTEN_EVERYWHERE.get(name, name)
    if port is None:
        port = _SCHEME_PORTS[scheme] if separator else DEFAULT_PORT
    path = f"/{path.strip('/')}" if slash and path.strip("/") else ""
    return Host(
        base_url=f"{scheme}://{f'[{name}]' if ':' in name else name}:{port}{path}",
        is_loopback=_is_loopback(name),
        is_cloud=scheme == "https" and _is_cloud(name),
        user=user,
        password=password,
    )


def _no_text(host: object) -> ValueError:
    kind = type(host).__name__
    is_list = isinstance(host, (list, tuple, set, frozenset, dict))
    return ValueError(f"host is a {kind}: {_SEVERAL_ADVICE}" if is_list else f"host must be a text, got a {kind}")


def without_credentials(host: str | None) -> str | None:
    """Return the address as it was written, without user and password."""
    if host is None or "@" not in host:
        return host
    before, _, after = host.rpartition("@")
    scheme, separator, _ = before.partition("://")
    return f"{scheme}://{after}" if separator and _SCHEME.fullmatch(scheme) else after


def _split_user(address: str) -> tuple[str, str | None, str | None]:
    if "@" not in address:
        return address, None, None
    credentials, _, address = address.rpartition("@")
    user, _, password = credentials.partition(":")
    return address, unquote(user), unquote(password)


def _split_port(address: str, text: str) -> tuple[str, int | None]:
    if _is_ipv6(address):
        return address, None
    if address.startswith("["):
        name, bracket, port = address[1:].partition("]")
        if not bracket or not _is_ipv6(name) or (port and not port.startswith(":")):
            raise _error(text, "the IPv6 address in brackets is not one")
        return name, _port(port[1:], text) if port[1:] else None
    name, colon, port = address.partition(":")
    name = name or DEFAULT_HOST
    if not _is_host_name(name):
        raise _error(text, "the name {} is not a host name", name)
    return name.lower(), _port(port, text) if colon and port else None


def _port(port: str, text: str) -> int:
    is_number = port.isascii() and port.isdigit() and len(port) <= _MAX_PORT_DIGITS
    if not is_number or not 0 < int(port) < 65536:
        raise _error(text, "the port {} is not a number from 1 to 65535", port)
    return int(port)


def _is_host_name(name: str) -> bool:
    try:
        ascii_name = name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return False
    return _is_ipv4(name) or (_HOST_NAME.fullmatch(ascii_name) is not None and len(ascii_name) <= _MAX_NAME)


def _is_ipv4(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).version == 4
    except ValueError:
        return False


def _is_cloud(name: str) -> bool:
    return name == "ollama.com" or name.endswith(".ollama.com")


def _is_ipv6(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).version == 6
    except ValueError:
        return False


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _error(text: str, reason: str, part: str = "") -> ValueError:
    # Where there are credentials, a part that seems odd may be one of theirs.
    reason = reason.replace("{} ", "") if "@" in text else reason.format(repr(part))
    # Of several addresses, each may have credentials.
    shown = without_credentials(text) if text.count("@") < 2 else "..."
    return ValueError(
        f"host {shown!r} is not an address: {reason}. "
        "Write it like 'gpu-box', 'gpu-box:11434' or 'https://ollama.example.com/prefix'"
    )


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL, without anything secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"


def server_key(url: str) -> str:
    """Return the same text for all addresses of the same server, as far as the addresses show it.

    `localhost`, `127.0.0.1` and `::1` are one machine; a port that goes without saying, capitals, a dot behind the name
    and a slash at the end make no difference. Names are not resolved.

    Args:
        url: An http or https URL.
    """
    parts = urlsplit(url)
    name = (parts.hostname or "").removesuffix(".")
    with contextlib.suppress(ValueError):
        name = str(ipaddress.ip_address(name))
    name = _LISTEN_EVERYWHERE.get(name, name)
    name = "localhost" if name in _THIS_MACHINE else name
    return f"{parts.scheme}://{name}:{parts.port or _SCHEME_PORTS.get(parts.scheme)}{parts.path.rstrip('/')}"
