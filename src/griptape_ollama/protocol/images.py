"""Formats of images, told from their first bytes, and their URLs."""

from __future__ import annotations

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
_CREDENTIALS = re.compile(r"(?<=//)[^/?#@]*@(?!.*@)")


def shown_url(url: str) -> str:
    """Give the beginning of a URL, for an error: without what may be secret, its credentials, query and fragment."""
    plain = _CREDENTIALS.sub("", url)
    if "@" in plain:
        # Credentials may hold any character: nothing is shown but the scheme, and the host behind the last @.
        scheme, _, rest = plain.partition(":")
        plain = f"{scheme}://{rest.rpartition('@')[2].partition('/')[0]}"
    return re.split(r"[?#]", plain)[0][:_EXCERPT]


def image_format(data: bytes) -> str | None:
    """Name the format of an image; None where the first bytes tell nothing."""
    return next((name for name, at, signature in _SIGNATURES if data.startswith(signature, at)), None)
