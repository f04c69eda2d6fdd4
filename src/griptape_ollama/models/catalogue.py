"""The models of a server: installed ones, loaded ones, and which of them a name means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from griptape_ollama.errors import OllamaModelNotFoundError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.types import LoadedModel, ModelDetails, ModelInfo, weights_of
from griptape_ollama.protocol.model_name import find_model

_MOST_NAMES = 20

T = TypeVar("T")
Named = TypeVar("Named", ModelInfo, LoadedModel)


def find_named(model: str, models: Iterable[Named]) -> Named | None:
    """Return the model that a name means, of installed or loaded ones."""
    return find_model(model, models, lambda each: each.name)


def find_loaded_model(
    model: str,
    loaded: Iterable[T],
    name_of: Callable[[T], str],
    weights: Callable[[str], str | None],
    *,
    may_share: Callable[[T], bool] = lambda _: True,
) -> T | None:
    """Return the loaded model that answers requests for a name.

    It may be listed under another name: models with the same weights share one place in memory, and are listed by the
    name that loaded it (server 0.33).

    Args:
        model: The name.
        loaded: The loaded models.
        name_of: Returns the name of a loaded model.
        weights: Returns the digest of a model's weights; None if it is unknown.
        may_share: Returns whether the weights of a loaded model are worth a request.
    """
    loaded = list(loaded)
    found = find_model(model, loaded, name_of)
    if found is not None or not loaded or (own := weights(model)) is None:
        return found
    candidates = (each for each in loaded if name_of(each) and may_share(each))
    return next((each for each in candidates if weights(name_of(each)) == own), None)


class Catalogue:
    """Reads the models of a server, without a cache.

    Args:
        api: Sends the requests.
    """

    def __init__(self, api: OllamaApi) -> None:
        self._api = api

    def installed(self) -> list[ModelInfo]:
        """Return the installed models, newest first."""
        return [ModelInfo.from_tags(entry) for entry in _entries(self._api.document("/api/tags"))]

    def loaded(self) -> list[LoadedModel]:
        """Return the loaded models, those that stay longest first."""
        document, offset = self._api.document_and_clock("/api/ps")
        return [LoadedModel.from_ps(entry, clock_offset=offset) for entry in _entries(document)]

    def show(self, model: str) -> ModelDetails:
        """Describe a model.

        Raises:
            OllamaModelNotFoundError: The server does not have it.
        """
        return ModelDetails.from_show(model, self._api.document("/api/show", {"model": model}))

    def find(self, model: str) -> ModelInfo | None:
        """Return an installed model by any spelling of its name; None for none."""
        return find_named(model, self.installed())

    def require(self, model: str) -> ModelInfo:
        """Return an installed model.

        Raises:
            OllamaModelNotFoundError: There is none.
        """
        installed = self.installed()
        found = find_named(model, installed)
        if found is None:
            raise self.missing(model, installed)
        return found

    def find_loaded(self, model: str) -> LoadedModel | None:
        """Return the loaded model that answers requests for a name: that of its digest, name or weights."""
        loaded = self.loaded()
        installed = self.find(model) if loaded else None
        if installed is None:
            return find_named(model, loaded)
        same_digest = next((each for each in loaded if each.digest == installed.digest), None)
        return same_digest or find_loaded_model(model, loaded, lambda each: each.name, self._weights)

    def share_weights(self, one: str, other: str) -> bool:
        """Return whether two installed models have the same weights, as far as the server tells."""
        weights = self._weights(one)
        return weights is not None and weights == self._weights(other)

    def missing(self, model: str, installed: Iterable[ModelInfo] = ()) -> OllamaModelNotFoundError:
        """Build the error for a model that is not installed."""
        names = name_list(installed)
        there = f" It has {names}." if names else ""
        host = self._api.host
        return OllamaModelNotFoundError(
            f"Ollama at {host} has no model {model!r}. Get it with: ollama pull {model}{there and '.'}{there}",
            host=host,
            model=model,
            status=404,
        )

    def _weights(self, model: str) -> str | None:
        return weights_of(self._api.metadata.show(model).raw)


def _entries(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = document.get("models")
    entries = cast("list[Any]", models) if isinstance(models, list) else []
    return [cast("dict[str, Any]", entry) for entry in entries if isinstance(entry, dict)]


def name_list(models: Iterable[ModelInfo]) -> str:
    """Return the names of the first 20 models as text, and how many more there are."""
    names = [each.name for each in models]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(names[:_MOST_NAMES])}{more}"


def only_chat_model(api: OllamaApi) -> str:
    """Return the name of the only chat model that a server has.

    Raises:
        OllamaModelNotFoundError: There is none, or more than one; the text lists what is installed.
        OllamaError: The server does not answer.
    """
    # `/api/show` is right where `/api/tags` is wrong (seen in 0.33.0-rc2).
    metadata = api.metadata
    return choose_chat_model(Catalogue(api).installed(), lambda name: metadata.show(name).can("completion"), api.host)


def choose_chat_model(installed: list[ModelInfo], can_chat: Callable[[str], bool], host: str) -> str:
    """Choose the only chat model of the installed models.

    Args:
        installed: The models. Several names of one digest count as one model: the oldest of them.
        can_chat: Returns whether a model answers chats.
        host: Address of the server, for the error.

    Raises:
        OllamaModelNotFoundError: There is not exactly one.
    """
    chat = [each for each in installed if can_chat(each.name) and not _embeds_only(each)]
    if len({each.digest or each.name for each in chat}) == 1:
        return chat[-1].name
    names = name_list(installed)
    if not installed:
        text = f"Ollama at {host} has no models, and none is named. Get one, for example with: ollama pull qwen3"
    elif not chat:
        text = f"Ollama at {host} has no chat model, and none is named. It has {names}. Get one with: ollama pull NAME"
    else:
        text = f"Ollama at {host} has several chat models: name one with model=, or in OLLAMA_MODEL. It has {names}"
    raise OllamaModelNotFoundError(f"{text}.", host=host)


def _embeds_only(model: ModelInfo) -> bool:
    # Servers before 0.6.4 list no capabilities; models of the BERT family make vectors only.
    return model.capabilities is None and "bert" in model.family.lower()
