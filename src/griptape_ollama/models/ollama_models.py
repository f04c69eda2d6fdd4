"""The models of a server: list, show, pull, push, create, copy, delete, load and unload."""

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
from griptape_ollama.models.connection_settings import OllamaServerMixin
from griptape_ollama.models.loading import ModelLoader
from griptape_ollama.models.progress import OnProgress, progress_bar
from griptape_ollama.models.pull_policy import (
    PullPolicy,
    check_name,
    check_policy,
    ensure_model,
    new_change,
    published,
    pull_body,
    transfer_together,
)
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

    Threads may share it. Names are compared as the server does: without regard to case, and `qwen3` is
    `qwen3:latest`.

    Attributes:
        max_attempts: Attempts in all, for failures that may pass. Those of a transfer count from the last one that
            moved bytes.
    """

    max_attempts: int = field(default=5, converter=to_max_attempts, metadata={"serializable": True})

    def list(self) -> _ModelInfos:
        """Return the installed models, newest first.

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
        """Return whether a model is installed."""
        with self._api(model) as api:
            return Catalogue(api).find(model) is not None

    def loaded(self) -> _LoadedModels:
        """Return the loaded models, those that stay longest first."""
        with self._api() as api:
            return Catalogue(api).loaded()

    def only_chat_model(self) -> str:
        """Return the name of the only chat model that is installed.

        Raises:
            OllamaModelNotFoundError: There is none, or more than one; the text lists what is installed.
        """
        with self._api() as api:
            return only_chat_model(api)

    def pull(
        self, model: str, *, insecure: bool = False, progress: bool = False, on_progress: OnProgress | None = None
    ) -> TransferResult:
        """Pull a model from its registry, or its newest version if it is installed.

        A pull that broke is retried and resumes where it broke, for as long as bytes arrive in between. Calls for the
        same model share one pull. OllamaProgressEvents are published meanwhile.

        Args:
            model: Name of the model, for example `qwen3:0.6b` or `hf.co/user/repository:Q4_K_M`.
            insecure: Whether the registry may be one without TLS.
            progress: Whether a bar is shown on the terminal.
            on_progress: Called with an OllamaProgressEvent as bytes arrive, in the thread of the caller.

        Raises:
            OllamaModelNotFoundError: The registry does not have it.
            OllamaDiskError: It does not fit on the server's disk.
            OllamaCancelledError: `cancel` was called. The bytes that were pulled stay, and another pull resumes there.
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
        """Pull a model if the policy says so, and return its description.

        Args:
            model: Name of the model.
            policy: `never` pulls nothing; `when_missing` pulls a model that is not installed; `always` pulls, which
                moves no bytes if the newest version is installed.
            insecure: As for `pull`.
            progress: As for `pull`.
            on_progress: As for `pull`.

        Raises:
            OllamaModelNotFoundError: It is not installed and is not to be pulled, or its registry does not have it.
        """
        check_policy(policy)
        with self._reporting("pull", model, progress, on_progress) as (api, report):
            return ensure_model(api, model, policy, report, insecure=insecure)

    def push(
        self, model: str, *, insecure: bool = False, progress: bool = False, on_progress: OnProgress | None = None
    ) -> TransferResult:
        """Upload a model to its registry; files that the registry has are not uploaded again.

        Args:
            model: Name of the model, with its namespace at the registry.
            insecure: As for `pull`.
            progress: As for `pull`.
            on_progress: As for `pull`.

        Raises:
            OllamaModelNotFoundError: The server does not have it.
            OllamaAuthError: The registry does not accept it from this server.
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
        """Create a model from another one, or from files that the server has.

        Args:
            model: Name of the new model; a model of that name is replaced.
            from_model: Model that it is created from. The server pulls a model that it does not have.
            files: Digests of uploaded files by their names, in place of `from_model`: `client.create_blob(path)`
                uploads a file and returns its digest.
            adapters: Digests of LoRA adapters by their names.
            template: Prompt template.
            system: System prompt.
            parameters: Model options by name, which requests then need not set.
            messages: Messages at the beginning of every chat.
            license: Licence texts.
            quantize: Quantization of the new model, for example `q4_K_M`.
            progress: As for `pull`.
            on_progress: As for `pull`.
            **more: More fields of the request, for newer servers.

        Raises:
            OllamaContentError: Neither `from_model` nor `files` is given, or both are, or a name is invalid.
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
        """Add a name for a model, which takes no space; a model of that name is replaced in one step.

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
        """Point a name at a model, for all clients of the server: `alias("main", "mistral")`.

        The name means the old model or the new one at any moment. If the old one is loaded, it is unloaded.

        Args:
            name: The name; a model of that name is replaced.
            target: The model.
            parameters: Model options beyond those of the target.
            system: System prompt in place of the target's.
            on_progress: As for `create`.

        Raises:
            OllamaContentError: A name is invalid. Nothing was sent.
            OllamaModelNotFoundError: There is no such target. The name means what it did.
        """
        given = {"parameters": _checked_parameters(parameters) or None, "system": system}
        extras = {field: value for field, value in given.items() if value is not None}
        with self._changing("alias", name, source=target) as (api, change):
            return Aliases(api).point(name, target, extras, change, published(on_progress))

    def delete(self, model: str) -> None:
        """Delete a model. Files that other models use stay. If it is loaded, it is unloaded first.

        Raises:
            OllamaModelNotFoundError: There is none.
        """
        with self._changing("delete", model) as (api, change):
            catalogue = Catalogue(api)
            change.digest_before = catalogue.require(model).digest
            if sum(each.digest == change.digest_before for each in catalogue.installed()) == 1:
                # A model without a name cannot be unloaded (server 0.33).
                ModelLoader(api).unload_digest(change.digest_before)
            # If the first attempt broke after the deletion, the second one does not find the model.
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
                by default the server's (5 minutes).
            options: Model options, such as `num_ctx`: requests with another one load the model again. By default, a
                model that is loaded keeps its options.

        Raises:
            OllamaModelNotFoundError: There is none.
            OllamaResponseError: It cannot be loaded.
        """
        wire = None if keep_alive is None else checked(lambda: normalize_keep_alive(keep_alive))
        with self._api(model) as api:
            return ModelLoader(api).warm(model, wire, options)

    def unload(self, model: str) -> bool:
        """Unload a model as soon as its current replies have ended, and return whether it was loaded.

        Models with the same weights share one place in memory, and are unloaded together. A model that is still being
        loaded cannot be unloaded yet.

        Raises:
            OllamaModelNotFoundError: There is no such model.
        """
        with self._api(model) as api:
            return ModelLoader(api).unload(model)

    def unload_all(self) -> _Names:
        """Unload all models, also those of other programs, and return their names."""
        with self._api() as api:
            return ModelLoader(api).unload_all()

    def wait_until_unloaded(self, model: str, timeout: float | None = 30.0) -> float:
        """Wait until a model is unloaded, and return the seconds that it took.

        Args:
            model: The model.
            timeout: Longest wait in seconds; None for no limit.

        Raises:
            OllamaTimeoutError: It is still loaded.
            OllamaCancelledError: `cancel` was called.
            OllamaContentError: `timeout` is not a number of seconds.
        """
        seconds = None if timeout is None else to_seconds_of("timeout")(timeout)
        with self._api(model) as api:
            return ModelLoader(api).wait_until_unloaded(model, seconds)

    def _transfer(
        self, action: str, body: Mapping[str, Any], progress: bool, on_progress: OnProgress | None, **details: Any
    ) -> TransferResult:
        """Pull, push or create a model, in one transfer with all callers that ask for the same."""
        model: str = body["model"]
        check_name(model)
        with self._reporting(action, model, progress, on_progress) as (api, report):
            return transfer_together(api, action, body, details, report)

    @contextlib.contextmanager
    def _reporting(
        self, action: str, model: str, progress: bool, on_progress: OnProgress | None
    ) -> Generator[tuple[OllamaApi, OnProgress], None, None]:
        """Start a run, and show a bar for its progress if that is wanted."""
        bar = progress_bar(action, model) if progress else contextlib.nullcontext()
        with self._tracked_run() as run, bar as show:
            yield OllamaApi(self.connection, run, self.retrying), published(on_progress, show)

    @contextlib.contextmanager
    def _api(self, *models: str) -> Generator[OllamaApi, None, None]:
        """Check names, and start a run that `cancel` stops."""
        for model in models:
            check_name(model)
        with self._tracked_run() as run:
            yield OllamaApi(self.connection, run, self.retrying)

    @contextlib.contextmanager
    def _changing(self, action: str, model: str, **details: Any) -> Generator[tuple[OllamaApi, Change], None, None]:
        """Start a run for a change that takes one request, and record it."""
        names = [model, *filter(None, [details.get("source")])]
        with self._api(*names) as api, audited(new_change(action, model, api, details)) as change:
            try:
                yield api, change
            finally:
                api.metadata.forget()


def _checked_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any] | None:
    # The server accepts any, and then refuses every chat with the model (0.33).
    return None if parameters is None else checked(lambda: check_options(parameters))
