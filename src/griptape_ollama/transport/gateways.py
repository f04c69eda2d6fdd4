"""Replies of a gateway in front of the server: pages, challenges, redirects, limits, and a wrong scheme.

Ollama answers in JSON with an `error`, and in few other ways. A reverse proxy, a load balancer, a tunnel or a limiter
answers with a page, with plain text, with JSON of its own, or with nothing but a status. Its words must not be taken
for those of Ollama: the advice is another.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from griptape_ollama.protocol.host import origin_of

_UNREACHABLE = frozenset({502, 503, 520, 521, 522, 523, 527, 530})
_TLS_FAILED = frozenset({525, 526})
_TOO_SLOW = frozenset({504, 524})
_STATUSES = _UNREACHABLE | _TLS_FAILED | _TOO_SLOW
# So much of a page is searched: a long one could be made to take seconds.
_SEARCHED = 4000
_LONGEST_CHALLENGE = 500
_TITLE = re.compile(r"<(title|h1)\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>|<!--.*?-->", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
_LONGEST_TITLE = 160
_SOFTWARE = re.compile(r"[\w.+-]{1,30}(?:/[\w.+-]{1,20})?")
_WRONG_SCHEME = re.compile(
    r"plain HTTP request was sent to HTTPS|HTTP request to an HTTPS server|speaking plain HTTP", re.IGNORECASE
)
_NO_CERTIFICATE = re.compile(r"No required SSL certificate|SSL certificate error|client certificate", re.IGNORECASE)
_SCHEMES = re.compile(r"(?:^|,\s*)([A-Za-z][A-Za-z0-9-]*)(?=\s+[\w-]+=|\s*,|\s*$|\s+[A-Za-z0-9+/=]+\s*$)")
# Endpoints that are written at the end of an address, as other clients want them there.
_ENDPOINT = re.compile(
    r"(?:/v1(?:/(?:chat/completions|completions|embeddings|models|responses|messages))?"
    r"|/api(?:/(?:chat|generate|embed|embeddings|tags|show|ps|version|pull))?)$",
    re.IGNORECASE,
)


def is_of_ollama(text: str) -> bool:
    """Return whether the body of a refusal is one that Ollama writes: a JSON object with an `error`."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(cast("dict[str, Any]", value).get("error"))


def is_page(text: str) -> bool:
    """Return whether a body is HTML or XML, whatever type it was sent as."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


def is_in_place_of_ollama(status: int | None, text: str) -> bool:
    """Return whether a refusal comes from a gateway that got no reply from Ollama."""
    return status in _STATUSES and not is_of_ollama(text)


def title_of(page: str) -> str:
    """Return the title of a page: its `<title>`, else its first heading, else the beginning of its text."""
    page = page[:_SEARCHED]
    found = _TITLE.search(page)
    text = found[2] if found else _HIDDEN.sub(" ", page)
    text = " ".join(html.unescape(_TAG.sub(" ", text)).split())
    return text if len(text) <= _LONGEST_TITLE else f"{text[:_LONGEST_TITLE]}..."


def name_of(headers: Mapping[str, str]) -> str:
    """Return the software that a gateway reports, in brackets; empty where it reports none."""
    found = _SOFTWARE.match(headers.get("server", ""))
    return f" ({found[0]})" if found else ""


def advice_in_place(status: int, text: str) -> str:
    """Return what to do about a gateway that got no reply from Ollama."""
    if status in _TOO_SLOW:
        return (
            "It did not wait long enough for the reply: raise its limit above the time to load the model and to read "
            "the prompt (proxy_read_timeout in nginx, timeout server in HAProxy; Cloudflare's is 100 s). Or it does "
            "not reach Ollama behind it."
        )
    if status in _TLS_FAILED:
        return "It reaches Ollama behind it, but their TLS fails: Ollama itself speaks plain HTTP."
    limiter = " It may also limit requests (limit_req in nginx): see max_concurrency." if status == 503 else ""
    if status == 530 and "1033" in text:
        limiter = " Its tunnel (cloudflared) is not connected."
    return f"It does not reach Ollama behind it: start Ollama, or correct the address that it passes on to.{limiter}"


def advice_on_login(headers: Mapping[str, str]) -> str | None:
    """Return what a challenge asks for; None if there is no challenge."""
    asked = {scheme.lower() for scheme in _SCHEMES.findall(headers.get("www-authenticate", "")[:_LONGEST_CHALLENGE])}
    ways: list[str] = []
    if "basic" in asked:
        ways.append("user and password, as in host='https://user:password@gpu-box'")
    if asked & {"bearer", "token", "apikey"}:
        ways.append("a bearer token: api_key")
    if unknown := asked - {"basic", "bearer", "token", "apikey"}:
        ways.append(f"{', '.join(sorted(unknown))[:60]}, which a client= of your own may know")
    return f"It asks for {' or for '.join(ways)}. Give it, or correct it." if ways else None


def advice_on_size(sent: int | None) -> str:
    """Return what to do about a request that is larger than a gateway allows.

    Args:
        sent: Bytes of the request.
    """
    size = "" if sent is None else f" of {sent:,} bytes"
    return (
        f"The request{size} is larger than a proxy in between allows: raise its limit (client_max_body_size in nginx), "
        "or send less: fewer or smaller images, a shorter conversation, smaller batches."
    )


def advice_on_tls(text: str) -> str | None:
    """Return what to do about a refusal that is about TLS; None if it is about something else."""
    if _WRONG_SCHEME.search(text):
        return "The port speaks TLS: write https:// in host."
    if _NO_CERTIFICATE.search(text):
        return "It wants a client certificate: give it as cert=, or correct it."
    return None


def advice_on_address(base_url: str) -> str | None:
    """Return the end of an address to leave out; None if the address does not end in an endpoint."""
    found = _ENDPOINT.search(urlsplit(base_url).path)
    return (
        None
        if found is None
        else f"Leave out {found[0]!r} at the end of host: paths such as /api/chat are added to it."
    )


def redirected(base_url: str, path: str, location: str) -> str:
    """Return where a redirect leads, without what may be secret, and what to do about it."""
    here = urlsplit(base_url)
    try:
        there = urlsplit(urljoin(f"{base_url}{path}", location))
        target = origin_of(there.geturl())
    except ValueError:
        return "redirects elsewhere: use the address that it redirects to as host"
    shown = target if len(target) <= _LONGEST_TITLE else f"{target[:_LONGEST_TITLE]}..."
    if there.hostname != here.hostname:
        return (
            f"redirects elsewhere, to another host ({shown}). That may be the login of a proxy in between: give what "
            "it asks for (api_key, headers, user:password@ in host). If Ollama has moved, use the new address as host"
        )
    if there.scheme != here.scheme:
        return f"redirects elsewhere, to {there.scheme} ({shown}): use {there.scheme}:// in host"
    return (
        f"redirects elsewhere, to {shown}. That may be a login: give what it asks for (api_key, headers, "
        "user:password@ in host); or use the address that it redirects to as host, without the path of the request"
    )
