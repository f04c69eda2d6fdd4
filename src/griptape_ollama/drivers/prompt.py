"""The prompt driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from attrs import Attribute, Factory, define, field
from griptape.artifacts import BaseArtifact
from griptape.common import (
    ActionCallMessageContent,
    DeltaMessage,
    Message,
    PromptStack,
    observable,
)
from griptape.drivers.prompt import BasePromptDriver
from griptape.events import EventBus
from griptape.tasks import PromptTask
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer

from griptape_ollama.conversion.messages import to_chat_messages
from griptape_ollama.conversion.replies import ReplyReader
from griptape_ollama.conversion.requests import merge_options, merge_stop, to_chat_request
from griptape_ollama.conversion.schemas import to_format
from griptape_ollama.conversion.tools import to_chat_tools
from griptape_ollama.drivers.chunks import ChunkPublisher
from griptape_ollama.drivers.reply import PromptReply, to_response_event
from griptape_ollama.drivers.server import OllamaServerMixin
from griptape_ollama.drivers.settings import (
    DEFAULT_TEMPERATURE,
    to_keep_alive,
    to_options,
    to_temperature,
)
from griptape_ollama.models.facts import DEFAULT_WINDOW, ModelFacts
from griptape_ollama.transport.call import Call

_REQUEST_FIELDS = ("keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs")
_CHARACTERS_PER_TOKEN = 4  # as Griptape's built-in driver estimates


def _without_temperature(_: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Drop the inherited field: what nobody chose must stay apart from a chosen 0.1."""
    return [field for field in fields if field.name != "temperature"]


