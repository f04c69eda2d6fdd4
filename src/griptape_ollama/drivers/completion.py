"""One answer under way: a request, and those that follow where the first reply cannot stand."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from griptape.common import BaseDeltaMessageContent, DeltaMessage, Message, TextDeltaMessageContent

from griptape_ollama.context.request_fitting import ContextTracker, FittedRequest
from griptape_ollama.conversion.response_reader import META_KEY, ReplyReader, is_blank
from griptape_ollama.conversion.text_calls import is_react_call
from griptape_ollama.conversion.tool_history import Turn, TurnMemory, to_corrected_turn
from griptape_ollama.conversion.tools import OfferedTools
from griptape_ollama.drivers.answer_checks import AnswerChecks, CutAnswerError, Wanted
from griptape_ollama.drivers.observed_model import ObservedModel
from griptape_ollama.drivers.task_lease import TaskHold
from griptape_ollama.errors import OllamaContextError, OllamaError, OllamaResponseError, OllamaStreamError
from griptape_ollama.escaping import printable
from griptape_ollama.events import OllamaResponseEvent
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.transport.call import Call

MAX_CORRECTIONS = 3
"""How often a model is told in one answer that it called something that does not exist."""

# A native model whose call was cut by num_predict (server 0.33).
_CUT_CALL = re.compile(r"tool call.*unexpected end of JSON", re.DOTALL | re.IGNORECASE)

_logger = logging.getLogger(__name__)

Request = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes:
        fitting: The first request, and how it was made to fit.
        watch: Told of the requests and their replies.
        wanted: What the answer must fit; None for free text.
        awaits_closing: Whether text is held back for a mark that ends thinking.
        offered: The functions that the model may call; None where calls are not held against any.
        is_react: Whether tools are described in words, so that a text may be a call.
        retry_without_thinking: Whether to ask again, once and without thinking, where a reply is empty.
        holds_model: Whether the model is kept in memory until the task is over, and let go then.
    """

    fitting: FittedRequest
    watch: ContextTracker
    wanted: Wanted | None = None
    awaits_closing: bool = False
    offered: OfferedTools | None = None
    is_react: bool = False
    retry_without_thinking: bool = False
    holds_model: bool = False

    @property
    def request(self) -> Request:
        """The first request."""
        return self.fitting.request


