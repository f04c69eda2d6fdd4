"""The prompt driver."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
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
from griptape.drivers.prompt.base_prompt_driver import StructuredOutputStrategy
from griptape.events import EventBus
from griptape.tasks import PromptTask
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer

from griptape_ollama.conversion.images import urls_to_fetch
from griptape_ollama.conversion.messages import to_chat_messages
from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent
from griptape_ollama.conversion.replies import ReplyReader
from griptape_ollama.conversion.requests import (
    check_settings,
    merge_options,
    merge_stop,
    to_chat_request,
)
from griptape_ollama.conversion.schemas import tell_schema, to_format
from griptape_ollama.conversion.tools import OfferedTools, to_chat_tools
from griptape_ollama.drivers.abilities import check_images, drop_thinking, is_cloud_model, note_denial, say_once
from griptape_ollama.drivers.async_calls import AsyncPromptMixin
from griptape_ollama.drivers.chunks import ChunkPublisher, are_chunks_wanted
from griptape_ollama.drivers.exchange import Exchange, Plan, to_response_event
from griptape_ollama.drivers.holding import TaskHold
from griptape_ollama.drivers.model_use import ModelUseMixin, model_of_environment
from griptape_ollama.drivers.observing import observable_stream
from griptape_ollama.drivers.recall import TurnMemory
from griptape_ollama.drivers.settings import (
    DEFAULT_TEMPERATURE,
    ON_EMPTY_RETRY,
    to_extra_params,
    to_keep_alive,
    to_model,
    to_on_empty,
    to_options,
    to_temperature,
)
from griptape_ollama.models.facts import DEFAULT_WINDOW, Facts, ModelFacts
from griptape_ollama.models.holds import HOLD_SECONDS, is_held, is_unloading
from griptape_ollama.models.planned import planned_keep_alive
from griptape_ollama.models.server import LIVE
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.download import MAX_BYTES, Download
from griptape_ollama.transport.run import Run

_REQUEST_FIELDS = ("keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs")
_handed_over: ContextVar[Run | None] = ContextVar("handed_over_run", default=None)
_CHARACTERS_PER_TOKEN = 4  # as Griptape's built-in driver estimates


def _without_replaced(_: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Take inherited fields that are properties here out of the constructor.

    What nobody chose must stay apart from what somebody did. They stay fields in name, without which attrs would
    collect them again for subclasses.
    """
    hidden: dict[str, Any] = {
        "init": False,
        "default": attrs.NOTHING,
        "inherited": False,
        "repr": False,
        "eq": False,
        "metadata": {},
    }
    return [each.evolve(**hidden) if each.name in ("temperature", "use_native_tools") else each for each in fields]


