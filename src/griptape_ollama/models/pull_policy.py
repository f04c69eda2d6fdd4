"""When a model is pulled, and pulls that several callers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from griptape.events import EventBus

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import Change, audited
from griptape_ollama.models.catalogue import Catalogue
from griptape_ollama.models.progress import OnProgress
from griptape_ollama.models.singleflight import TransferKey, shared_transfers
from griptape_ollama.models.transfers import Transfer
from griptape_ollama.models.types import ModelInfo, TransferResult
from griptape_ollama.models.validators import checked
from griptape_ollama.protocol.model_name import model_key, parse_model_name
from griptape_ollama.transport.run import Run

PullPolicy: TypeAlias = Literal["never", "when_missing", "always"]
PULL_POLICIES: tuple[PullPolicy, ...] = ("never", "when_missing", "always")


def check_policy(policy: Any) -> PullPolicy:
    """Return a policy.

    Raises:
        OllamaContentError: There is no such policy.
    """
    if policy not in PULL_POLICIES:
        raise OllamaContentError(f"policy={policy!r} must be one of {', '.join(map(repr, PULL_POLICIES))}")
    return policy


def check_name(model: Any) -> None:
    """Raise if a value is not the name of a model.

    Raises:
        OllamaContentError: It is not.
    """
    if not isinstance(model, str):
        raise OllamaContentError(f"model must be a name, got {model!r}")
    checked(lambda: parse_model_name(model))


def ensure_model(
    api: OllamaApi, model: str, policy: PullPolicy, report: OnProgress, *, insecure: bool = False
) -> ModelInfo:
    """Pull a model if the policy says so, and return its description.

    Args:
        api: Sends the requests.
        model: Name of the model.
        policy: `never` pulls nothing, `when_missing` pulls a model that is not installed, `always` pulls.
        report: Called with the progress of a pull.
        insecure: Whether the registry may be one without TLS.

    Raises:
        OllamaModelNotFoundError: The model is not installed and is not to be pulled, or its registry does not have it.
    """
    check_name(model)
    if policy != "always":
        catalogue = Catalogue(api)
        found = catalogue.require(model) if policy == "never" else catalogue.find(model)
        if found is not None:
            return found
    details = {"insecure": insecure or None}
    return transfer_together(api, "pull", pull_body(model, insecure=insecure), details, report).model


def pull_body(model: str, *, insecure: bool) -> dict[str, Any]:
    """Build the body of a pull or push."""
    return {"model": model, **({"insecure": True} if insecure else {})}


def transfer_together(
    api: OllamaApi, action: str, body: Mapping[str, Any], details: Mapping[str, Any], report: OnProgress
) -> TransferResult:
    """Pull, push or create a model, in one transfer with all callers that ask for the same.

    Args:
        api: Sends the requests. If its run ends, the caller leaves; the last one cancels the transfer.
        action: `pull`, `push` or `create`.
        body: Body of the request, with the model in it.
        details: More fields of the audit record.
        report: Called with the progress, in the thread of the caller.

    Raises:
        OllamaError: Any kind of it.
    """
    model: str = body["model"]
    # Other spellings of one name are one transfer.
    settings = repr(sorted((key, value) for key, value in body.items() if key != "model"))
    key = TransferKey(action, model, api.host, (api.connection.identity, action, model_key(model), settings))

    def work(run: Run, report: OnProgress) -> TransferResult:
        shared = replace(api, run=run)
        with audited(new_change(action, model, shared, details)) as change:
            return Transfer(shared, action, body, report).run(change)

    return shared_transfers.join(key, work, api.run, report)


def new_change(action: str, model: str, api: OllamaApi, details: Mapping[str, Any]) -> Change:
    """Build the audit record of a change; details that are None are left out."""
    known = {name: value for name, value in details.items() if value is not None}
    return Change(action, model, api.host, details=known)


def published(*listeners: Callable[[OllamaProgressEvent], object] | None) -> OnProgress:
    """Return a function that publishes progress as an event, and passes it to the listeners."""

    def publish(progress: OllamaProgressEvent) -> None:
        EventBus.publish_event(progress)
        for listener in listeners:
            if listener is not None:
                listener(progress)

    return publish
