"""Lines of a chat reply as deltas, and the message that they add up to. One way, streamed and plain alike."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast
from unicodedata import category

from griptape.artifacts import ActionArtifact, TextArtifact
from griptape.common import (
    ActionCallDeltaMessageContent,
    ActionCallMessageContent,
    BaseDeltaMessageContent,
    BaseMessageContent,
    DeltaMessage,
    Message,
    TextDeltaMessageContent,
    TextMessageContent,
    ToolAction,
)

from griptape_ollama.conversion.json_answers import is_document
from griptape_ollama.conversion.reasoning import (
    DEFAULT_MARKS,
    ReasoningDeltaMessageContent,
    ThinkMark,
    ThinkTagSplitter,
    separate_alone,
)
from griptape_ollama.conversion.text_calls import TextCallGate
from griptape_ollama.conversion.tool_history import RejectedCall
from griptape_ollama.conversion.tools import OfferedTools, finite
from griptape_ollama.errors import OllamaStreamError
from griptape_ollama.protocol.counters import to_count, to_number, to_seconds
from griptape_ollama.protocol.surrogates import without_halves_inside

META_KEY = "ollama"
"""Key of an artifact's `meta` under which the metadata of a reply stands."""

# A line and its message have these keys and no others, unless there is something to keep.
_PLAIN_LINE_KEYS = 4  # model, created_at, message, done
_PLAIN_MESSAGE_KEYS = 2  # role, content
_READ_LINE_KEYS = frozenset({"model", "created_at", "message", "done"})
_READ_MESSAGE_KEYS = frozenset({"role", "content", "thinking", "tool_calls"})
_SECONDS_OF = {
    "total_duration": "total_seconds",
    "load_duration": "load_seconds",
    "prompt_eval_duration": "prompt_seconds",
    "eval_duration": "generation_seconds",
}
# How each number is read that is added up over several requests.
_ADDED_UP: Mapping[str, Callable[[Any], int | float | None]] = {
    "prompt_eval_count": to_count,
    "prompt_eval_cached_count": to_count,
    "eval_count": to_count,
    **dict.fromkeys(_SECONDS_OF, to_number),
}
# Fields of the metadata that are found out here: one of the same name in a reply is another one.
_FOUND_HERE = frozenset(
    {
        *_SECONDS_OF.values(),
        *("tokens_per_second", "time_to_first_token", "thinking", "requests", "problem"),
        *("host", "truncated", "complete", "cut_by", "context"),
    }
)
_NO_TOOLS = OfferedTools(())
_NOTHING: Sequence[BaseDeltaMessageContent] = ()


