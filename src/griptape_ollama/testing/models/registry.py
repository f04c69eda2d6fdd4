"""The registry that models are pulled from, and the files of a model as pull, push and create list them."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from griptape_ollama.testing.models.simulated_model import InstalledModels, SimulatedModel, template_of, with_tag
from griptape_ollama.testing.wire_format import encode


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
    """Return the file that describes a model; it is pulled and pushed, but create does not report it."""
    text = encode({"model_format": "gguf", "model_family": model.family, "model_type": model.parameter_size})
    return Layer(f"sha256:{hashlib.sha256(text).hexdigest()}", len(text))


def installed_digests(installed: InstalledModels) -> set[str]:
    """Return the digests of all files that installed models have."""
    return {layer.digest for model in installed for layer in (*layers_of(model), config_of(model))}


_REGISTRY = "registry.ollama.ai"
_MEGABYTE = 1_000_000
_MISSING = "file does not exist"

DEFAULT_LIBRARY = (
    SimulatedModel(
        name="library-small:latest", parameter_size="0.6B", parameter_count=600_000_000, size=520 * _MEGABYTE,
        pull_bytes_per_second=5_000 * _MEGABYTE,
    ),
    SimulatedModel(
        name="library-large:latest", parameter_size="70B", parameter_count=70_000_000_000, size=42_000 * _MEGABYTE,
        context_length=131_072, load_seconds=20, pull_bytes_per_second=100 * _MEGABYTE,
    ),
    SimulatedModel(
        name="library-thinking:latest", capabilities=("completion", "tools", "thinking"), size=5_200 * _MEGABYTE,
        pull_bytes_per_second=5_000 * _MEGABYTE,
    ),
    SimulatedModel(
        name="library-embed:latest", capabilities=("embedding",), family="bert", context_length=512,
        embedding_length=384, size=46 * _MEGABYTE,
    ),
)  # fmt: skip
"""Models that can be pulled from a simulator by default."""


class PullError(Exception):
    """A model that cannot be pulled; the text is the server's."""


class ModelRegistry:
    """Models that can be pulled.

    Args:
        models: The models, None for a registry that does not answer.
    """

    def __init__(self, models: Sequence[SimulatedModel] | None) -> None:
        self._models = None if models is None else InstalledModels(models)

    @property
    def is_available(self) -> bool:
        """Whether the registry answers."""
        return self._models is not None

    def add(self, model: SimulatedModel, modified_at: int) -> None:
        """Add a pushed model."""
        if self._models is not None:
            self._models.add(model, model.full_name, modified_at)

    def has(self, name: str) -> bool:
        """Return whether there is a model of this name."""
        return self._models is not None and self._models.get(name) is not None

    def find(self, name: str, *, insecure: bool) -> SimulatedModel:
        """Return a model, as the server requests its manifest from a registry.

        Args:
            name: Name of the request, which may begin with a scheme and a host.
            insecure: Whether a registry without TLS is accepted.

        Raises:
            PullError: The registry does not answer, or does not have it.
        """
        bare = name.split("://", 1)[-1]
        host, path, tag = _address(bare)
        if self._models is not None and (found := self._models.get(bare)):
            if _is_local(host) and not insecure:
                raise _error(f"https://{host}", path, tag, "tls: first record does not look like a TLS handshake")
            return found
        if not _is_local(host):
            if self._models is not None:
                raise PullError(f"pull model manifest: {_MISSING}")
            raise _error(f"https://{host}", path, tag, f"dial tcp: lookup {host}: no such host")
        if self._models is not None and any(_address(model.name)[0] == host for model in self._models):
            raise PullError(f"pull model manifest: {_MISSING}")
        scheme = "http" if insecure else "https"
        raise _error(f"{scheme}://{host}", path, tag, f"dial tcp {host}: connect: connection refused")


def push_error(model: SimulatedModel, digest: str) -> str:
    """Return the error of a push to a registry that does not answer."""
    host, path, _ = _address(model.full_name)
    return f'Head "https://{host}/v2/{path}/blobs/{digest}": dial tcp: lookup {host}: no such host'


def _error(base: str, path: str, tag: str, problem: str) -> PullError:
    return PullError(f'pull model manifest: Get "{base}/v2/{path}/manifests/{tag}": {problem}')


def _address(name: str) -> tuple[str, str, str]:
    """Split a name into host, path and tag."""
    path, tag = with_tag(name).rsplit(":", 1)
    parts = path.split("/")
    host = parts.pop(0) if len(parts) == 3 else _REGISTRY
    return host, "/".join(parts if len(parts) > 1 else ["library", *parts]), tag


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.rsplit(":", 1)[0]).is_loopback
    except ValueError:
        return host.split(":", 1)[0] == "localhost"
