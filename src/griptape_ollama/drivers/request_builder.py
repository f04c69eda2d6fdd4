"""The request for a prompt, built once from the settings of the driver and from what the model can do."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from griptape.common import PromptStack
from griptape.tasks import PromptTask

from griptape_ollama.context.request_fitting import (
    ContextSettings,
    ContextTracker,
    ConversationInfo,
    FittedRequest,
    RequestFitter,
)
from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.conversion.images import check_images, images_of, newest_input_of, urls_to_fetch
from griptape_ollama.conversion.messages import merge_system_messages, to_chat_groups
from griptape_ollama.conversion.reasoning import to_think_marks
from griptape_ollama.conversion.request_fields import merge_stop, to_chat_request
from griptape_ollama.conversion.tool_history import ToolHistory
from griptape_ollama.conversion.tools import ChatTools, OfferedTools, to_chat_tools
from griptape_ollama.drivers.capabilities import awaits_closing_tag, check_thinking, log_once_for, without_images
from griptape_ollama.drivers.completion import PromptRequest
from griptape_ollama.drivers.prompt_settings import PromptDriverSettings, was_counted
from griptape_ollama.drivers.settings import DEFAULT_TEMPERATURE, ON_EMPTY_RETRY
from griptape_ollama.drivers.structured_output import ExpectedAnswer, StructuredOutput
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.keep_alive_leases import LEASE_SECONDS, is_leased, is_unloading, keep_alive_override
from griptape_ollama.models.model_metadata import ModelMetadata
from griptape_ollama.models.redeclared_fields import chosen
from griptape_ollama.transport.download import Download

_REQUEST_FIELDS = ("keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs", "format")

Messages = list[dict[str, Any]]


@dataclass(frozen=True)
class Draft:
    """A request as the settings ask for it, checked, before the server is asked about the model.

    Attributes:
        stack: The prompt.
        request: The request: with the user's own tools and format, and without images.
        groups: The chat messages that each message of the stack becomes; empty where `extra_params` replaces them.
        images: The images of the stack.
    """

    stack: PromptStack
    request: dict[str, Any]
    groups: list[Messages]
    images: Sequence[Any]


@dataclass(frozen=True)
class _Adapted:
    """A request for what the model can do, before it is made to fit the window."""

    request: dict[str, Any]
    known: ModelMetadata
    conversation: ConversationInfo
    expected: ExpectedAnswer | None
    offered: OfferedTools | None
    leases_model: bool


class RequestBuilder:
    """Builds the request for one prompt.

    `draft` raises for what cannot be sent, before the server is asked anything; `build` and `preview` do the rest.

    Args:
        settings: The driver.
        api: The run on the server.
        options: The options that the user set, merged.
        estimator: Estimates tokens.
        context: Settings of the window.
        tool_history: Turns of the model that the stack does not hold completely.
    """

    def __init__(
        self,
        settings: PromptDriverSettings,
        api: OllamaApi,
        *,
        model: str,
        options: dict[str, Any],
        estimator: PromptEstimator,
        context: ContextSettings,
        tool_history: ToolHistory,
    ) -> None:
        self._settings = settings
        self._api = api
        self._metadata = api.metadata
        self._model = model
        self._options = options
        self._estimator = estimator
        self._context = context
        self._tool_history = tool_history

    def draft(self, stack: PromptStack) -> Draft:
        """Build what the settings ask for.

        Raises:
            OllamaContentError: It cannot be sent.
        """
        settings = self._settings
        extra = {name: value for name, value in settings.extra_params.items() if name not in ("model", "options")}
        options = dict(self._options)
        temperature = chosen(settings, "temperature", PromptDriverSettings.temperature)
        if temperature is not None:
            options.setdefault("temperature", temperature)
        given = extra.pop("messages", None)
        images = images_of(stack.messages) if given is None else ()
        check_images(images_of(newest_input_of(stack.messages)) if images else ())
        groups = self._groups(stack, reads_images=False) if given is None else []
        request = to_chat_request(
            model=self._model,
            messages=list(chain.from_iterable(groups)) if given is None else given,
            options=options,
            fields={name: getattr(settings, name) for name in _REQUEST_FIELDS},
            extra=extra,
        )
        return Draft(stack, request, groups, images)

    def build(self, draft: Draft) -> PromptRequest:
        """Build the request that is sent.

        Raises:
            OllamaError: It cannot be sent.
        """
        adapted = self._adapt(draft)
        fitter = self._fitter(adapted)
        fitted = fitter.fit(adapted.request, adapted.conversation)
        return PromptRequest(
            fitted,
            ContextTracker(fitter, fitted),
            known=adapted.known,
            expected=adapted.expected,
            awaits_closing=awaits_closing_tag(adapted.known, to_think_marks(self._settings.separate_think_tags)),
            offered=adapted.offered,
            is_react=adapted.conversation.is_react,
            retry_without_thinking=self._settings.on_empty == ON_EMPTY_RETRY,
            leases_model=adapted.leases_model,
            is_audited=self._settings.audit_requests,
        )

    def preview(self, draft: Draft) -> FittedRequest:
        """Build the request as `build` does, without changing anything that is remembered.

        Raises:
            OllamaError: It cannot be sent, for another reason than its length.
        """
        adapted = self._adapt(draft)
        return self._fitter(adapted).propose(adapted.request, adapted.conversation)

    def _fitter(self, adapted: _Adapted) -> RequestFitter:
        return RequestFitter(self._metadata, adapted.known, self._estimator, self._context)

    def _adapt(self, draft: Draft) -> _Adapted:
        """Adapt a draft to what the model can do."""
        stack, known = draft.stack, self._metadata.show(self._model)
        messages = self._messages(draft, known)
        native_tools = chosen(self._settings, "use_native_tools", PromptDriverSettings.use_native_tools)
        offers_tools = known.can("tools") if native_tools is None else bool(native_tools)
        is_react = bool(stack.tools) and not offers_tools
        if is_react and native_tools is None:
            text = f"Model {self._model!r} has no tools: they are described in the prompt (ReAct)."
            log_once_for(self._api.host, logging.INFO, text)
        tools = self._tools(stack) if stack.tools and offers_tools else ChatTools([], {}, [])
        expected, sent_format = None, None
        if stack.output_schema is not None or "format" in draft.request:
            output = StructuredOutput(self._settings, known, self._model)
            has_tools = bool(stack.tools) or "tools" in draft.request
            expected, sent_format = output.expected(stack, has_tools=has_tools)
        adapted: dict[str, Any] = {
            "messages": messages,
            "tools": [*tools.functions, *draft.request.get("tools", ())] or None,
            "format": sent_format,
            "options": self._adapted_options(draft, known.parameters, is_react=is_react) or None,
        }
        kept = {name: value for name, value in draft.request.items() if name not in adapted}
        request = {**kept, **{name: value for name, value in adapted.items() if value is not None}}
        if "think" in request:
            check_thinking(request, known, self._api.host)
        leases_model = self._set_keep_alive(request, stack)
        offers_any = "tools" in request or (offers_tools and bool(stack.tools))
        return _Adapted(
            request,
            known,
            self._conversation(draft, is_react=is_react),
            expected,
            OfferedTools(request.get("tools", ()), tools.schemas) if offers_any else None,
            leases_model,
        )

    def _messages(self, draft: Draft, known: ModelMetadata) -> Messages:
        """Return the messages, with images where the model can see them."""
        messages: Messages = draft.request["messages"]
        if not draft.images and draft.groups:
            return messages
        if not known.can("vision"):
            return without_images(messages, self._model, self._api.host)
        if not draft.images:
            return messages
        fetched = {url: self._fetched(url) for url in urls_to_fetch(draft.images)}
        return list(chain.from_iterable(self._groups(draft.stack, fetched)))

    def _groups(
        self, stack: PromptStack, fetched: dict[str, bytes] | None = None, *, reads_images: bool = True
    ) -> list[Messages]:
        find_turn = self._tool_history.find
        return merge_system_messages(
            to_chat_groups(stack.messages, find_turn=find_turn, fetched=fetched, reads_images=reads_images)
        )

    def _fetched(self, url: str) -> bytes:
        settings = self._settings
        return Download(
            url,
            run=self._api.run,
            allow_private=settings.allow_private_image_urls,
            max_bytes=settings.max_image_bytes,
        ).read()

    def _tools(self, stack: PromptStack) -> ChatTools:
        tools = to_chat_tools(stack.tools)
        for failure in tools.failures:
            log_once_for(self._api.host, logging.WARNING, failure)
        return tools

    def _adapted_options(self, draft: Draft, own: Mapping[str, Any], *, is_react: bool) -> dict[str, Any]:
        """Return the options, with a temperature and stop texts where the model brings none of its own."""
        options = dict(draft.request.get("options", {}))
        if "temperature" not in self._options and "temperature" not in own:
            options.setdefault("temperature", DEFAULT_TEMPERATURE)
        # Every PromptTask adds its stop text to the tokenizer for good, but only ReAct text needs it.
        stops = self._settings.tokenizer.stop_sequences
        needed = [stop for stop in stops if is_react or stop != PromptTask.RESPONSE_STOP_SEQUENCE]
        stop = merge_stop(needed, options.pop("stop", None), own.get("stop"))
        return options if stop is None else {**options, "stop": stop}

    def _set_keep_alive(self, request: dict[str, Any], stack: PromptStack) -> bool:
        """Set the keep_alive of a plan that is in force, or of a lease, and return whether the model is leased.

        With a keep_alive of 0, the server would unload the model between the requests of one task.
        """
        override = keep_alive_override(self._api.connection, self._model)
        if override is not None:
            request["keep_alive"] = override
        may_go_on = bool(stack.tools) or stack.output_schema is not None or self._settings.on_empty is not None
        is_unloaded = is_unloading(request.get("keep_alive"))
        if not is_unloaded or not (may_go_on or is_leased(self._api.connection, self._model)):
            return False
        request["keep_alive"] = LEASE_SECONDS
        return True

    def _conversation(self, draft: Draft, *, is_react: bool) -> ConversationInfo:
        """Find the chat messages of the task itself, and whether Griptape wants the memory pruned."""
        # Messages from a memory are made anew for the stack; those of the task were counted themselves.
        is_own = [was_counted(message) for message in draft.stack.messages]
        if not draft.groups or all(is_own) or not any(is_own):
            return ConversationInfo(is_react=is_react)
        sizes = [len(group) for group in draft.groups]
        first = len(is_own) - is_own[::-1].index(False)
        return ConversationInfo(task_range=range(sum(sizes[:first]), sum(sizes)), is_pruned=True, is_react=is_react)
