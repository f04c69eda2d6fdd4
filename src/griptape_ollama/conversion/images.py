"""Images as Ollama takes them: base64 without a prefix."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import unquote_to_bytes

from griptape.artifacts import BaseArtifact, ImageArtifact, ImageUrlArtifact, ListArtifact
from griptape.common import Message

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.images import ACCEPTED, image_format, shown_url


def urls_to_fetch(messages: Iterable[Message]) -> list[str]:
    """Find the URLs of images that somebody has to fetch, each once, also in tool results."""
    artifacts = (leaf for message in messages for content in message.content for leaf in _leaves(content.artifact))
    urls = [each.value for each in artifacts if isinstance(each, ImageUrlArtifact)]
    return [url for url in dict.fromkeys(urls) if url.partition(":")[0].lower() in ("http", "https")]


def to_base64(artifact: BaseArtifact, fetched: Mapping[str, bytes]) -> str:
    """Give the base64 text of an image.

    Args:
        artifact: The image, or its URL.
        fetched: What was found at the URLs.

    Raises:
        OllamaContentError: The image is empty, of a format that Ollama does not take, or at no URL that was fetched.
    """
    if isinstance(artifact, ImageArtifact):
        _check(artifact.value, f"The image {artifact.name!r}", artifact.format)
        return artifact.base64
    if isinstance(artifact, ImageUrlArtifact):
        url = artifact.value
        image = fetched[url] if url in fetched else _from_data_url(url)
        _check(image, f"The image at {shown_url(url)!r}", None)
        return base64.b64encode(image).decode()
    raise OllamaContentError(f"{type(artifact).__name__} is not an image: use ImageArtifact.")


def _check(image: bytes, name: str, declared: str | None) -> None:
    if not image:
        raise OllamaContentError(f"{name} is empty.")
    # What the bytes do not tell, the server may know.
    found = image_format(image) or (declared or ACCEPTED[0]).lower().replace("jpg", "jpeg")
    if found not in ACCEPTED:
        raise OllamaContentError(f"{name} is {found.upper()}; Ollama takes PNG, JPEG, WebP and GIF: convert it.")


def _from_data_url(url: str) -> bytes:
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        raise OllamaContentError(f"{shown_url(url)!r} is no URL of an image: use http, https or data.")
    head, comma, data = rest.partition(",")
    if not comma:
        raise OllamaContentError("The data URL of an image has no comma, and so no data.")
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(data)
    try:
        return base64.b64decode(unquote_to_bytes(data), validate=True)
    except binascii.Error as error:
        raise OllamaContentError(f"The data URL of an image is not valid base64: {error}.") from error


def _leaves(artifact: BaseArtifact) -> Iterator[BaseArtifact]:
    if isinstance(artifact, ListArtifact):
        for item in artifact.value:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] # any list
            yield from _leaves(item)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield artifact