@define(kw_only=True, slots=False, field_transformer=_without_temperature)
class OllamaPromptDriver(OllamaServerMixin, BasePromptDriver):
    """Answers prompts with a model served by Ollama.

    A request carries what is set and nothing else; `extra_params` win over fields, and `extra_params["options"]` over
    `options` over fields, key by key, at the time of the call.

    Attributes:
        model: Model name with its tag, for example `qwen3:0.6b`.
        temperature: Sent when it is set here, or when the model has none of its own; then it is 0.1.
        max_tokens: Longest reply, in tokens (`num_predict`).
        options: Model options by name, such as `num_ctx`, `seed` or `top_p`.
        keep_alive: How long the model stays loaded after the reply: seconds, a Go duration such as `"10m"`, a
            timedelta, 0 (unload now) or -1 (for good).
        think: Whether a thinking model thinks: True, False, or `low`, `medium`, `high`, `max`.
        format: `"json"` or a JSON schema that the reply must fit.
        truncate: False makes the server refuse a prompt that does not fit, rather than cut it.
        shift: False makes the server end a reply that outgrows the window, rather than drop the beginning.
        logprobs: Whether log probabilities of the tokens are returned, in `meta["ollama"]["logprobs"]`.
        top_logprobs: How many alternatives each of them lists, 0 to 20.
        extra_params: More fields of the request, unknown ones included; `options` in it are merged.
        use_native_tools: Whether tools are offered as functions; False describes them in the prompt (ReAct).
        tokenizer: Estimates tokens, for pruning conversation memory.
    """

    model: str = field(metadata={"serializable": True})
    _temperature: float | None = field(
        default=None,
        alias="temperature",
        converter=to_temperature,
        metadata={
            "serializable": True,
            "serialization_key": "_temperature",
            "deserialization_key": "temperature",
        },
    )
    options: dict[str, Any] = field(factory=dict[str, Any], converter=to_options, metadata={"serializable": True})
    keep_alive: Any | None = field(default=None, converter=to_keep_alive, metadata={"serializable": True})
    think: Any | None = field(default=None, metadata={"serializable": True})
    format: Any | None = field(default=None, metadata={"serializable": True})
    truncate: bool | None = field(default=None, metadata={"serializable": True})
    shift: bool | None = field(default=None, metadata={"serializable": True})
    logprobs: bool | None = field(default=None, metadata={"serializable": True})
    top_logprobs: int | None = field(default=None, metadata={"serializable": True})
    extra_params: dict[str, Any] = field(factory=dict[str, Any], metadata={"serializable": True})
    use_native_tools: bool = field(default=True, metadata={"serializable": True})
    tokenizer: BaseTokenizer = field(
        default=Factory(
            lambda self: SimpleTokenizer(
                characters_per_token=_CHARACTERS_PER_TOKEN,
                max_input_tokens=self.options.get("num_ctx") or DEFAULT_WINDOW,
                max_output_tokens=self.max_tokens,
            ),
            takes_self=True,
        )
    )

    @property
    def temperature(self) -> float:
        """The temperature that was set; 0.1 where none was."""
        return DEFAULT_TEMPERATURE if self._temperature is None else self._temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._temperature = value

    @observable(tags=["PromptDriver.run()"])
    def run(self, prompt_input: PromptStack | BaseArtifact) -> Message:
        """Answer a prompt, and publish events: start, chunks as they arrive if `stream`, response, finish.

        Raises:
            OllamaError: Any kind of it.
        """
        stack = PromptStack.from_artifact(prompt_input) if isinstance(prompt_input, BaseArtifact) else prompt_input
        self.before_run(stack)
        message = self._run_streamed(stack) if self.stream else self.try_run(stack)
        self.after_run(message)
        return message

    def after_run(self, result: Message) -> None:
        """Publish what the server told about the reply, then that the prompt is finished."""
        if (event := to_response_event(result)) is not None:
            EventBus.publish_event(event)
        super().after_run(result)

    @observable
    def try_run(self, prompt_stack: PromptStack) -> Message:
        """Answer a prompt without events.

        Raises:
            OllamaError: Any kind of it.
        """
        reply = self._reply_to(prompt_stack)
        for _ in reply.deltas():
            pass
        return reply.message()

    @observable
    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]:
        """Answer a prompt piece by piece; the last delta carries the usage. Leaving early stops the generation.

        Raises:
            OllamaError: Any kind of it.
        """
        reply = self._reply_to(prompt_stack)
        with contextlib.closing(reply.deltas()) as deltas:
            for delta in deltas:
                yield DeltaMessage(content=delta)
        yield DeltaMessage(usage=reply.usage())

    def _run_streamed(self, stack: PromptStack) -> Message:
        reply = self._reply_to(stack)
        publish = ChunkPublisher().publish
        with contextlib.closing(reply.deltas()) as deltas:  # a listener may raise
            for delta in deltas:
                publish(delta)
        return reply.message()

    def _reply_to(self, stack: PromptStack) -> PromptReply:
        call = Call(self.connection, "/api/chat", self._request(stack), limits=self.limits, policy=self.retrying())
        return PromptReply(call, ReplyReader(used_tags=_tags(stack)), self._running)

    def _request(self, stack: PromptStack) -> dict[str, Any]:
        messages = to_chat_messages(stack.messages)  # what cannot be sent is refused before anything else happens
        extra = dict(self.extra_params)
        model = extra.pop("model", self.model)
        facts = self.facts.show(model)
        options = merge_options(
            fields=self._option_fields(facts), options=self.options, extra=extra.pop("options", None)
        )
        options["stop"] = merge_stop(self._stop_sequences(stack), options.get("stop"), facts.parameters.get("stop"))
        fields = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        return to_chat_request(
            model=model,
            messages=extra.pop("messages", messages),
            tools=to_chat_tools(stack.tools) if self.use_native_tools else (),
            options=options,
            fields={**fields, "format": self._format(stack)},
            extra=extra,
        )

    def _option_fields(self, facts: ModelFacts) -> dict[str, Any]:
        """What the driver's own fields say about options."""
        has_own = self._temperature is None and "temperature" in facts.parameters
        return {
            "temperature": None if has_own else self.temperature,
            "num_predict": self.max_tokens,
        }

    def _stop_sequences(self, stack: PromptStack) -> list[str]:
        # Every PromptTask adds its stop text to the tokenizer for good, but only ReAct text needs it.
        needs_react = bool(stack.tools) and not self.use_native_tools
        stops = self.tokenizer.stop_sequences
        return [stop for stop in stops if needs_react or stop != PromptTask.RESPONSE_STOP_SEQUENCE]

    def _format(self, stack: PromptStack) -> Any:
        if stack.output_schema is None or self.structured_output_strategy != "native":
            return self.format
        return to_format(stack)


def _tags(stack: PromptStack) -> set[str]:
    return {
        content.artifact.value.tag
        for message in stack.messages
        for content in message.content
        if isinstance(content, ActionCallMessageContent)
    }
