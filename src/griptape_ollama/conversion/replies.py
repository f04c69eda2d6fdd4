"""Lines of a chat reply as deltas, and the message that they add up to. One way, streamed and plain alike."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

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

from griptape_ollama.errors import OllamaStreamError

META_KEY = "ollama"
"""Key of an artifact's `meta` under which the metadata of a reply stands."""

_NANOSECONDS = 1e9
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
_NOTHING: Sequence[BaseDeltaMessageContent] = ()


class ReplyReader:
    """Turns the lines of one reply into deltas, and keeps what they add up to.

    Text is one content, where its first piece stood; each call is a content of its own, in order.

    Args:
        used_tags: Tags of calls earlier in the conversation; a call never gets one of them again.
    """

    def __init__(self, used_tags: Collection[str] = ()) -> None:
        self._texts: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolAction] = []
        self._text_index: int | None = None
        self._tags = set(used_tags)
        self._rest: dict[str, Any] = {}
        self._last: Mapping[str, Any] = {}

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._texts)

    def feed(self, line: Mapping[str, Any]) -> Sequence[BaseDeltaMessageContent]:
        """Take one line and give its deltas: text first, then each call; none for what is not shown.

        Raises:
            OllamaStreamError: The line is not one of a chat reply.
        """
        message = line.get("message")
        self._last = line
        if not isinstance(message, dict):
            if message is None and line.get("done"):
                self._keep_rest(line, {})
                return _NOTHING
            raise _odd("message", message)
        message = cast("dict[str, Any]", message)
        content = message.get("content")
        is_plain = (
            len(line) == _PLAIN_LINE_KEYS
            and line.get("done") is False
            and "model" in line
            and "created_at" in line
            and len(message) == _PLAIN_MESSAGE_KEYS
            and "role" in message
            and "content" in message
        )
        if not is_plain:
            return self._feed_more(line, message, content)
        return self._feed_text(content) if content else _NOTHING

    def usage(self) -> DeltaMessage.Usage:
        """Tokens of prompt and reply; None where the server did not tell."""
        counts = (self._last.get(name) for name in ("prompt_eval_count", "eval_count"))
        tokens = [count if _is_number(count) else None for count in counts]
        return DeltaMessage.Usage(input_tokens=tokens[0], output_tokens=tokens[1])

    def metadata(self, **more: Any) -> dict[str, Any]:
        """Everything that the server told beside text and calls, with durations in seconds.

        Args:
            more: What the caller measured; left out where it is None.
        """
        known = {"model": self._last.get("model"), "created_at": self._last.get("created_at")}
        measured = {name: value for name, value in {**known, **more}.items() if value is not None}
        seconds = {
            name: self._rest[wire] / _NANOSECONDS
            for wire, name in _SECONDS_OF.items()
            if isinstance(self._rest.get(wire), (int, float))
        }
        rest = {name: value for name, value in self._rest.items() if _SECONDS_OF.get(name) not in seconds}
        metadata = {**measured, **rest, **seconds}
        if (rate := _tokens_per_second(metadata)) is not None:
            metadata["tokens_per_second"] = rate
        if self._thinking:
            metadata["thinking"] = "".join(self._thinking)
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

    def _feed_text(self, text: Any) -> Sequence[BaseDeltaMessageContent]:
        if not isinstance(text, str):
            raise _odd("content", text)
        if self._text_index is None:
            self._text_index = len(self._calls)
        self._texts.append(text)
        return (TextDeltaMessageContent(text, index=self._text_index),)

    def _feed_more(
        self, line: Mapping[str, Any], message: Mapping[str, Any], content: Any
    ) -> Sequence[BaseDeltaMessageContent]:
        deltas = [*self._feed_text(content)] if content else []
        if thinking := message.get("thinking"):
            if not isinstance(thinking, str):
                raise _odd("thinking", thinking)
            self._thinking.append(thinking)
        if calls := message.get("tool_calls"):
            if not isinstance(calls, list):
                raise _odd("tool_calls", calls)
            deltas += [self._feed_call(call) for call in cast("list[Any]", calls)]
        self._keep_rest(line, message)
        return deltas

    def _feed_call(self, call: Any) -> ActionCallDeltaMessageContent:
        function = call.get("function") if isinstance(call, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if not isinstance(function, dict):
            raise _odd("tool call", call)
        function = cast("dict[str, Any]", function)
        native_name = function.get("name")
        if not isinstance(native_name, str) or not native_name:
            raise _odd("name of a tool call", native_name)
        name, path = ToolAction.from_native_tool_name(native_name)
        arguments = _arguments(function.get("arguments"))
        tag = self._tag(cast("dict[str, Any]", call).get("id"))
        index = len(self._calls) + (self._text_index is not None)
        self._calls.append(ToolAction(tag=tag, name=name, path=path, input=arguments))
        return ActionCallDeltaMessageContent(
            tag=tag, name=name, path=path, partial_input=json.dumps(arguments), index=index
        )

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


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _new_tag() -> str:
    return f"call_{uuid.uuid4().hex[:8]}"


def _arguments(arguments: Any) -> dict[str, Any]:
    if arguments is None:
        return {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise _odd("arguments of a tool call", arguments) from None
    if not isinstance(arguments, dict):
        raise _odd("arguments of a tool call", arguments)
    return cast("dict[str, Any]", arguments)


def _tokens_per_second(metadata: Mapping[str, Any]) -> float | None:
    tokens, seconds = metadata.get("eval_count"), metadata.get("generation_seconds")
    return tokens / seconds if isinstance(tokens, int) and seconds else None


def _odd(what: str, value: Any) -> OllamaStreamError:
    return OllamaStreamError(f"The reply has a {what} that cannot be read: {repr(value)[:120]}.")
