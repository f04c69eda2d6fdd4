"""A request made to fit: how large its prompt is, which window it needs, and what has to go."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from griptape_ollama.context.overflow import Guard, WindowSettings, message_budget
from griptape_ollama.context.recent_cache import RecentMemory
from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.trimming import Trimmed, to_turns, trim
from griptape_ollama.context.window import Window, ceiling_of, decide_window
from griptape_ollama.errors import OllamaContextError
from griptape_ollama.models.metadata_cache import ModelMetadata, ServerMetadata, is_cloud_model
from griptape_ollama.shared_state import reset_with_shared_state

REPLY_TOKENS = 1024
"""Tokens that are kept free for a reply whose length nobody limits. Griptape's tokenizers say 1,000 for models that
they do not know."""

_LARGEST_RESERVE = 2  # a reply, however long it may get, leaves half of the window to the prompt

_SLACK = 0.28  # of the window: in one of 4,096 tokens a cut stays for ten turns of 100 tokens
_USUAL_UNCERTAINTY = 0.1  # of an estimate that has learned from some replies

# Where conversations were cut last: those of this process, whatever driver they use.
_cuts: RecentMemory[bool] = RecentMemory(4096)

# The same for each server and model, with the number of messages that the conversation had then.
_reported_cuts: RecentMemory[int] = RecentMemory(4096)


@dataclass(frozen=True)
class ContextSettings:
    """What a user wants of the window.

    Attributes:
        num_ctx: `"auto"`, a number of tokens, or None for what the server does by itself.
        max_num_ctx: Largest window that `"auto"` grows to; None for the default.
        on_overflow: What is done with a prompt that does not fit: `warn`, `error` or `trim`.
        max_input_tokens: Tokens that a tokenizer of the user's own allows for a prompt, beside what the window does;
            conversation memories are cut to that. None for no such limit.
    """

    num_ctx: int | str | None = "auto"
    max_num_ctx: int | None = None
    on_overflow: str = "warn"
    max_input_tokens: int | None = None


@dataclass(frozen=True)
class Conversation:
    """What is known of the messages of a request beside themselves.

    Attributes:
        own: Which of them belong to the task itself: its input and what followed it. None where that is not known.
        is_pruned: Whether Griptape asked for what does not fit to be left out of the conversation memory (autoprune).
        is_react: Whether tools are called in words.
    """

    own: range | None = None
    is_pruned: bool = False
    is_react: bool = False


@dataclass(frozen=True)
class Fitting:
    """A request that was made to fit as well as it may.

    Attributes:
        asked: The request as it was asked for.
        conversation: What is known of its messages.
        request: The request, with its window, and without what was dropped.
        guard: What holds its window where it is.
        estimate: Tokens of its prompt.
        window: The window that it gets.
        reply_tokens: Tokens that are kept free for the reply.
        trimmed: What was dropped; None where nothing was.
        has_moved: Whether it was cut elsewhere than the last prompt of the conversation, so that the model reads all
            of it again.
        warning: What is said where the prompt surely does not fit, and is sent all the same; None where it is not.
    """

    asked: dict[str, Any]
    conversation: Conversation
    request: dict[str, Any]
    guard: Guard
    estimate: TokenEstimate
    window: Window
    reply_tokens: int
    trimmed: Trimmed | None = None
    has_moved: bool = False
    warning: str | None = None


class Fitter:
    """Makes requests fit the window of one model.

    Args:
        metadata: What the server tells.
        known: What it tells of the model.
        estimator: Counts tokens.
        settings: What the user wants.

    Attributes:
        metadata: As given, as are the others.
        known: Facts about the model.
        estimator: Counts tokens.
    """

    def __init__(
        self, metadata: ServerMetadata, known: ModelMetadata, estimator: PromptEstimator, settings: ContextSettings
    ) -> None:
        self.metadata = metadata
        self.known = known
        self.estimator = estimator
        self._settings = settings

    def fit(self, request: dict[str, Any], conversation: Conversation, *, settle: bool = True) -> Fitting:
        """Make a request fit: drop old turns where that is wanted, and choose the window.

        Args:
            request: The request.
            conversation: What is known of its messages.
            settle: False for a look ahead, which changes nothing that is remembered, and says nothing.

        Raises:
            OllamaContextError: The prompt surely does not fit, and was not to be sent then.
        """
        model, tools, options = request["model"], request.get("tools", ()), request.get("options", {})
        asked: dict[str, Any] = {
            "num_ctx": asked_window(options, self._settings),
            "max_num_ctx": self._settings.max_num_ctx,
        }
        ceiling = ceiling_of(self.metadata, model, self.known, **asked)
        reply_tokens = reply_tokens_of(options, ceiling)
        messages: list[dict[str, Any]] = request["messages"]
        estimate = self.estimator.estimate(messages, tools)
        trimmed: Trimmed | None = None
        room = ceiling - reply_tokens
        if conversation.is_pruned and self._settings.max_input_tokens is not None:
            room = min(room, self._settings.max_input_tokens)
        if estimate.high > room and (conversation.is_pruned or self._settings.on_overflow == "trim"):
            trimmed = self._trimmed(request, estimate, room, reply_tokens, conversation)
        if trimmed is not None:
            messages = trimmed.messages
            estimate = self.estimator.estimate(messages, tools)
        decide = functools.partial(
            decide_window,
            self.metadata,
            model,
            self.known,
            **asked,
            needed=estimate.high + reply_tokens,
            reply_tokens=reply_tokens,
        )
        window = decide(settle=False)  # a prompt that is refused makes no window grow
        guard = Guard(self._settings.on_overflow, model, self.metadata.address, self._window_settings(model, asked))
        fitted = {**request, **guard.fields(request), "messages": messages}
        try:
            warning = guard.check(estimate, window, fitted)
        except OllamaContextError as error:
            if settle:
                raise
            warning = str(error)
        has_moved = False
        if settle:
            window = decide()
            has_moved = trimmed is not None and self._commit_cuts(model, trimmed, len(request["messages"]))
        if window.num_ctx is not None:
            fitted["options"] = {**options, "num_ctx": window.num_ctx}
        return Fitting(
            asked=request,
            conversation=conversation,
            request=fitted,
            guard=guard,
            estimate=estimate,
            window=window,
            reply_tokens=reply_tokens,
            trimmed=trimmed,
            has_moved=has_moved,
            warning=warning,
        )

    def fit_again(self, fitting: Fitting, request: dict[str, Any]) -> Fitting:
        """Make a request fit that goes on from one that was made to fit.

        Args:
            fitting: How that was made to fit.
            request: Its request, with messages added, and perhaps other fields.

        Raises:
            OllamaContextError: As `fit` does.
        """
        before = fitting.asked["messages"]
        messages = [*before, *request["messages"][len(fitting.request["messages"]) :]]
        asked = {name: value for name, value in request.items() if name != "options"}
        if "options" in fitting.asked:
            asked["options"] = fitting.asked["options"]  # without the window that was chosen
        conversation = fitting.conversation
        own = conversation.own or to_turns(before, is_react=conversation.is_react).own
        goes_on = range(min(own, default=0), len(messages))
        return self.fit({**asked, "messages": messages}, replace(conversation, own=goes_on))

    def _trimmed(
        self,
        request: dict[str, Any],
        estimate: TokenEstimate,
        room: int,
        reply_tokens: int,
        conversation: Conversation,
    ) -> Trimmed | None:
        messages: list[dict[str, Any]] = request["messages"]
        sizes = [self.estimator.message_tokens(message) for message in messages]
        fixed = estimate.tokens - sum(sizes)
        budget = message_budget(room, fixed, estimate.high / max(estimate.tokens, 1) - 1)
        # What a first estimate keeps free because it has learned nothing yet is slack, too: the next one is surer.
        unsure = max(0.0, message_budget(room, fixed, _USUAL_UNCERTAINTY) - budget)
        trimmed = trim(
            messages,
            sizes,
            budget=budget,
            slack=max(0.0, (room + reply_tokens) * _SLACK - unsure),
            own=conversation.own,
            is_react=conversation.is_react,
            drops_exchanges=self._settings.on_overflow == "trim",
            is_cut=_cuts.get,
        )
        return trimmed if trimmed.dropped else None

    def _commit_cuts(self, model: str, trimmed: Trimmed, length: int) -> bool:
        """Record where a conversation of so many messages was cut, and return whether that is a new place for it."""
        has_moved = not trimmed.cuts
        for cut in trimmed.cuts:
            _cuts.put(cut, True)
            key = (self.metadata.address, model, cut)
            before = _reported_cuts.get(key)
            # A conversation never gets shorter: one that does begins anew.
            has_moved = has_moved or before is None or length < before
            _reported_cuts.put(key, length)
        return has_moved

    def _window_settings(self, model: str, asked: dict[str, Any]) -> WindowSettings:
        return WindowSettings(
            **asked,
            model_limit=self.known.context_length,
            is_cloud=is_cloud_model(model, self.known),
        )


reset_with_shared_state(_cuts.clear)
reset_with_shared_state(_reported_cuts.clear)


def asked_window(options: dict[str, Any], settings: ContextSettings) -> int | str | None:
    """Give the window that is asked for: `num_ctx` among the options, else what the driver says."""
    given = options.get("num_ctx")
    return settings.num_ctx if given is None else given


def reply_tokens_of(options: dict[str, Any], ceiling: int) -> int:
    """Give how many tokens of a window are kept free for the reply.

    Args:
        options: Options of the request; a `num_predict` above 0 is the wanted length.
        ceiling: Tokens of the window.
    """
    wanted = options.get("num_predict")
    tokens = wanted if isinstance(wanted, int) and wanted > 0 else REPLY_TOKENS
    return min(tokens, ceiling // _LARGEST_RESERVE)
