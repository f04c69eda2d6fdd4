"""Turns the lines of a chat reply into deltas and a message, for streamed and plain replies alike."""

from __future__ import annotations

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

from griptape_ollama.conversion.json_answers import is_json_document
from griptape_ollama.conversion.reasoning import (
    DEFAULT_MARKS,
    ReasoningDeltaMessageContent,
    ThinkMark,
    ThinkTagSplitter,
    separate_unopened,
)
from griptape_ollama.conversion.response_metadata import ResponseMetadata
from griptape_ollama.conversion.text_calls import TextCallBuffer
from griptape_ollama.conversion.tool_history import RejectedCall
from griptape_ollama.conversion.tools import OfferedTools, finite
from griptape_ollama.errors import OllamaStreamError
from griptape_ollama.protocol.surrogates import replace_surrogates_in

META_KEY = "ollama"
"""Key of an artifact's `meta` with the metadata of a reply."""

# How many keys a line with nothing but a piece of text has, and its message.
_PLAIN_LINE_KEYS = 4  # model, created_at, message, done
_PLAIN_MESSAGE_KEYS = 2  # role, content
_NO_TOOLS = OfferedTools(())
_NOTHING: Sequence[BaseDeltaMessageContent] = ()


class ResponseReader:
    """Turns the lines of a reply into deltas, and builds the message that they add up to.

    Text is one content, at the place of its first piece; each call is a content of its own, in order. A reply may take
    several rounds (a corrected call, a repeated answer), which become one message.

    Args:
        tools: The offered tools; other calls are rejected. None accepts every call.
        used_tags: Tags of earlier calls of the conversation; they are not used again.
        think_marks: Marks around thinking before the answer.
        awaits_closing: Whether thinking is expected that only has a closing mark. Text is held back until it comes, or
            the end.
        new_call_buffer: Creates the buffer that holds back text that may be a call; None if text is never one.

    Attributes:
        rejected: Calls of the current round that Griptape cannot run.
        had_unopened_thinking: Whether the thinking of the last finished round had a closing mark only.
    """

    def __init__(
        self,
        *,
        tools: OfferedTools | None = None,
        used_tags: Collection[str] = (),
        think_marks: Sequence[ThinkMark] = DEFAULT_MARKS,
        awaits_closing: bool = False,
        new_call_buffer: Callable[[], TextCallBuffer] | None = None,
    ) -> None:
        self.rejected: list[RejectedCall] = []
        self._tools = tools
        self._tags = set(used_tags)
        self._think_marks = think_marks
        self._awaits_closing = awaits_closing
        self._new_call_buffer = new_call_buffer
        self._texts: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolAction] = []
        self._text_index: int | None = None
        self._metadata = ResponseMetadata()
        self.start_round()

    def start_round(self, *, offers_tools: bool = True) -> None:
        """Begin with the lines of one more request; `offers_tools` is whether a text may be a call."""
        self._metadata.start_request()
        self._last: Mapping[str, Any] = {}
        self.had_unopened_thinking = False
        self._splitter = (
            ThinkTagSplitter(self._think_marks, awaits_closing=self._awaits_closing) if self._think_marks else None
        )
        self._offers_tools = offers_tools
        self._call_buffer = self._buffer_of_round()
        self.rejected = []
        self._round = (len(self._texts), len(self._thinking), len(self._calls))

    def discard_round(self) -> None:
        """Drop the text of the round, which was not published."""
        del self._texts[self._round[0] :]
        if not self._texts:
            self._text_index = None

    @property
    def text(self) -> str:
        """The text so far, with what is held back."""
        return "".join(self._texts) + ("" if self._call_buffer is None else self._call_buffer.held)

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
        """Accept the rejected calls after all, so that the framework reports them."""
        for call in self.rejected:
            name, path = ToolAction.from_native_tool_name(call.name)
            self._calls.append(ToolAction(tag=call.tag, name=name, path=path, input=dict(call.arguments)))
        self.rejected = []

    def replace_round_text(self, text: str) -> None:
        """Replace the text of the round by an equivalent one."""
        self._texts[self._round[0] :] = [text]

    def feed(self, line: Mapping[str, Any]) -> Sequence[BaseDeltaMessageContent]:
        """Parse one line, and return its deltas: thinking, text, then each call; none for what is held back.

        Raises:
            OllamaStreamError: The line is not one of a chat reply.
        """
        found = line.get("message")
        message: dict[str, Any] | None = found
        self._last = line
        if (
            type(message) is dict
            and len(message) == _PLAIN_MESSAGE_KEYS
            and len(line) == _PLAIN_LINE_KEYS
            and line.get("done") is False
            and "role" in message
            and "model" in line
            and "created_at" in line
            and type(text := message.get("content")) is str
        ):
            if not text:
                return _NOTHING
            if self._splitter is None and self._call_buffer is None and self._text_index is not None:
                # Nearly every line, without the calls that the rest needs.
                self._texts.append(text)
                return (TextDeltaMessageContent(text, index=self._text_index),)
            return self._feed_text(text)
        if isinstance(message, dict):
            return self._feed_more(line, message)
        if found is None and line.get("done"):
            self._metadata.add(line, {})
            return self._finish_text()
        raise _odd("message", found)

    def usage(self) -> DeltaMessage.Usage:
        """Return the tokens of prompts and replies of all rounds; None if the server did not count them."""
        return self._metadata.usage()

    def metadata(self, **more: Any) -> dict[str, Any]:
        """Return all fields of the reply beside text and calls, with durations in seconds.

        Args:
            more: Fields of the caller; left out where they are None.
        """
        known = {"model": self._last.get("model"), "created_at": self._last.get("created_at")}
        return self._metadata.to_dict({**known, **more}, "".join(self._thinking))

    def message(self, metadata: Mapping[str, Any]) -> Message:
        """Return the whole message; the artifact of each content has the metadata as `meta["ollama"]`.

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

    def _feed_text(self, text: Any) -> Sequence[BaseDeltaMessageContent]:
        if not isinstance(text, str):
            raise _odd("content", text)
        if self._splitter is None:
            return self._buffered_text(text)
        thinking, answer = self._splitter.feed(text)
        if self._splitter.is_done:
            self.had_unopened_thinking = self._splitter.was_unopened
            self._splitter = None
        return [*self._thinking_delta(thinking), *self._buffered_text(answer)]

    def _finish_text(self) -> Sequence[BaseDeltaMessageContent]:
        """Return the deltas of what was held back, and move thinking with a closing mark only out of the text."""
        deltas: list[BaseDeltaMessageContent] = []
        if self._splitter is not None:
            thinking, answer = self._splitter.finish(was_cut=self.was_cut)
            self.had_unopened_thinking = self._splitter.was_unopened
            deltas = [*self._thinking_delta(thinking), *self._buffered_text(answer)]
        deltas += self._finish_calls()
        if (answer := self._without_unopened_thinking()) is not None:
            del self._texts[self._round[0] :]
            if not self._texts:
                self._text_index = None
            self._call_buffer = self._buffer_of_round()
            self._buffered_text(answer)  # which was published
            deltas += [each for each in self._finish_calls() if not isinstance(each, TextDeltaMessageContent)]
        return deltas

    def _without_unopened_thinking(self) -> str | None:
        """Move the text before a closing mark without an opening one to the thinking, and return the rest.

        It was published as text, and is not published again. None if there is no such mark.
        """
        if not self._think_marks or self.round_thinking:
            return None
        text = self.round_text
        if (found := separate_unopened(text, self._think_marks)) is None or is_json_document(text):
            return None
        self.had_unopened_thinking = True
        self._thinking_delta(found[0])
        return found[1]

    def _buffer_of_round(self) -> TextCallBuffer | None:
        return self._new_call_buffer() if self._new_call_buffer is not None and self._offers_tools else None

    def _buffered_text(self, text: str) -> Sequence[BaseDeltaMessageContent]:
        """Return the text, unless it may be a call."""
        if self._call_buffer is None or not text:
            return self._text_delta(text)
        shown = self._call_buffer.feed(text)
        if self._call_buffer.is_released:
            self._call_buffer = None
        return self._text_delta(shown)

    def _finish_calls(self) -> Sequence[BaseDeltaMessageContent]:
        """Return the calls that the text consists of, or the text if it is not a call."""
        buffer, self._call_buffer = self._call_buffer, None
        if buffer is None:
            return _NOTHING
        calls = [] if self.round_calls or self.rejected else buffer.calls()
        if not calls:
            return self._text_delta(buffer.release())
        return [delta for call in calls for delta in self._feed_call({"function": call._asdict()})]

    def _text_delta(self, text: str) -> Sequence[BaseDeltaMessageContent]:
        if not text:
            return _NOTHING
        if self._text_index is None:
            self._text_index = len(self._calls)
        self._texts.append(text)
        return (TextDeltaMessageContent(text, index=self._text_index),)

    def _thinking_delta(self, text: str) -> Sequence[BaseDeltaMessageContent]:
        if not text:
            return _NOTHING
        first, before, calls = self._round
        if self._thinking and len(self._thinking) == before and not self._thinking[-1].endswith("\n"):
            self._thinking.append("\n")  # between the thinking of two rounds
            self._round = (first, before + 1, calls)
        self._thinking.append(text)
        return (ReasoningDeltaMessageContent(text),)

    def _feed_more(self, line: Mapping[str, Any], message: Mapping[str, Any]) -> Sequence[BaseDeltaMessageContent]:
        deltas: list[BaseDeltaMessageContent] = []
        if thinking := message.get("thinking"):
            if not isinstance(thinking, str):
                raise _odd("thinking", thinking)
            if self._splitter is not None:
                deltas += self._buffered_text(self._splitter.stop_waiting()[1])  # this server separates it
            deltas += self._thinking_delta(thinking)
        if content := message.get("content"):
            deltas += self._feed_text(content)
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list):
                raise _odd("tool_calls", calls)
            if self._call_buffer is not None:  # beside calls of the server, text is no call
                deltas += self._text_delta(self._call_buffer.release())
                self._call_buffer = None
            deltas += [delta for call in cast("list[Any]", calls) for delta in self._feed_call(call)]
        self._metadata.add(line, message)
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
                arguments = replace_surrogates_in(tools.arguments(native_name, given))
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


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: white space, control characters, and marks without a width."""
    return all(each.isspace() or category(each) in ("Cc", "Cf") for each in text)


def _new_tag() -> str:
    return f"call_{uuid.uuid4().hex[:8]}"


def _odd(what: str, value: Any) -> OllamaStreamError:
    return OllamaStreamError(f"The reply has a {what} that cannot be read: {repr(value)[:120]}.")
