"""The model that a driver uses: which one, that it is there, and the record of its use."""

from __future__ import annotations

import os
from typing import Any

from attrs import define, field

from griptape_ollama.drivers.settings import to_audit, to_pull_policy
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.catalogue import only_chat_model
from griptape_ollama.models.pull_policy import ensure_model, published
from griptape_ollama.models.server import LIVE, OllamaServerMixin
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.transport.run import Run


def model_of_environment() -> str:
    """Name of the model in `OLLAMA_MODEL`; empty where there is none."""
    return os.environ.get("OLLAMA_MODEL", "").strip()


@define(kw_only=True, slots=False)
class ModelUseMixin(OllamaServerMixin):
    """What a driver has that uses one model.

    Attributes:
        pull_policy: Whether the server pulls the model: `never` (the default), `when_missing`, or `always`, which pulls
            its newest version before the first request of this driver.
        audit_requests: Whether each request is recorded on the logger `griptape_ollama.audit`: model, host, tokens,
            seconds and outcome, never texts.
    """

    pull_policy: str = field(default="never", converter=to_pull_policy, metadata={"serializable": True})
    audit_requests: bool = field(default=False, converter=to_audit, metadata={"serializable": True})
    _pulled: set[str] = field(factory=set[str], init=False, repr=False, eq=False, metadata=LIVE)

    def _see_to(self, model: str, run: Run) -> None:
        """Pull the model if that is wanted.

        Raises:
            OllamaError: It cannot be pulled.
        """
        policy: Any = self.pull_policy
        if policy == "never" or (policy == "always" and model_key(model) in self._pulled):
            return
        ensure_model(self._api_of(run), model, policy, published())
        self._pulled.add(model_key(model))

    def _chosen_model(self, run: Run) -> str:
        """Find the model that is meant where none was named.

        Raises:
            OllamaModelNotFoundError: The server has none that chats, or several.
        """
        return only_chat_model(self._api_of(run))

    def _api_of(self, run: Run) -> OllamaApi:
        return OllamaApi(self.connection, run, self.retrying)
