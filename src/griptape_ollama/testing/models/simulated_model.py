"""The installed models, the names that they are found by, and how they count tokens."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

from griptape_ollama.protocol.model_name import model_key, parse_model_name
from griptape_ollama.testing.wire_format import ErrorResponse

_GO_TEMPLATE = """{{- if .System }}<|im_start|>system
{{ .System }}<|im_end|>
{{ end }}
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
_JINJA_TEMPLATE = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{{- '<|im_start|>assistant\\n' }}
"""
CountTokens = Callable[[str], int]
"""Function that counts the tokens of a text."""

_CHARACTERS_PER_TOKEN = 4
_LONGEST_CACHED = 20_000  # characters of texts whose count is cached


def estimated_tokens(text: str) -> int:
    """Return the number of tokens at four characters each."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def counted(text: str, count: CountTokens | None) -> int:
    """Return the number of tokens of a text.

    Args:
        text: The text.
        count: Counter, None for an estimate. It is called once for each text that is not very long.

    Raises:
        TypeError: The counter does not return a number of tokens.
    """
    if count is None:
        return estimated_tokens(text)
    return _cached_count(count, text) if len(text) <= _LONGEST_CACHED else _checked(count, text)


def _checked(count: CountTokens, text: str) -> int:
    tokens = count(text)
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"count_tokens gave {tokens!r:.80} for a text, which is no number of tokens")
    return tokens


_cached_count = lru_cache(maxsize=4096)(_checked)


_SECOND = 1_000_000_000
_DAY_NS = 86_400 * _SECOND
_NAME = re.compile(
    r"(?:(?:[\w][\w.:-]*/)?[A-Za-z0-9_][\w.-]*/)?[A-Za-z0-9_][\w.-]{0,79}(?::[A-Za-z0-9_][\w.-]{0,79})?", re.ASCII
)


def with_tag(name: str) -> str:
    """Return a name with the default tag if it has none."""
    return name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"


def listed_name(name: str) -> str:
    """Return a name as the server lists it: without the default registry and namespace."""
    try:
        return str(parse_model_name(name))
    except ValueError:
        return with_tag(name)


def is_name(text: str) -> bool:
    """Return whether a text is a model name."""
    return bool(_NAME.fullmatch(text.removeprefix("http://").removeprefix("https://")))


