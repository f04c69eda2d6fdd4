"""Names of models, as users write them and as the server compares them."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from griptape_ollama.protocol.host import without_credentials

T = TypeVar("T")

DEFAULT_REGISTRY = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

# Of each part: its form, the marks in it besides letters and digits, and the longest one (types/model of the server).
_FORMS = {
    "registry": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*"), "_ - . :", 350),
    "namespace": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*"), "_ -", 80),
    "model": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), "_ - .", 80),
    "tag": (re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*"), "_ - .", 80),
}
# Where a model runs can stand behind its tag (server 0.17 and later): `gpt-oss:120b:cloud`.
_SOURCES = {"cloud": "{}-cloud", "local": "{}"}
_MAX_SLASHES = 2


@dataclass(frozen=True)
class ModelName:
    """A parsed name: `[registry/][namespace/]model[:tag]`.

    Attributes:
        registry: Host that it is pulled from; `registry.ollama.ai` where none is written.
        namespace: User or organisation; `library` where none is written.
        model: The model itself.
        tag: Version or size; `latest` where none is written.
    """

    registry: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """Return the name as the server lists it: with its tag, without a registry or namespace that is the default."""
        if self.registry.lower() != DEFAULT_REGISTRY:
            return f"{self.registry}/{self.namespace}/{self.model}:{self.tag}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """What two names of the same model have in common: the server ignores case."""
        return f"{self.registry}/{self.namespace}/{self.model}:{self.tag}".lower()


def parse_model_name(text: str) -> ModelName:
    """Parse a model name.

    | given | listed as |
    |---|---|
    | `qwen3` | qwen3:latest |
    | `Qwen3:0.6b` | Qwen3:0.6b, the same model as qwen3:0.6b |
    | `library/qwen3` | qwen3:latest |
    | `alice/helper` | alice/helper:latest |
    | `hf.co/alice/helper-GGUF:Q4_K_M` | hf.co/alice/helper-GGUF:Q4_K_M |
    | `https://hf.co/alice/helper-GGUF` | hf.co/alice/helper-GGUF:latest |
    | `http://127.0.0.1:5000/me/mine` | 127.0.0.1:5000/me/mine:latest |
    | `gpt-oss:120b:cloud` | gpt-oss:120b-cloud |

    Args:
        text: What the user wrote.

    Raises:
        ValueError: It is no name; the text names the part that is wrong.
    """
    rest = text.split("://", 1)[-1] if text.lower().startswith(("http://", "https://")) else text
    path, tag = _split_tag(rest)
    parts = path.split("/")
    if len(parts) > _MAX_SLASHES + 1:
        raise _error(text, "it has more than registry, namespace and model between its slashes")
    model = parts.pop()
    namespace = parts.pop() if parts else DEFAULT_NAMESPACE
    registry = parts.pop() if parts else DEFAULT_REGISTRY
    for label, part in (("registry", registry), ("namespace", namespace), ("model", model), ("tag", tag)):
        _check(text, label, part)
    return ModelName(registry, namespace, model, tag)


@functools.lru_cache(maxsize=4096)
def model_key(text: str) -> str:
    """Return what two names of the same model have in common; a text that is no name has only itself.

    The server compares registry, namespace, model and tag without regard to case, and fills in those that are missing
    (`getExistingName`, server 0.33).
    """
    try:
        return parse_model_name(text).key
    except ValueError:
        return text


def is_same_model(one: str, other: str) -> bool:
    """Whether two names mean the same model of a server."""
    return model_key(one) == model_key(other)


def find_model(name: str, candidates: Iterable[T], name_of: Callable[[T], str]) -> T | None:
    """Return the model that a name means: the one that is spelled like it, else the first that is the same model.

    Args:
        name: The name, in any spelling.
        candidates: What is listed.
        name_of: Returns the name of one of them.
    """
    same = [each for each in candidates if is_same_model(name_of(each), name)]
    return next((each for each in same if name_of(each) == name), same[0] if same else None)


def name_of_entry(entry: Mapping[str, Any]) -> str:
    """Return the name in an entry of `/api/tags` or `/api/ps`; empty where it has none."""
    return next((text for text in (entry.get("name"), entry.get("model")) if isinstance(text, str) and text), "")


def _split_tag(text: str) -> tuple[str, str]:
    folder, slash, name = text.rpartition("/")
    name, colon, tag = name.partition(":")
    tag, second, source = tag.rpartition(":") if ":" in tag else (tag, "", "")
    if second:
        form = _SOURCES.get(source.lower())
        tag = form.format(tag) if form and tag else f"{tag}:{source}"
    return f"{folder}{slash}{name}", tag if colon else DEFAULT_TAG


def _check(text: str, label: str, part: str) -> None:
    pattern, marks, longest = _FORMS[label]
    if not part:
        raise _error(text, f"its {label} is empty")
    if len(part) > longest:
        raise _error(text, f"its {label} is longer than {longest} characters")
    if not pattern.fullmatch(part):
        raise _error(text, f"its {label} has more than letters, digits and {marks}, or begins with none of a-z 0-9 _")


def _error(text: str, reason: str) -> ValueError:
    return ValueError(
        f"{without_credentials(text)!r} is not a model name: {reason}. "
        "Write it like 'qwen3', 'qwen3:0.6b' or 'me/mine:v2'"
    )
