"""Load a model without a prompt, unload it, and wait until it is unloaded."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from griptape_ollama.errors import OllamaModelNotFoundError, OllamaTimeoutError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.catalogue import Catalogue
from griptape_ollama.models.types import LoadedModel, LoadResult
from griptape_ollama.protocol.model_name import find_model
from griptape_ollama.protocol.options import SHIFT

# A model is listed for some milliseconds after it was unloaded, and a busy one until its reply has ended.
_FIRST_POLL, _SLOWEST_POLL = 0.02, 0.5


class ModelLoader:
    """Loads and unloads models.

    Args:
        api: Sends the requests.
    """

    def __init__(self, api: OllamaApi) -> None:
        self._api = api
        self._catalogue = Catalogue(api)

    def warm(self, model: str, keep_alive: float | str | None, options: Mapping[str, Any] | None) -> LoadResult:
        """Load a model.

        Args:
            model: The model.
            keep_alive: How long it stays loaded, as it is sent; None for the server's default.
            options: Model options: if later requests have another `num_ctx`, they load the model again.
        """
        before = self._catalogue.find_loaded(model)
        if options is None and before is not None and before.context_length:
            # Without it, a model that was loaded with another window than the default is loaded again (server 0.33).
            options = {"num_ctx": before.context_length}
        seconds = self.load(model, keep_alive, options)
        return LoadResult(model, seconds, before is not None, self._catalogue.find_loaded(model))

    def load(self, model: str, keep_alive: float | str | None, options: Mapping[str, Any] | None) -> float:
        """Load a model without reading what is loaded, and return the seconds that the request took.

        If it is loaded with the same options, only its keep_alive changes.

        Args:
            model: As for `warm`.
            keep_alive: As for `warm`.
            options: All options to load it with; `shift` among them becomes a field of the request.
        """
        body: dict[str, Any] = {"model": model}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        fields = {name: value for name, value in (options or {}).items() if name == SHIFT}
        if inner := {name: value for name, value in (options or {}).items() if name != SHIFT}:
            body["options"] = inner
        started = time.monotonic()
        if self._embeds_only(model):
            # `/api/generate` refuses embedding models before it loads them (server 0.33).
            self._api.document("/api/embed", body)
        else:
            self._api.document("/api/generate", {**body, **fields, "stream": False})
        seconds = time.monotonic() - started
        self._api.metadata.forget_loaded()
        return seconds

    def unload(self, model: str) -> bool:
        """Unload a model, and return whether it was loaded.

        Raises:
            OllamaModelNotFoundError: It is neither loaded nor installed; or it was deleted while it was loaded.
        """
        loaded = self._catalogue.find_loaded(model)
        if loaded is None:
            self._catalogue.require(model)
            return False
        self.unload_loaded(loaded)
        return True

    def unload_loaded(self, loaded: LoadedModel) -> None:
        """Unload a loaded model.

        Raises:
            OllamaModelNotFoundError: It was deleted or replaced since it was loaded, so that it has no name any more.
        """
        if not self._unload(loaded):
            raise self._out_of_reach([loaded.name])

    def unload_all(self) -> list[str]:
        """Unload all models, and return their names.

        Raises:
            OllamaModelNotFoundError: Some were deleted while they were loaded; the rest are unloaded.
        """
        loaded = self._catalogue.loaded()
        stuck = [each.name for each in loaded if not self._unload(each)]
        if stuck:
            raise self._out_of_reach(stuck)
        return [each.name for each in loaded]

    def unload_digest(self, digest: str) -> bool:
        """Unload the model of a digest, and return whether it was loaded and could be unloaded."""
        loaded = next((each for each in self._catalogue.loaded() if each.digest == digest), None)
        return loaded is not None and self._unload(loaded)

    def wait_until_unloaded(self, model: str, timeout: float | None) -> float:
        """Wait until a model is unloaded, and return the seconds that it took.

        Args:
            model: The model.
            timeout: Longest wait in seconds; None for no limit but the run's.

        Raises:
            OllamaTimeoutError: It is still loaded.
            OllamaCancelledError: The run was cancelled.
        """
        run, started, wait = self._api.run, time.monotonic(), _FIRST_POLL
        while self._catalogue.find_loaded(model) is not None:
            waited = time.monotonic() - started
            if run.is_over or (timeout is not None and waited >= timeout):
                raise self._still_loaded(model, waited)
            left = wait if timeout is None else min(wait, timeout - waited)
            run.sleep(left)
            wait = min(wait * 2, _SLOWEST_POLL)
        self._api.metadata.forget_loaded()
        return time.monotonic() - started

    def _embeds_only(self, model: str) -> bool:
        metadata = self._api.metadata.show(model)
        return metadata.can("embedding") and not metadata.can("completion")

    def _unload(self, loaded: LoadedModel) -> bool:
        """Unload a model, and return whether the server could find it."""
        installed = self._catalogue.installed()
        same = [each.name for each in installed if each.digest == loaded.digest]
        # Its name may mean another model by now; any name with the same digest will do.
        name = find_model(loaded.name, same, str) or next(iter(same), None)
        name = name or find_model(loaded.name, [each.name for each in installed], str)
        if name is None:
            return False
        # A request without a prompt loads nothing if the model has been unloaded meanwhile.
        self._api.document("/api/generate", {"model": name, "keep_alive": 0, "stream": False})
        self._api.metadata.forget_loaded()
        # If it was found, it is not listed any more, or with another time to expire at.
        return bool(same) or loaded.raw not in [each.raw for each in self._catalogue.loaded()]

    def _out_of_reach(self, names: Sequence[str]) -> OllamaModelNotFoundError:
        host = self._api.host
        what = ", ".join(map(repr, names))
        return OllamaModelNotFoundError(
            f"What Ollama at {host} has loaded as {what} was deleted or replaced meanwhile: it cannot be unloaded by "
            "name any more, and leaves when its keep_alive is over.",
            host=host,
            model=names[0],
        )

    def _still_loaded(self, model: str, waited: float) -> OllamaTimeoutError:
        host = self._api.host
        return OllamaTimeoutError(
            f"Model {model!r} is still loaded in Ollama at {host} after {waited:.1f} s. It stays while it answers "
            "requests, and for its keep_alive: unload it, or wait longer.",
            host=host,
            model=model,
            limit="unload",
            seconds=waited,
        )
