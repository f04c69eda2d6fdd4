"""Events of this package, beside those of the framework."""

from __future__ import annotations

import math

from attrs import define, field
from griptape.events import BaseChunkEvent, BaseEvent


def _module_of_this() -> str:
    return __name__


@define(kw_only=True)
class ReasoningChunkEvent(BaseChunkEvent):
    """A piece of what the model thinks, as it arrives. `griptape.utils.Stream` shows the answer only.

    Attributes:
        token: The piece.
    """

    token: str = field(metadata={"serializable": True})
    module_name: str = field(factory=_module_of_this, metadata={"serializable": True})

    def __str__(self) -> str:
        """Return the piece."""
        return self.token


@define(kw_only=True)
class OllamaResponseEvent(BaseEvent):
    """Published once per reply, after its last token: what the server reports about it.

    Attributes:
        model: Model that answered, as the server spells it.
        host: Address of the server, without user and password.
        done_reason: Why the reply ended: `stop`, or `length` when it was cut.
        input_tokens: Tokens of the whole prompt, cached or not; None if the server does not report it.
        cached_tokens: Those of the input tokens that the server need not read again; None if it does not report it.
        output_tokens: Tokens of the reply.
        total_seconds: From the server's receiving the request to its last token.
        load_seconds: Loading the model.
        prompt_seconds: Reading the prompt.
        generation_seconds: Writing the reply.
        tokens_per_second: Output tokens divided by generation seconds.
        time_to_first_token: Seconds from sending the request to the first output, measured here.
        complete: Whether the reply is whole: False when it was cut.
        truncated: Whether the server cut the prompt, or forgot its beginning while it wrote the reply.
        window: Tokens of the model's context window; None if it is not known.
    """

    model: str = field(metadata={"serializable": True})
    host: str = field(metadata={"serializable": True})
    done_reason: str | None = field(default=None, metadata={"serializable": True})
    input_tokens: int | None = field(default=None, metadata={"serializable": True})
    cached_tokens: int | None = field(default=None, metadata={"serializable": True})
    output_tokens: int | None = field(default=None, metadata={"serializable": True})
    total_seconds: float | None = field(default=None, metadata={"serializable": True})
    load_seconds: float | None = field(default=None, metadata={"serializable": True})
    prompt_seconds: float | None = field(default=None, metadata={"serializable": True})
    generation_seconds: float | None = field(default=None, metadata={"serializable": True})
    tokens_per_second: float | None = field(default=None, metadata={"serializable": True})
    time_to_first_token: float | None = field(default=None, metadata={"serializable": True})
    complete: bool | None = field(default=None, metadata={"serializable": True})
    truncated: bool | None = field(default=None, metadata={"serializable": True})
    window: int | None = field(default=None, metadata={"serializable": True})
    # Stored, since loading would otherwise search the class among Griptape's own.
    module_name: str = field(factory=_module_of_this, metadata={"serializable": True})


@define(kw_only=True)
class OllamaEmbeddingEvent(BaseEvent):
    """Published once per reply with vectors: what the server reports about it.

    Attributes:
        model: Model that answered, as the server spells it.
        host: Address of the server, without user and password.
        texts: How many texts the request had.
        input_tokens: Tokens of all texts; None if the server does not report it.
        total_seconds: From the server's receiving the request to its last vector.
        load_seconds: Loading the model.
    """

    model: str = field(metadata={"serializable": True})
    host: str = field(metadata={"serializable": True})
    texts: int = field(metadata={"serializable": True})
    input_tokens: int | None = field(default=None, metadata={"serializable": True})
    total_seconds: float | None = field(default=None, metadata={"serializable": True})
    load_seconds: float | None = field(default=None, metadata={"serializable": True})
    # Stored, since loading would otherwise search the class among Griptape's own.
    module_name: str = field(factory=_module_of_this, metadata={"serializable": True})


@define(kw_only=True)
class OllamaProgressEvent(BaseEvent):
    """Published while a model is pulled, pushed or created: how far it is.

    Attributes:
        action: `pull`, `push` or `create`.
        model: Model, as it was asked for.
        host: Address of the server, without user and password.
        status: What the server is doing, in its words.
        digest: File that it is about; None if it is about none.
        completed: Bytes that are there, of all files that the server has named. It never falls.
        total: Bytes of these files together. It grows as the server names more of them.
    """

    action: str = field(metadata={"serializable": True})
    model: str = field(metadata={"serializable": True})
    host: str = field(metadata={"serializable": True})
    status: str = field(metadata={"serializable": True})
    digest: str | None = field(default=None, metadata={"serializable": True})
    completed: int = field(default=0, metadata={"serializable": True})
    total: int = field(default=0, metadata={"serializable": True})
    # Stored, since loading would otherwise search the class among Griptape's own.
    module_name: str = field(factory=_module_of_this, metadata={"serializable": True})

    @property
    def share(self) -> float | None:
        """Share of the bytes that are there, from 0 to 1 whatever the server counts; None before it counts any."""
        if not self.total > 0:
            return None
        share = min(max(self.completed, 0), self.total) / self.total
        return None if math.isnan(share) else share


@define(kw_only=True)
class OllamaContextEvent(BaseEvent):
    """Published when something happens to a model's context window, or to what does not fit into it.

    Attributes:
        kind: `grown` (a larger window was asked for), `trimmed` (old turns were not sent, and not the same as in the
            last prompt of the conversation), `truncated` (the server cut the prompt), `shifted` (the window moved on
            while the model wrote, so that it forgot the beginning) or `cut` (the reply ended before it was complete).
        model: Model, as it was asked for.
        host: Address of the server, without user and password.
        text: What happened, and what to do, for people.
        is_sure: Whether it is certain, rather than likely.
        estimated_tokens: Tokens of the prompt, as they were estimated before.
        prompt_tokens: Tokens of the prompt that the server read; None if it does not report it.
        output_tokens: Tokens of the reply; None likewise.
        window: Tokens of the window.
        window_before: Tokens of the window before it grew.
        dropped_messages: How many messages were not sent.
        dropped_tokens: Tokens of these, estimated.
        cut_by: What ended the reply: `max_tokens`, `window` or `unknown`; None if it was not cut.
    """

    kind: str = field(metadata={"serializable": True})
    model: str = field(metadata={"serializable": True})
    host: str = field(metadata={"serializable": True})
    text: str = field(metadata={"serializable": True})
    is_sure: bool = field(default=True, metadata={"serializable": True})
    estimated_tokens: int | None = field(default=None, metadata={"serializable": True})
    prompt_tokens: int | None = field(default=None, metadata={"serializable": True})
    output_tokens: int | None = field(default=None, metadata={"serializable": True})
    window: int | None = field(default=None, metadata={"serializable": True})
    window_before: int | None = field(default=None, metadata={"serializable": True})
    dropped_messages: int = field(default=0, metadata={"serializable": True})
    dropped_tokens: int = field(default=0, metadata={"serializable": True})
    cut_by: str | None = field(default=None, metadata={"serializable": True})
    # Stored, since loading would otherwise search the class among Griptape's own.
    module_name: str = field(factory=_module_of_this, metadata={"serializable": True})
