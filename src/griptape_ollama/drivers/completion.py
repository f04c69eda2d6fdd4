"""The completion of one prompt: a request, and those that follow where the first reply is not accepted."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any

from griptape.common import BaseDeltaMessageContent, DeltaMessage, Message, TextDeltaMessageContent

from griptape_ollama.context.request_fitting import ContextTracker, FittedRequest
from griptape_ollama.conversion.response_reader import META_KEY, ResponseReader, is_blank
from griptape_ollama.conversion.text_calls import is_react_call
from griptape_ollama.conversion.tool_history import ToolHistory, ToolTurn, to_corrected_messages
from griptape_ollama.conversion.tools import OfferedTools
from griptape_ollama.drivers.capabilities import ModelObserver
from griptape_ollama.drivers.structured_output import AnswerValidator, CutAnswerError, ExpectedAnswer
from griptape_ollama.drivers.task_lease import TaskLease
from griptape_ollama.errors import OllamaContextError, OllamaError, OllamaResponseError, OllamaStreamError
from griptape_ollama.escaping import printable
from griptape_ollama.events import OllamaResponseEvent
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.audit import record_call
from griptape_ollama.models.model_metadata import ModelMetadata
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.transport.call import Call

MAX_CORRECTIONS = 3
"""How often one answer is sent back because it calls a function that does not exist."""

# A native model whose call was cut by num_predict (server 0.33).
_CUT_CALL = re.compile(r"tool call.*unexpected end of JSON", re.DOTALL | re.IGNORECASE)

_logger = logging.getLogger(__name__)

Request = dict[str, Any]
Deltas = Generator[BaseDeltaMessageContent, None, None]


@dataclass(frozen=True)
class PromptRequest:
    """The first request for a prompt, and how its replies are read.

    Attributes:
        fitted: The request, and how it was made to fit.
        tracker: Tracks the requests and their replies against the context window.
        known: Metadata of the model.
        expected: What the answer must fit; None for free text.
        awaits_closing: Whether text is held back for a tag that ends thinking.
        offered: The functions that the model may call; None if calls are not validated.
        is_react: Whether tools are described in words, so that a text may be a call.
        retry_without_thinking: Whether to ask again, once and without thinking, where a reply is empty.
        leases_model: Whether the model is kept in memory until the task is over, and unloaded then.
        is_audited: Whether each request is recorded.
    """

    fitted: FittedRequest
    tracker: ContextTracker
    known: ModelMetadata
    expected: ExpectedAnswer | None = None
    awaits_closing: bool = False
    offered: OfferedTools | None = None
    is_react: bool = False
    retry_without_thinking: bool = False
    leases_model: bool = False
    is_audited: bool = False

    @property
    def body(self) -> Request:
        """The body of the request."""
        return self.fitted.request


class Completion:
    """Makes the calls for one prompt, and passes their lines to one reader.

    Args:
        prompt: The first request, and how its replies are read.
        api: The run on the server.
        reader: Reads the lines.
        tool_history: Records turns with calls for the next request of the task.
    """

    def __init__(
        self, prompt: PromptRequest, api: OllamaApi, *, reader: ResponseReader, tool_history: ToolHistory
    ) -> None:
        self._prompt = prompt
        self._api = api
        self._tracker = prompt.tracker
        self._reader = reader
        self._tool_history = tool_history
        model = prompt.body["model"]
        self._lease = TaskLease.of_task(api.connection, model) if prompt.leases_model else None
        self._observer = ModelObserver(api.metadata, model, prompt.known)
        self._validator = AnswerValidator(prompt.expected, is_react=prompt.is_react) if prompt.expected else None
        self._call = self._call_for(prompt.body)
        self._time_to_first_token: float | None = None
        self._corrections = 0
        self._publishes: bool | None = True
        self._problem: str | None = None

    def deltas(self) -> Deltas:
        """Make the calls and yield what arrives; text that may be replaced is held back until it is accepted.

        Raises:
            OllamaError: As `Call.lines` does, with the text so far as `partial_text`.
        """
        request: Request | None = self._prompt.body
        with contextlib.closing(self._tracker), self._leased(self._lease) if self._lease else contextlib.nullcontext():
            self._tracker.report_fit()
            while request is not None:
                request = yield from self._round(request)

    def usage(self) -> DeltaMessage.Usage:
        """Return the tokens of all calls, once they are over."""
        return self._reader.usage()

    def message(self) -> Message:
        """Return the whole answer, once it is there."""
        measured = {"host": self._call.host, "time_to_first_token": self._time_to_first_token}
        return self._reader.message(
            self._reader.metadata(**measured, **self._tracker.metadata(), problem=self._problem)
        )

    @contextlib.contextmanager
    def _leased(self, lease: TaskLease) -> Generator[None, None, None]:
        """Keep the model in memory: until the task ends where the answer calls tools, else until the answer ends."""
        lease.acquire()
        try:
            yield
        except BaseException:
            lease.release()
            raise
        reader = self._reader
        if reader.round_calls or (self._prompt.is_react and is_react_call(reader.round_text)):
            lease.extend()
        else:
            lease.release()

    def _call_for(self, request: Request) -> Call:
        api = self._api
        listener = record_call if self._prompt.is_audited else None
        return Call(api.connection, "/api/chat", request, run=api.run, policy=api.policy(), listener=listener)

    def _round(self, request: Request) -> Generator[BaseDeltaMessageContent, None, Request | None]:
        """Make a call, yield its deltas, and return the next request; None if the answer is accepted."""
        try:
            yield from self._reply(request)
        except OllamaResponseError as error:  # which comes before any output
            smaller = self._with_smaller_window(request, error)
            self._call = self._call_for(smaller)
            return smaller
        if self._time_to_first_token is None:
            self._time_to_first_token = self._call.time_to_first_token
        self._observer.record_think_tags(self._reader)
        following = self._next_request(request)
        if self._publishes is not True and following is None and (text := self._reader.round_text):
            yield TextDeltaMessageContent(text, index=self._reader.text_index)
        if following is None:
            return None
        if self._validator is not None:
            self._reader.discard_round()
        following = self._tracker.refit(following)
        self._tracker.report_fit()
        self._reader.start_round(offers_tools="tools" in following)
        self._call = self._call_for(following)
        return following

    def _reply(self, request: Request) -> Deltas:
        """Yield the deltas of one reply, but for text that may be replaced."""
        feed, validator = self._reader.feed, self._validator
        self._publishes = True if validator is None else validator.is_final(request, self._reader.round_text)
        line: dict[str, Any] = {}
        has_begun = False
        # Closed by hand: an exception keeps its frames, and with them the connection, for as long as it is referenced.
        with contextlib.closing(self._call.lines()) as lines:
            try:
                for line in lines:
                    if not has_begun:
                        has_begun = True
                        self._tracker.record_start()
                    if validator is None:
                        yield from feed(line)
                    else:
                        yield from self._final_deltas(feed(line), request, validator)
            except OllamaError as error:
                self._record_failure(request, error)
                raise
        self._tracker.record_end(request, line)

    def _final_deltas(
        self, deltas: Iterable[BaseDeltaMessageContent], request: Request, validator: AnswerValidator
    ) -> Deltas:
        for delta in deltas:
            if not isinstance(delta, TextDeltaMessageContent) or self._publishes:
                yield delta
            elif self._publishes is None:
                self._publishes = validator.is_final(request, self._reader.round_text)
                if self._publishes:
                    yield TextDeltaMessageContent(self._reader.round_text, index=delta.index)

    def _record_failure(self, request: Request, error: OllamaError) -> None:
        """Record what a failure shows of the window and the model, and complete the error."""
        self._tracker.record_failure(request, error)
        error.partial_text = self._reader.text
        if error.host is None:
            self._add_origin(error)
        if _CUT_CALL.search(getattr(error, "server_message", "")):
            error.args = (f"{error} The call was cut, it seems: raise max_tokens (num_predict).",)
        if isinstance(error, OllamaResponseError):
            self._observer.record_refusal(error)

    def _with_smaller_window(self, request: Request, error: OllamaResponseError) -> Request:
        """Return the request with a smaller window, where the server has too little memory for its window.

        Raises:
            OllamaResponseError: The error, where it has another cause, or where nothing smaller helps.
        """
        tracker = self._tracker
        if not tracker.wants_smaller_window:
            raise error
        before = tracker.window.tokens
        try:
            smaller = tracker.refit(request)
        except OllamaContextError:
            raise error from None  # that it does not fit into less is not the user's fault
        if tracker.window.tokens >= before:
            raise error
        tracker.report_fit()
        return smaller

    def _next_request(self, request: Request) -> Request | None:
        """Return the next request; None if the answer is accepted."""
        reader = self._reader
        if reader.round_calls:
            turn = ToolTurn(reader.round_thinking, tuple(reader.rejected))
            self._tool_history.record((call.tag for call in reader.round_calls), turn)
            return None
        if reader.rejected:
            return self._corrected_request(request)
        if is_blank(reader.round_text):
            return self._next_after_empty(request)
        return self._next_after_answer(request, self._validator) if self._validator is not None else None

    def _corrected_request(self, request: Request) -> Request | None:
        reader = self._reader
        names = printable(", ".join(each.name for each in reader.rejected))
        if self._corrections >= MAX_CORRECTIONS:
            _logger.warning(
                "Model %r went on calling %s after %d corrections.", self._call.model, names, self._corrections
            )
            reader.accept_rejected()
            return None
        self._corrections += 1
        _logger.info("Model %r called %s, which cannot be run; it was told so.", self._call.model, names)
        turn = ToolTurn(reader.round_thinking, tuple(reader.rejected))
        return {**request, "messages": [*request["messages"], *to_corrected_messages(reader.round_text, turn)]}

    def _next_after_empty(self, request: Request) -> Request | None:
        """Return the next request after a reply with neither text nor a call; None if nothing helps."""
        reader = self._reader
        # Tokens that were used up by something else than thinking are used up by it again.
        may_help = bool(reader.round_thinking) or not reader.was_cut
        if self._prompt.retry_without_thinking and may_help and request.get("think") is not False:
            _logger.info("Model %r gave no answer; asking again without thinking.", self._call.model)
            reader.discard_round()  # blanks
            return {**request, "think": False}
        if self._validator is not None and (following := self._next_after_answer(request, self._validator)) is not None:
            return following
        self._problem = self._empty_problem(request)
        _logger.warning("Model %r: %s", self._call.model, self._problem)
        return None

    def _empty_problem(self, request: Request) -> str:
        """Return why a reply is empty, and what to do, as a text."""
        reader = self._reader
        if reader.was_cut:
            spent = (
                "thinking"
                if reader.round_thinking
                else "blanks"
                if reader.round_text
                else "what may have been a tool call"
            )
            is_full = self._tracker.metadata().get("cut_by") == "window"
            advice = "its context window is full: raise num_ctx" if is_full else "raise max_tokens (num_predict)"
            return f"The reply was cut, its tokens were used up by {spent}: {advice}."
        end = "The reply ended after thinking," if reader.round_thinking else "The reply ended"
        # The parsers of servers swallow a call of a tool that was not offered (0.33).
        swallowed = " (it may have called a tool that there is not)" if "tools" in request else ""
        without = f"with neither text nor a tool call{swallowed}"
        if request.get("think") is False:
            return f"{end} {without}: ask again, or word the prompt differently."
        return f'{end} {without}: ask again, set think=False, or let on_empty="retry_without_thinking" do both.'

    def _next_after_answer(self, request: Request, validator: AnswerValidator) -> Request | None:
        """Return the next request for an answer that does not fit its schema; None if it fits."""
        try:
            following = validator.next_request(request, self._reader)
        except CutAnswerError:
            raise self._cut_answer_error() from None
        if validator.saw_ignored_format:
            self._observer.record_ignored_format()
        return following

    def _cut_answer_error(self) -> OllamaStreamError:
        spent = "used up" if self._reader.round_text or not self._reader.round_thinking else "used up by thinking"
        return OllamaStreamError(
            f"The JSON answer of model {self._call.model!r} of Ollama at {self._call.host} was cut, since its tokens "
            f"were {spent}: raise max_tokens (num_predict).",
            host=self._call.host,
            model=self._call.model,
            partial_text=self._reader.round_text,
        )

    def _add_origin(self, error: OllamaError) -> None:
        """Add host and model to an error of the reader, which knows neither."""
        error.host, error.model = self._call.host, self._call.model
        text = str(error)
        error.args = (
            f"{text}{'' if text.endswith('.') else '.'} It came from model {error.model!r} of Ollama at {error.host}.",
        )


def to_response_event(message: Message) -> OllamaResponseEvent | None:
    """Return the event for the metadata of a message; None if it has none."""
    meta: dict[str, Any] | None = message.content[0].artifact.meta.get(META_KEY) if message.content else None
    if not meta:
        return None
    return OllamaResponseEvent(
        model=meta.get("model", ""),
        host=meta.get("host", ""),
        done_reason=meta.get("done_reason"),
        input_tokens=reported_count(meta.get("prompt_eval_count")),
        cached_tokens=reported_count(meta.get("prompt_eval_cached_count")),
        output_tokens=reported_count(meta.get("eval_count")),
        total_seconds=meta.get("total_seconds"),
        load_seconds=meta.get("load_seconds"),
        prompt_seconds=meta.get("prompt_seconds"),
        generation_seconds=meta.get("generation_seconds"),
        tokens_per_second=meta.get("tokens_per_second"),
        time_to_first_token=meta.get("time_to_first_token"),
        complete=meta.get("complete"),
        truncated=meta.get("truncated"),
        window=meta.get("context", {}).get("window"),
    )
