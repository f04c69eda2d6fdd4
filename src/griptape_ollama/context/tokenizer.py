"""Counts tokens for Griptape, as the model does as far as its replies have told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import attrs
from attrs import Factory, define, field
from griptape.tokenizers import BaseTokenizer

from griptape_ollama.context.stack_text import StackText
from griptape_ollama.context.tokens.estimator import PromptEstimator
from griptape_ollama.context.tokens.regression import TokenEstimate

_LIVE = {"serializable": False}
_SOURCES = ("_limits", "_estimator")

_logger = logging.getLogger(__name__)


def _given(name: str) -> dict[str, Any]:
    return {"serializable": True, "serialization_key": f"_{name}", "deserialization_key": name}


@define(kw_only=True)
class OllamaTokenizer(BaseTokenizer):
    """Estimates tokens without asking the server, and gets better with each reply of the model.

    The tokenizer of a driver knows the window that the model really has and learns from the driver's replies. One that
    is made alone has the limits that it is given, and what most tokenizers have in common.

    Attributes:
        model: Model name, for example `qwen3`.
        max_input_tokens: Tokens that a prompt may have. By default what the driver's model has room for, 4096 without a
            driver.
        max_output_tokens: Tokens that an answer may have. By default what the driver says, 1024 without a driver.
        stop_sequences: Texts that end an answer.
    """

    DEFAULT_MAX_INPUT_TOKENS = 4096
    """Window of a model of which nothing is known (server 0.33)."""
    DEFAULT_MAX_OUTPUT_TOKENS = 1024

    # Stored, since loading would otherwise look for the class among Griptape's own.
    module_name: str = field(
        default=Factory(lambda self: type(self).__module__, takes_self=True), metadata={"serializable": True}
    )
    # What was given is stored, not what a driver says at that moment.
    _max_input_tokens: int | None = field(default=None, alias="max_input_tokens", metadata=_given("max_input_tokens"))
    _max_output_tokens: int | None = field(
        default=None, alias="max_output_tokens", metadata=_given("max_output_tokens")
    )
    _limits: Callable[[], tuple[int, int]] | None = field(
        default=None, alias="limits", repr=False, eq=False, metadata=_LIVE
    )
    _estimator: Callable[[], PromptEstimator] | None = field(
        default=None, alias="estimator", repr=False, eq=False, metadata=_LIVE
    )
    _own_estimator: PromptEstimator = field(factory=PromptEstimator, init=False, repr=False, eq=False, metadata=_LIVE)
    _blamed: set[str] = field(factory=set[str], init=False, repr=False, eq=False, metadata=_LIVE)

    def __attrs_post_init__(self) -> None:
        """Leave the limits open: the base asks for them, and a driver's would be asked for before it is there."""

    @classmethod
    def bound(
        cls,
        known: OllamaTokenizer | None,
        model: str,
        *,
        estimator: Callable[[], PromptEstimator],
        limits: Callable[[], tuple[int, int]],
    ) -> OllamaTokenizer:
        """Give a tokenizer that knows a driver.

        Args:
            known: The driver's tokenizer so far. One that was made alone gets to know it; one that knows another driver
                is copied, since both go on.
            model: The driver's model.
            estimator: Gives what counts tokens for the driver.
            limits: Gives how many tokens a prompt and a reply of the driver may have.
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
        """Give the settings; a copy knows no driver until one takes it."""
        return {
            each.name: None if each.name in _SOURCES else getattr(self, each.name)
            for each in attrs.fields(type(self))
            if each.init
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the settings of another tokenizer."""
        for name, value in state.items():
            setattr(self, name, value)
        self._own_estimator = PromptEstimator()
        self._blamed = set()

    @property
    def max_input_tokens(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] - no property to pyright
        """Tokens that a prompt may have."""
        return self._limit(self._max_input_tokens, 0, "max_input_tokens", self.DEFAULT_MAX_INPUT_TOKENS)

    @max_input_tokens.setter
    def max_input_tokens(self, value: int | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._max_input_tokens = value

    @property
    def given_max_input_tokens(self) -> int | None:
        """What was given as `max_input_tokens`; None where nothing was, or nothing that can be."""
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
        """How many replies the estimates were learned from."""
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
        """Give how many more tokens a prompt may have; at least 1 for a stack, which the driver cuts itself."""
        left = self.max_input_tokens - self.count_tokens(text)
        return max(left, 1 if isinstance(text, StackText) else 0)

    def _source(self) -> PromptEstimator:
        if self._estimator is None:
            return self._own_estimator
        try:
            return self._estimator()
        except Exception as error:  # noqa: BLE001 - a count must not fail a prompt
            self._blame("estimates", f"nothing learned is at hand: {error!r}")
            return self._own_estimator

    def _limit(self, given: Any, place: int, name: str, default: int) -> int:
        if given is not None:
            if _is_limit(given):
                return given
            self._blame(name, f"{given!r} is no number of tokens")
        if self._limits is None:
            return default
        try:
            told = self._limits()[place]
        except Exception as error:  # noqa: BLE001 - a count must not fail a prompt
            self._blame(name, f"the driver's is not at hand: {error!r}")
            return default
        if _is_limit(told):
            return told
        self._blame(name, f"the driver told {told!r}")
        return default

    def _blame(self, name: str, why: str) -> None:
        """Say once why something else is used."""
        if name not in self._blamed:
            self._blamed.add(name)
            _logger.warning("%s of %r: %s; a default is used.", name, self.model, why)


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _to_text(text: Any) -> str:
    return text if isinstance(text, str) else "" if text is None else str(text)
