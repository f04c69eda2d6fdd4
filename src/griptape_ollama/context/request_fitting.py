"""Makes requests fit the context window, reports what replies show of it, and calibrates the estimator."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from griptape.events import EventBus

from griptape_ollama.context.overflow import OverflowPolicy
from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.context.tokens.features import RecentCache, to_list
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.trimming import TrimResult, message_budget, to_turns, trim
from griptape_ollama.context.truncation import ContextFindings, ContextReporter, TokenCounts, detect_truncation
from griptape_ollama.context.window import ContextWindow, WindowPlanner
from griptape_ollama.errors import OllamaContextError, OllamaError
from griptape_ollama.events import OllamaContextEvent
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.models.model_metadata import ModelMetadata, is_cloud_model
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.protocol.options import MAX_NUM_CTX
from griptape_ollama.shared_state import reset_with_shared_state
from griptape_ollama.transport.response_errors import is_out_of_memory

REPLY_TOKENS = 1024
"""Tokens that are kept free for a reply without a limit. Griptape's tokenizers say 1,000 for models that they do not
know."""

_LARGEST_RESERVE = 2  # a reply, however long it may get, leaves half of the window to the prompt

_SLACK = 0.28  # of the window: in one of 4,096 tokens a cut stays for ten turns of 100 tokens
_USUAL_UNCERTAINTY = 0.1  # of an estimate that has learned from some replies

_logger = logging.getLogger(__name__)

# Where conversations were cut last, of all drivers in this process.
_cuts: RecentCache[bool] = RecentCache(4096)

# The same for each server and model, with the number of messages that the conversation had then.
_reported_cuts: RecentCache[int] = RecentCache(4096)

reset_with_shared_state(_cuts.clear)
reset_with_shared_state(_reported_cuts.clear)


@dataclass(frozen=True)
class ContextSettings:
    """The user's settings of the context window.

    Attributes:
        num_ctx: `"auto"`, a number of tokens, or None for the server's own choice.
        max_num_ctx: Largest window that `"auto"` grows to; None for the default.
        on_overflow: What happens to a prompt that does not fit: `warn`, `error` or `trim`.
        max_input_tokens: Tokens that the user's tokenizer allows for a prompt, beside the limit of the window;
            conversation memories are trimmed to that. None for no such limit.
    """

    num_ctx: int | str | None = "auto"
    max_num_ctx: int | None = None
    on_overflow: str = "warn"
    max_input_tokens: int | None = None


@dataclass(frozen=True)
class ConversationInfo:
    """What is known of the messages of a request.

    Attributes:
        task_range: Which of them belong to the task itself: its input and what followed it. None if that is not
            known.
        is_pruned: Whether Griptape asked to drop what does not fit from the conversation memory (autoprune).
        is_react: Whether tools are called in text.
    """

    task_range: range | None = None
    is_pruned: bool = False
    is_react: bool = False


@dataclass(frozen=True)
class FittedRequest:
    """A request that fits as well as it may.

    Attributes:
        original: The request before.
        conversation: What is known of its messages.
        fields: The request, without what was dropped, and without its window.
        planner: Chooses its window.
        policy: What happens to it if it does not fit.
        estimate: Tokens of its prompt.
        window: The window that it gets.
        reply_tokens: Tokens that are kept free for the reply.
        trimmed: What was dropped; None if nothing was.
        has_new_cut: Whether it was cut elsewhere than the last prompt of the conversation, so that the model evaluates
            all of it again.
        warning: Why it certainly does not fit; None otherwise.
        error: The error to raise instead of sending it; None if it may be sent.
    """

    original: dict[str, Any]
    conversation: ConversationInfo
    fields: dict[str, Any]
    planner: WindowPlanner
    policy: OverflowPolicy
    estimate: TokenEstimate
    window: ContextWindow
    reply_tokens: int
    trimmed: TrimResult | None = None
    has_new_cut: bool = False
    warning: str | None = None
    error: OllamaContextError | None = None

    @cached_property
    def request(self) -> dict[str, Any]:
        """The request, as it is sent."""
        if self.window.num_ctx is None:
            return self.fields
        return {**self.fields, "options": {**self.original.get("options", {}), "num_ctx": self.window.num_ctx}}

    @property
    def needed_tokens(self) -> int:
        """Tokens that prompt and reply need together at most."""
        return self.estimate.high + self.reply_tokens


class RequestFitter:
    """Makes requests fit the window of one model.

    Args:
        metadata: Metadata of the server.
        known: Metadata of the model.
        estimator: Estimates tokens.
        settings: The user's settings.
    """

    def __init__(
        self, metadata: ServerMetadata, known: ModelMetadata, estimator: PromptEstimator, settings: ContextSettings
    ) -> None:
        self.metadata = metadata
        self.known = known
        self.estimator = estimator
        self._settings = settings

    def fit(self, request: dict[str, Any], conversation: ConversationInfo) -> FittedRequest:
        """Make a request fit that is about to be sent: trim it where that is wanted, and commit its window.

        Raises:
            OllamaContextError: The prompt certainly does not fit, and is not to be sent then.
        """
        fitted = self.propose(request, conversation)
        if fitted.error is not None:
            raise fitted.error
        window = fitted.planner.commit(fitted.needed_tokens, reply_tokens=fitted.reply_tokens)
        trimmed = fitted.trimmed
        has_new_cut = trimmed is not None and self._commit_cuts(request["model"], trimmed, len(request["messages"]))
        return replace(fitted, window=window, has_new_cut=has_new_cut)

    def propose(self, request: dict[str, Any], conversation: ConversationInfo) -> FittedRequest:
        """Make a request fit that is not sent: nothing is recorded, and nothing logged."""
        model, tools, options = request["model"], request.get("tools", ()), request.get("options", {})
        num_ctx = asked_window(options, self._settings)
        planner = WindowPlanner(
            self.metadata, model, self.known, num_ctx=num_ctx, max_num_ctx=self._settings.max_num_ctx
        )
        planner.refresh()
        ceiling = planner.propose(0).ceiling
        reply_tokens = reply_tokens_of(options, ceiling)
        messages: list[dict[str, Any]] = request["messages"]
        estimate = self.estimator.estimate(messages, tools)
        trimmed: TrimResult | None = None
        limit = ceiling - reply_tokens
        if conversation.is_pruned and self._settings.max_input_tokens is not None:
            limit = min(limit, self._settings.max_input_tokens)
        if estimate.high > limit and (conversation.is_pruned or self._settings.on_overflow == "trim"):
            trimmed = self._trimmed(messages, estimate, limit, reply_tokens, conversation)
        if trimmed is not None:
            messages = trimmed.messages
            estimate = self.estimator.estimate(messages, tools)
        window = planner.propose(estimate.high + reply_tokens)
        policy = OverflowPolicy(
            self._settings.on_overflow,
            model,
            self.metadata.address,
            num_ctx=num_ctx,
            model_limit=self.known.context_length,
            is_cloud=is_cloud_model(model, self.known),
        )
        fields = {**request, **policy.refusal_fields(request), "messages": messages}
        warning = error = None
        try:
            warning = policy.check(estimate, window, fields)
        except OllamaContextError as raised:
            warning, error = str(raised), raised
        return FittedRequest(
            original=request,
            conversation=conversation,
            fields=fields,
            planner=planner,
            policy=policy,
            estimate=estimate,
            window=window,
            reply_tokens=reply_tokens,
            trimmed=trimmed,
            warning=warning,
            error=error,
        )

    def refit(self, fitted: FittedRequest, request: dict[str, Any]) -> FittedRequest:
        """Make a request fit that continues a fitted one.

        Args:
            fitted: The fitted request.
            request: Its request, with messages added, and perhaps other fields.

        Raises:
            OllamaContextError: As `fit` does.
        """
        before = fitted.original["messages"]
        messages = [*before, *request["messages"][len(fitted.request["messages"]) :]]
        original = {name: value for name, value in request.items() if name != "options"}
        if "options" in fitted.original:
            original["options"] = fitted.original["options"]  # without the window that was chosen
        conversation = fitted.conversation
        task = conversation.task_range or to_turns(before, is_react=conversation.is_react).task
        task_range = range(min(task, default=0), len(messages))
        return self.fit({**original, "messages": messages}, replace(conversation, task_range=task_range))

    def _trimmed(
        self,
        messages: list[dict[str, Any]],
        estimate: TokenEstimate,
        limit: int,
        reply_tokens: int,
        conversation: ConversationInfo,
    ) -> TrimResult | None:
        sizes = [self.estimator.message_tokens(message) for message in messages]
        fixed = estimate.tokens - sum(sizes)
        budget = message_budget(limit, fixed, estimate.high / max(estimate.tokens, 1) - 1)
        # What a first estimate keeps free because it has learned nothing yet is slack, too: the next one is surer.
        unsure = max(0.0, message_budget(limit, fixed, _USUAL_UNCERTAINTY) - budget)
        trimmed = trim(
            messages,
            sizes,
            budget=budget,
            slack=max(0.0, (limit + reply_tokens) * _SLACK - unsure),
            task_range=conversation.task_range,
            is_react=conversation.is_react,
            drops_rounds=self._settings.on_overflow == "trim",
            was_cut_before=_cuts.get,
        )
        return trimmed if trimmed.dropped else None

    def _commit_cuts(self, model: str, trimmed: TrimResult, length: int) -> bool:
        """Record where a conversation of so many messages was cut, and return whether that is a new place for it."""
        is_new = not trimmed.cuts
        for cut in trimmed.cuts:
            _cuts.put(cut, True)
            key = (self.metadata.address, model, cut)
            before = _reported_cuts.get(key)
            # A conversation never gets shorter: one that does is another one.
            is_new = is_new or before is None or length < before
            _reported_cuts.put(key, length)
        return is_new


def asked_window(options: Mapping[str, Any], settings: ContextSettings) -> int | str | None:
    """Return the window that is asked for: `num_ctx` among the options, else the driver's setting."""
    given = options.get("num_ctx")
    return settings.num_ctx if given is None else given


