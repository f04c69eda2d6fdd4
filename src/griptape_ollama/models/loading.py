"""Which models are in memory: load one without a prompt, let one go, wait until it has gone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from griptape_ollama.errors import OllamaModelNotFoundError, OllamaTimeoutError
from griptape_ollama.models.catalogue import Catalogue
from griptape_ollama.models.requests import Requests
from griptape_ollama.models.types import LoadedModel, LoadResult
from griptape_ollama.protocol.model_name import is_same_model

# A model that lets go of its memory is listed for some milliseconds more, a busy one until its reply has ended.
_FIRST_POLL, _SLOWEST_POLL = 0.02, 0.5


class Loading:
    """Loads and unloads.

    Args:
        requests: Makes the requests.
    """

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._catalogue = Catalogue(requests)

    def warm(self, model: str, keep_alive: float | str | None, options: Mapping[str, Any] | None) -> LoadResult:
        """Load a model.

        Args:
            model: The model.
            keep_alive: How long it stays, as it goes over the wire; None for the server's default.
            options: Model options: with another `num_ctx` than the requests that follow, they would load it again.
        """
        was_loaded = self._catalogue.find_loaded(model) is not None
        body: dict[str, Any] = {"model": model}
        if keep_alive is not None:
            body["keep_alive"] = keep_alive
        if options:
            body["options"] = dict(options)
        started = time.monotonic()
        if self._makes_vectors_only(model):
            # `/api/generate` refuses embedding models before it loads them (server 0.33).
            self._requests.document("/api/embed", body)
        else:
            self._requests.document("/api/generate", {**body, "stream": False})
        seconds = time.monotonic() - started
        self._requests.facts.forget()
        return LoadResult(model, seconds, was_loaded, self._catalogue.find_loaded(model))

    def unload(self, model: str) -> bool:
        """Let a model go, and tell whether it was there.

        Raises:
            OllamaModelNotFoundError: It is neither loaded nor installed; or it was deleted while it was loaded.
        """
        loaded = self._catalogue.find_loaded(model)
        if loaded is None:
            self._catalogue.need(model)
            return False
        self._let_go(loaded, model)
        return True

    def unload_all(self) -> list[str]:
        """Let all models go, and give their names.

        Raises:
            OllamaModelNotFoundError: Some were deleted while they were loaded; the others are gone.
        """
        loaded = self._catalogue.loaded()
        deleted = [each for each in loaded if self._name_of(each) is None]
        gone = [each for each in loaded if each not in deleted]
        for each in [*gone, *deleted]:
            self._let_go(each, each.name)
        return [each.name for each in gone]

    def unload_digest(self, digest: str) -> bool:
        """Let the model of a digest go, if it is loaded."""
        loaded = next((each for each in self._catalogue.loaded() if each.digest == digest), None)
        if loaded is not None:
            self._let_go(loaded, loaded.name)
        return loaded is not None

    def wait_until_unloaded(self, model: str, timeout: float | None) -> float:
        """Wait until a model is out of memory, and give the seconds that it took.

        Args:
            model: The model.
            timeout: Longest wait in seconds; None for no limit but the run's own.

        Raises:
            OllamaTimeoutError: It is still there.
            OllamaCancelledError: The run was stopped.
        """
        run, started, wait = self._requests.run, time.monotonic(), _FIRST_POLL
        while self._catalogue.find_loaded(model) is not None:
            waited = time.monotonic() - started
            if run.is_over or (timeout is not None and waited >= timeout):
                raise self._still_there(model, waited)
            left = wait if timeout is None else min(wait, timeout - waited)
            run.guard.sleep(run.shorter(left) or 0.0)
            run.guard.check()
            wait = min(wait * 2, _SLOWEST_POLL)
        self._requests.facts.forget()
        return time.monotonic() - started

    def _makes_vectors_only(self, model: str) -> bool:
        facts = self._requests.facts.show(model)
        return facts.can("embedding") and not facts.can("completion")

    def _let_go(self, loaded: LoadedModel, asked: str) -> None:
        name = self._name_of(loaded)
        if name is None:
            host = self._requests.host
            raise OllamaModelNotFoundError(
                f"Model {asked!r} was deleted or replaced while Ollama at {host} had it loaded: it leaves when its "
                "keep_alive is over.",
                host=host,
                model=asked,
            )
        # Without a prompt nothing is loaded for it, should the model have gone meanwhile.
        self._requests.document("/api/generate", {"model": name, "keep_alive": 0, "stream": False})
        self._requests.facts.forget()

    def _name_of(self, loaded: LoadedModel) -> str | None:
        """Find a name by which the server finds what is loaded; what it was loaded by may mean another model now."""
        same = [each for each in self._catalogue.installed() if each.digest == loaded.digest]
        by_name = next((each.name for each in same if is_same_model(each.name, loaded.name)), None)
        return by_name or (same[0].name if same else None)

    def _still_there(self, model: str, waited: float) -> OllamaTimeoutError:
        host = self._requests.host
        return OllamaTimeoutError(
            f"Model {model!r} is still loaded in Ollama at {host} after {waited:.1f} s. It stays while it answers "
            "somebody, and for its keep_alive: unload it, or wait longer.",
            host=host,
            model=model,
            limit="unload",
            seconds=waited,
        )