class Exchange:
    """Makes the calls of one answer, and feeds their lines to one reader.

    Args:
        plan: What is asked for.
        call_for: Makes the call for a request.
        reader: Takes the lines.
        turns: Remembers what the next turn needs.
        hold: Keeps the model in memory until the task is over; None where the server's keep_alive does.
        refused: Told of refusals, which may say what a model cannot do.
        observed: Told of what replies show of the model.
    """

    def __init__(
        self,
        plan: Plan,
        call_for: Callable[[Request], Call],
        *,
        reader: ReplyReader,
        turns: TurnMemory,
        hold: TaskHold | None = None,
        refused: Callable[[OllamaResponseError], None],
        observed: ObservedModel,
    ) -> None:
        self._plan = plan
        self._call_for = call_for
        self._reader = reader
        self._turns = turns
        self._hold = hold
        self._refused = refused
        self._observed = observed
        self._checks = (
            AnswerChecks(plan.wanted, is_react=plan.is_react, ignored=observed.ignored_format) if plan.wanted else None
        )
        self._call = call_for(plan.request)
        self._time_to_first_token: float | None = None
        self._corrections = 0
        self._is_held: bool | None = False
        self._problem: str | None = None

    def deltas(self) -> Generator[BaseDeltaMessageContent, None, None]:
        """Make the calls and yield what arrives; text that may have to be replaced is held back until it stands.

        Raises:
            OllamaError: As `Call.lines` does, with the text so far as `partial_text`.
        """
        try:
            yield from self._held_rounds()
        finally:
            # Nobody goes on waiting for the window of a request that was never answered.
            self._plan.watch.close()

    def _held_rounds(self) -> Generator[BaseDeltaMessageContent, None, None]:
        if self._hold is None:
            yield from self._rounds()
            return
        self._hold.begin()
        try:
            yield from self._rounds()
        except BaseException:
            self._hold.end()
            raise
        if self._awaits_results:
            self._hold.keep()
        else:
            self._hold.end()

    def _rounds(self) -> Generator[BaseDeltaMessageContent, None, None]:
        request: Request | None = self._plan.request
        self._plan.watch.report_fit()
        while request is not None:
            try:
                yield from self._shown(self._round(request), request)
            except OllamaResponseError as error:  # which comes before any output
                request = self._refitted(request, error)
                self._call = self._call_for(request)
                continue
            if self._time_to_first_token is None:
                self._time_to_first_token = self._call.time_to_first_token
            self._observed.ended_round(self._reader)
            following = self._following(request)
            if self._checks is not None and (text := self._held_text(following)):
                yield TextDeltaMessageContent(text, index=self._reader.text_index)
            if following is not None:
                following = self._plan.watch.refit(following)
                self._plan.watch.report_fit()
                self._reader.start_round(offers_tools="tools" in following)
                self._call = self._call_for(following)
            request = following

    def _refitted(self, request: Request, error: OllamaResponseError) -> Request:
        """Give a request with a smaller window, where the server has no room for the one that it asked for.

        Raises:
            OllamaResponseError: The error, where it is about something else, or where nothing smaller helps.
        """
        watch = self._plan.watch
        if not watch.wants_smaller_window:
            raise error
        before = watch.window.tokens
        try:
            smaller = watch.refit(request)
        except OllamaContextError:
            raise error from None  # what does not fit into less is not the user's fault
        if watch.window.tokens >= before:
            raise error
        watch.report_fit()
        return smaller

    def usage(self) -> DeltaMessage.Usage:
        """Tokens of the whole exchange, once it is over."""
        return self._reader.usage()

    def message(self) -> Message:
        """Give the whole answer, once it is there."""
        measured = {"host": self._call.host, "time_to_first_token": self._time_to_first_token}
        return self._reader.message(
            self._reader.metadata(**measured, **self._plan.watch.metadata(), problem=self._problem)
        )

    def _round(self, request: Request) -> Generator[BaseDeltaMessageContent, None, None]:
        feed = self._reader.feed
        line: dict[str, Any] = {}
        has_begun = False
        # Closed by hand: an exception keeps its frames, and with them the connection, for as long as somebody holds it.
        with contextlib.closing(self._call.lines()) as lines:
            try:
                for line in lines:
                    if not has_begun:
                        has_begun = True
                        self._plan.watch.record_start()
                    yield from feed(line)
            except OllamaError as error:
                self._plan.watch.record_failure(request, error)
                error.partial_text = self._reader.text
                if error.host is None:
                    self._complete(error)
                if _CUT_CALL.search(getattr(error, "server_message", "")):
                    error.args = (f"{error} The call was cut, it seems: raise max_tokens (num_predict).",)
                if isinstance(error, OllamaResponseError):
                    self._refused(error)
                raise
        self._plan.watch.record_end(request, line)

    def _shown(
        self, deltas: Generator[BaseDeltaMessageContent, None, None], request: Request
    ) -> Generator[BaseDeltaMessageContent, None, None]:
        """Yield what listeners see as it comes; text that may be replaced is held back."""
        self._is_held = False
        with contextlib.closing(deltas):
            if self._checks is None:
                yield from deltas
                return
            self._is_held = self._hides(request)
            for delta in deltas:
                if not isinstance(delta, TextDeltaMessageContent) or self._is_held is False:
                    yield delta
                    continue
                if self._is_held is None:
                    self._is_held = self._hides(request)
                if self._is_held is False:
                    yield TextDeltaMessageContent(self._reader.round_text, index=delta.index)

    def _hides(self, request: Request) -> bool | None:
        """Whether the text of a reply is held back; None where it has not begun."""
        may_show = self._checks.may_show(request, self._reader.round_text) if self._checks is not None else True
        return None if may_show is None else not may_show

    def _held_text(self, following: Request | None) -> str:
        """Give the text of a round that was held back; none if another round takes its place."""
        if following is None:
            return "" if self._is_held is False else self._reader.round_text
        self._reader.discard_round()
        return ""

    @property
    def _awaits_results(self) -> bool:
        """Whether the answer calls tools, so that the task goes on."""
        is_call = self._plan.is_react and is_react_call(self._reader.round_text)
        return is_call or bool(self._reader.round_calls)

    def _following(self, request: Request) -> Request | None:
        """Decide what to ask next; None where the answer stands."""
        reader = self._reader
        if reader.round_calls:
            turn = Turn(reader.round_thinking, tuple(reader.rejected))
            self._turns.keep((call.tag for call in reader.round_calls), turn)
            return None
        if reader.rejected:
            return self._corrected(request)
        if is_blank(reader.round_text):
            return self._after_empty(request)
        return self._after_answer(request)

    def _corrected(self, request: Request) -> Request | None:
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
        turn = Turn(reader.round_thinking, tuple(reader.rejected))
        return {**request, "messages": [*request["messages"], *to_corrected_turn(reader.round_text, turn)]}

    def _after_empty(self, request: Request) -> Request | None:
        """Handle a reply with neither text nor a call, whatever reason the server gives for its end."""
        reader = self._reader
        # Tokens that were used up by something else than thinking are used up by it again.
        may_help = bool(reader.round_thinking) or not reader.was_cut
        if self._plan.retry_without_thinking and may_help and request.get("think") is not False:
            _logger.info("Model %r gave no answer; asking again without thinking.", self._call.model)
            reader.discard_round()  # blanks
            return {**request, "think": False}
        if (following := self._after_answer(request)) is not None:
            return following
        self._problem = self._empty_problem(request)
        _logger.warning("Model %r: %s", self._call.model, self._problem)
        return None

    def _empty_problem(self, request: Request) -> str:
        """Return a sentence that says why a reply is empty, and what to do."""
        reader = self._reader
        if reader.was_cut:
            spent = (
                "thinking"
                if reader.round_thinking
                else "blanks"
                if reader.round_text
                else "what may have been a tool call"
            )
            is_full = self._plan.watch.metadata().get("cut_by") == "window"
            advice = "its context window is full: raise num_ctx" if is_full else "raise max_tokens (num_predict)"
            return f"The reply was cut, its tokens were used up by {spent}: {advice}."
        end = "The reply ended after thinking," if reader.round_thinking else "The reply ended"
        # The parsers of servers swallow a call of a tool that was not offered (0.33).
        swallowed = " (it may have called a tool that there is not)" if "tools" in request else ""
        without = f"with neither text nor a tool call{swallowed}"
        if request.get("think") is False:
            return f"{end} {without}: ask again, or word the prompt differently."
        return f'{end} {without}: ask again, set think=False, or let on_empty="retry_without_thinking" do both.'

    def _after_answer(self, request: Request) -> Request | None:
        """Hold the answer against what it must fit."""
        try:
            return self._checks.following(request, self._reader) if self._checks is not None else None
        except CutAnswerError:
            raise self._cut_answer() from None

    def _cut_answer(self) -> OllamaStreamError:
        spent = "used up" if self._reader.round_text or not self._reader.round_thinking else "used up by thinking"
        return OllamaStreamError(
            f"The JSON answer of model {self._call.model!r} of Ollama at {self._call.host} was cut, since its tokens "
            f"were {spent}: raise max_tokens (num_predict).",
            host=self._call.host,
            model=self._call.model,
            partial_text=self._reader.round_text,
        )

    def _complete(self, error: OllamaError) -> None:
        """Name host and model in an error of the reader, which knows neither."""
        error.host, error.model = self._call.host, self._call.model
        text = str(error)
        error.args = (
            f"{text}{'' if text.endswith('.') else '.'} It came from model {error.model!r} of Ollama at {error.host}.",
        )


def to_response_event(message: Message) -> OllamaResponseEvent | None:
    """Make the event from the metadata of a message; None if it carries none."""
    meta: dict[str, Any] | None = message.content[0].artifact.meta.get(META_KEY) if message.content else None
    if not meta:
        return None
    return OllamaResponseEvent(
        model=meta.get("model", ""),
        host=meta.get("host", ""),
        done_reason=meta.get("done_reason"),
        input_tokens=to_count(meta.get("prompt_eval_count")),
        cached_tokens=to_count(meta.get("prompt_eval_cached_count")),
        output_tokens=to_count(meta.get("eval_count")),
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
