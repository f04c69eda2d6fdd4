"""Seeing to it that a model is there, whoever needs it: the transfer that everybody shares, and when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from griptape.events import EventBus

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import Change, audited
from griptape_ollama.models.catalogue import Catalogue
from griptape_ollama.models.progress import OnProgress, Progress
from griptape_ollama.models.singleflight import Topic, flights
from griptape_ollama.models.transfers import Transfer
from griptape_ollama.models.types import ModelInfo, TransferResult
from griptape_ollama.models.validators import checked
from griptape_ollama.protocol.model_name import model_key, parse_model_name
from griptape_ollama.transport.run import Run

PullPolicy: TypeAlias = Literal["never", "when_missing", "always"]
PULL_POLICIES: tuple[PullPolicy, ...] = ("never", "when_missing", "always")


def check_policy(policy: Any) -> PullPolicy:
    """Give a policy.

    Raises:
        OllamaContentError: It is none.
    """
    if policy not in PULL_POLICIES:
        raise OllamaContentError(f"policy={policy!r} must be one of {', '.join(map(repr, PULL_POLICIES))}")
    return policy


def check_name(model: Any) -> None:
    """Look whether a text is the name of a model.

    Raises:
        OllamaContentError: It is not.
    """
    if not isinstance(model, str):
        raise OllamaContentError(f"model must be a name, got {model!r}")
    checked(lambda: parse_model_name(model))


def ensure_model(
    api: OllamaApi, model: str, policy: PullPolicy, report: OnProgress, *, insecure: bool = False
) -> ModelInfo:
    """See to it that a model is there, and give what is known of it.

    Args:
        api: Makes the requests.
        model: Name of the model.
        policy: `never` only looks, `when_missing` pulls a model that is not there, `always` pulls.
        report: Told how far a pull is.
        insecure: Whether the registry may be one without TLS.

    Raises:
        OllamaModelNotFoundError: It is not there and is not to be pulled, or its registry does not have it.
    """
    check_name(model)
    if policy != "always":
        catalogue = Catalogue(api)
        found = catalogue.need(model) if policy == "never" else catalogue.find(model)
        if found is not None:
            return found
    details = {"insecure": insecure or None}
    return transfer_together(api, "pull", pull_body(model, insecure=insecure), details, report).model


def pull_body(model: str, *, insecure: bool) -> dict[str, Any]:
    """Make the body of a pull or push."""
    return {"model": model, **({"insecure": True} if insecure else {})}


def transfer_together(
    api: OllamaApi, action: str, body: Mapping[str, Any], details: Mapping[str, Any], report: OnProgress
) -> TransferResult:
    """Pull, push or create, together with everybody who wants the same.

    Args:
        api: Makes the requests. When its run is stopped, the caller leaves; the last one stops the transfer.
        action: `pull`, `push` or `create`.
        body: Body of the request, with the model in it.
        details: What else the audit record tells.
        report: Told how far it is, in the thread of the caller.

    Raises:
        OllamaError: Any kind of it.
    """
    model: str = body["model"]
    # What the callers want of a server that they can reach alike is one task.
    what = repr(sorted((key, value) for key, value in body.items() if key != "model"))
    topic = Topic(action, model, api.host, (api.connection.identity, action, model_key(model), what))

    def work(run: Run, report: OnProgress) -> TransferResult:
        shared = replace(api, run=run)
        with audited(change_of(action, model, shared, details)) as change:
            return Transfer(shared, action, body, report).run(change)

    return flights.join(topic, work, api.run, report)


def change_of(action: str, model: str, api: OllamaApi, details: Mapping[str, Any]) -> Change:
    """Begin the record of a change."""
    known = {name: value for name, value in details.items() if value is not None}
    return Change(action, model, api.host, details=known)


def published(*listeners: Callable[[Progress], object] | None) -> OnProgress:
    """Tell the listeners, and everybody who listens to events."""

    def tell(progress: Progress) -> None:
        EventBus.publish_event(progress.to_event())
        for listener in listeners:
            if listener is not None:
                listener(progress)

    return tell
