"""What becomes of a request that was made to fit: it is told, and learned from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from griptape.events import EventBus

from griptape_ollama.context.request_fitting import Fitter, Fitting
from griptape_ollama.context.tokens.features import to_list
from griptape_ollama.context.truncation import ContextReporter, Exchanged, Findings, examine
from griptape_ollama.context.window import Window, forget_window, learn_window
from griptape_ollama.errors import OllamaContextError, OllamaError
from griptape_ollama.events import OllamaContextEvent
from griptape_ollama.protocol.context_window import MAX_NUM_CTX
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.transport.response_errors import is_out_of_memory

_logger = logging.getLogger(__name__)


class ContextWatch:
    """Watches the rounds of one answer.

    Args:
        fitter: Makes the requests fit.
        fitting: How the first one was made to.
    """

    def __init__(self, fitter: Fitter, fitting: Fitting) -> None:
        self._fitter = fitter
        self._fitting = fitting
        self._estimator = fitter.estimator
        self._metadata = fitter.metadata
        self._own_limit: int | None = fitter.known.parameters.get("num_predict")
        guard = fitting.guard
        self._reporter = ContextReporter(guard.model, guard.host, guard.mode, guard.settings)
        self._findings = Findings()
        self._is_open = True
        self._lacked_room = False
        self._grown_from: int | None = None

    @property
    def window(self) -> Window:
        """The window of the request under way."""
        return self._fitting.window

    @property
    def wants_smaller_window(self) -> bool:
        """Whether the server had no room for the window, and a smaller one may be asked for."""
        return self._lacked_room and self._fitting.window.num_ctx is not None and self._fitting.guard.is_auto

    def follow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a further request of the same answer fit, and give it; `begin` is to be called if it is sent.

        Args:
            request: The request before, with messages added, and perhaps other fields; or the same once more.

        Raises:
            OllamaContextError: It surely does not fit, and was not to be sent then.
        """
        self._fitting = self._fitter.fit_again(self._fitting, request)
        self._is_open, self._lacked_room = True, False
        return self._fitting.request

    def begin(self) -> None:
        """Tell what was done to make the request fit."""
        fitting = self._fitting
        if fitting.window.grown_from is not None:
            self._grown_from = self._grown_from or fitting.window.grown_from
            needed = fitting.estimate.high + fitting.reply_tokens
            # Where it was decided, it was logged.
            EventBus.publish_event(self._reporter.grown(fitting.window, fitting.window.grown_from, needed))
        if fitting.trimmed is not None and fitting.has_moved:
            # A conversation memory that outgrew the window is pruned in every run, as Griptape does it in silence.
            level = logging.INFO if fitting.guard.mode == "trim" else logging.DEBUG
            self._tell(self._reporter.trimmed(fitting.trimmed, fitting.window), level)
        if fitting.warning is not None:
            _logger.warning("%s", fitting.warning)

    def answer(self, request: Mapping[str, Any]) -> None:
        """Take in that a reply has begun, so that the model is loaded as it was asked for."""
        self._is_open = False
        learn_window(self._metadata, request["model"], self._fitting.window)

    def take(self, request: Mapping[str, Any], line: Mapping[str, Any]) -> None:
        """Take in the last line of a reply.

        Args:
            request: The request that it answers.
            line: The line, with the counts.
        """
        messages, tools = request["messages"], request.get("tools", ())
        window = self._fitting.window
        read = _prompt_tokens(line)
        exchanged = Exchanged(
            estimate=self._estimator.estimate(messages, tools),
            prompt_tokens=read,
            output_tokens=_count(line, "eval_count"),
            done_reason=line.get("done_reason"),
            max_tokens=request.get("options", {}).get("num_predict", self._own_limit),
            images=sum(len(to_list(message.get("images"))) for message in messages),
        )
        findings = examine(exchanged, window)
        learn_window(self._metadata, request["model"], window, prompt_tokens=read)
        if read and findings.truncated is None:
            self._estimator.learn(messages, tools, read)
        for finding in findings:
            event = self._reporter.found(finding, exchanged, window)
            if finding.kind == "cut" and finding.cut_by != "window":
                # Of a reply that was as long as it was allowed to be, its metadata and its event tell.
                _logger.info("%s", event.text)
            else:
                # What was said before it was sent need not be said aloud again.
                was_said = finding.kind == "truncated" and self._fitting.warning is not None
                self._tell(event, logging.INFO if was_said else logging.WARNING)
        self._findings = Findings(
            truncated=self._findings.truncated or findings.truncated,
            shifted=self._findings.shifted or findings.shifted,
            cut=findings.cut,
        )

    def fail(self, request: Mapping[str, Any], error: OllamaError) -> None:
        """Take in that a request had no whole reply."""
        self._is_open = False
        self._lacked_room = is_out_of_memory(getattr(error, "server_message", ""))
        forget_window(self._metadata, request["model"], self._fitting.window, had_no_room=self._lacked_room)
        if isinstance(error, OllamaContextError):
            self._complete(error, request)

    def close(self) -> None:
        """Take in that nothing more comes; where nothing came at all, the window may not be there."""
        if self._is_open:
            self._is_open = False
            forget_window(self._metadata, self._fitting.request["model"], self._fitting.window)

    def _complete(self, error: OllamaContextError, request: Mapping[str, Any]) -> None:
        """Learn from the sizes that a refusal names, and name those that it does not."""
        messages, tools = request["messages"], request.get("tools", ())
        if error.tokens_wanted is None:
            error.tokens_wanted = self._estimator.estimate(messages, tools).tokens
        elif request.get("truncate") is False:  # otherwise it is what was left of the prompt
            self._estimator.learn(messages, tools, error.tokens_wanted)
        if error.tokens_available is None:
            error.tokens_available = self._fitting.window.tokens

    def metadata(self) -> dict[str, Any]:
        """Give what a reply's metadata tell of the window.

        Returns:
            `truncated`: whether the server cut the prompt, or forgot its beginning while it wrote; `complete`: whether
            the reply is whole; `cut_by`: what ended it, where it is not; `context`: the window, and what was done about
            it. Nothing in it depends on how well tokens are estimated, unless something was lost.
        """
        fitting, findings = self._fitting, self._findings
        context: dict[str, Any] = {"window": fitting.window.tokens}
        if fitting.window.num_ctx is not None:
            context["num_ctx"] = fitting.window.num_ctx
        if findings.truncated is not None:
            context["estimated_tokens"] = fitting.estimate.tokens
        if self._grown_from is not None:
            context["grown_from"] = self._grown_from
        if fitting.trimmed is not None:
            context["dropped_messages"] = len(fitting.trimmed.dropped)
            context["dropped_tokens"] = fitting.trimmed.dropped_tokens
        told: dict[str, Any] = {
            "truncated": findings.truncated is not None or findings.shifted is not None,
            "complete": findings.cut is None,
            "context": context,
        }
        if findings.cut is not None:
            told["cut_by"] = findings.cut.cut_by
        return told

    def _tell(self, event: OllamaContextEvent, level: int) -> None:
        _logger.log(level, "%s", event.text)
        EventBus.publish_event(event)


def _prompt_tokens(line: Mapping[str, Any]) -> int | None:
    """Return the tokens of the whole prompt, which those that were cached are part of; None where that cannot be."""
    read, cached = _count(line, "prompt_eval_count"), _count(line, "prompt_eval_cached_count")
    return None if read is not None and cached is not None and cached > read else read


def _count(line: Mapping[str, Any], name: str) -> int | None:
    return to_count(line.get(name), most=MAX_NUM_CTX)