@define(kw_only=True, slots=False, field_transformer=_without_replaced)
class OllamaPromptDriver(AsyncPromptMixin, ModelUseMixin, BasePromptDriver):
    """Answers prompts with a model served by Ollama.

    A request carries what is set and nothing else; `extra_params` win over fields, and `extra_params["options"]` over
    `options` over fields, key by key, at the time of the call.

    Attributes:
        model: Model name with its tag, for example `qwen3:0.6b`; by default `OLLAMA_MODEL`, else the server's only chat
            model, which is looked for when it is first needed.
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
        use_native_tools: Whether tools are offered as functions; False describes them in the prompt (ReAct). By
            default, what the model can.
        structured_output_strategy: How an answer is made to fit the task's `output_schema`: `native` (the server's
            grammar; the default), `tool` or `rule`. Cloud models, which ignore a format, get `rule` for `native`.
        on_empty: `"retry_without_thinking"` asks again, once, when thinking used up all tokens.
        allow_private_image_urls: Whether images are fetched from this machine and from private networks, too.
        max_image_bytes: Largest image that is fetched from a URL, in bytes.
        separate_think_tags: Whether `<think>...</think>` before the answer is taken for thinking.
        tokenizer: Estimates tokens, for pruning conversation memory.
    """

    model: str = field(factory=model_of_environment, converter=to_model, metadata={"serializable": True})
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
    extra_params: dict[str, Any] = field(
        factory=dict[str, Any], converter=to_extra_params, metadata={"serializable": True}
    )
    _use_native_tools: Any | None = field(
        default=None,
        alias="use_native_tools",
        metadata={
            "serializable": True,
            "serialization_key": "_use_native_tools",
            "deserialization_key": "use_native_tools",
        },
    )
    structured_output_strategy: StructuredOutputStrategy = field(default="native", metadata={"serializable": True})
    on_empty: str | None = field(default=None, converter=to_on_empty, metadata={"serializable": True})
    allow_private_image_urls: bool = field(default=False, metadata={"serializable": True})
    max_image_bytes: int = field(default=MAX_BYTES, metadata={"serializable": True})
    separate_think_tags: bool = field(default=True, metadata={"serializable": True})
    tokenizer: BaseTokenizer = field(
        default=Factory(
            lambda self: SimpleTokenizer(
                characters_per_token=_CHARACTERS_PER_TOKEN,
                # A subclass that declares one of these anew moves it behind this field.
                max_input_tokens=_window(getattr(self, "options", {})),
                max_output_tokens=getattr(self, "max_tokens", None),
            ),
            takes_self=True,
        )
    )
    _turns: TurnMemory = field(factory=TurnMemory, init=False, repr=False, eq=False, metadata=LIVE)

    @property
    def temperature(self) -> float:
        """The temperature that was set; 0.1 where none was."""
        return DEFAULT_TEMPERATURE if self._temperature is None else self._temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._temperature = value

    @property
    def use_native_tools(self) -> bool:
        """Whether tools are offered as functions: what was set, else what the model can."""
        if self._use_native_tools is not None:
            return bool(self._use_native_tools)
        run = self._new_run()
        return Facts(self.connection, run).show(self._model(run)).can("tools")

    @use_native_tools.setter
    def use_native_tools(self, value: bool | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._use_native_tools = value

    @observable(tags=["PromptDriver.run()"])
    def run(self, prompt_input: PromptStack | BaseArtifact) -> Message:
        """Answer a prompt, and publish events: start, chunks as they arrive if `stream`, response, finish.

        Raises:
            OllamaError: Any kind of it.
        """
        stack = PromptStack.from_artifact(prompt_input) if isinstance(prompt_input, BaseArtifact) else prompt_input
        with self._tracked_run() as run:
            self._model(run)
            with _handing_over(run):
                self.before_run(stack)
            if self.stream or are_chunks_wanted():
                message = self._run_streamed(stack, run)
            else:
                with _handing_over(run):
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
            exchange = self._exchange(prompt_stack, run)
            for _ in exchange.deltas():
                pass
            return exchange.message()

    @observable_stream
    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]:
        """Answer a prompt piece by piece; the last delta carries the usage. Leaving early stops the generation.

        Raises:
            OllamaError: Any kind of it.
        """
        with self._tracked_run() as run:
            exchange = self._exchange(prompt_stack, run)
            with contextlib.closing(exchange.deltas()) as deltas:
                for delta in deltas:
                    if not isinstance(delta, ReasoningDeltaMessageContent):  # the framework knows no such content
                        yield DeltaMessage(content=delta)
            yield DeltaMessage(usage=exchange.usage())

    def _run_of_caller(self) -> contextlib.AbstractContextManager[Run]:
        """Give the run that `run` handed over, or start one where this was called by itself."""
        run = _handed_over.get()
        _handed_over.set(None)
        return self._tracked_run() if run is None else contextlib.nullcontext(run)

    @observable
    def _run_streamed(self, stack: PromptStack, run: Run) -> Message:
        exchange = self._exchange(stack, run)
        publish = ChunkPublisher().publish
        with contextlib.closing(exchange.deltas()) as deltas:  # a listener may raise
            for delta in deltas:
                publish(delta)
        return exchange.message()

    def _model(self, run: Run) -> str:
        """Give the name of the model; found out now where none was given."""
        if not self.model:
            self.model = self._chosen_model(run)
        return self.model

    def _exchange(self, stack: PromptStack, run: Run) -> Exchange:
        facts = Facts(self.connection, run)
        plan = self._plan(stack, run, facts)
        reader = ReplyReader(
            tools=OfferedTools(plan.request["tools"]) if "tools" in plan.request else None,
            used_tags=_tags(stack),
            separate_think_tags=self.separate_think_tags,
        )
        return Exchange(
            plan,
            lambda request: Call(self.connection, "/api/chat", request, run=run, policy=self.retrying()),
            reader=reader,
            turns=self._turns,
            hold=TaskHold.of_task(self.connection, plan.request["model"]) if plan.holds_model else None,
            refused=lambda refusal: note_denial(refusal, facts),
        )

    def _plan(self, stack: PromptStack, run: Run, facts: Facts) -> Plan:
        extra = dict(self.extra_params)
        model = extra.pop("model", None) or self._model(run)
        options = merge_options(
            fields={"num_predict": self.max_tokens}, options=self.options, extra=extra.pop("options", None)
        )
        fields = {name: getattr(self, name) for name in (*_REQUEST_FIELDS, "format")}
        # What cannot be sent is refused before anything is asked.
        urls = urls_to_fetch(stack.messages)
        messages = extra.pop("messages", None)
        if messages is None and not urls:
            messages = self._messages(stack)
        check_settings(messages=[{}] if messages is None else messages, options=options, fields=fields, extra=extra)
        run.check()
        self._see_to(model, run)
        known = facts.show(model)
        check_images([{"images": urls}] if messages is None and urls else messages or [], model, known)
        if messages is None:
            messages = self._messages(stack, {url: self._fetched(url, run) for url in urls})
        offers_tools = known.can("tools") if self._use_native_tools is None else bool(self._use_native_tools)
        needs_react = bool(stack.tools) and not offers_tools
        wanted = self._wanted_format(stack, known)
        must_wait = wanted is not None and bool(stack.tools)
        if wanted is not None:
            fields["format"] = None if must_wait else wanted
        if needs_react and self._use_native_tools is None:
            say_once(f"Model {model!r} has no tools: they are described in the prompt (ReAct).", self.connection)
        request = to_chat_request(
            model=model,
            messages=messages,
            tools=to_chat_tools(stack.tools) if offers_tools else (),
            options=self._completed(options, known.parameters, needs_react=needs_react),
            fields=fields,
            extra=extra,
        )
        drop_thinking(request, known, self.connection)
        planned = planned_keep_alive(self.connection, model)
        if planned is not None:
            request["keep_alive"] = planned
        holds_model = self._holds_model(request, stack)
        if holds_model:
            request["keep_alive"] = HOLD_SECONDS
        return Plan(
            request,
            holds_model=holds_model,
            is_audited=self.audit_requests,
            output_schema=stack.output_schema if self._holds_answers_to_schema(stack, known) else None,
            withheld_format=wanted if must_wait else None,
            is_react=needs_react,
            retry_without_thinking=self.on_empty == ON_EMPTY_RETRY,
        )

    def _holds_model(self, request: Mapping[str, Any], stack: PromptStack) -> bool:
        """Whether more requests may follow, before which a keep_alive of 0 would make the server unload the model."""
        may_go_on = bool(stack.tools) or stack.output_schema is not None or self.on_empty is not None
        return is_unloading(request.get("keep_alive")) and (may_go_on or is_held(self.connection, request["model"]))

    def _completed(self, options: dict[str, Any], own: Mapping[str, Any], *, needs_react: bool) -> dict[str, Any]:
        """Add the temperature and the stop texts, which leave alone what the model brings of its own."""
        completed = dict(options)
        if "temperature" not in options and (self._temperature is not None or "temperature" not in own):
            completed["temperature"] = self.temperature
        needed = self._stop_sequences(needs_react=needs_react)
        completed["stop"] = merge_stop(needed, options.get("stop"), own.get("stop"))
        return completed

    def _messages(self, stack: PromptStack, fetched: dict[str, bytes] | None = None) -> list[dict[str, Any]]:
        return to_chat_messages(stack.messages, recall=self._turns.find, fetched=fetched)

    def _fetched(self, url: str, run: Run) -> bytes:
        return Download(
            url, run=run, allow_private=self.allow_private_image_urls, max_bytes=self.max_image_bytes
        ).read()

    def _stop_sequences(self, *, needs_react: bool) -> list[str]:
        # Every PromptTask adds its stop text to the tokenizer for good, but only ReAct text needs it.
        stops = self.tokenizer.stop_sequences
        return [stop for stop in stops if needs_react or stop != PromptTask.RESPONSE_STOP_SEQUENCE]

    def _init_structured_output(self, prompt_stack: PromptStack) -> None:
        with self._run_of_caller() as run:
            if prompt_stack.output_schema is None:
                return
            strategy = self._strategy(Facts(self.connection, run).show(self.model))
        if strategy == "rule":
            tell_schema(prompt_stack)
        else:
            super()._init_structured_output(prompt_stack)

    def _strategy(self, facts: ModelFacts) -> StructuredOutputStrategy:
        """The strategy in use: a cloud model ignores a format, so that it has to be told in words."""
        is_native = self.structured_output_strategy == "native"
        return "rule" if is_native and is_cloud_model(self.model, facts) else self.structured_output_strategy

    def _wanted_format(self, stack: PromptStack, facts: ModelFacts) -> dict[str, Any] | None:
        """The format that the answer needs; None where none does it."""
        is_native = stack.output_schema is not None and self._strategy(facts) == "native"
        return to_format(stack) if is_native else None

    def _holds_answers_to_schema(self, stack: PromptStack, facts: ModelFacts) -> bool:
        return stack.output_schema is not None and self._strategy(facts) in ("native", "rule")


@contextlib.contextmanager
def _handing_over(run: Run) -> Generator[None, None, None]:
    """Let what is called here go on in a run; nothing of it stays behind, taken or not."""
    before = _handed_over.set(run)
    try:
        yield
    finally:
        _handed_over.reset(before)


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
