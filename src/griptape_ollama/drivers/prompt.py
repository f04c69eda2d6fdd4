"""The prompt driver."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import attrs
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
from griptape_ollama.conversion.requests import merge_options, merge_stop, to_chat_request, with_options
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
from griptape_ollama.models.facts import DEFAULT_WINDOW, Facts
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.run import Run

_REQUEST_FIELDS = ("keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs")
_handed_over: ContextVar[Run | None] = ContextVar("handed_over_run", default=None)
_CHARACTERS_PER_TOKEN = 4  # as Griptape's built-in driver estimates


def _without_temperature(_: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Take the inherited field out of the constructor: what nobody chose must stay apart from a chosen 0.1.

    It stays a field in name, without which attrs would collect it again for subclasses.
    """
    hidden: dict[str, Any] = {
        "init": False,
        "default": attrs.NOTHING,
        "inherited": False,
        "repr": False,
        "eq": False,
        "metadata": {},
    }
    return [each.evolve(**hidden) if each.name == "temperature" else each for each in fields]


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
                max_input_tokens=_window(self.options),
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
        with self._tracked_run() as run:
            self.before_run(stack)
            if self.stream:
                message = self._run_streamed(stack, run)
            else:
                _handed_over.set(run)
                message = self.try_run(stack)
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
        with self._run_of_caller() as run:
            reply = self._reply_to(prompt_stack, run)
            for _ in reply.deltas():
                pass
            return reply.message()

    @observable
    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]:
        """Answer a prompt piece by piece; the last delta carries the usage. Leaving early stops the generation.

        Raises:
            OllamaError: Any kind of it.
        """
        with self._tracked_run() as run:
            reply = self._reply_to(prompt_stack, run)
            with contextlib.closing(reply.deltas()) as deltas:
                for delta in deltas:
                    yield DeltaMessage(content=delta)
            yield DeltaMessage(usage=reply.usage())

    def _run_of_caller(self) -> contextlib.AbstractContextManager[Run]:
        """Give the run that `run` handed over, or start one where `try_run` was called by itself."""
        run = _handed_over.get()
        _handed_over.set(None)
        return self._tracked_run() if run is None else contextlib.nullcontext(run)

    def _run_streamed(self, stack: PromptStack, run: Run) -> Message:
        reply = self._reply_to(stack, run)
        publish = ChunkPublisher().publish
        with contextlib.closing(reply.deltas()) as deltas:  # a listener may raise
            for delta in deltas:
                publish(delta)
        return reply.message()

    def _reply_to(self, stack: PromptStack, run: Run) -> PromptReply:
        request = self._request(stack, run)
        call = Call(self.connection, "/api/chat", request, run=run, policy=self.retrying())
        return PromptReply(call, ReplyReader(used_tags=_tags(stack)))

    def _request(self, stack: PromptStack, run: Run) -> dict[str, Any]:
        # What cannot be sent is refused before anything else happens.
        messages = to_chat_messages(stack.messages)
        extra = dict(self.extra_params or {})
        fields = {name: getattr(self, name) for name in _REQUEST_FIELDS}
        fields["format"] = self._format(stack)
        options = merge_options(
            fields={"num_predict": self.max_tokens}, options=self.options, extra=extra.pop("options", None)
        )
        request = to_chat_request(
            model=extra.pop("model", self.model),
            messages=extra.pop("messages", messages),
            tools=to_chat_tools(stack.tools) if self.use_native_tools else (),
            options=options,
            fields=fields,
            extra=extra,
        )
        # The rest depends on what the server tells of the model.
        run.guard.check()
        facts = Facts(self.connection, run).show(request["model"])
        if "temperature" not in options and (self._temperature is not None or "temperature" not in facts.parameters):
            request = with_options(request, temperature=self.temperature)
        stop = merge_stop(self._stop_sequences(stack), options.get("stop"), facts.parameters.get("stop"))
        return with_options(request, stop=stop)

    def _stop_sequences(self, stack: PromptStack) -> list[str]:
        # Every PromptTask adds its stop text to the tokenizer for good, but only ReAct text needs it.
        needs_react = bool(stack.tools) and not self.use_native_tools
        stops = self.tokenizer.stop_sequences
        return [stop for stop in stops if needs_react or stop != PromptTask.RESPONSE_STOP_SEQUENCE]

    def _format(self, stack: PromptStack) -> Any:
        if stack.output_schema is None or self.structured_output_strategy != "native":
            return self.format
        return to_format(stack)


def _window(options: dict[str, Any]) -> int:
    """Tokens of the window that the options ask for."""
    asked = options.get("num_ctx")
    return asked if isinstance(asked, int) and asked > 0 else DEFAULT_WINDOW


def _tags(stack: PromptStack) -> set[str]:
    return {
        content.artifact.value.tag
        for message in stack.messages
        for content in message.content
        if isinstance(content, ActionCallMessageContent)
    }
