"""Settings of the prompt driver, and the model, options, tokenizer and window that follow from them."""

from __future__ import annotations

from typing import Any
from weakref import WeakValueDictionary

import attrs
from attrs import Attribute, define, field
from griptape.common import Message, PromptStack
from griptape.drivers.prompt import BasePromptDriver
from griptape.drivers.prompt.base_prompt_driver import StructuredOutputStrategy
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer

from griptape_ollama.context.overflow import to_on_overflow
from griptape_ollama.context.request_fitting import ContextSettings, asked_window, reply_tokens_of
from griptape_ollama.context.tokenizer import OllamaTokenizer, StackText
from griptape_ollama.context.tokens.estimator import PromptEstimator, estimator_of
from griptape_ollama.context.window import WindowPlanner, last_num_ctx
from griptape_ollama.conversion.request_fields import merge_options
from griptape_ollama.conversion.tool_history import ToolHistory
from griptape_ollama.drivers.mixins import ModelMixin, model_of_environment
from griptape_ollama.drivers.settings import (
    DEFAULT_TEMPERATURE,
    to_bool_of,
    to_extra_params,
    to_keep_alive,
    to_load_options,
    to_max_num_ctx,
    to_model,
    to_num_ctx,
    to_on_empty,
    to_options,
    to_separate_think_tags,
    to_temperature,
)
from griptape_ollama.errors import OllamaError
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.catalogue import only_chat_model
from griptape_ollama.models.connection_settings import LIVE
from griptape_ollama.models.metadata_cache import DEFAULT_WINDOW
from griptape_ollama.models.redeclared_fields import chosen
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.protocol.numbers import to_plain_scalar, to_python
from griptape_ollama.protocol.options import SHIFT
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.download import MAX_BYTES

# The messages that Griptape asked to count, by identity: those of tasks, and those that their memories hold.
_counted: WeakValueDictionary[int, Message] = WeakValueDictionary()


def was_counted(message: Message) -> bool:
    """Return whether Griptape asked for the tokens of this very message, as it does for those of a task."""
    return _counted.get(id(message)) is message


