"""The result of a run of a driver, and the result expected from the lines of a recording."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from griptape.common import ActionCallMessageContent, Message, PromptStack, TextMessageContent
from griptape.events import (
    ActionChunkEvent,
    BaseEvent,
    EventListener,
    FinishPromptEvent,
    StartPromptEvent,
    TextChunkEvent,
)

from griptape_ollama import OllamaError, OllamaPromptDriver, OllamaResponseEvent, ReasoningChunkEvent

_SECONDS = {
    "total_duration": "total_seconds",
    "load_duration": "load_seconds",
    "prompt_eval_duration": "prompt_seconds",
    "eval_duration": "generation_seconds",
}
_CHUNKS = (TextChunkEvent, ActionChunkEvent, ReasoningChunkEvent)
SPENT_ON_THINKING = "The reply was cut, its tokens were used up by thinking: raise max_tokens (num_predict)."
SPENT_ON_A_CALL = (
    "The reply was cut, its tokens were used up by what may have been a tool call: raise max_tokens (num_predict)."
)
ENDED_EMPTY = (
    "The reply ended with neither text nor a tool call: ask again, set think=False, or let "
    'on_empty="retry_without_thinking" do both.'
)


@dataclass
class Run:
    """One run of a driver: its message or its error, and the events that a listener saw."""

    message: Message | None = None
    error: OllamaError | None = None
    events: list[BaseEvent] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text that a listener saw, piece by piece."""
        return "".join(event.token for event in self.of(TextChunkEvent))

    @property
    def thinking(self) -> str:
        """The thinking that a listener saw, piece by piece."""
        return "".join(event.token for event in self.of(ReasoningChunkEvent))

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def frame(self) -> list[type[BaseEvent]]:
        """The kinds of events around the chunks."""
        return [type(event) for event in self.events if not isinstance(event, _CHUNKS)]

    def chunks(self) -> list[tuple[Any, ...]]:
        """The chunks that a listener saw, in order."""
        return [_chunk(event) for event in self.events if isinstance(event, _CHUNKS)]


def _chunk(event: Any) -> tuple[Any, ...]:
    if isinstance(event, ReasoningChunkEvent):
        return ("thinking", event.token)
    if isinstance(event, TextChunkEvent):
        return ("text", event.token, event.index)
    return ("call", event.tag, event.name, event.path, json.loads(event.partial_input or ""), event.index)


WHOLE_RUN = [StartPromptEvent, OllamaResponseEvent, FinishPromptEvent]
BROKEN_RUN = [StartPromptEvent]


def prompt(text: str = "hi") -> PromptStack:
    stack = PromptStack()
    stack.add_user_message(text)
    return stack


def new_driver(host: str, *, model: str = "tiny-chat", **settings: Any) -> OllamaPromptDriver:
    """A driver for a server without TLS: it need not load the system's certificates, which takes a while each time."""
    return OllamaPromptDriver(model=model, host=host, **{"verify": False, **settings})


def run(driver: OllamaPromptDriver, stack: PromptStack | None = None) -> Run:
    """Run a driver, and record its message, error and events."""
    result = Run()
    # The listener returns None: a returned event would be published.
    with EventListener(lambda event: result.events.append(event)):  # noqa: PLW0108 # append returns None
        try:
            result.message = driver.run(stack or prompt())
        except OllamaError as error:
            result.error = error
    return result


@dataclass(frozen=True)
class Facts:
    """Contents, usage and metadata of a reply."""

    contents: Sequence[tuple[Any, ...]]
    usage: tuple[int | None, int | None]
    meta: Mapping[str, Any]


def facts_of(message: Message) -> Facts:
    """Return the facts of a message. The time to first token is measured, not recorded: it is checked and omitted."""
    metas = [dict(content.artifact.meta["ollama"]) for content in message.content]
    for meta in metas:
        assert meta.pop("time_to_first_token") >= 0
        is_whole = meta.get("done_reason") != "length"
        assert meta.pop("complete") is is_whole
        assert (meta.pop("cut_by", None) is None) is is_whole
        assert meta.pop("truncated") is False
        assert meta.pop("context")["window"] > 0
    assert all(meta == metas[0] for meta in metas)
    assert message.role == "assistant"
    return Facts(
        contents=[_taken_apart(content) for content in message.content],
        usage=(message.usage.input_tokens, message.usage.output_tokens),
        meta=metas[0],
    )


def _taken_apart(content: Any) -> tuple[Any, ...]:
    if isinstance(content, ActionCallMessageContent):
        action = content.artifact.value
        return ("call", action.tag, action.name, action.path, action.input)
    assert isinstance(content, TextMessageContent)
    return ("text", content.artifact.value)


def expected_facts(lines: Sequence[Mapping[str, Any]], host: str) -> Facts:
    """Return the facts that the lines of a reply contain."""
    last = lines[-1]
    chunks = expected_chunks(lines)
    contents: list[tuple[Any, ...]] = []
    for chunk in chunks:
        if chunk[0] == "call":
            contents.append(chunk[:-1])
        elif chunk[0] == "text" and not any(content[0] == "text" for content in contents):
            contents.append(("text", "".join(chunk[1] for chunk in chunks if chunk[0] == "text")))
    meta: dict[str, Any] = {"host": host, "model": last["model"], "created_at": last["created_at"]}
    for key in ("done_reason", "prompt_eval_count", "eval_count"):
        meta[key] = last[key]
    for key, seconds in _SECONDS.items():
        meta[seconds] = last[key] / 1_000_000_000
    meta["tokens_per_second"] = last["eval_count"] / (last["eval_duration"] / 1_000_000_000)
    if thinking := "".join(line["message"].get("thinking", "") for line in lines):
        meta["thinking"] = thinking
    if last["done_reason"] == "length" and not contents:
        meta["problem"] = SPENT_ON_THINKING if thinking else SPENT_ON_A_CALL
    elif not contents:
        meta["problem"] = ENDED_EMPTY
    if any("logprobs" in line for line in lines):
        meta["logprobs"] = [entry for line in lines for entry in line.get("logprobs", [])]
    return Facts(
        contents=contents or [("text", "")],
        usage=(last["prompt_eval_count"], last["eval_count"]),
        meta=meta,
    )


def expected_chunks(lines: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """The chunks of a reply: in each line thinking, text, then calls; all text is one content, each call its own."""
    chunks: list[tuple[Any, ...]] = []
    indexes: dict[str, int] = {}
    for line in lines:
        message = line["message"]
        if message.get("thinking"):
            chunks.append(("thinking", message["thinking"]))
        if message["content"]:
            chunks.append(("text", message["content"], indexes.setdefault("text", len(indexes))))
        for call in message.get("tool_calls", []):
            name, path = call["function"]["name"].split("_", 1)
            index = indexes.setdefault(call["id"], len(indexes))
            chunks.append(("call", call["id"], name, path, call["function"]["arguments"], index))
    return chunks
