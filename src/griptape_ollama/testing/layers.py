"""The files that a model is made of, as pull, push and create list them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from griptape_ollama.testing.json_text import encode
from griptape_ollama.testing.models import Catalogue, SimulatedModel
from griptape_ollama.testing.show import template_of


@dataclass(frozen=True)
class Layer:
    """One file of a model.

    Attributes:
        digest: Its SHA-256, after `sha256:`.
        size: Its bytes.
    """

    digest: str
    size: int


def layers_of(model: SimulatedModel) -> Sequence[Layer]:
    """Return the files of a model in the server's order: weights, template, system, licences, parameters, messages."""
    texts = [template_of(model).encode()]
    texts += [text.encode() for text in ([model.system] if model.system else []) + list(model.license)]
    texts += [encode(dict(model.parameters))] if model.parameters else []
    texts += [encode([dict(message) for message in model.messages])] if model.messages else []
    files = [Layer(f"sha256:{hashlib.sha256(text).hexdigest()}", len(text)) for text in texts]
    return [Layer(f"sha256:{model.weights_digest}", model.size), *files]


def config_of(model: SimulatedModel) -> Layer:
    """Return the file that describes a model; it is pulled and pushed, but create does not tell of it."""
    text = encode({"model_format": "gguf", "model_family": model.family, "model_type": model.parameter_size})
    return Layer(f"sha256:{hashlib.sha256(text).hexdigest()}", len(text))


def installed_digests(catalogue: Catalogue) -> set[str]:
    """Return the digests of all files that installed models have."""
    return {layer.digest for model in catalogue for layer in (*layers_of(model), config_of(model))}
