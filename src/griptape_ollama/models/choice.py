"""Which model is meant where nobody names one."""

from __future__ import annotations

from collections.abc import Callable

from griptape_ollama.errors import OllamaModelNotFoundError
from griptape_ollama.models.catalogue import Catalogue, listed
from griptape_ollama.models.requests import Requests
from griptape_ollama.models.types import ModelInfo


def only_chat_model(requests: Requests) -> str:
    """Give the name of the only chat model that a server has.

    Args:
        requests: Makes the requests.

    Raises:
        OllamaModelNotFoundError: There is none, or more than one; the text lists what is installed.
        OllamaError: The server does not answer.
    """
    # `show` is right where `tags` is wrong (seen in 0.33.0-rc2); it is asked through the cache of facts.
    facts = requests.facts
    return choose_chat_model(
        Catalogue(requests).installed(), lambda name: facts.show(name).can("completion"), requests.host
    )


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
