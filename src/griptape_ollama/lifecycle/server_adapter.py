"""What the planner asks of a server: what is loaded, load this, unload that, and what a name stands for."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from griptape_ollama.context.window import last_num_ctx
from griptape_ollama.lifecycle.graph import model_of
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.catalogue import Catalogue, find_named, only_chat_model
from griptape_ollama.models.loading import SHIFT, ModelLoader
from griptape_ollama.models.metadata_cache import ServerMetadata, is_cloud_model
from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.models.types import LoadedModel, ModelInfo, weights_of
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.retry import once_more_if_stale
from griptape_ollama.transport.run import Run, RunningRuns
from griptape_ollama.transport.timeouts import OllamaTimeout

RUNNER_OPTIONS = frozenset(
    {"num_ctx", "num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread", "draft_num_predict"}
)
"""Options that a model is loaded with: asked with others, it is loaded anew (`api.Runner` of server 0.33).

So it is with `shift`, which stands beside the options in a request.
"""

# The server answers these from memory; one that does not is better left alone than waited for.
_QUICK = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=10)


class ModelServer(Protocol):
    """One server, as the planner sees it. `loaded`, `only_chat_model`, `warm` and `unload` may raise an OllamaError."""

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

    def only_chat_model(self) -> str:
        """Name the model that drivers without one ask."""
        ...

    def loaded(self) -> Sequence[LoadedModel]:
        """List what is loaded now."""
        ...

    def warm(self, model: str, *, keep_alive: Any, options: Mapping[str, Any]) -> float:
        """Load a model, or give it another time to stay; give the seconds that took."""
        ...

    def unload(self, model: LoadedModel) -> None:
        """Let a model go as soon as nobody uses it."""
        ...

    def cancel(self) -> None:
        """Stop what is under way."""
        ...


class DriverServer:
    """The server that a driver talks to, on the driver's own way to it.

    Nothing is tried again: what the planner does not get, it does without.

    Args:
        driver: The driver.
    """

    def __init__(self, driver: OllamaServerMixin) -> None:
        self._connection = driver.connection
        self._patient = driver.limits
        self._running = RunningRuns()

    @property
    def host(self) -> str:
        """Address, without user and password."""
        return self._connection.base_url

    def key(self, model: str) -> str:
        """Give the file with the model's weights, which the server itself goes by; where that is unknown, its name."""
        return weights_of(self._metadata.show(model).raw) or model_key(model)

    def is_local(self, model: str) -> bool:
        """Whether the model takes memory of this server."""
        return not is_cloud_model(model, self._metadata.show(model))

    def disk_size(self, model: str) -> int:
        """Give the bytes that the model takes on disk; 0 where unknown."""
        found = find_named(model, map(ModelInfo.from_tags, self._metadata.tags()))
        return found.size if found else 0

    def only_chat_model(self) -> str:
        """Name the model that drivers without one ask.

        Raises:
            OllamaError: There is none, or more than one, or the server does not answer.
        """
        with self._api(_quick_run()) as api:
            return only_chat_model(api)

    def loaded(self) -> list[LoadedModel]:
        """List what is loaded now.

        Raises:
            OllamaError: The server does not answer.
        """
        with self._api(_quick_run()) as api:
            return Catalogue(api).loaded()

    def warm(self, model: str, *, keep_alive: Any, options: Mapping[str, Any]) -> float:
        """Load a model, or give it another time to stay.

        Args:
            model: Its name.
            keep_alive: How long it stays.
            options: Options that it is loaded with, and `shift`.

        Returns:
            Seconds that it took.

        Raises:
            OllamaError: It cannot be loaded.
        """
        with self._api(Run(self._patient)) as api:
            return ModelLoader(api).load(model, keep_alive, options)

    def unload(self, model: LoadedModel) -> None:
        """Let a model go as soon as nobody uses it.

        Raises:
            OllamaModelNotFoundError: It was deleted or replaced since it was loaded, so that no name leads to it.
            OllamaError: The server does not answer.
        """
        with self._api(_quick_run()) as api:
            ModelLoader(api).unload_loaded(model)

    def cancel(self) -> None:
        """Stop what is under way."""
        self._running.cancel()

    @property
    def _metadata(self) -> ServerMetadata:
        return ServerMetadata(self._connection, _quick_run())

    @contextlib.contextmanager
    def _api(self, run: Run) -> Generator[OllamaApi, None, None]:
        with self._running.tracking(run):
            yield OllamaApi(self._connection, run, once_more_if_stale)


def _quick_run() -> Run:
    """Make the run of a request that is over at once, and that a cancelled structure needs as well."""
    with outside_scopes():
        return Run(_QUICK)


def runner_options(driver: OllamaServerMixin) -> dict[str, Any]:
    """Give what a driver's prompts have their model loaded with; loaded without it, it would be loaded twice.

    Returns:
        Options, and `shift` where it is False. Where the driver chooses the window by itself, it is the one that the
        model was asked for last.
    """
    extra: Any = getattr(driver, "extra_params", None) or {}
    options: dict[str, Any] = {**(getattr(driver, "options", None) or {}), **(extra.get("options") or {})}
    num_ctx: Any = getattr(driver, "num_ctx", None)
    if options.get("num_ctx") is None and num_ctx is not None:
        model = model_of(driver)
        options["num_ctx"] = num_ctx if isinstance(num_ctx, int) else last_num_ctx(driver.connection.base_url, model)
    wanted = {name: value for name, value in options.items() if name in RUNNER_OPTIONS and value is not None}
    return wanted if _shifts(driver, extra) else {**wanted, SHIFT: False}


def _shifts(driver: OllamaServerMixin, extra: Mapping[str, Any]) -> bool:
    """Whether the driver's prompts have a window that moves on, as it does unless they say otherwise."""
    asked = extra.get(SHIFT)
    asked = getattr(driver, SHIFT, None) if asked is None else asked
    return getattr(driver, "on_overflow", "") != "error" if asked is None else asked is not False
