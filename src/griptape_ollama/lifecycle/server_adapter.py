"""What the scheduler asks of a server: what is loaded, load this, unload that, and which names share weights."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from typing import Any, cast

from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.catalogue import Catalogue, find_named, only_chat_model
from griptape_ollama.models.connection_settings import OllamaServerMixin
from griptape_ollama.models.loading import ModelLoader
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.models.model_metadata import is_cloud_model
from griptape_ollama.models.types import LoadedModel, ModelInfo, weights_of
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.transport.cancel_scope import outside_scopes
from griptape_ollama.transport.retry import stale_connection_policy
from griptape_ollama.transport.run import ActiveRuns, Run
from griptape_ollama.transport.timeouts import OllamaTimeout

# The server answers these from memory: do not wait for one that does not answer at once.
_QUICK = OllamaTimeout(connect=2, first_token=5, between_tokens=5, total=10)


class ServerAdapter:
    """The server that a driver uses, over the driver's own connection.

    Requests are not retried: the scheduler goes on without what it does not get.

    Args:
        driver: The driver.
    """

    def __init__(self, driver: OllamaServerMixin) -> None:
        self._connection = driver.connection
        self._load_limits = driver.limits
        self._running = ActiveRuns()

    @property
    def host(self) -> str:
        """Address, without user and password."""
        return self._connection.base_url

    def memory_key(self, model: str) -> str:
        """Return what identifies a model in memory: its file of weights, as in the server; its name where unknown."""
        return weights_of(self._metadata.show(model).raw) or model_key(model)

    def is_local(self, model: str) -> bool:
        """Whether the model takes memory of this server."""
        return not is_cloud_model(model, self._metadata.show(model))

    def disk_size(self, model: str) -> int:
        """Return the bytes of a model on disk, which it takes in memory at least; 0 where unknown."""
        found = find_named(model, map(ModelInfo.from_tags, self._metadata.tags()))
        return found.size if found else 0

    def only_chat_model(self) -> str:
        """Return the model that drivers without a model use.

        Raises:
            OllamaError: There is none, or more than one, or the server does not answer.
        """
        with self._api(_quick_run()) as api:
            return only_chat_model(api)

    def loaded_models(self) -> list[LoadedModel]:
        """Return what is loaded now.

        Raises:
            OllamaError: The server does not answer.
        """
        with self._api(_quick_run()) as api:
            return Catalogue(api).loaded()

    def load(self, model: str, *, keep_alive: Any, options: Mapping[str, Any]) -> float:
        """Load a model, or set a new keep_alive if it is loaded.

        Args:
            model: Its name.
            keep_alive: How long it stays.
            options: Options that it is loaded with, and `shift`.

        Returns:
            Seconds that it took.

        Raises:
            OllamaError: It cannot be loaded.
        """
        with self._api(Run(self._load_limits)) as api:
            return ModelLoader(api).load(model, keep_alive, options)

    def unload(self, model: LoadedModel) -> None:
        """Unload a model as soon as no request uses it.

        Raises:
            OllamaModelNotFoundError: It was deleted or replaced since it was loaded, so that no name leads to it.
            OllamaError: The server does not answer.
        """
        with self._api(_quick_run()) as api:
            ModelLoader(api).unload_loaded(model)

    def cancel(self) -> None:
        """Cancel the requests that are under way."""
        self._running.cancel()

    @property
    def _metadata(self) -> ServerMetadata:
        return ServerMetadata(self._connection, _quick_run())

    @contextlib.contextmanager
    def _api(self, run: Run) -> Generator[OllamaApi, None, None]:
        with self._running.tracking(run):
            yield OllamaApi(self._connection, run, stale_connection_policy)


def _quick_run() -> Run:
    """Return the run of a short request, which works in a cancelled structure, too."""
    with outside_scopes():
        return Run(_QUICK)


def model_of(driver: OllamaServerMixin) -> str | None:
    """Return the model that a driver uses; None if it has none yet."""
    extra = cast("Mapping[str, Any]", getattr(driver, "extra_params", None) or {})
    model = extra.get("model") or getattr(driver, "model", None)
    return model if isinstance(model, str) and model else None
