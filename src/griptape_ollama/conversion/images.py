"""Images as Ollama takes them: base64 without a prefix."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from griptape.artifacts import BaseArtifact, ImageArtifact, ImageUrlArtifact

from griptape_ollama.errors import OllamaContentError


def to_base64(artifact: BaseArtifact) -> str:
    """Give the base64 text of an image.

    Raises:
        OllamaContentError: The image is empty, or a URL other than `data:`.
    """
    if isinstance(artifact, ImageArtifact):
        if not artifact.value:
            raise OllamaContentError(f"The image {artifact.name!r} is empty.")
        return artifact.base64
    if isinstance(artifact, ImageUrlArtifact):
        return _from_data_url(artifact.value)
    raise OllamaContentError(f"{type(artifact).__name__} is not an image: use ImageArtifact.")


def _from_data_url(url: str) -> str:
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        raise OllamaContentError(
            f"Ollama does not fetch images, and {url.partition('?')[0][:100]!r} is a URL: use an ImageArtifact."
        )
    head, comma, data = rest.partition(",")
    if not comma:
        raise OllamaContentError("The data URL of an image has no comma, and so no data.")
    try:
        is_base64 = head.lower().endswith(";base64")
        image = base64.b64decode(unquote_to_bytes(data), validate=True) if is_base64 else unquote_to_bytes(data)
    except binascii.Error as error:
        raise OllamaContentError(f"The data URL of an image is not valid base64: {error}.") from error
    if not image:
        raise OllamaContentError("The data URL of an image holds no data.")
    return base64.b64encode(image).decode()
