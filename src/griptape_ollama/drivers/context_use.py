"""The context window, as drivers have it: what is wanted of it, token counts, and what belongs to a task."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast
from weakref import WeakValueDictionary

from attrs import define, field
from griptape.common import Message, PromptStack
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer

from griptape_ollama.context.overflow import to_on_overflow
from griptape_ollama.context.request_fitting import ContextSettings, ConversationInfo, asked_window, reply_tokens_of
from griptape_ollama.context.tokenizer import OllamaTokenizer, StackText
from griptape_ollama.context.tokens.estimator import PromptEstimator, estimator_of
from griptape_ollama.context.window import WindowPlanner
from griptape_ollama.drivers.settings import to_max_num_ctx, to_num_ctx
from griptape_ollama.errors import OllamaError
from griptape_ollama.models.field_overrides import chosen
from griptape_ollama.models.metadata_cache import DEFAULT_WINDOW, ServerMetadata
from griptape_ollama.models.server import LIVE, OllamaServerMixin
from griptape_ollama.protocol.model_name import model_key

# What Griptape asked to be counted, by identity: messages of tasks, and those that they remember.
_counted: WeakValueDictionary[int, Message] = WeakValueDictionary()


@define(kw_only=True, slots=False)
class ContextMixin(OllamaServerMixin):
    """What a driver has whose prompts must fit a window.

    Attributes:
        num_ctx: Context window in tokens. `"auto"` (the default) asks for a larger one when prompt and reply do not fit
            into the one that is loaded, and never for a smaller one while the model stays loaded; a number is sent as
            it is; None sends nothing. `num_ctx` in `options` takes its place.
        max_num_ctx: Largest window, in tokens, that `"auto"` grows to; by default 32,768, and never more than the model
            was made for.
        on_overflow: What is done with a prompt that does not fit into the largest window: `"warn"` (the default) sends
            it and says so, `"error"` raises OllamaContextError, `"trim"` drops the oldest turns.
    """

    num_ctx: Any | None = field(default="auto", converter=to_num_ctx, metadata={"serializable": True})
    max_num_ctx: int | None = field(default=None, converter=to_max_num_ctx, metadata={"serializable": True})
    on_overflow: str = field(default="warn", converter=to_on_overflow, metadata={"serializable": True})
    _tokenizer: BaseTokenizer | None = field(default=None, alias="tokenizer", repr=False, eq=False)
    _counting: tuple[BaseTokenizer, PromptEstimator] | None = field(
        factory=lambda: None, init=False, repr=False, eq=False, metadata=LIVE
    )

    @property
    def tokenizer(self) -> BaseTokenizer:
        """What counts tokens: the one that was given, else an OllamaTokenizer that knows the window."""
        return self._used_tokenizer()

    @tokenizer.setter
    def tokenizer(self, value: BaseTokenizer | None) -> None:
        self._tokenizer = value

    @tokenizer.deleter
    def tokenizer(self) -> None:
        del self._tokenizer

    def prompt_stack_to_string(self, prompt_stack: PromptStack) -> str:
        """Give a stack as one text, which knows its tokens.

        Griptape asks for it to see how much of a conversation memory fits, and drops one run after the other until it
        does. Here everything seems to fit, and what does not is dropped in one pass when the prompt is sent.
        """
        _counted.update((id(message), message) for message in prompt_stack.messages)
        text = cast("Any", super()).prompt_stack_to_string(prompt_stack)  # Griptape's base, which is behind this one
        tokens = self._estimator().plain_tokens([message.to_text() for message in prompt_stack.messages])
        return StackText(text, round(tokens))

    @abstractmethod
    def _asked_model(self) -> str:
        """Name of the model that is asked; empty where it has to be found out."""

    @abstractmethod
    def _asked_options(self) -> dict[str, Any]:
        """The options that a request would have now."""

    def _context_settings(self) -> ContextSettings:
        given = self._given_tokenizer()
        return ContextSettings(
            num_ctx=self.num_ctx,
            max_num_ctx=self.max_num_ctx,
            on_overflow=self.on_overflow,
            max_input_tokens=given.given_max_input_tokens if isinstance(given, OllamaTokenizer) else None,
        )

    def _given_tokenizer(self) -> BaseTokenizer | None:
        return chosen(self, "tokenizer", ContextMixin.tokenizer)

    def _used_tokenizer(self) -> BaseTokenizer:
        """Give the tokenizer that was given, or one that knows the window of this driver."""
        given = self._tokenizer
        if given is not None and not isinstance(given, OllamaTokenizer):
            return given
        # A copy of a driver has other settings than the driver whose tokenizer it got.
        used = OllamaTokenizer.bound(given, self._asked_model(), estimator=self._estimator, limits=self._token_limits)
        self._tokenizer = used
        return used

    def _estimator(self) -> PromptEstimator:
        """Give what counts tokens: shared by all drivers of the model, unless this one was given a tokenizer."""
        given = self._given_tokenizer()
        # Griptape's own only divides by four; a subclass of it may count.
        if given is None or isinstance(given, OllamaTokenizer) or type(given) is SimpleTokenizer:
            return estimator_of(self.connection.base_url, model_key(self._asked_model()))
        known = self._counting
        if known is None or known[0] is not given:
            self._counting = known = (given, PromptEstimator(given.count_tokens))
        return known[1]

    def _token_limits(self) -> tuple[int, int]:
        """Give how many tokens a prompt and a reply may have in the largest window; never fails."""
        options = self._asked_options()
        settings = self._context_settings()
        num_ctx = asked_window(options, settings)
        try:
            metadata = ServerMetadata(self.connection, self._new_run())
            model = self._asked_model()
            known = metadata.show(model)
            planner = WindowPlanner(metadata, model, known, num_ctx=num_ctx, max_num_ctx=settings.max_num_ctx)
            ceiling = planner.ceiling()
        except OllamaError:  # the prompt itself is going to tell
            ceiling = num_ctx if isinstance(num_ctx, int) else DEFAULT_WINDOW
        reply_tokens = reply_tokens_of(options, ceiling)
        wanted = options.get("num_predict")
        return max(1, ceiling - reply_tokens), reply_tokens if isinstance(wanted, int) and wanted > 0 else ceiling

    def _conversation_of(self, stack: PromptStack, sizes: Sequence[int], *, is_react: bool) -> ConversationInfo:
        """Tell which chat messages belong to the task itself, and whether Griptape wanted the others pruned.

        Args:
            stack: The stack that is sent.
            sizes: How many chat messages each of its messages becomes; empty where others are sent in their place.
            is_react: Whether tools are called in words.
        """
        # What was remembered is made anew for the stack; what belongs to the task was counted itself.
        is_own = [_counted.get(id(message)) is message for message in stack.messages]
        if not sizes or all(is_own) or not any(is_own):
            return ConversationInfo(is_react=is_react)
        first = len(is_own) - is_own[::-1].index(False)
        return ConversationInfo(task_range=range(sum(sizes[:first]), sum(sizes)), is_pruned=True, is_react=is_react)