@dataclass(frozen=True, kw_only=True)
class SimulatedModel:
    """A model that a simulator serves.

    Attributes:
        name: Name; without a tag it means `:latest`.
        capabilities: What `show` lists: `completion`, `tools`, `thinking`, `vision`, `embedding`.
        think_levels: Think levels that `show` lists, as servers from 0.34 do, and the only ones that are accepted;
            None for those of 0.33, which lists none.
        default_think_level: The one of them that `show` calls the default, or None.
        kind: Parser of the output. `go_template` and `builtin` send each tool call in a line of its own; `native` sends
            all of them in the last line, and rejects a single overlong message.
        context_length: Largest context window in tokens.
        parameters: PARAMETERs of its Modelfile, for example `{"temperature": 0.7, "stop": ["<|im_end|>"]}`.
        system: Its own system prompt, or None.
        template: Its template, or None for that of its kind.
        messages: Messages before those of every chat.
        license: Texts of its licences.
        family: Architecture, for example `llama` or `qwen3`.
        parameter_size: Number of weights as text, for example `8.2B`.
        parameter_count: Number of weights.
        quantization_level: For example `Q4_K_M`.
        embedding_length: Length of its vectors.
        size: Bytes on disk.
        size_vram: Bytes in the memory of a GPU while loaded.
        parent_model: Model that it was created from, or empty.
        model_info: More entries for `model_info` of `show`; they replace those of the same name.
        load_seconds: Seconds of a load.
        embed_seconds: Seconds of an embedding request, besides its texts.
        embed_seconds_per_text: Further seconds for each text.
        load_error: Error text of a load that fails, or None.
        modified_at: Time of its creation in nanoseconds since 1970; by default some day before today.
        weights: Name of its weights, which models created from one another share. By default the model's name.
        pull_bytes_per_second: Speed of a pull, None for at once.
        count_tokens: Function that counts the tokens of a text, None for four characters each. Tokens of the template
            and of images are added.
        tokens_per_image: Tokens of an image.
    """

    name: str
    capabilities: Sequence[str] = ("completion", "tools")
    think_levels: Sequence[str] | None = None
    default_think_level: str | None = None
    kind: Literal["go_template", "builtin", "native"] = "go_template"
    context_length: int = 8192
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    system: str | None = None
    template: str | None = None
    messages: Sequence[Mapping[str, Any]] = ()
    license: Sequence[str] = ()
    family: str = "llama"
    parameter_size: str = "1.2B"
    parameter_count: int = 1_235_814_432
    quantization_level: str = "Q4_K_M"
    embedding_length: int = 2048
    size: int = 807_694_464
    size_vram: int = 0
    parent_model: str = ""
    model_info: Mapping[str, Any] = field(default_factory=dict[str, Any])
    load_seconds: float = 0
    embed_seconds: float = 0
    embed_seconds_per_text: float = 0
    load_error: str | None = None
    modified_at: int | None = None
    weights: str = ""
    pull_bytes_per_second: float | None = None
    count_tokens: CountTokens | None = None
    tokens_per_image: int = 256

    def __post_init__(self) -> None:
        if not is_name(self.name):
            raise ValueError(f"name={self.name!r} is not a model name such as 'qwen3' or 'qwen3:0.6b'")
        for name in ("capabilities", "think_levels", "license"):
            if isinstance(value := getattr(self, name), str):
                raise TypeError(f"{name}={value!r}: use a sequence of texts")
        if self.kind not in ("go_template", "builtin", "native"):
            raise ValueError(f"kind={self.kind!r}: use 'go_template', 'builtin' or 'native'")
        if self.pull_bytes_per_second is not None and self.pull_bytes_per_second <= 0:
            raise ValueError(f"pull_bytes_per_second={self.pull_bytes_per_second!r}: use a positive number, or None")
        if self.count_tokens is not None and not callable(self.count_tokens):
            raise TypeError(f"count_tokens={self.count_tokens!r}: use a function that takes a text and gives a number")
        if self.tokens_per_image < 0:
            raise ValueError(f"tokens_per_image={self.tokens_per_image!r}: use a number from 0")
        if self.context_length < 1 or self.embedding_length < 1:
            raise ValueError("context_length and embedding_length are positive")
        if not (self.embed_seconds >= 0 and self.embed_seconds_per_text >= 0):
            raise ValueError("embed_seconds and embed_seconds_per_text are not negative")

    @property
    def full_name(self) -> str:
        """Name with its tag."""
        return listed_name(self.name)

    @property
    def remote_host(self) -> str | None:
        """Host of a model with a cloud tag; None for local models."""
        tag = self.full_name.rpartition("/")[2].partition(":")[2].lower()
        return "https://ollama.com:443" if tag == "cloud" or tag.endswith("-cloud") else None

    @property
    def weights_digest(self) -> str:
        """SHA-256 in place of that of the weights."""
        return hashlib.sha256(f"{self.weights or self.full_name} {self.size}".encode()).hexdigest()

    @property
    def digest(self) -> str:
        """SHA-256 in place of that of all files of the model; a copy has the same."""
        files = (self.template, self.system, self.license, self.parameters, self.messages)
        return hashlib.sha256(f"{self.weights_digest} {files!r}".encode()).hexdigest()

    def can(self, capability: str) -> bool:
        """Return whether the model has a capability."""
        return capability in self.capabilities

    def tokens_of(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return counted(text, self.count_tokens)


def model_details(model: SimulatedModel) -> dict[str, Any]:
    """Return the `details` of show, tags and ps."""
    return {
        "parent_model": model.parent_model,
        "format": "" if model.remote_host else "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size,
        "quantization_level": model.quantization_level,
    }


def template_of(model: SimulatedModel) -> str:
    """Return the template of a model, or that of its kind."""
    if model.template is not None:
        return model.template
    if model.kind == "builtin" or model.can("embedding"):
        return "{{ .Prompt }}"
    return _JINJA_TEMPLATE if model.kind == "native" else _GO_TEMPLATE


DEFAULT_MODELS = (
    SimulatedModel(name="simulator:latest"),
    SimulatedModel(
        name="simulator-embed:latest",
        capabilities=("embedding",),
        family="bert",
        parameter_size="23M",
        parameter_count=22_565_376,
        quantization_level="F16",
        context_length=512,
        embedding_length=64,
        size=45_960_996,
    ),
)
"""Models that a simulator serves by default."""


class InstalledModels:
    """The installed models, by name; names are compared without regard to case, as by the server."""

    def __init__(self, models: Iterable[SimulatedModel]) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, SimulatedModel] = {}
        self._started = time.time_ns()
        for model in models:
            key = model_key(model.name)
            if key in self._models:
                raise ValueError(f"two models are named {model.full_name!r}")
            self._models[key] = model

    def __iter__(self) -> Iterator[SimulatedModel]:
        """Iterate over the models, newest first, to the second as the server does."""
        with self._lock:
            models = list(self._models.values())
        return iter(sorted(models, key=lambda model: -(self.modified_at(model) // _SECOND)))

    def add(self, model: SimulatedModel, name: str, modified_at: int) -> None:
        """Install a model under a name, in place of the one that has it."""
        weights = model.weights or model.full_name
        with self._lock:
            self._models[model_key(name)] = replace(
                model, name=listed_name(name), weights=weights, modified_at=modified_at
            )

    def remove(self, name: str) -> SimulatedModel | None:
        """Remove and return a model, None if there is none."""
        with self._lock:
            return self._models.pop(model_key(name), None)

    def get(self, name: str) -> SimulatedModel | None:
        """Return the model of a name, which may be any text."""
        return self._models.get(model_key(name))

    def find(self, name: str) -> SimulatedModel | None:
        """Return the model of a name, and check the name.

        Raises:
            ErrorResponse: The name is empty or not a name.
        """
        if not name:
            raise ErrorResponse(400, "model is required")
        if not is_name(name):
            raise ErrorResponse(400, "invalid model name")
        return self.get(name)

    def modified_at(self, model: SimulatedModel) -> int:
        """Return the time at which a model was created, in nanoseconds since 1970."""
        if model.modified_at is not None:
            return model.modified_at
        with self._lock:
            place = list(self._models).index(model_key(model.name)) + 1
        return self._started - place * _DAY_NS