def reply_tokens_of(options: Mapping[str, Any], ceiling: int) -> int:
    """Return how many tokens of a window are kept free for the reply.

    Args:
        options: Options of the request; a `num_predict` above 0 is the wanted length.
        ceiling: Tokens of the window.
    """
    wanted = options.get("num_predict")
    tokens = wanted if isinstance(wanted, int) and wanted > 0 else REPLY_TOKENS
    return min(tokens, ceiling // _LARGEST_RESERVE)


class ContextTracker:
    """Follows the requests of one answer: reports what was lost, and calibrates the estimator.

    Args:
        fitter: Makes the requests fit.
        fitted: The first request.
    """

    def __init__(self, fitter: RequestFitter, fitted: FittedRequest) -> None:
        self._fitter = fitter
        self._fitted = fitted
        self._estimator = fitter.estimator
        self._model_limit: int | None = fitter.known.parameters.get("num_predict")
        self._reporter = ContextReporter(fitted.policy)
        self._findings = ContextFindings()
        self._is_open = True
        self._is_out_of_memory = False
        self._grown_from: int | None = None

    @property
    def window(self) -> ContextWindow:
        """The window of the current request."""
        return self._fitted.window

    @property
    def wants_smaller_window(self) -> bool:
        """Whether the server had no memory for the window, and a smaller one may be asked for."""
        is_auto = isinstance(self._fitted.policy.num_ctx, str)
        return self._is_out_of_memory and self._fitted.window.num_ctx is not None and is_auto

    def refit(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a further request of the same answer fit; `report_fit` is to be called if it is sent.

        Args:
            request: The previous request, with messages added, and perhaps other fields; or the same again.

        Raises:
            OllamaContextError: It certainly does not fit, and is not to be sent then.
        """
        self._fitted = self._fitter.refit(self._fitted, request)
        self._is_open, self._is_out_of_memory = True, False
        return self._fitted.request

    def report_fit(self) -> None:
        """Report what was done to make the request fit."""
        fitted = self._fitted
        if fitted.window.grown_from is not None:
            self._grown_from = self._grown_from or fitted.window.grown_from
            # The planner has logged it.
            EventBus.publish_event(self._reporter.grown(fitted.window, fitted.window.grown_from, fitted.needed_tokens))
        if fitted.trimmed is not None and fitted.has_new_cut:
            # A conversation memory that outgrew the window is pruned in every run, which Griptape does not log either.
            level = logging.INFO if fitted.policy.mode == "trim" else logging.DEBUG
            _report(self._reporter.trimmed(fitted.trimmed, fitted.window), level)
        if fitted.warning is not None:
            _logger.warning("%s", fitted.warning)

    def record_start(self) -> None:
        """Record that a reply has begun, so that the model is loaded with the window of the request."""
        self._is_open = False
        self._fitted.planner.record_reply(self._fitted.window)

    def record_end(self, request: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        """Record the last line of a reply, with its counts.

        Args:
            request: The request that it answers.
            line: The line.
        """
        messages, tools = request["messages"], request.get("tools", ())
        window = self._fitted.window
        prompt_tokens = _prompt_tokens(line)
        counts = TokenCounts(
            estimate=self._estimator.estimate(messages, tools),
            prompt_tokens=prompt_tokens,
            output_tokens=_count(line, "eval_count"),
            done_reason=line.get("done_reason"),
            max_tokens=request.get("options", {}).get("num_predict", self._model_limit),
            images=sum(len(to_list(message.get("images"))) for message in messages),
        )
        findings = detect_truncation(counts, window)
        self._fitted.planner.record_reply(window, prompt_tokens=prompt_tokens)
        if prompt_tokens and findings.truncated is None:
            self._estimator.learn(messages, tools, prompt_tokens)
        for finding in findings:
            event = self._reporter.found(finding, counts, window)
            if finding.kind == "cut" and finding.cut_by != "window":
                # A reply that was as long as its limit has no event of its own: metadata and response event show it.
                _logger.info("%s", event.text)
            else:
                was_warned = finding.kind == "truncated" and self._fitted.warning is not None
                _report(event, logging.INFO if was_warned else logging.WARNING)
        self._findings = ContextFindings(
            truncated=self._findings.truncated or findings.truncated,
            shifted=self._findings.shifted or findings.shifted,
            cut=findings.cut,
        )

    def record_failure(self, request: Mapping[str, Any], error: OllamaError) -> None:
        """Record that a request had no complete reply; a refusal gets the token counts that the server left out."""
        self._is_open = False
        self._is_out_of_memory = is_out_of_memory(getattr(error, "server_message", ""))
        self._fitted.planner.record_failure(self._fitted.window, is_out_of_memory=self._is_out_of_memory)
        if not isinstance(error, OllamaContextError):
            return
        messages, tools = request["messages"], request.get("tools", ())
        if error.tokens_wanted is None:
            error.tokens_wanted = self._estimator.estimate(messages, tools).tokens
        elif request.get("truncate") is False:  # otherwise it is what was left of the prompt
            self._estimator.learn(messages, tools, error.tokens_wanted)
        if error.tokens_available is None:
            error.tokens_available = self._fitted.window.tokens

    def close(self) -> None:
        """Record that nothing more comes; without a reply, the model may not have the window."""
        if self._is_open:
            self._is_open = False
            self._fitted.planner.record_failure(self._fitted.window)

    def metadata(self) -> dict[str, Any]:
        """Return what the metadata of a reply say of the window.

        Returns:
            `truncated`: whether the server truncated the prompt, or shifted the context while the model wrote;
            `complete`: whether the reply is complete; `cut_by`: what ended it, where it is not; `context`: the window,
            and what was done about it. It depends on estimates only where something was lost.
        """
        fitted, findings = self._fitted, self._findings
        context: dict[str, Any] = {"window": fitted.window.tokens}
        if fitted.window.num_ctx is not None:
            context["num_ctx"] = fitted.window.num_ctx
        if findings.truncated is not None:
            context["estimated_tokens"] = fitted.estimate.tokens
        if self._grown_from is not None:
            context["grown_from"] = self._grown_from
        if fitted.trimmed is not None:
            context["dropped_messages"] = len(fitted.trimmed.dropped)
            context["dropped_tokens"] = fitted.trimmed.dropped_tokens
        metadata: dict[str, Any] = {
            "truncated": findings.truncated is not None or findings.shifted is not None,
            "complete": findings.cut is None,
            "context": context,
        }
        if findings.cut is not None:
            metadata["cut_by"] = findings.cut.cut_by
        return metadata


def _report(event: OllamaContextEvent, level: int) -> None:
    _logger.log(level, "%s", event.text)
    EventBus.publish_event(event)


def _prompt_tokens(line: Mapping[str, Any]) -> int | None:
    """Return the tokens of the whole prompt, with the cached ones; None if the counts contradict each other."""
    read, cached = _count(line, "prompt_eval_count"), _count(line, "prompt_eval_cached_count")
    return None if read is not None and cached is not None and cached > read else read


def _count(line: Mapping[str, Any], name: str) -> int | None:
    return reported_count(line.get(name), most=MAX_NUM_CTX)
