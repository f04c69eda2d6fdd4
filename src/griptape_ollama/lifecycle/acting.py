"""What the planner asks of a server: what is loaded, load this, unload that, and what a name stands for."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol, cast

from griptape_ollama.models.facts import Facts
from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.limits import OllamaTimeout
from griptape_ollama.transport.retry import once_more_if_stale
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.scope import outside_scopes

RUNNER_OPTIONS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"}
)
"""Options that a model is loaded with: asked with others, it is loaded anew (`api.Runner` of server 0.33)."""

# The server answers these from memory; one that does not is better left alone than waited for.
_QUICK = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=10)
_FROM = re.compile(r"^FROM (\S.*)$", re.MULTILINE)
_DATE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6})\d*)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model in memory, as `/api/ps` lists it.

    Attributes:
        name: Its name.
        size: Bytes that it takes.
        expires_at: When it leaves if nobody uses it; None where the server does not tell.
        context_length: Its window, in tokens; None where the server does not tell (before 0.11).
    """

    name: str
    size: int = 0
    expires_at: datetime | None = None
    context_length: int | None = None


class ModelServer(Protocol):
    """One server, as the planner sees it. Each method but `key` and `cancel` may raise an OllamaError."""

    @property
    def host(self) -> str:
        """Address, without user and password."""
        ...

    def key(self, model: str) -> str:
        """Give what a model is known by in memory: names with the same weights share one place there."""
        ...

    def is_local(self, model: str) -> bool:
        """Whether the model takes memory of this server."""
        ...

    def disk_size(self, model: str) -> int:
        """Give the bytes that the model takes on disk, which it takes in memory at least; 0 where unknown."""
        ...

    def loaded(self) -> Sequence[LoadedModel]:
        """List what is loaded now."""
        ...

    def warm(self, model: str, *, keep_alive: Any, options: Mapping[str, Any]) -> float:
        """Load a model, or give it another time to stay; give the seconds that took."""
        ...

    def unload(self, model: str) -> None:
        """Let a model go as soon as nobody uses it."""
        ...

    def cancel(self) -> None:
        """Stop what is under way."""
        ...


class DriverServer:
    """The server that a driver talks to, on the driver's own way to it.

    Args:
        driver: The driver.
    """

    def __init__(self, driver: OllamaServerMixin) -> None:
        self._connection = driver.connection
        self._patient = driver.limits
        self._runs: set[Run] = set()

    @property
    def host(self) -> str:
        """Address, without user and password."""
        return self._connection.base_url

    def key(self, model: str) -> str:
        """Give the file with the model's weights, which the server itself goes by; where that is unknown, its name."""
        modelfile = self._facts.show(model).raw.get("modelfile")
        found = _FROM.search(modelfile) if isinstance(modelfile, str) else None
        return found.group(1).strip() if found else _full_name(model)

    def is_local(self, model: str) -> bool:
        """Whether the model takes memory of this server."""
        return self._facts.show(model).remote_host is None and not model.endswith((":cloud", "-cloud"))

    def disk_size(self, model: str) -> int:
        """Give the bytes that the model takes on disk; 0 where unknown."""
        name = _full_name(model)
        sizes = (_number(tag.get("size")) for tag in self._facts.tags() if _full_name(str(tag.get("name"))) == name)
        return next(sizes, 0)

    def loaded(self) -> list[LoadedModel]:
        """List what is loaded now.

        Raises:
            OllamaError: The server does not answer.
        """
        models = self._ask("/api/ps", None, _quick_run()).get("models")
        found = cast("list[dict[str, Any]]", models) if isinstance(models, list) else []
        return [
            LoadedModel(
                name=str(model.get("name")),
                size=_number(model.get("size")),
                expires_at=_date(model.get("expires_at")),
                context_length=_number(model.get("context_length")) or None,
            )
            for model in found
        ]

    def warm(self, model: str, *, keep_alive: Any, options: Mapping[str, Any]) -> float:
        """Load a model, or give it another time to stay.

        Args:
            model: Its name.
            keep_alive: How long it stays.
            options: Options that it is loaded with.

        Returns:
            Seconds that it took.

        Raises:
            OllamaError: It cannot be loaded.
        """
        body: dict[str, Any] = {"model": model, "keep_alive": keep_alive, "options": dict(options), "stream": False}
        began = time.monotonic()
        if self._facts.show(model).can("completion"):
            self._ask("/api/generate", body, Run(self._patient))
        else:
            self._ask("/api/embed", {**body, "input": " "}, Run(self._patient))
        return time.monotonic() - began

    def unload(self, model: str) -> None:
        """Let a model go as soon as nobody uses it. Generate does that for embedding models, too.

        Raises:
            OllamaError: The server does not answer.
        """
        self._ask("/api/generate", {"model": model, "keep_alive": 0, "stream": False}, _quick_run())

    def cancel(self) -> None:
        """Stop what is under way."""
        for run in list(self._runs):
            run.cancel()

    @property
    def _facts(self) -> Facts:
        return Facts(self._connection, _quick_run())

    def _ask(self, path: str, body: dict[str, Any] | None, run: Run) -> dict[str, Any]:
        self._runs.add(run)
        try:
            method = "GET" if body is None else "POST"
            return Call(self._connection, path, body, method=method, run=run, policy=once_more_if_stale()).document()
        finally:
            self._runs.discard(run)


def _quick_run() -> Run:
    """Make the run of a request that is over at once, and that a cancelled structure needs as well."""
    with outside_scopes():
        return Run(_QUICK)


def runner_options(driver: OllamaServerMixin) -> dict[str, Any]:
    """Give the options of a driver that a model is loaded with; asked without them, it would be loaded twice."""
    extra: Any = getattr(driver, "extra_params", None) or {}
    options: dict[str, Any] = {**(getattr(driver, "options", None) or {}), **(extra.get("options") or {})}
    return {name: value for name, value in options.items() if name in RUNNER_OPTIONS and value is not None}


def _full_name(model: str) -> str:
    name = model.lower() if ":" in model.rsplit("/", 1)[-1] else f"{model.lower()}:latest"
    for prefix in ("registry.ollama.ai/library/", "registry.ollama.ai/", "library/"):
        if name.startswith(prefix):
            return name[len(prefix) :]
    return name


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _date(text: Any) -> datetime | None:
    """Read a date as Go writes it, with up to nine digits of a second; None where it is none."""
    found = _DATE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    date = datetime.fromisoformat(seconds + ("+00:00" if zone == "Z" else zone))
    return date.replace(microsecond=int((fraction or "").ljust(6, "0"))).astimezone(timezone.utc)
