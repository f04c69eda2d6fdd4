"""What a prompt driver asks for: its settings, and the request that it makes of them and of a prompt."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import attrs
from attrs import Attribute, define, field
from griptape.common import PromptStack
from griptape.drivers.prompt import BasePromptDriver
from griptape.drivers.prompt.base_prompt_driver import StructuredOutputStrategy
from griptape.tasks import PromptTask

from griptape_ollama.context.request_fitting import ContextTracker, RequestFitter
from griptape_ollama.conversion.images import check_images, images_of, input_of, urls_to_fetch
from griptape_ollama.conversion.messages import merge_system_messages, to_chat_groups
from griptape_ollama.conversion.reasoning import to_think_marks
from griptape_ollama.conversion.requests import (
    check_settings,
    merge_options,
    merge_stop,
    to_chat_request,
)
from griptape_ollama.conversion.schemas import AnswerRule, to_format
from griptape_ollama.conversion.tool_history import TurnMemory
from griptape_ollama.conversion.tools import OfferedTools, to_chat_tools
from griptape_ollama.drivers.answer_checks import Wanted
from griptape_ollama.drivers.capabilities import check_think_level, drop_thinking, say_once, without_images
from griptape_ollama.drivers.completion import Plan
from griptape_ollama.drivers.context_use import ContextMixin
from griptape_ollama.drivers.model_use import ModelUseMixin, model_of_environment
from griptape_ollama.drivers.observed_model import awaits_closing_mark
from griptape_ollama.drivers.settings import (
    DEFAULT_TEMPERATURE,
    ON_EMPTY_RETRY,
    to_extra_params,
    to_keep_alive,
    to_model,
    to_on_empty,
    to_options,
    to_parse_text_calls,
    to_separate_think_tags,
    to_tell_schema,
    to_temperature,
)
from griptape_ollama.models.field_overrides import chosen
from griptape_ollama.models.keep_alive_leases import LEASE_SECONDS, is_leased, is_unloading, keep_alive_override
from griptape_ollama.models.metadata_cache import ModelMetadata, ServerMetadata, is_cloud_model
from griptape_ollama.models.model_quirks import IGNORES_FORMAT
from griptape_ollama.models.server import LIVE
from griptape_ollama.protocol.numbers import simplified, to_python
from griptape_ollama.transport.download import MAX_BYTES, Download
from griptape_ollama.transport.run import Run

_REQUEST_FIELDS = ("keep_alive", "think", "truncate", "shift", "logprobs", "top_logprobs")


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
    replaced = ("temperature", "use_native_tools", "tokenizer")
    return [each.evolve(**hidden) if each.name in replaced else each for each in fields]


@define(kw_only=True, slots=False, field_transformer=_without_replaced)
class PlanningPromptDriver(ContextMixin, ModelUseMixin, BasePromptDriver):  # pyright: ignore[reportIncompatibleVariableOverride]
    """Knows what to ask for.

    Attributes:
        model: Model name with its tag, for example `qwen3:0.6b`; by default `OLLAMA_MODEL`, else the server's only chat
            model, which is looked for when it is first needed.
        temperature: Sent when it is set here, or when the model has none of its own; then it is 0.1.
        max_tokens: Longest reply, in tokens (`num_predict`).
        options: Model options by name, such as `num_ctx`, `seed` or `top_p`.
        keep_alive: How long the model stays loaded after the reply: seconds, a Go duration such as `"10m"`, a
            timedelta, 0 (unload now) or -1 (for good).
        think: Whether a thinking model thinks: True, False, or a level of its own, such as `low` or `high`.
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
        on_empty: `"retry_without_thinking"` asks again, once, when a reply has neither text nor a call.
        allow_private_image_urls: Whether images are fetched from this machine and from private networks, too.
        max_image_bytes: Largest image that is fetched from a URL, in bytes.
        tell_schema: Whether the model is told the schema that its answer must fit in the system message, also where the
            server's grammar enforces it: a grammar knows no descriptions. False saves the tokens.
        separate_think_tags: Which marks around thinking before the answer are taken for such: True (all that are known:
            `<think>`, `<thinking>`, `<thought>`, `[THINK]`, and the channels of harmony), False, or a list of opening
            marks, `"harmony"`, and pairs of an opening and a closing mark.
        parse_text_calls: Whether a reply that is nothing but the text of a call, of a tool that was offered and as its
            schema wants it, is that call.
        tokenizer: Counts tokens; by default an OllamaTokenizer, which estimates them and learns from each reply.
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
    think: Any | None = field(default=None, converter=simplified, metadata={"serializable": True})
    format: Any | None = field(default=None, metadata={"serializable": True})
    truncate: bool | None = field(default=None, converter=simplified, metadata={"serializable": True})
    shift: bool | None = field(default=None, converter=simplified, metadata={"serializable": True})
    logprobs: bool | None = field(default=None, converter=simplified, metadata={"serializable": True})
    top_logprobs: int | None = field(default=None, converter=simplified, metadata={"serializable": True})
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
    allow_private_image_urls: bool = field(default=False, converter=to_python, metadata={"serializable": True})
    max_image_bytes: int = field(default=MAX_BYTES, converter=simplified, metadata={"serializable": True})
    tell_schema: bool = field(default=True, converter=to_tell_schema, metadata={"serializable": True})
    separate_think_tags: Any | None = field(
        default=True, converter=to_separate_think_tags, metadata={"serializable": True}
    )
    parse_text_calls: bool = field(default=True, converter=to_parse_text_calls, metadata={"serializable": True})
    _turns: TurnMemory = field(factory=TurnMemory, init=False, repr=False, eq=False, metadata=LIVE)

    @property
    def temperature(self) -> float:
        """The temperature that was set; 0.1 where none was."""
        return DEFAULT_TEMPERATURE if self._temperature is None else self._temperature

    @temperature.setter
    def temperature(self, value: float | None) -> None:
        self._temperature = value

    @temperature.deleter
    def temperature(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        del self._temperature

    @property
    def use_native_tools(self) -> bool:
        """Whether tools are offered as functions: what was set, else what the model can."""
        if self._use_native_tools is not None:
            return bool(self._use_native_tools)
        run = self._new_run()
        return ServerMetadata(self.connection, run).show(self._model(run)).can("tools")

    @use_native_tools.setter
    def use_native_tools(self, value: bool | None) -> None:
        self._use_native_tools = value

    @use_native_tools.deleter
    def use_native_tools(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        del self._use_native_tools

    def _model(self, run: Run) -> str:
        """Give the name of the model; found out now where none was given."""
        if not self.model:
            self.model = self._chosen_model(run)
        return self.model

    def _plan(self, stack: PromptStack, run: Run, metadata: ServerMetadata, *, is_preview: bool = False) -> Plan:
        """Make the request for a stack.

        Args:
            stack: The prompt.
            run: The run that it is for.
            metadata: What the server tells.
            is_preview: Whether it is not going to be sent: then nothing is pulled, decided or said.

        Raises:
            OllamaError: It cannot be sent.
        """
        extra = {name: value for name, value in self.extra_params.items() if name not in ("model", "options")}
        model = to_model(self.extra_params.get("model")) or self._model(run)
        options = self._asked_options()
        fields = {name: getattr(self, name) for name in (*_REQUEST_FIELDS, "format")}
        # What cannot be sent is refused before anything is asked.
        given = extra.pop("messages", None)
        images = images_of(stack.messages) if given is None else ()
        check_images(images_of(input_of(stack.messages)) if images else ())
        groups = self._messages(stack, reads_images=False) if given is None else []
        messages = _flat(groups) if given is None else given
        check_settings(messages=messages, options=options, fields=fields, extra=extra)
        run.check()
        if not is_preview:
            self._see_to(model, run)
        known = metadata.show(model)
        if not known.can("vision"):
            messages = without_images(messages, model, self.connection)
        elif images:
            messages = _flat(self._messages(stack, {url: self._fetched(url, run) for url in urls_to_fetch(images)}))
        native_tools = chosen(self, "use_native_tools", PlanningPromptDriver.use_native_tools)
        offers_tools = known.can("tools") if native_tools is None else bool(native_tools)
        needs_react = bool(stack.tools) and not offers_tools
        has_tools = bool(stack.tools) or bool(extra.get("tools"))
        wanted, fields["format"] = self._wanted(stack, known, has_tools=has_tools)
        extra.pop("format", None)
        if needs_react and native_tools is None:
            say_once(f"Model {model!r} has no tools: they are described in the prompt (ReAct).", self.connection)
        tools = to_chat_tools(stack.tools if offers_tools else ())
        for failure in tools.failures:
            say_once(failure, self.connection, logging.WARNING)
        request = to_chat_request(
            model=model,
            messages=messages,
            tools=tools.functions,
            options=self._completed(options, known.parameters, needs_react=needs_react),
            fields=fields,
            extra=extra,
        )
        offers_any = "tools" in request or (offers_tools and bool(stack.tools))
        drop_thinking(request, known, self.connection)
        check_think_level(request, known, self.connection)
        override = keep_alive_override(self.connection, model)
        if override is not None:
            request["keep_alive"] = override
        holds_model = self._holds_model(request, stack)
        if holds_model:
            request["keep_alive"] = LEASE_SECONDS
        conversation = self._conversation_of(stack, [len(each) for each in groups], is_react=needs_react)
        fitter = RequestFitter(metadata, known, self._estimator(), self._context_settings())
        fitted = fitter.propose(request, conversation) if is_preview else fitter.fit(request, conversation)
        return Plan(
            fitted,
            ContextTracker(fitter, fitted),
            holds_model=holds_model,
            wanted=wanted,
            awaits_closing=awaits_closing_mark(known, to_think_marks(self.separate_think_tags)),
            is_react=needs_react,
            offered=OfferedTools(request.get("tools", ()), tools.schemas) if offers_any else None,
            retry_without_thinking=self.on_empty == ON_EMPTY_RETRY,
        )

    def _asked_model(self) -> str:
        return to_model(self.extra_params.get("model")) or self.model

    def _asked_options(self) -> dict[str, Any]:
        return merge_options(
            fields={"num_predict": self.max_tokens}, options=self.options, extra=self.extra_params.get("options")
        )

    def _holds_model(self, request: Mapping[str, Any], stack: PromptStack) -> bool:
        """Whether more requests may follow, before which a keep_alive of 0 would make the server unload the model."""
        may_go_on = bool(stack.tools) or stack.output_schema is not None or self.on_empty is not None
        return is_unloading(request.get("keep_alive")) and (may_go_on or is_leased(self.connection, request["model"]))

    def _completed(self, options: dict[str, Any], own: Mapping[str, Any], *, needs_react: bool) -> dict[str, Any]:
        """Add the temperature and the stop texts, which leave alone what the model brings of its own."""
        completed = dict(options)
        temperature = chosen(self, "temperature", PlanningPromptDriver.temperature)
        if "temperature" not in options and (temperature is not None or "temperature" not in own):
            completed["temperature"] = DEFAULT_TEMPERATURE if temperature is None else temperature
        needed = self._stop_sequences(needs_react=needs_react)
        completed["stop"] = merge_stop(needed, options.get("stop"), own.get("stop"))
        return completed

    def _messages(
        self, stack: PromptStack, fetched: dict[str, bytes] | None = None, *, reads_images: bool = True
    ) -> list[list[dict[str, Any]]]:
        groups = to_chat_groups(stack.messages, recall=self._turns.find, fetched=fetched, reads_images=reads_images)
        return merge_system_messages(groups)

    def _fetched(self, url: str, run: Run) -> bytes:
        return Download(
            url, run=run, allow_private=self.allow_private_image_urls, max_bytes=self.max_image_bytes
        ).read()

    def _stop_sequences(self, *, needs_react: bool) -> list[str]:
        # Every PromptTask adds its stop text to the tokenizer for good, but only ReAct text needs it.
        stops = self.tokenizer.stop_sequences
        return [stop for stop in stops if needs_react or stop != PromptTask.RESPONSE_STOP_SEQUENCE]

    def _strategy(self, known: ModelMetadata) -> StructuredOutputStrategy:
        """The strategy in use: where a format is ignored, the model has to be told in words."""
        is_ignored = is_cloud_model(self._asked_model(), known) or IGNORES_FORMAT in known.quirks
        return "rule" if self.structured_output_strategy == "native" and is_ignored else self.structured_output_strategy

    def _given_format(self) -> Any:
        """The format that the user set; None where there is none."""
        return self.extra_params.get("format", self.format)

    def _told_rule(self, stack: PromptStack, known: ModelMetadata) -> AnswerRule | None:
        """What the model is told in words of the answer; None where that is nothing."""
        if stack.output_schema is None:
            given = self._given_format()
            return AnswerRule.of_format(given) if given is not None and IGNORES_FORMAT in known.quirks else None
        strategy = self._strategy(known)
        is_told = strategy == "rule" or (strategy == "native" and self.tell_schema)
        return AnswerRule.of_task(stack) if is_told else None

    def _wanted(self, stack: PromptStack, known: ModelMetadata, *, has_tools: bool) -> tuple[Wanted | None, Any]:
        """Decide what the answer must fit, and which format the first request has.

        Returns:
            The first is None for free text; the second is None where there is no format, or where it has to wait until
            the model has called its tools.
        """
        given = self._given_format()
        if stack.output_schema is None:
            if given is None:
                return None, None
            rule = AnswerRule.of_format(given)
            sent = None if IGNORES_FORMAT in known.quirks else given
        else:
            strategy = self._strategy(known)
            if strategy == "tool":
                return None, None
            rule = AnswerRule.of_task(stack)
            is_chosen = strategy == self.structured_output_strategy
            sent = to_format(stack) if strategy == "native" else given if is_chosen else None
        return (Wanted(rule, withheld_format=sent), None) if has_tools else (Wanted(rule), sent)


def _flat(groups: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [message for group in groups for message in group]