def _hide_replaced_fields(_: type, fields: list[Attribute[Any]]) -> list[Attribute[Any]]:
    """Remove inherited fields that are properties here from the constructor.

    A setting that was not given must stay apart from one that was. They stay fields in name, without which attrs would
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


@define(kw_only=True, slots=False, field_transformer=_hide_replaced_fields)
class PromptDriverSettings(ModelMixin, BasePromptDriver):  # pyright: ignore[reportIncompatibleVariableOverride]
    """The settings of a prompt driver.

    Attributes:
        model: Model name with its tag, for example `qwen3:0.6b`; by default `OLLAMA_MODEL`, else the server's only chat
            model, which is looked up when it is first needed.
        temperature: Sent when it is set here, or when the model has none of its own; then it is 0.1.
        max_tokens: Longest reply, in tokens (`num_predict`).
        options: Model options by name, such as `num_ctx`, `seed` or `top_p`.
        keep_alive: How long the model stays loaded after the reply: seconds, a Go duration such as `"10m"`, a
            timedelta, 0 (unload now) or -1 (for good).
        think: Whether a thinking model thinks: True, False, or a level of its own, such as `low` or `high`.
        format: `"json"` or a JSON schema that the reply must fit.
        truncate: False makes the server refuse a prompt that does not fit, rather than truncate it.
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
        tell_schema: Whether the system message contains the schema that the answer must fit, also where the server's
            grammar enforces it: a grammar knows no descriptions. False saves the tokens.
        separate_think_tags: Which tags around thinking before the answer are recognised: True (all that are known:
            `<think>`, `<thinking>`, `<thought>`, `[THINK]`, and the channels of harmony), False, or a list of opening
            tags, `"harmony"`, and pairs of an opening and a closing tag.
        parse_text_calls: Whether a reply that is nothing but the text of a call, of a tool that was offered and as its
            schema wants it, is that call.
        tokenizer: Counts tokens; by default an OllamaTokenizer, which estimates them and learns from each reply.
        num_ctx: Context window in tokens. `"auto"` (the default) asks for a larger one when prompt and reply do not fit
            into the one that is loaded, and never for a smaller one while the model stays loaded; a number is sent as
            it is; None sends nothing. `num_ctx` in `options` takes its place.
        max_num_ctx: Largest window, in tokens, that `"auto"` grows to; by default 32,768, and never more than the model
            was made for.
        on_overflow: What is done with a prompt that does not fit into the largest window: `"warn"` (the default) sends
            it and logs a warning, `"error"` raises OllamaContextError, `"trim"` drops the oldest turns.
    """

    num_ctx: Any | None = field(default="auto", converter=to_num_ctx, metadata={"serializable": True})
    max_num_ctx: int | None = field(default=None, converter=to_max_num_ctx, metadata={"serializable": True})
    on_overflow: str = field(default="warn", converter=to_on_overflow, metadata={"serializable": True})
    _tokenizer: BaseTokenizer | None = field(default=None, alias="tokenizer", repr=False, eq=False)
    _given_estimator: tuple[BaseTokenizer, PromptEstimator] | None = field(
        factory=lambda: None, init=False, repr=False, eq=False, metadata=LIVE
    )
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
    think: Any | None = field(default=None, converter=to_plain_scalar, metadata={"serializable": True})
    format: Any | None = field(default=None, metadata={"serializable": True})
    truncate: bool | None = field(default=None, converter=to_plain_scalar, metadata={"serializable": True})
    shift: bool | None = field(default=None, converter=to_plain_scalar, metadata={"serializable": True})
    logprobs: bool | None = field(default=None, converter=to_plain_scalar, metadata={"serializable": True})
    top_logprobs: int | None = field(default=None, converter=to_plain_scalar, metadata={"serializable": True})
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
    max_image_bytes: int = field(default=MAX_BYTES, converter=to_plain_scalar, metadata={"serializable": True})
    tell_schema: bool = field(default=True, converter=to_bool_of("tell_schema"), metadata={"serializable": True})
    separate_think_tags: Any | None = field(
        default=True, converter=to_separate_think_tags, metadata={"serializable": True}
    )
    parse_text_calls: bool = field(
        default=True, converter=to_bool_of("parse_text_calls"), metadata={"serializable": True}
    )
    _tool_history: ToolHistory = field(factory=ToolHistory, init=False, repr=False, eq=False, metadata=LIVE)

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
        api = OllamaApi(self.connection, self._new_run(), self.retrying)
        return api.metadata.show(self._resolve_model(api)).can("tools")

    @use_native_tools.setter
    def use_native_tools(self, value: bool | None) -> None:
        self._use_native_tools = value

    @use_native_tools.deleter
    def use_native_tools(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        del self._use_native_tools

    @property
    def tokenizer(self) -> BaseTokenizer:
        """The tokenizer that was set; else an OllamaTokenizer that knows the window of this driver."""
        given = self._tokenizer
        if given is not None and not isinstance(given, OllamaTokenizer):
            return given
        # A copy of a driver has other settings than the driver whose tokenizer it got.
        self._tokenizer = bound = OllamaTokenizer.bound(
            given, self._requested_model(), estimator=self._estimator, limits=self._token_limits
        )
        return bound

    @tokenizer.setter
    def tokenizer(self, value: BaseTokenizer | None) -> None:
        self._tokenizer = value

    @tokenizer.deleter
    def tokenizer(self) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        del self._tokenizer

    def prompt_stack_to_string(self, prompt_stack: PromptStack) -> str:
        """Return a stack as one text, with an estimate of its tokens.

        Griptape calls it to find out how much of a conversation memory fits, and drops one run after the other until it
        does. Here everything seems to fit; what does not is dropped in one pass when the prompt is sent.
        """
        _counted.update((id(message), message) for message in prompt_stack.messages)
        text = super().prompt_stack_to_string(prompt_stack)
        tokens = self._estimator().plain_tokens([message.to_text() for message in prompt_stack.messages])
        return StackText(text, round(tokens))

    def load_options(self) -> dict[str, Any]:
        """Return the options that prompts of this driver load their model with; other options would reload it.

        `shift` is among them where it is False. Where the driver chooses the window itself, `num_ctx` is the one of the
        last request for the model.
        """
        options = self._requested_options()
        if options.get("num_ctx") is None and self.num_ctx is not None:
            is_fixed = isinstance(self.num_ctx, int)
            model = self._requested_model() or None
            options["num_ctx"] = self.num_ctx if is_fixed else last_num_ctx(self.connection.base_url, model)
        extra = self.extra_params.get(SHIFT)
        shift = self.shift if extra is None else extra
        return to_load_options(options, shifts=self.on_overflow != "error" if shift is None else shift is not False)

    def _resolve_model(self, api: OllamaApi) -> str:
        """Return the name of the model; set it to the server's only chat model where none was given.

        Raises:
            OllamaModelNotFoundError: None was given, and the server has no chat model, or several.
        """
        if not self.model:
            self.model = only_chat_model(api)
        return self.model

    def _requested_model(self) -> str:
        """Return the name of the model that requests are for; an empty one where it is not resolved yet."""
        return to_model(self.extra_params.get("model")) or self.model

    def _requested_options(self) -> dict[str, Any]:
        """Return the options that the user set, merged."""
        return merge_options(
            fields={"num_predict": self.max_tokens}, options=self.options, extra=self.extra_params.get("options")
        )

    def _requested_format(self) -> Any:
        return self.extra_params.get("format", self.format)

    def _context_settings(self) -> ContextSettings:
        given = self._given_tokenizer()
        return ContextSettings(
            num_ctx=self.num_ctx,
            max_num_ctx=self.max_num_ctx,
            on_overflow=self.on_overflow,
            max_input_tokens=given.given_max_input_tokens if isinstance(given, OllamaTokenizer) else None,
        )

    def _given_tokenizer(self) -> BaseTokenizer | None:
        return chosen(self, "tokenizer", PromptDriverSettings.tokenizer)

    def _estimator(self, connection: Connection | None = None) -> PromptEstimator:
        """Return the estimator of the model, which its drivers share, or one that counts with a given tokenizer."""
        given = self._given_tokenizer()
        # Griptape's own only divides by four; a subclass of it may count.
        if given is None or isinstance(given, OllamaTokenizer) or type(given) is SimpleTokenizer:
            return estimator_of((connection or self.connection).base_url, model_key(self._requested_model()))
        known = self._given_estimator
        if known is None or known[0] is not given:
            self._given_estimator = known = (given, PromptEstimator(given.count_tokens))
        return known[1]

    def _token_limits(self) -> tuple[int, int]:
        """Return the most tokens that a prompt and a reply may have in the largest window; never fail."""
        options = self._requested_options()
        settings = self._context_settings()
        num_ctx = asked_window(options, settings)
        try:
            metadata = self.facts
            model = self._requested_model()
            known = metadata.show(model)
            planner = WindowPlanner(metadata, model, known, num_ctx=num_ctx, max_num_ctx=settings.max_num_ctx)
            ceiling = planner.ceiling()
        except OllamaError:  # the prompt itself raises it
            ceiling = num_ctx if isinstance(num_ctx, int) else DEFAULT_WINDOW
        reply_tokens = reply_tokens_of(options, ceiling)
        wanted = options.get("num_predict")
        return max(1, ceiling - reply_tokens), reply_tokens if isinstance(wanted, int) and wanted > 0 else ceiling
