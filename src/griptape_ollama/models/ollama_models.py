"""Everything about the models of a server: which there are, getting and making them, and which are in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeAlias

from attrs import define, field
from griptape.mixins.serializable_mixin import SerializableMixin

from griptape_ollama.errors import OllamaContentError, OllamaModelNotFoundError
from griptape_ollama.models.aliases import Aliases
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import Change, audited
from griptape_ollama.models.catalogue import Catalogue, only_chat_model
from griptape_ollama.models.loading import ModelLoader
from griptape_ollama.models.progress import OnProgress, progress_bar
from griptape_ollama.models.pull_policy import (
    PullPolicy,
    change_of,
    check_name,
    check_policy,
    ensure_model,
    published,
    pull_body,
    transfer_together,
)
from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.models.types import LoadedModel, LoadResult, ModelDetails, ModelInfo, TransferResult
from griptape_ollama.models.validators import checked, to_max_attempts, to_seconds_of
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.options import check_options

_ModelInfos: TypeAlias = list[ModelInfo]  # `list` means the method, inside the class
_LoadedModels: TypeAlias = list[LoadedModel]
_Names: TypeAlias = list[str]


@define(kw_only=True, slots=False)
class OllamaModels(OllamaServerMixin, SerializableMixin[Any]):
    """The models of an Ollama server.

    One object serves many threads. Names are compared as the server does: without regard to case, and `qwen3` is
    `qwen3:latest`.

    Attributes:
        max_attempts: Tries in all, for failures that pass. Those of a transfer count from the last that moved bytes.
    """

    max_attempts: int = field(default=5, converter=to_max_attempts, metadata={"serializable": True})

    def list(self) -> _ModelInfos:
        """Give the installed models, newest first.

        Raises:
            OllamaError: The server does not answer.
        """
        with self._api() as api:
            return Catalogue(api).installed()

    def show(self, model: str) -> ModelDetails:
        """Describe a model: what it can do, its context length, its parameters.

        Raises:
            OllamaModelNotFoundError: The server does not have it.
        """
        with self._api(model) as api:
            return Catalogue(api).show(model)

    def exists(self, model: str) -> bool:
        """Whether a model is installed."""
        with self._api(model) as api:
            return Catalogue(api).find(model) is not None

    def loaded(self) -> _LoadedModels:
        """Give the models in memory, those that stay longest first."""
        with self._api() as api:
            return Catalogue(api).loaded()

    def only_chat_model(self) -> str:
        """Give the name of the only chat model that is installed.

        Raises:
            OllamaModelNotFoundError: There is none, or more than one; the text lists what is installed.
        """
        with self._api() as api:
            return only_chat_model(api)

    def pull(
        self, model: str, *, insecure: bool = False, progress: bool = False, on_progress: OnProgress | None = None
    ) -> TransferResult:
        """Get a model from its registry, or its newest version where it is there.

        What broke is tried again and goes on from where it was, for as long as bytes arrive in between. Who asks for a
        model that is being pulled, waits for that pull. OllamaProgressEvents are published meanwhile.

        Args:
            model: Name of the model, for example `qwen3:0.6b` or `hf.co/user/repository:Q4_K_M`.
            insecure: Whether the registry may be one without TLS.
            progress: Whether a bar is shown on the terminal.
            on_progress: Called with a Progress as bytes arrive, in the thread of the caller.

        Raises:
            OllamaModelNotFoundError: The registry does not have it.
            OllamaDiskError: It does not fit on the server's disk.
            OllamaCancelledError: `cancel` was called. What was pulled stays, and another pull goes on from it.
        """
        return self._transfer(
            "pull", pull_body(model, insecure=insecure), progress, on_progress, insecure=insecure or None
        )

    def ensure(
        self,
        model: str,
        policy: PullPolicy = "when_missing",
        *,
        insecure: bool = False,
        progress: bool = False,
        on_progress: OnProgress | None = None,
    ) -> ModelInfo:
        """See to it that a model is there, and give what is known of it.

        Args:
            model: Name of the model.
            policy: `never` only looks; `when_missing` pulls a model that is not there; `always` pulls, which moves
                nothing where the newest version is there.
            insecure: As for `pull`.
            progress: As for `pull`.
            on_progress: As for `pull`.

        Raises:
            OllamaModelNotFoundError: It is not there and is not to be pulled, or its registry does not have it.
        """
        check_policy(policy)
        with self._tracked_run() as run, contextlib.ExitStack() as bars:
            listeners = [on_progress] if on_progress else []
            if progress:
                listeners.append(bars.enter_context(progress_bar("pull", model)))
            api = OllamaApi(self.connection, run, self.retrying)
            return ensure_model(api, model, policy, published(*listeners), insecure=insecure)

    def push(
        self, model: str, *, insecure: bool = False, progress: bool = False, on_progress: OnProgress | None = None
    ) -> TransferResult:
        """Upload a model to its registry; what the registry has is not moved again.

        Args:
            model: Name of the model, with the namespace that it is to have there.
            insecure: As for `pull`.
            progress: As for `pull`.
            on_progress: As for `pull`.

        Raises:
            OllamaModelNotFoundError: The server does not have it.
            OllamaAuthError: The registry does not take it from this server.
        """
        body = pull_body(model, insecure=insecure)
        return self._transfer("push", body, progress, on_progress, insecure=insecure or None)

    def create(
        self,
        model: str,
        *,
        from_model: str | None = None,
        files: Mapping[str, str] | None = None,
        adapters: Mapping[str, str] | None = None,
        template: str | None = None,
        system: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        license: str | Sequence[str] | None = None,  # noqa: A002 # the server's name for it
        quantize: str | None = None,
        progress: bool = False,
        on_progress: OnProgress | None = None,
        **more: Any,
    ) -> TransferResult:
        """Make a model from another, or from files that the server has.

        Args:
            model: Name of the new model; one that has it is replaced.
            from_model: Model that it is made from. The server pulls one that it does not have.
            files: Digests of uploaded files by their names, in place of `from_model`: `client.create_blob(path)`
                uploads a file and gives its digest.
            adapters: Digests of LoRA adapters by their names.
            template: Prompt template.
            system: System prompt.
            parameters: Model options by name, which requests then need not set.
            messages: Messages that stand before those of every chat.
            license: Licence texts.
            quantize: Quantization to make, for example `q4_K_M`.
            progress: As for `pull`.
            on_progress: As for `pull`.
            **more: Fields of the request that newer servers know.

        Raises:
            OllamaContentError: There is nothing to make it from, or a name is none.
        """
        if (from_model is None) == (files is None):
            raise OllamaContentError("create needs from_model= or files=, one of them")
        if from_model is not None:
            check_name(from_model)
        given: dict[str, Any] = {
            "from": from_model,
            "files": files,
            "adapters": adapters,
            "template": template,
            "system": system,
            "parameters": _checked_parameters(parameters),
            "messages": messages,
            "license": license,
            "quantize": quantize,
            **more,
        }
        body = {"model": model, **{name: value for name, value in given.items() if value is not None}}
        return self._transfer("create", body, progress, on_progress, source=from_model)

    def copy(self, source: str, destination: str) -> ModelInfo:
        """Give a model another name, which takes no room; a model that has the name is replaced in one step.

        Raises:
            OllamaModelNotFoundError: There is no such source.
        """
        with self._changing("copy", destination, source=source) as (api, change):
            return Aliases(api).copy(source, destination, change)

    def alias(
        self,
        name: str,
        target: str,
        parameters: Mapping[str, Any] | None = None,
        system: str | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> ModelInfo:
        """Let a name mean a model, for everybody who uses the server: `alias("main", "mistral")`.

        The name means the old model or the new one at any moment. If the old one is in memory, it is unloaded.

        Args:
            name: The name; a model that has it is replaced.
            target: Model that it is to mean.
            parameters: Model options that it is to have beyond those of the target.
            system: System prompt in place of the target's.
            on_progress: As for `create`.

        Raises:
            OllamaContentError: A name is none. Nothing was sent.
            OllamaModelNotFoundError: There is no such target. The name means what it did.
        """
        given = {"parameters": _checked_parameters(parameters) or None, "system": system}
        extras = {field: value for field, value in given.items() if value is not None}
        with self._changing("alias", name, source=target) as (api, change):
            return Aliases(api).point(name, target, extras, change, published(on_progress))

    def delete(self, model: str) -> None:
        """Delete a model. Files that other models use stay. If it is in memory, it is unloaded first.

        Raises:
            OllamaModelNotFoundError: There is none.
        """
        with self._changing("delete", model) as (api, change):
            catalogue = Catalogue(api)
            change.digest_before = catalogue.need(model).digest
            if sum(each.digest == change.digest_before for each in catalogue.installed()) == 1:
                # Afterwards nobody could unload it before its time (server 0.33).
                ModelLoader(api).unload_digest(change.digest_before)
            # Where a first try broke after it had worked, the second finds nothing to do.
            with contextlib.suppress(OllamaModelNotFoundError):
                api.confirm("/api/delete", {"model": model}, method="DELETE")

    def warm(
        self,
        model: str,
        keep_alive: Any = None,
        *,
        options: Mapping[str, Any] | None = None,
    ) -> LoadResult:
        """Load a model without a prompt, so that the first answer comes sooner.

        Args:
            model: The model, of any kind.
            keep_alive: How long it stays loaded: seconds, a Go duration such as `"10m"`, a timedelta, or -1 (for good);
                the server's default (5 minutes) where it is not given.
            options: Model options, such as `num_ctx`: requests that have another one load the model again. By default
                a model that is loaded keeps what it was loaded with.

        Raises:
            OllamaModelNotFoundError: There is none.
            OllamaResponseError: It cannot be loaded.
        """
        wire = None if keep_alive is None else checked(lambda: normalize_keep_alive(keep_alive))
        with self._api(model) as api:
            return ModelLoader(api).warm(model, wire, options)

    def unload(self, model: str) -> bool:
        """Let a model go as soon as it has answered whom it is answering, and tell whether it was in memory.

        Models with the same weights share a place there, and go together. One that is still being loaded is not in
        memory yet: unload it afterwards.

        Raises:
            OllamaModelNotFoundError: There is no such model.
        """
        with self._api(model) as api:
            return ModelLoader(api).unload(model)

    def unload_all(self) -> _Names:
        """Let all models go, whoever loaded them, and give their names."""
        with self._api() as api:
            return ModelLoader(api).unload_all()

    def wait_until_unloaded(self, model: str, timeout: float | None = 30.0) -> float:
        """Wait until a model is out of memory, and give the seconds that it took.

        Args:
            model: The model.
            timeout: Longest wait in seconds; None for no limit.

        Raises:
            OllamaTimeoutError: It is still there.
            OllamaCancelledError: `cancel` was called.
            OllamaContentError: `timeout` is no number of seconds.
        """
        seconds = None if timeout is None else to_seconds_of("timeout")(timeout)
        with self._api(model) as api:
            return ModelLoader(api).wait_until_unloaded(model, seconds)

    def _transfer(
        self, action: str, body: Mapping[str, Any], progress: bool, on_progress: OnProgress | None, **details: Any
    ) -> TransferResult:
        """Do what takes long, together with everybody who wants the same."""
        model: str = body["model"]
        check_name(model)
        with self._tracked_run() as run, contextlib.ExitStack() as bars:
            listeners = [on_progress] if on_progress else []
            if progress:
                listeners.append(bars.enter_context(progress_bar(action, model)))
            api = OllamaApi(self.connection, run, self.retrying)
            return transfer_together(api, action, body, details, published(*listeners))

    @contextlib.contextmanager
    def _api(self, *models: str) -> Generator[OllamaApi, None, None]:
        """Make the requests of one errand, which `cancel` stops, after a look at the names in it."""
        for model in models:
            check_name(model)
        with self._tracked_run() as run:
            yield OllamaApi(self.connection, run, self.retrying)

    @contextlib.contextmanager
    def _changing(self, action: str, model: str, **details: Any) -> Generator[tuple[OllamaApi, Change], None, None]:
        """Make the requests of a change that is over at once."""
        names = [model, *filter(None, [details.get("source")])]
        with self._api(*names) as api, audited(change_of(action, model, api, details)) as change:
            try:
                yield api, change
            finally:
                api.metadata.forget()


def _checked_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    # The server takes any, and then refuses every chat with the model (0.33).
    return None if parameters is None else checked(lambda: check_options(parameters))
