"""The models of a server as they are now: installed ones, loaded ones, one of them in full."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from griptape_ollama.errors import OllamaModelNotFoundError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.types import LoadedModel, ModelDetails, ModelInfo, weights_of
from griptape_ollama.protocol.model_name import find_model

_MOST_NAMES = 20


class Catalogue:
    """Looks things up without changing anything, and without a cache: what is asked is what is.

    Args:
        api: Makes the requests.
    """

    def __init__(self, api: OllamaApi) -> None:
        self._api = api

    def installed(self) -> list[ModelInfo]:
        """Give the installed models, newest first."""
        return [ModelInfo.from_tags(entry) for entry in _entries(self._api.document("/api/tags"))]

    def loaded(self) -> list[LoadedModel]:
        """Give the models in memory, those that stay longest first."""
        document, offset = self._api.ask("/api/ps")
        return [LoadedModel.from_ps(entry, clock_offset=offset) for entry in _entries(document)]

    def show(self, model: str) -> ModelDetails:
        """Describe a model in full.

        Raises:
            OllamaModelNotFoundError: The server does not have it.
        """
        return ModelDetails.from_show(model, self._api.document("/api/show", {"model": model}))

    def find(self, model: str) -> ModelInfo | None:
        """Find an installed model by any spelling of its name."""
        return find_named(model, self.installed())

    def need(self, model: str) -> ModelInfo:
        """Find an installed model.

        Raises:
            OllamaModelNotFoundError: There is none.
        """
        installed = self.installed()
        found = find_named(model, installed)
        if found is None:
            raise self.missing(model, installed)
        return found

    def find_loaded(self, model: str) -> LoadedModel | None:
        """Find what is in memory for a model.

        That may be under another name: models with the same weights share a place there, and it is listed by the name
        that loaded it (server 0.33).
        """
        loaded = self.loaded()
        installed = self.find(model) if loaded else None
        digest = installed.digest if installed else None
        same_digest = next((each for each in loaded if each.digest == digest), None)
        same_name = find_named(model, loaded)
        if same_digest or same_name or not installed:
            return same_digest or same_name
        return next((each for each in loaded if self.share_weights(model, each.name)), None)

    def share_weights(self, one: str, other: str) -> bool:
        """Whether two installed models have the same file of weights; no, where the server does not tell."""
        weights = {weights_of(self._api.metadata.show(name).raw) for name in (one, other)}
        return len(weights) == 1 and None not in weights

    def missing(self, model: str, installed: Iterable[ModelInfo] = ()) -> OllamaModelNotFoundError:
        """Make the error for a model that is not there."""
        names = listed(installed)
        there = f" It has {names}." if names else ""
        host = self._api.host
        return OllamaModelNotFoundError(
            f"Ollama at {host} has no model {model!r}. Get it with: ollama pull {model}{there and '.'}{there}",
            host=host,
            model=model,
            status=404,
        )


def _entries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = document.get("models")
    entries = cast("list[Any]", models) if isinstance(models, list) else []
    return [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]


def listed(models: Iterable[ModelInfo]) -> str:
    """List names for people: not more than they read."""
    names = [each.name for each in models]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


Listed = TypeVar("Listed", ModelInfo, LoadedModel)


def find_named(model: str, listed: Iterable[Listed]) -> Listed | None:
    """Find the model that a name means, among those that are installed or those that are loaded."""
    return find_model(model, listed, lambda each: each.name)


def only_chat_model(api: OllamaApi) -> str:
    """Give the name of the only chat model that a server has.

    Args:
        api: Makes the requests.

    Raises:
        OllamaModelNotFoundError: There is none, or more than one; the text lists what is installed.
        OllamaError: The server does not answer.
    """
    # `show` is right where `tags` is wrong (seen in 0.33.0-rc2); it is asked through the cache of facts.
    metadata = api.metadata
    return choose_chat_model(Catalogue(api).installed(), lambda name: metadata.show(name).can("completion"), api.host)


def choose_chat_model(installed: list[ModelInfo], can_chat: Callable[[str], bool], host: str) -> str:
    """Choose among the installed models.

    Args:
        installed: The models. Several names of one digest count as one model: the oldest of them.
        can_chat: Whether a model of this name answers chats.
        host: Address of the server, for the error.

    Raises:
        OllamaModelNotFoundError: There is not exactly one.
    """
    chat = [each for each in installed if can_chat(each.name) and not _embeds_only(each)]
    if len({each.digest or each.name for each in chat}) == 1:
        return chat[-1].name
    names = listed(installed)
    if not installed:
        text = f"Ollama at {host} has no models, and none is named. Get one, for example with: ollama pull qwen3"
    elif not chat:
        text = f"Ollama at {host} has no chat model, and none is named. It has {names}. Get one with: ollama pull NAME"
    else:
        text = f"Ollama at {host} has several chat models: name one with model=, or in OLLAMA_MODEL. It has {names}"
    raise OllamaModelNotFoundError(f"{text}.", host=host)


def _embeds_only(model: ModelInfo) -> bool:
    # Servers before 0.6.4 list no capabilities; BERT and its kin make vectors and nothing else.
    return model.capabilities is None and "bert" in model.family.lower()
