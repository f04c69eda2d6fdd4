"""Griptape's tokenizer for Ollama: estimates tokens, and learns from the counts of the replies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
from attrs import Factory, define, field
from griptape.tokenizers import BaseTokenizer
from typing_extensions import Self

from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.context.tokens.regression import TokenEstimate

_NOT_STORED = {"serializable": False}
_SOURCES = ("_limits", "_estimator")

_logger = logging.getLogger(__name__)


class StackText(str):
    """The text of a whole prompt stack, with the number of its tokens.

    Griptape drops runs of a conversation one by one until the tokenizer reports that the rest fits, and renders and
    counts the whole stack anew for each. For a text of this class the tokenizer always reports that it fits: the driver
    trims what is too long itself, in one pass.

    Attributes:
        tokens: Tokens of the stack that the text stands for.
    """

    __slots__ = ("tokens",)

    tokens: int

    def __new__(cls, text: str, tokens: int) -> Self:
        """Create a text that has so many tokens."""
        created = super().__new__(cls, text)
        created.tokens = tokens
        return created

    def __getnewargs__(self) -> Any:
        return str(self), self.tokens


def _stored(name: str) -> dict[str, Any]:
    return {"serializable": True, "serialization_key": f"_{name}", "deserialization_key": name}


@define(kw_only=True)
class OllamaTokenizer(BaseTokenizer):
    """Estimates tokens without asking the server, and gets better with each reply of the model.

    The tokenizer of a driver has the limits of the model's window, and learns from the driver's replies. One without a
    driver has the limits that it is given, and estimates by what most tokenizers have in common.

    Attributes:
        model: Model name, for example `qwen3`.
        max_input_tokens: Tokens that a prompt may have. By default what fits into the window of the driver's model,
            4096 without a driver.
        max_output_tokens: Tokens that an answer may have. By default the driver's limit, 1024 without a driver.
        stop_sequences: Texts that end an answer.
    """

    DEFAULT_MAX_INPUT_TOKENS = 4096
    """Window of a model without metadata (server 0.33)."""
    DEFAULT_MAX_OUTPUT_TOKENS = 1024

    # Stored, since Griptape otherwise searches its own modules for the class.
    module_name: str = field(
        default=Factory(lambda self: type(self).__module__, takes_self=True), metadata={"serializable": True}
    )
    # The user's values are stored, not the current limits of a driver.
    _max_input_tokens: int | None = field(default=None, alias="max_input_tokens", metadata=_stored("max_input_tokens"))
    _max_output_tokens: int | None = field(
        default=None, alias="max_output_tokens", metadata=_stored("max_output_tokens")
    )
    _limits: Callable[[], tuple[int, int]] | None = field(
        default=None, alias="limits", repr=False, eq=False, metadata=_NOT_STORED
    )
    _estimator: Callable[[], PromptEstimator] | None = field(
        default=None, alias="estimator", repr=False, eq=False, metadata=_NOT_STORED
    )
    _own_estimator: PromptEstimator = field(
        factory=PromptEstimator, init=False, repr=False, eq=False, metadata=_NOT_STORED
    )
    _warned: set[str] = field(factory=set[str], init=False, repr=False, eq=False, metadata=_NOT_STORED)

    def __attrs_post_init__(self) -> None:
        """Do nothing: the base class reads the limits here, which a driver cannot tell before it is built."""

    @classmethod
    def bound(
        cls,
        known: OllamaTokenizer | None,
        model: str,
        *,
        estimator: Callable[[], PromptEstimator],
        limits: Callable[[], tuple[int, int]],
    ) -> OllamaTokenizer:
        """Return a tokenizer that belongs to a driver.

        Args:
            known: The driver's tokenizer so far. One without a driver is bound to this one; one of another driver is
                copied, since both are used on.
            model: The driver's model.
            estimator: Returns the estimator of the driver.
            limits: Returns how many tokens a prompt and a reply of the driver may have.
        """
        if known is None:
            return cls(model=model, estimator=estimator, limits=limits)
        if known._limits is None:  # noqa: SLF001 # its own class
            known._estimator, known._limits = estimator, limits  # noqa: SLF001
        if known._limits == limits:  # noqa: SLF001
            return known
        stops = list(known.stop_sequences)
        return attrs.evolve(known, model=model, stop_sequences=stops, estimator=estimator, limits=limits)

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings; a copy belongs to no driver at first."""
        return {
            each.name: None if each.name in _SOURCES else getattr(self, each.name)
            for each in attrs.fields(type(self))
            if each.init
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the settings."""
        for name, value in state.items():
            setattr(self, name, value)
        self._own_estimator = PromptEstimator()
        self._warned = set()

    @property
    def max_input_tokens(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] - no property to pyright
        """Tokens that a prompt may have."""
        return self._limit(self._max_input_tokens, 0, "max_input_tokens", self.DEFAULT_MAX_INPUT_TOKENS)

    @max_input_tokens.setter
    def max_input_tokens(self, value: int | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._max_input_tokens = value

    @property
    def given_max_input_tokens(self) -> int | None:
        """The user's `max_input_tokens`; None if it is not set, or impossible."""
        return self._max_input_tokens if _is_limit(self._max_input_tokens) else None

    @property
    def max_output_tokens(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Tokens that an answer may have."""
        return self._limit(self._max_output_tokens, 1, "max_output_tokens", self.DEFAULT_MAX_OUTPUT_TOKENS)

    @max_output_tokens.setter
    def max_output_tokens(self, value: int | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._max_output_tokens = value

    @property
    def uncertainty(self) -> float:
        """How far an estimate may be off, as a share of it, for prompts like the last ones; 0.1 is 10%."""
        return self._source().uncertainty

    @property
    def replies(self) -> int:
        """How many replies the estimates have learned from."""
        return self._source().replies

    def count_tokens(self, text: str) -> int:
        """Estimate the tokens of a text."""
        if isinstance(text, StackText):
            return text.tokens
        return self._source().text_tokens(_to_text(text))

    def estimate(self, text: str) -> TokenEstimate:
        """Estimate the tokens of a text, and how sure that is."""
        return self._source().text_estimate(_to_text(text))

    def count_input_tokens_left(self, text: str) -> int:
        """Return how many more tokens a prompt may have; at least 1 for a stack, which the driver trims itself."""
        left = self.max_input_tokens - self.count_tokens(text)
        return max(left, 1 if isinstance(text, StackText) else 0)

    def _source(self) -> PromptEstimator:
        if self._estimator is None:
            return self._own_estimator
        try:
            return self._estimator()
        except Exception as error:  # noqa: BLE001 - a count must not fail a prompt
            self._warn("estimates", f"the estimator of the driver failed: {error!r}")
            return self._own_estimator

    def _limit(self, given: Any, place: int, name: str, default: int) -> int:
        if given is not None:
            if _is_limit(given):
                return given
            self._warn(name, f"{given!r} is no number of tokens")
        if self._limits is None:
            return default
        try:
            limit = self._limits()[place]
        except Exception as error:  # noqa: BLE001 - a count must not fail a prompt
            self._warn(name, f"the limit of the driver failed: {error!r}")
            return default
        if _is_limit(limit):
            return limit
        self._warn(name, f"the limit of the driver is {limit!r}")
        return default

    def _warn(self, name: str, why: str) -> None:
        """Log once why a default is used."""
        if name not in self._warned:
            self._warned.add(name)
            _logger.warning("%s of %r: %s; a default is used.", name, self.model, why)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _to_text(text: Any) -> str:
    return text if isinstance(text, str) else "" if text is None else str(text)
