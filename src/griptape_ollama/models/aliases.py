"""Names for models that can be pointed at another model while clients use them."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from griptape_ollama.errors import OllamaError
from griptape_ollama.escaping import printable
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import Change
from griptape_ollama.models.catalogue import Catalogue, find_named
from griptape_ollama.models.loading import ModelLoader
from griptape_ollama.models.progress import OnProgress
from griptape_ollama.models.transfers import Transfer
from griptape_ollama.models.types import ModelInfo
from griptape_ollama.protocol.model_name import parse_model_name

# A tag has at most 80 characters.
_LONGEST_TAG = 60

_logger = logging.getLogger(__name__)


class Aliases:
    """Copies models, and points names at them.

    Args:
        api: Sends the requests.
    """

    def __init__(self, api: OllamaApi) -> None:
        self._api = api
        self._catalogue = Catalogue(api)
        self._loader = ModelLoader(api)

    def copy(self, source: str, destination: str, change: Change) -> ModelInfo:
        """Add a name for a model; a model of that name is replaced in one step.

        Raises:
            OllamaModelNotFoundError: There is no such source.
        """
        installed = self._catalogue.installed()
        if find_named(source, installed) is None:
            raise self._catalogue.missing(source, installed)
        return self._copied(source, destination, find_named(destination, installed), change)

    def point(self, name: str, target: str, extras: Mapping[str, Any], change: Change, report: OnProgress) -> ModelInfo:
        """Point a name at a model, and unload the model that it meant before.

        Args:
            name: The name.
            target: The model.
            extras: Settings of the name, such as `parameters` and `system`; empty for a plain copy.
            change: The digests are recorded here.
            report: Called with the progress.

        Raises:
            OllamaModelNotFoundError: There is no such target. The name means what it did.
        """
        installed = self._catalogue.installed()
        if find_named(target, installed) is None:
            # The server would pull it.
            raise self._catalogue.missing(target, installed)
        before = find_named(name, installed)
        with self._unloading(before, target, installed):
            if not extras:
                return self._copied(target, name, before, change)
            body = {"model": name, "from": target, **extras}
            return Transfer(self._api, "create", body, report).run(change).model

    def _copied(self, source: str, destination: str, before: ModelInfo | None, change: Change) -> ModelInfo:
        change.digest_before = before.digest if before else None
        try:
            self._copy(source, destination)
        finally:
            self._api.metadata.forget()
        after = self._catalogue.require(destination)
        change.digest_after = after.digest
        return after

    @contextlib.contextmanager
    def _unloading(
        self, before: ModelInfo | None, target: str, installed: Sequence[ModelInfo]
    ) -> Generator[None, None, None]:
        """Unload the model that a name meant, if it is loaded, once the block has pointed the name at another."""
        is_loaded = before is not None and any(each.digest == before.digest for each in self._catalogue.loaded())
        # A model with the same weights needs no load (server 0.33).
        if before is None or not is_loaded or self._catalogue.share_weights(before.name, target):
            yield
            return
        names = [each.name for each in installed if each.digest == before.digest]
        with self._temporary_name(before.name) if len(names) == 1 else contextlib.nullcontext():
            yield
            self._loader.unload_digest(before.digest)

    @contextlib.contextmanager
    def _temporary_name(self, name: str) -> Generator[None, None, None]:
        """Keep another name for the model of a name: a server unloads by names only (server 0.33)."""
        known = parse_model_name(name)
        other = str(replace(known, tag=f"{known.tag[:_LONGEST_TAG]}-replaced-{uuid.uuid4().hex[:8]}"))
        self._copy(name, other)
        try:
            yield
        finally:
            self._drop(other)

    def _copy(self, source: str, destination: str) -> None:
        body = {"source": source, "destination": destination}
        self._api.confirm("/api/copy", body, model=source)

    def _drop(self, name: str) -> None:
        try:
            self._api.confirm("/api/delete", {"model": name}, method="DELETE")
        except OllamaError as error:
            _logger.warning("The temporary model %r could not be deleted: %s", name, printable(str(error)))