class ReplyReader:
    """Turns the lines of a reply into deltas, and keeps what they add up to.

    Text is one content, where its first piece stood; each call is a content of its own, in order. A reply may take
    several rounds (a call that had to be corrected, an answer that had to be asked for again): they make one message.

    Args:
        tools: What was offered; calls of anything else are rejected. None takes every call.
        used_tags: Tags of calls earlier in the conversation; a call never gets one of them again.
        think_marks: What stands around thinking before the answer.
        awaits_closing: Whether a mark is expected that ends thinking without one that begins it. Text is held back
            until it comes, or the end.
        new_gate: Makes what holds back text that may be a call; None where text is never one.

    Attributes:
        rejected: Calls of the current round that Griptape cannot run.
        had_lone_mark: Whether thinking of the last round that is over ended with a mark, and did not begin with one.
    """

    def __init__(
        self,
        *,
        tools: OfferedTools | None = None,
        used_tags: Collection[str] = (),
        think_marks: Sequence[ThinkMark] = DEFAULT_MARKS,
        awaits_closing: bool = False,
        new_gate: Callable[[], TextCallGate] | None = None,
    ) -> None:
        self.rejected: list[RejectedCall] = []
        self._tools = tools
        self._tags = set(used_tags)
        self._think_marks = think_marks
        self._awaits_closing = awaits_closing
        self._new_gate = new_gate
        self._texts: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolAction] = []
        self._text_index: int | None = None
        self._rest: dict[str, Any] = {}
        self._totals: dict[str, float] = {}
        self._rounds = 0
        self.start_round()

    def start_round(self, *, offers_tools: bool = True) -> None:
        """Begin with the lines of one more request.

        Args:
            offers_tools: Whether the request offers tools, so that a text may be a call.
        """
        for name, read in _ADDED_UP.items():
            if (value := read(self._rest.get(name))) is not None:
                self._totals[name] = self._totals.get(name, 0) + value
        self._rounds += 1
        self._rest = {}
        self._last: Mapping[str, Any] = {}
        self.had_lone_mark = False
        self._splitter = (
            ThinkTagSplitter(self._think_marks, awaits_closing=self._awaits_closing) if self._think_marks else None
        )
        self._offers_tools = offers_tools
        self._gate = self._gate_of_round()
        self.rejected = []
        self._round = (len(self._texts), len(self._thinking), len(self._calls))

    def discard_round(self) -> None:
        """Forget the text of the round, which nobody was shown."""
        del self._texts[self._round[0] :]
        if not self._texts:
            self._text_index = None

    @property
    def text(self) -> str:
        """The text so far, with what is held back."""
        return "".join(self._texts) + ("" if self._gate is None else self._gate.held)

    @property
    def text_index(self) -> int:
        """Place of the text among the contents of the message."""
        return self._text_index or 0

    @property
    def round_text(self) -> str:
        """The text of the current round so far."""
        return "".join(self._texts[self._round[0] :])

    @property
    def round_thinking(self) -> str:
        """The thinking of the current round so far."""
        return "".join(self._thinking[self._round[1] :])

    @property
    def round_calls(self) -> list[ToolAction]:
        """The calls of the current round so far."""
        return self._calls[self._round[2] :]

    @property
    def was_cut(self) -> bool:
        """Whether the round ended because no more tokens were allowed."""
        return self._last.get("done_reason") == "length"

    def accept_rejected(self) -> None:
        """Take the rejected calls for calls after all, so that the framework reports them."""
        for call in self.rejected:
            name, path = ToolAction.from_native_tool_name(call.name)
            self._calls.append(ToolAction(tag=call.tag, name=name, path=path, input=dict(call.arguments)))
        self.rejected = []

    def replace_round_text(self, text: str) -> None:
        """Put another text in place of the round's, which says the same."""
        self._texts[self._round[0] :] = [text]

    def feed(self, line: Mapping[str, Any]) -> Sequence[BaseDeltaMessageContent]:
        """Take one line and give its deltas: thinking, text, then each call; none for what is not shown.

        Raises:
            OllamaStreamError: The line is not one of a chat reply.
        """
        message = line.get("message")
        self._last = line
        if not isinstance(message, dict):
            if message is None and line.get("done"):
                self._keep_rest(line, {})
                return self._finish_text()
            raise _odd("message", message)
        message = cast("dict[str, Any]", message)
        content = message.get("content")
        is_plain = (
            len(message) == _PLAIN_MESSAGE_KEYS
            and "role" in message
            and len(line) == _PLAIN_LINE_KEYS
            and line.get("done") is False
            and "model" in line
            and "created_at" in line
        )
        if not is_plain or not isinstance(content, str):
            return self._feed_more(line, message, content)
        if self._splitter is None and self._gate is None and self._text_index is not None and content:
            # The way of nearly every line, without the calls that the others need.
            self._texts.append(content)
            return (TextDeltaMessageContent(content, index=self._text_index),)
        return self._feed_text(content) if content else _NOTHING

    def usage(self) -> DeltaMessage.Usage:
        """Tokens of prompts and replies, all rounds added up; None where the server did not tell."""
        return DeltaMessage.Usage(input_tokens=self._sum("prompt_eval_count"), output_tokens=self._sum("eval_count"))

    def metadata(self, **more: Any) -> dict[str, Any]:
        """Everything that the server told beside text and calls, with durations in seconds.

        Args:
            more: What the caller measured; left out where it is None.
        """
        known = {"model": self._last.get("model"), "created_at": self._last.get("created_at")}
        measured = {name: value for name, value in {**known, **more}.items() if value is not None}
        sums = {name: self._sum(name) for name in _ADDED_UP}
        metadata = {**_told(self._rest), **measured}
        metadata |= {name: value for name, value in sums.items() if value is not None and name not in _SECONDS_OF}
        for wire, name in _SECONDS_OF.items():
            if (seconds := to_seconds(sums[wire])) is not None:
                metadata[name] = seconds
        if (rate := _tokens_per_second(metadata)) is not None:
            metadata["tokens_per_second"] = rate
        if self._thinking:
            metadata["thinking"] = "".join(self._thinking)
        if self._rounds > 1:
            metadata["requests"] = self._rounds
        return metadata

    def message(self, metadata: Mapping[str, Any]) -> Message:
        """Give the whole message; the artifact of each content carries the metadata as `meta["ollama"]`.

        An empty reply is one empty text, so that a task has an answer to show.
        """
        contents: list[BaseMessageContent] = [
            ActionCallMessageContent(ActionArtifact(call, meta={META_KEY: dict(metadata)})) for call in self._calls
        ]
        if self._texts or not contents:
            text = TextMessageContent(TextArtifact(self.text, meta={META_KEY: dict(metadata)}))
            contents.insert(self._text_index or 0, text)
        usage = self.usage()
        return Message(
            contents,
            role=Message.ASSISTANT_ROLE,
            usage=Message.Usage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens),
        )

    def _sum(self, name: str) -> Any:
        count = _ADDED_UP[name](self._rest.get(name))
        if name not in self._totals:
            return count
        return self._totals[name] + (count or 0)

    def _feed_text(self, text: Any) -> Sequence[BaseDeltaMessageContent]:
        if not isinstance(text, str):
            raise _odd("content", text)
        if self._splitter is None:
            return self._gated_text(text)
        thinking, answer = self._splitter.feed(text)
        if self._splitter.is_done:
            self.had_lone_mark = self._splitter.was_alone
            self._splitter = None
        return [*self._shown_thinking(thinking), *self._gated_text(answer)]

    def _finish_text(self) -> Sequence[BaseDeltaMessageContent]:
        """Give what was held back, since it might have become a mark or a call, and take thinking out of the text."""
        deltas: list[BaseDeltaMessageContent] = []
        if self._splitter is not None:
            thinking, answer = self._splitter.finish(was_cut=self.was_cut)
            self.had_lone_mark = self._splitter.was_alone
            deltas = [*self._shown_thinking(thinking), *self._gated_text(answer)]
        deltas += self._finish_calls()
        if (answer := self._without_lone_thinking()) is not None:
            del self._texts[self._round[0] :]
            if not self._texts:
                self._text_index = None
            self._gate = self._gate_of_round()
            self._gated_text(answer)  # which was shown
            deltas += [each for each in self._finish_calls() if not isinstance(each, TextDeltaMessageContent)]
        return deltas

    def _without_lone_thinking(self) -> str | None:
        """Take for thinking what stands before a closing mark without an opening one, and return what is behind it.

        It was text while it came, and is not shown once more. None where there is no such mark.
        """
        if not self._think_marks or self.round_thinking:
            return None
        text = self.round_text
        if (found := separate_alone(text, self._think_marks)) is None or is_document(text):
            return None
        self.had_lone_mark = True
        self._shown_thinking(found[0])
        return found[1]

    def _gate_of_round(self) -> TextCallGate | None:
        return self._new_gate() if self._new_gate is not None and self._offers_tools else None

    def _gated_text(self, text: str) -> Sequence[BaseDeltaMessageContent]:
        """Return the text, unless it may be a call."""
        if self._gate is None or not text:
            return self._shown_text(text)
        shown = self._gate.feed(text)
        if self._gate.is_open:
            self._gate = None
        return self._shown_text(shown)

    def _finish_calls(self) -> Sequence[BaseDeltaMessageContent]:
        """Return the calls that the text is, or the text if it is none."""
        gate, self._gate = self._gate, None
        if gate is None:
            return _NOTHING
        calls = [] if self.round_calls or self.rejected else gate.calls()
        if not calls:
            return self._shown_text(gate.release())
        return [delta for call in calls for delta in self._feed_call({"function": call._asdict()})]

    def _shown_text(self, text: str) -> Sequence[BaseDeltaMessageContent]:
        if not text:
            return _NOTHING
        if self._text_index is None:
            self._text_index = len(self._calls)
        self._texts.append(text)
        return (TextDeltaMessageContent(text, index=self._text_index),)

    def _shown_thinking(self, text: str) -> Sequence[BaseDeltaMessageContent]:
        if not text:
            return _NOTHING
        first, before, calls = self._round
        if self._thinking and len(self._thinking) == before and not self._thinking[-1].endswith("\n"):
            self._thinking.append("\n")  # between the thoughts of two rounds
            self._round = (first, before + 1, calls)
        self._thinking.append(text)
        return (ReasoningDeltaMessageContent(text),)

    def _feed_more(
        self, line: Mapping[str, Any], message: Mapping[str, Any], content: Any
    ) -> Sequence[BaseDeltaMessageContent]:
        deltas: list[BaseDeltaMessageContent] = []
        if thinking := message.get("thinking"):
            if not isinstance(thinking, str):
                raise _odd("thinking", thinking)
            if self._splitter is not None:
                deltas += self._gated_text(self._splitter.stop_waiting()[1])  # this server separates it
            deltas += self._shown_thinking(thinking)
        if content:
            deltas += self._feed_text(content)
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list):
                raise _odd("tool_calls", calls)
            if self._gate is not None:  # text beside calls of the server's is none itself
                deltas += self._shown_text(self._gate.release())
                self._gate = None
            deltas += [delta for call in cast("list[Any]", calls) for delta in self._feed_call(call)]
        self._keep_rest(line, message)
        if line.get("done"):
            deltas += self._finish_text()
        return deltas

    def _feed_call(self, call: Any) -> Sequence[BaseDeltaMessageContent]:
        function = call.get("function") if isinstance(call, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(function, dict):
            raise _odd("tool call", call)
        function = cast("dict[str, Any]", function)
        native_name = function.get("name")
        if not isinstance(native_name, str) or not native_name:
            raise _odd("name of a tool call", native_name)
        tag = self._tag(cast("dict[str, Any]", call).get("id"))
        given = function.get("arguments")
        tools = self._tools or _NO_TOOLS
        correction = tools.correction(native_name) if self._tools is not None else None
        arguments = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
        if correction is None:
            try:
                # JSON inside a text may have halves of its own.
                arguments = without_halves_inside(tools.arguments(native_name, given))
            except ValueError as error:
                if self._tools is None:
                    raise _odd("arguments of a tool call", given) from error
                correction = str(error)
        if correction is not None:
            self.rejected.append(RejectedCall(tag, native_name, finite(arguments), correction))
            return _NOTHING
        name, path = ToolAction.from_native_tool_name(native_name)
        index = len(self._calls) + (self._text_index is not None)
        self._calls.append(ToolAction(tag=tag, name=name, path=path, input=arguments))
        partial_input = json.dumps(arguments)
        return (ActionCallDeltaMessageContent(tag=tag, name=name, path=path, partial_input=partial_input, index=index),)

    def _tag(self, server_id: Any) -> str:
        # Servers before 0.12.10 send no ids, and some proxies number from 0 in every reply.
        tag = server_id if isinstance(server_id, str) and server_id else _new_tag()
        while tag in self._tags:
            tag = _new_tag()
        self._tags.add(tag)
        return tag

    def _keep_rest(self, line: Mapping[str, Any], message: Mapping[str, Any]) -> None:
        for source, read in ((line, _READ_LINE_KEYS), (message, _READ_MESSAGE_KEYS)):
            for key, value in source.items():
                if key in read:
                    continue
                known = self._rest.get(key)
                # Lists (logprobs) come piece by piece.
                self._rest[key] = [*known, *value] if isinstance(known, list) and isinstance(value, list) else value


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: white space, control characters, and marks without a width."""
    return all(each.isspace() or category(each) in ("Cc", "Cf") for each in text)


def _new_tag() -> str:
    return f"call_{uuid.uuid4().hex[:8]}"


def _told(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a reply that are kept as they came, without what JSON cannot hold.

    Counters and durations are none of them: they are read, and left out where no server can mean them. A field that is
    nested too deeply to be copied is left out, too.
    """
    told: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in _ADDED_UP and name not in _FOUND_HERE:
            with contextlib.suppress(RecursionError):
                told[name] = finite(value)
    return told


def _tokens_per_second(metadata: Mapping[str, Any]) -> int | float | None:
    tokens, seconds = to_count(metadata.get("eval_count")), metadata.get("generation_seconds")
    return to_number(tokens / seconds) if tokens is not None and seconds else None


def _odd(what: str, value: Any) -> OllamaStreamError:
    return OllamaStreamError(f"The reply has a {what} that cannot be read: {repr(value)[:120]}.")
