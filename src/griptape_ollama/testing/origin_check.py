"""Who may ask: the Host and Origin headers that a server on loopback accepts."""

import ipaddress
from urllib.parse import urlsplit

PREFLIGHT = {
    "Access-Control-Allow-Headers": "Authorization,Content-Type,User-Agent,Accept,X-Requested-With",
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
    "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
}
"""Headers of the answer to a browser that asks whether it may ask."""
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")


def is_host_allowed(host: str) -> bool:
    """Say whether a Host header is accepted: this machine's names and addresses, or none."""
    name = urlsplit(f"//{host}").hostname or ""
    if name in ("", "localhost") or name.endswith(_LOCAL_ENDINGS):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def is_origin_allowed(origin: str) -> bool:
    """Say whether an Origin header is accepted: pages of this machine, desktop apps, or none."""
    if not origin:
        return True
    parts = urlsplit(origin)
    return parts.scheme in _APP_SCHEMES or parts.hostname in ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104  a name to compare
