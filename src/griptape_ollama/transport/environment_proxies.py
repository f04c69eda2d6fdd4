"""The proxy that the environment names for a host, decided for each host.

HTTP libraries read `NO_PROXY` in ways of their own: httpx 0.28 raises at an IPv6 network, ignores IPv4 networks and
patterns such as `*.corp.example`, and refuses to work at all where a variable that is not needed holds a scheme that
it does not know. Here the host is compared with each entry first, and only the proxy that it needs is parsed.

| entry of `NO_PROXY` | exempts |
|---|---|
| `*` | every host |
| `corp.example`, `.corp.example` | this name and all names below it |
| `*.corp.example`, `192.168.*` | what the pattern matches |
| `10.1.2.3`, `fd00::5`, `[fd00::5]` | this address |
| `10.0.0.0/8`, `fd00::/8` | the addresses of this network |
| any of them with `:8080` | this port only |
| any of them with `http://` | this scheme only |

Entries are separated by commas, semicolons or blanks, and capitals make no difference. Names are not resolved.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

import httpx

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.escaping import printable
from griptape_ollama.log_once import log_once

_logger = logging.getLogger(__name__)

_USABLE = ("http", "https", "socks5", "socks5h")
_PORTS = {"http": 80, "https": 443}
_SEPARATORS = re.compile(r"[,;\s]+")
# `scheme://` before and `:port` behind an entry; an IPv6 address with a port stands in brackets.
_ENTRY = re.compile(
    r"(?:(?P<scheme>[a-z]+)://)?(?:\[(?P<inner>[^\]]*)\](?P<mask>/\d+)?|(?P<plain>[^\[\]:]*))(?::(?P<port>\d{1,5}))?"
)
_NAME = re.compile(r"[\w*-]+(?:\.[\w*-]+)*")
# Before the IPv4 address in `::ffff:10.1.2.3`.
_MAPPED_BITS = 96

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    Attributes:
        address: Scheme, host and port, without user and password.
        variable: The variable that names it; None for the proxy of a client that was given.
        auth: User and password; None for none.
    """

    address: str
    variable: str | None = None
    auth: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The address, and where it comes from."""
        return f"proxy {self.address} ({self.variable or 'of the client'})"

    @property
    def advice(self) -> str:
        """What to do where it does not do its work."""
        if self.variable is None:
            return "Correct the proxy of the client."
        return f"Correct {self.variable}, or add the host to NO_PROXY."

    @property
    def advice_on_login(self) -> str:
        """What to do where it wants a login."""
        if self.variable is None:
            return "Give the proxy of the client its user and password."
        scheme, _, host = self.address.partition("://")
        return (
            f"Give it its user and password, as in {self.variable}={scheme}://user:password@{host}, or add the host to "
            "NO_PROXY."
        )


class Target(NamedTuple):
    """What is compared with the entries of `NO_PROXY`."""

    scheme: str
    name: str
    port: int | None


def environment_proxy(url: str) -> Proxy | None:
    """Return the proxy that the environment, or the system (macOS, Windows), names for a URL.

    Args:
        url: An http or https URL.

    Returns:
        The proxy; None if the host is asked directly.

    Raises:
        OllamaContentError: The proxy that the host needs is no address, or of a kind that cannot be used.
    """
    return choose_proxy(url, getproxies(), os.environ)


def choose_proxy(url: str, proxies: Mapping[str, str], variables: Mapping[str, str]) -> Proxy | None:
    """Decide by which proxy a URL is asked.

    Args:
        url: An http or https URL.
        proxies: Proxies by scheme, the exempt hosts under `no`, as `urllib.request.getproxies` returns them.
        variables: The environment, to name the variable in errors.

    Raises:
        OllamaContentError: See `environment_proxy`.
    """
    target = _target_of(url)
    for scheme in (target.scheme, "all"):
        if text := _cleaned(proxies.get(scheme, "")):
            if is_exempt(target, proxies.get("no", "")):
                return None
            return _parse_proxy(text, _variable_of(scheme, variables))
    return None


def is_exempt(target: Target, no_proxy: str) -> bool:
    """Return whether `NO_PROXY` exempts a host. An entry that cannot be read is skipped, with one warning."""
    return any(_matches(entry.lower(), target) for entry in _SEPARATORS.split(_cleaned(no_proxy)) if entry)


def _target_of(url: str) -> Target:
    parts = urlsplit(url)
    return Target(parts.scheme, _normal_name(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme))


def _matches(entry: str, target: Target) -> bool:
    if entry == "*":
        return True
    if (network := _network(entry)) is not None:
        return _is_within(target.name, network)
    found = _ENTRY.fullmatch(entry.rstrip("/"))
    if found is None:
        return _skip(entry)
    if (port := found["port"]) is not None and int(port) != target.port:
        return False
    if found["scheme"] not in (None, "all", target.scheme):
        return False
    host = found["inner"] if found["plain"] is None else found["plain"]
    if (network := _network(host + (found["mask"] or ""))) is not None:
        return _is_within(target.name, network)
    host = _normal_name(host.lstrip("."))
    if found["plain"] is None or not _NAME.fullmatch(host):
        return _skip(entry)
    if "*" in host:
        return re.fullmatch(re.escape(host).replace(r"\*", ".*"), target.name) is not None
    # A name is no end of an address: `0.0.1` exempts nothing.
    return target.name == host or (_address(target.name) is None and target.name.endswith(f".{host}"))


def _skip(entry: str) -> bool:
    message = "The entry %r of NO_PROXY is no host, network or pattern; it is ignored."
    log_once(_logger, logging.WARNING, message, printable(entry))
    return False


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    text, _, mask = text.partition("/")
    try:
        network = ipaddress.ip_network(f"{_without_zone(text)}/{mask}" if mask else _without_zone(text), strict=False)
    except ValueError:
        return None
    # Addresses are compared as IPv4 where they are IPv4 inside IPv6.
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED_BITS}")


def _address(name: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(_without_zone(name))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_within(name: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    address = _address(name)
    return address is not None and address in network


def _without_zone(text: str) -> str:
    return text.strip("[]").partition("%")[0]


def _normal_name(name: str) -> str:
    name = name.lower().removesuffix(".")
    try:
        return name if name.isascii() else name.encode("idna").decode()
    except UnicodeError:
        return name


def _cleaned(value: str) -> str:
    # Files of variables are often read with the quotes that stand in them.
    return value.strip().strip("\"'").strip()


def _variable_of(scheme: str, variables: Mapping[str, str]) -> str:
    name = f"{scheme}_proxy"
    return next((each for each in (name, name.upper()) if variables.get(each)), name.upper())


def _parse_proxy(text: str, variable: str) -> Proxy:
    scheme, separator, rest = text.partition("://")
    scheme, rest = (scheme.lower(), rest) if separator else ("http", text)
    # A password may hold an @, and is never quoted.
    credentials, at, rest = rest.rpartition("@")
    host = rest.partition("/")[0]
    address = f"{scheme}://{host}"
    if scheme not in _USABLE:
        raise OllamaContentError(
            f"The proxy of {variable} cannot be used: {scheme!r} is none of {', '.join(_USABLE)}. Write "
            f"{variable}=http://proxy:8080, unset it, or add the host to NO_PROXY."
        )
    try:
        is_address = bool(httpx.URL(address).host)
    except httpx.InvalidURL:
        is_address = False
    if not is_address:
        raise OllamaContentError(
            # Without the address: part of it may be a password.
            f"The proxy of {variable} cannot be used: it is no address. Write {variable}=http://proxy:8080, unset it, "
            "or add the host to NO_PROXY."
        )
    user, _, password = credentials.partition(":")
    return Proxy(address, variable, (unquote(user), unquote(password)) if at else None)
