"""Formats of images, recognised by their first bytes, and their URLs."""

from __future__ import annotations

import base64
import binascii
import re

ACCEPTED = ("png", "jpeg", "webp", "gif")
"""Formats that server 0.33 takes."""

_SIGNATURES = (
    ("png", 0, b"\x89PNG\r\n\x1a\n"),
    ("jpeg", 0, b"\xff\xd8\xff"),
    ("gif", 0, b"GIF8"),
    ("webp", 8, b"WEBP"),
    ("bmp", 0, b"BM"),
    ("tiff", 0, b"II*\x00"),
    ("tiff", 0, b"MM\x00*"),
    ("heic", 4, b"ftyphei"),
    ("heic", 4, b"ftypmif1"),
    ("avif", 4, b"ftypavif"),
    ("ico", 0, b"\x00\x00\x01\x00"),
    ("pdf", 0, b"%PDF-"),
    ("svg", 0, b"<svg"),
    ("svg", 0, b"<?xml"),
    ("jpeg xl", 0, b"\xff\x0a"),
    ("jpeg xl", 4, b"JXL "),
)


_EXCERPT = 100
# Base64 of either alphabet, perhaps as a data URL, perhaps in lines, perhaps without its padding.
_ENCODED = re.compile(rb"\s*(?:data:[^,]{0,200};base64,)?([A-Za-z0-9+/_\s-]+={0,2})\s*")
_CREDENTIALS = re.compile(r"(?<=//)[^/?#@]*@(?!.*@)")


def shown_url(url: str) -> str:
    """Return the beginning of a URL, for an error: without what may be secret, its credentials, query and fragment."""
    plain = _CREDENTIALS.sub("", url)
    if "@" in plain:
        # Credentials may hold any character: nothing is shown but the scheme, and the host behind the last @.
        scheme, _, rest = plain.partition(":")
        plain = f"{scheme}://{rest.rpartition('@')[2].partition('/')[0]}"
    return re.split(r"[?#]", plain)[0][:_EXCERPT]


def image_format(data: bytes) -> str | None:
    """Return the name of an image's format; None if the first bytes show none."""
    return next((name for name, at, signature in _SIGNATURES if data.startswith(signature, at)), None)


def decoded_once(data: bytes) -> bytes:
    """Decode an image that arrives as its own base64 text; return anything else as it is.

    Griptape's MCPTool takes the text of an image for its bytes.
    """
    encoded = None if image_format(data) in ACCEPTED else _ENCODED.fullmatch(data)
    if encoded is None:
        return data
    text = b"".join(encoded[1].split()).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        image = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return data
    return data if image_format(image) is None else image
