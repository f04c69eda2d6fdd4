"""Images as Ollama accepts them: base64 without a prefix."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import unquote_to_bytes

from griptape.artifacts import BaseArtifact, ImageArtifact, ImageUrlArtifact, ListArtifact
from griptape.common import ActionResultMessageContent, Message

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.protocol.image_formats import ACCEPTED, decoded_once, image_format, shown_url


def images_of(messages: Iterable[Message]) -> list[ImageArtifact | ImageUrlArtifact]:
    """Return the images of messages, in order, also those in tool results."""
    leaves = (leaf for message in messages for content in message.content for leaf in leaves_of(content.artifact))
    return [leaf for leaf in leaves if isinstance(leaf, (ImageArtifact, ImageUrlArtifact))]


def newest_input_of(messages: Sequence[Message]) -> list[Message]:
    """Return the message that holds the user's newest input, in a list; an empty one if there is none."""
    for message in reversed(messages):
        is_result = any(isinstance(content, ActionResultMessageContent) for content in message.content)
        if message.is_user() and not is_result:
            return [message]
    return []


def urls_to_fetch(images: Iterable[BaseArtifact]) -> list[str]:
    """Return the URLs of images that have to be fetched, each once."""
    urls = (each.value for each in images if isinstance(each, ImageUrlArtifact))
    return [url for url in dict.fromkeys(urls) if _is_remote(url)]


def check_images(images: Iterable[BaseArtifact]) -> None:
    """Check the images of a prompt, but for those that have to be fetched.

    Raises:
        OllamaContentError: As `to_base64` does.
    """
    for each in images:
        if not isinstance(each, ImageUrlArtifact) or not _is_remote(each.value):
            to_base64(each, {})


def to_base64(artifact: BaseArtifact, fetched: Mapping[str, bytes]) -> str:
    """Return the base64 text of an image.

    Args:
        artifact: The image, or its URL.
        fetched: Images by their URLs.

    Raises:
        OllamaContentError: The image is empty, has a format that Ollama does not accept, or was not fetched.
    """
    if isinstance(artifact, ImageArtifact):
        image, name, declared = artifact.value, f"The image {artifact.name!r}", artifact.format
    elif isinstance(artifact, ImageUrlArtifact):
        url = artifact.value
        image, name, declared = (
            fetched[url] if url in fetched else _from_data_url(url),
            f"The image at {shown_url(url)!r}",
            None,
        )
    else:
        raise OllamaContentError(f"{type(artifact).__name__} is not an image: use ImageArtifact.")
    image = decoded_once(image)
    _check(image, name, declared)
    return base64.b64encode(image).decode()


def _check(image: bytes, name: str, declared: str | None) -> None:
    if not image:
        raise OllamaContentError(f"{name} is empty.")
    # A format that is not recognised may be known to the server.
    found = image_format(image) or (declared or ACCEPTED[0]).lower().replace("jpg", "jpeg")
    if found not in ACCEPTED:
        raise OllamaContentError(f"{name} is {found.upper()}; Ollama takes PNG, JPEG, WebP and GIF: convert it.")


def _is_remote(url: str) -> bool:
    return url.partition(":")[0].lower() in ("http", "https")


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


def leaves_of(artifact: BaseArtifact) -> Iterator[BaseArtifact]:
    """Yield the artifacts inside of an artifact, itself where it is no list."""
    if isinstance(artifact, ListArtifact):
        for item in artifact.value:  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] # any list
            yield from leaves_of(item)  # pyright: ignore[reportUnknownArgumentType]
    else:
        yield artifact
