"""Models as the server describes them, with sizes in bytes and times with their zone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from griptape_ollama.models.model_metadata import ModelMetadata
from griptape_ollama.protocol.model_name import name_of_entry
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.protocol.options import parse_parameters

_WEIGHTS = re.compile(r"^FROM .*sha256-([0-9a-f]{64})\s*$", re.MULTILINE)
_FRACTION = re.compile(r"\.(\d{1,9})")
# "For good" is 292 years from now (server 0.33), the longest duration of Go.
_FOR_GOOD = timedelta(days=365 * 100)


@dataclass(frozen=True)
class ModelInfo:
    """One installed model, as `/api/tags` lists it.

    Attributes:
        name: Name with its tag.
        digest: SHA-256 of its manifest, in hexadecimal: two models with the same digest are the same.
        size: Bytes on disk; files that it shares with other models are counted for each of them.
        modified_at: When it was created or pulled; None if unknown.
        family: Architecture, for example `llama`.
        parameter_size: Number of weights as text, for example `8.2B`.
        quantization_level: For example `Q4_K_M`.
        format: Format of its file, for example `gguf`.
        parent_model: Model that it was created from; empty for none.
        capabilities: For example `completion`, `tools`, `embedding`; None if unknown. `show` is the better source.
        context_length: Longest context that it was made for, in tokens; None if unknown.
        embedding_length: Size of its vectors; None if unknown.
        remote_host: Where a cloud model runs; None for a local one.
        raw: The whole entry.
    """

    name: str
    digest: str = ""
    size: int = 0
    modified_at: datetime | None = None
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    format: str = ""
    parent_model: str = ""
    capabilities: frozenset[str] | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    remote_host: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    @classmethod
    def from_tags(cls, entry: Mapping[str, Any]) -> ModelInfo:
        """Parse an entry of `/api/tags`; missing and odd fields get their defaults."""
        details = _object(entry.get("details"))
        return cls(
            name=name_of_entry(entry),
            digest=_text(entry.get("digest")),
            size=reported_count(entry.get("size")) or 0,
            modified_at=parse_time(entry.get("modified_at")),
            capabilities=_names(entry.get("capabilities")),
            context_length=reported_count(details.get("context_length")),
            embedding_length=reported_count(details.get("embedding_length")),
            remote_host=_text(entry.get("remote_host")) or None,
            raw=entry,
            **_described(details),
        )


@dataclass(frozen=True)
class ModelDetails:
    """One installed model, as `/api/show` describes it.

    Attributes:
        name: Requested name.
        capabilities: For example `completion` or `tools`; None if the server does not list them (before 0.6.4).
        context_length: Longest context that it was made for, in tokens; None if unknown.
        embedding_length: Size of its vectors; None if unknown.
        parameters: Its own PARAMETERs: options by name.
        system: Its own system prompt; empty for none.
        template: Its prompt template.
        license: Its licence texts.
        modelfile: Its Modelfile.
        messages: Messages at the beginning of every chat.
        parameter_count: Number of weights; None if unknown.
        family: Architecture, for example `llama`.
        parameter_size: Number of weights as text.
        quantization_level: For example `Q4_K_M`.
        format: Format of its file.
        parent_model: Model that it was created from; empty for none.
        modified_at: When it was created or pulled; None if unknown.
        remote_host: Where a cloud model runs; None for a local one.
        think_levels: Levels of thinking that it lists; None if it lists none (before 0.34).
        default_think_level: Its level where a request has none; None if unknown.
        raw: The whole reply.
    """

    name: str
    capabilities: frozenset[str] | None = None
    context_length: int | None = None
    embedding_length: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    system: str = ""
    template: str = field(default="", repr=False)
    license: str = field(default="", repr=False)
    modelfile: str = field(default="", repr=False)
    messages: tuple[Mapping[str, Any], ...] = ()
    parameter_count: int | None = None
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    format: str = ""
    parent_model: str = ""
    modified_at: datetime | None = None
    remote_host: str | None = None
    think_levels: tuple[str, ...] | None = None
    default_think_level: str | bool | None = None
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    def can(self, capability: str) -> bool:
        """Return whether the model has a capability; True if the server does not list capabilities."""
        return self.capabilities is None or capability in self.capabilities

    @property
    def weights(self) -> str | None:
        """SHA-256 of the file with the weights; None if unknown.

        Models with the same weights share one place in memory (server 0.33).
        """
        return weights_of(self.raw)

    @classmethod
    def from_show(cls, name: str, reply: Mapping[str, Any]) -> ModelDetails:
        """Parse the reply of `/api/show`; missing and odd fields get their defaults."""
        metadata = ModelMetadata.from_show(reply)
        info = _object(reply.get("model_info"))
        messages = reply.get("messages")
        default = _object(reply.get("thinking")).get("default")
        return cls(
            name=name,
            capabilities=metadata.capabilities,
            context_length=metadata.context_length,
            embedding_length=reported_count(info.get(f"{info.get('general.architecture')}.embedding_length")),
            parameters=parse_parameters(_text(reply.get("parameters"))),
            system=_text(reply.get("system")),
            template=_text(reply.get("template")),
            license=_text(reply.get("license")),
            modelfile=_text(reply.get("modelfile")),
            messages=tuple(map(_object, cast("list[Any]", messages))) if isinstance(messages, list) else (),
            parameter_count=reported_count(info.get("general.parameter_count")),
            modified_at=parse_time(reply.get("modified_at")),
            remote_host=metadata.remote_host,
            think_levels=metadata.think_levels,
            default_think_level=default if isinstance(default, (str, bool)) else None,
            raw=reply,
            **_described(_object(reply.get("details"))),
        )


@dataclass(frozen=True)
class LoadedModel:
    """One model in memory, as `/api/ps` lists it.

    Attributes:
        name: Name that it was loaded by. Models with the same weights are listed once, by the first of their names.
        digest: SHA-256 of its manifest when it was loaded.
        size: Bytes that it takes, in the memory of the machine and of its GPUs together.
        size_vram: Bytes of these that are on GPUs.
        expires_at: When it is unloaded if no request comes in, on the clock of this machine; None if unknown.
        context_length: Its context window, in tokens; None if unknown.
        family: Architecture, for example `llama`.
        parameter_size: Number of weights as text.
        quantization_level: For example `Q4_K_M`.
        format: Format of its file.
        parent_model: Model that it was created from; empty for none.
        raw: The whole entry.
    """

    name: str
    digest: str = ""
    size: int = 0
    size_vram: int = 0
    expires_at: datetime | None = None
    context_length: int | None = None
    family: str = ""
    parameter_size: str = ""
    quantization_level: str = ""
    format: str = ""
    parent_model: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False, compare=False)

    @property
    def gpu_share(self) -> float:
        """Share of the model that is on GPUs, from 0 to 1."""
        return min(self.size_vram / self.size, 1.0) if self.size > 0 else 0.0

    @property
    def stays_for_good(self) -> bool:
        """Whether only a request unloads it (`keep_alive` of -1)."""
        return self.expires_at is not None and self.expires_at - datetime.now(timezone.utc) > _FOR_GOOD

    @classmethod
    def from_ps(cls, entry: Mapping[str, Any], *, clock_offset: float = 0.0) -> LoadedModel:
        """Parse an entry of `/api/ps`; missing and odd fields get their defaults.

        Args:
            entry: The entry.
            clock_offset: By how many seconds the server's clock was ahead of this machine's when it replied.
        """
        return cls(
            name=name_of_entry(entry),
            digest=_text(entry.get("digest")),
            size=reported_count(entry.get("size")) or 0,
            size_vram=reported_count(entry.get("size_vram")) or 0,
            expires_at=_on_this_clock(parse_time(entry.get("expires_at")), clock_offset),
            context_length=reported_count(entry.get("context_length")),
            raw=entry,
            **_described(_object(entry.get("details"))),
        )


@dataclass(frozen=True)
class LoadResult:
    """The result of loading a model.

    Attributes:
        model: Requested name.
        load_seconds: From the request until the server replied that the model is loaded, measured here. The wait for
            memory is part of it; next to nothing if the model was loaded before.
        was_loaded: Whether the model was loaded before.
        loaded: The loaded model; None if it is unloaded already, or runs elsewhere.
    """

    model: str
    load_seconds: float
    was_loaded: bool
    loaded: LoadedModel | None


@dataclass(frozen=True)
class TransferResult:
    """The result of a pull, a push or a creation.

    Attributes:
        action: `pull`, `push` or `create`.
        model: The model as it is installed now.
        digest_before: Digest that the name had before; None if there was no such model.
        bytes_moved: Bytes that were moved; 0 if everything was there.
        attempts: Number of requests for the transfer.
        seconds: Duration, retries included.
    """

    action: str
    model: ModelInfo
    digest_before: str | None
    bytes_moved: int
    attempts: int
    seconds: float

    @property
    def is_unchanged(self) -> bool:
        """Whether the name means the same model as before."""
        return self.digest_before == self.model.digest


def weights_of(shown: Mapping[str, Any]) -> str | None:
    """Return the file with the weights in a reply of `/api/show`; a second FROM is that of a projector for images."""
    found = _WEIGHTS.search(_text(shown.get("modelfile")))
    return found[1] if found else None


def parse_time(value: Any) -> datetime | None:
    """Parse a time of the server: RFC 3339, with up to nine digits of a second. None if it is not one."""
    if not isinstance(value, str) or value.startswith("0001-"):  # Go's zero time: unknown
        return None
    # Before Python 3.11, fromisoformat knows neither Z nor other than three or six digits.
    text = _FRACTION.sub(lambda match: f".{match[1][:6]:0<6}", value.replace("Z", "+00:00"), count=1)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _on_this_clock(time: datetime | None, offset: float) -> datetime | None:
    try:
        return time - timedelta(seconds=offset) if time is not None and offset else time
    except OverflowError:  # at one of the ends of the calendar
        return time


def _described(details: Mapping[str, Any]) -> dict[str, str]:
    names = ("family", "parameter_size", "quantization_level", "format", "parent_model")
    return {name: _text(details.get(name)) for name in names}


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _names(value: Any) -> frozenset[str] | None:
    return frozenset(map(str, cast("list[Any]", value))) if isinstance(value, list) else None
