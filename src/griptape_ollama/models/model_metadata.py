"""What is known of one model: the reply of `/api/show`, and quirks that its replies have shown."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from cachetools import LRUCache

from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.protocol.options import parse_parameters
from griptape_ollama.shared_state import renew_when_forked, reset_with_shared_state

IGNORES_FORMAT = "ignores format"
"""Quirk: replies under a `format` are not JSON, because what runs the model does not know formats."""

UNOPENED_THINK_TAG = "lone think mark"
"""Quirk: thinking is in the text without its opening tag, which is in the prompt."""

_QUIRK_SECONDS = 3600.0
_MAX_MODELS = 512

_ModelKey = tuple[tuple[str, str], str]
"""Identity of a connection, and name of a model."""


@dataclass(frozen=True)
class ModelMetadata:
    """What `/api/show` tells of one model.

    Attributes:
        capabilities: For example `completion`, `tools`, `vision`, `thinking`, `embedding`; None if the server does not
            list them (before 0.6.4).
        parameters: The model's own PARAMETERs: options by name.
        context_length: Longest context that the model was made for, in tokens; None if unknown.
        embedding_length: Size of its vectors; None if unknown.
        remote_host: Where a cloud model runs; None for a local one.
        think_levels: Levels of thinking that the model lists; None if it lists none (before 0.34).
        missing: Capabilities that the server denied in an error.
        is_cloud: Whether the server is Ollama's cloud, and runs all its models there.
        quirks: What replies of the model have shown, such as `IGNORES_FORMAT`.
        raw: The whole reply.
    """

    capabilities: frozenset[str] | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    context_length: int | None = None
    embedding_length: int | None = None
    remote_host: str | None = None
    think_levels: tuple[str, ...] | None = None
    missing: frozenset[str] = frozenset()
    is_cloud: bool = False
    quirks: frozenset[str] = frozenset()
    raw: Mapping[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def can(self, capability: str) -> bool:
        """Return whether the model has a capability; True if the server does not list capabilities."""
        return capability not in self.missing and (self.capabilities is None or capability in self.capabilities)

    @property
    def version(self) -> str:
        """Changes with the model behind a name."""
        return str(self.raw.get("modified_at", ""))

    @classmethod
    def from_show(cls, reply: Mapping[str, Any]) -> ModelMetadata:
        """Parse the reply of `/api/show`; missing and odd fields get their defaults."""
        capabilities = reply.get("capabilities")
        info = reply.get("model_info")
        parameters = reply.get("parameters")
        remote_host = reply.get("remote_host")
        return cls(
            capabilities=frozenset(map(str, cast("list[Any]", capabilities)))
            if isinstance(capabilities, list)
            else None,
            parameters=parse_parameters(parameters) if isinstance(parameters, str) else {},
            context_length=_number(info, "context_length"),
            embedding_length=_number(info, "embedding_length"),
            remote_host=remote_host if isinstance(remote_host, str) and remote_host else None,
            think_levels=_think_levels(reply),
            raw=reply,
        )


UNKNOWN_MODEL = ModelMetadata()


def is_cloud_model(model: str, known: ModelMetadata) -> bool:
    """Return whether a model runs at ollama.com, whatever server is asked.

    The tag in its name tells (`:cloud`, `:120b-cloud`), unless the server shows a file of its own under that name.
    """
    if known.is_cloud or known.remote_host is not None:
        return True
    tag = model.lower().rpartition("/")[2].partition(":")[2]
    details: Any = known.raw.get("details")
    is_file = isinstance(details, dict) and bool(cast("dict[str, Any]", details).get("format"))
    return not is_file and (tag == "cloud" or tag.endswith((":cloud", "-cloud")))


class _Quirk(NamedTuple):
    version: str
    until: float


class ModelQuirks:
    """Quirks of models, for an hour or until the version of the model changes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._quirks: LRUCache[_ModelKey, dict[str, _Quirk]] = LRUCache(_MAX_MODELS)

    def get(self, key: _ModelKey, version: str) -> frozenset[str]:
        """Return the quirks of a version of a model."""
        if key not in self._quirks:
            return frozenset()
        now = time.monotonic()
        with self._lock:
            known = self._quirks.get(key, {})
            return frozenset(name for name, each in known.items() if each.until > now and each.version == version)

    def add(self, key: _ModelKey, quirk: str, version: str) -> bool:
        """Record a quirk, and return whether it is new."""
        with self._lock:
            known = self._quirks.setdefault(key, {})
            before = known.get(quirk)
            known[quirk] = _Quirk(version, time.monotonic() + _QUIRK_SECONDS)
            return before is None or before.version != version

    def remove(self, key: _ModelKey, quirk: str) -> None:
        """Forget a quirk that a reply did not show."""
        with self._lock:
            self._quirks.get(key, {}).pop(quirk, None)

    def forget_server(self, base_url: str) -> None:
        """Forget the quirks of all models of one server."""
        with self._lock:
            for key in [key for key in self._quirks if key[0][0] == base_url]:
                del self._quirks[key]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._quirks.clear()

    def start_afresh(self) -> None:
        """Drop everything in a forked process, with a lock that a thread of the parent may hold."""
        self.__init__()


model_quirks = ModelQuirks()
renew_when_forked(model_quirks)
reset_with_shared_state(model_quirks.clear)


def _think_levels(reply: Mapping[str, Any]) -> tuple[str, ...] | None:
    values = _field(reply.get("thinking"), "values")
    if not isinstance(values, list):
        return None
    return tuple(each for each in cast("list[Any]", values) if isinstance(each, str))


def _number(info: Any, name: str) -> int | None:
    """Return a number from 1 that is listed under the model's architecture."""
    return reported_count(_field(info, f"{_field(info, 'general.architecture')}.{name}"), least=1)


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
