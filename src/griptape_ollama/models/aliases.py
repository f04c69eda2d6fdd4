"""A name of one's own for a model, which can be pointed to another without a gap."""

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
    """Copies models, and points names to them.

    Args:
        api: Makes the requests.
    """

    def __init__(self, api: OllamaApi) -> None:
        self._api = api
        self._catalogue = Catalogue(api)
        self._loader = ModelLoader(api)

    def copy(self, source: str, destination: str, change: Change) -> ModelInfo:
        """Give a model another name; a model that has it is replaced in one step.

        Raises:
            OllamaModelNotFoundError: There is no such source.
        """
        installed = self._catalogue.installed()
        if find_named(source, installed) is None:
            raise self._catalogue.missing(source, installed)
        return self._copied(source, destination, find_named(destination, installed), change)

    def point(self, name: str, target: str, extras: Mapping[str, Any], change: Change, report: OnProgress) -> ModelInfo:
        """Let a name mean a model, and let go of what it meant before.

        Args:
            name: The name.
            target: The model.
            extras: What the name has of its own, such as `parameters` and `system`; empty for a plain copy.
            change: Where the digests are noted.
            report: Told how far it is.

        Raises:
            OllamaModelNotFoundError: There is no such target. The name means what it did.
        """
        installed = self._catalogue.installed()
        if find_named(target, installed) is None:
            # The server would pull it, under a name that nobody looked at.
            raise self._catalogue.missing(target, installed)
        before = find_named(name, installed)
        with self._letting_go(before, target, installed):
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
        after = self._catalogue.need(destination)
        change.digest_after = after.digest
        return after

    @contextlib.contextmanager
    def _letting_go(
        self, before: ModelInfo | None, target: str, installed: Sequence[ModelInfo]
    ) -> Generator[None, None, None]:
        """Let go of what a name means, if it is in memory, once the block has given the name another meaning."""
        is_loaded = before is not None and any(each.digest == before.digest for each in self._catalogue.loaded())
        # One with the same weights takes over the place of the old one: nothing has to be loaded again (server 0.33).
        if before is None or not is_loaded or self._catalogue.share_weights(before.name, target):
            yield
            return
        names = [each.name for each in installed if each.digest == before.digest]
        with self._stand_in(before.name) if len(names) == 1 else contextlib.nullcontext():
            yield
            self._loader.unload_digest(before.digest)

    @contextlib.contextmanager
    def _stand_in(self, name: str) -> Generator[None, None, None]:
        """Keep another name for what a name means so far: a server unloads by names only (server 0.33)."""
        stand_in = _stand_in_name(name)
        self._copy(name, stand_in)
        try:
            yield
        finally:
            self._drop(stand_in)

    def _copy(self, source: str, destination: str) -> None:
        body = {"source": source, "destination": destination}
        self._api.confirm("/api/copy", body, model=source)

    def _drop(self, name: str) -> None:
        try:
            self._api.confirm("/api/delete", {"model": name}, method="DELETE")
        except OllamaError as error:
            _logger.warning("Model %r was made for a moment and could not be deleted: %s", name, printable(str(error)))


def _stand_in_name(name: str) -> str:
    known = parse_model_name(name)
    return str(replace(known, tag=f"{known.tag[:_LONGEST_TAG]}-replaced-{uuid.uuid4().hex[:8]}"))
