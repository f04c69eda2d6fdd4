"""What happens to a prompt that may not fit into the context window, before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.window import ContextWindow
from griptape_ollama.errors import OllamaContentError, OllamaContextError
from griptape_ollama.protocol.options import AUTO

OVERFLOW_MODES = ("warn", "error", "trim")
"""What a driver's `on_overflow` may be."""


@dataclass(frozen=True)
class OverflowPolicy:
    """What happens to prompts of one model that do not fit, and what would help.

    Attributes:
        mode: One of `OVERFLOW_MODES`.
        model: Name of the model.
        host: Address of the server, without user and password.
        num_ctx: The user's setting: a number, `"auto"`, or None for "never sent".
        model_limit: Longest context that the model was made for; None if unknown.
        is_cloud: Whether the model runs in the cloud, where its window cannot be chosen.
    """

    mode: str
    model: str
    host: str
    num_ctx: int | str | None = AUTO
    model_limit: int | None = None
    is_cloud: bool = False

    def __str__(self) -> str:
        """Name the model for messages."""
        return f"model {self.model!r} of Ollama at {self.host}"

    def refusal_fields(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields that make the server refuse what does not fit, without those that the request sets.

        All requests of a driver have them, or none: `shift` is part of what a model is loaded with, and loading it
        again takes seconds (server 0.33).
        """
        if self.mode != "error":
            return {}
        return {name: False for name in ("truncate", "shift") if request.get(name) is None}

    def check(
        self, estimate: TokenEstimate, window: ContextWindow, request: Mapping[str, Any] | None = None
    ) -> str | None:
        """Check a prompt, after old turns were dropped.

        A prompt that may fit after all passes: the server refuses it (mode `error`), or its reply shows what was lost.

        Args:
            estimate: Tokens of the prompt.
            window: The window.
            request: The request, with what the user set.

        Returns:
            A line for the log where the server is going to truncate the prompt; None if that is not certain.

        Raises:
            OllamaContextError: The prompt certainly does not fit, and mode is `error` or `trim`. Nothing was sent.
        """
        if not (window.is_known and estimate.low > window.ceiling):
            return None
        too_long = (
            f"A prompt of about {estimate.tokens} tokens ({estimate.low} to {estimate.high}) does not fit into the "
            f"context window of {window.ceiling} tokens of {self}"
        )
        if self.mode == "warn":
            if request is not None and request.get("truncate") is False:
                return None  # the server is going to refuse it
            return f"{too_long}; the server is going to cut it. {self.advice(window)}"
        left = ", although all that may be dropped was dropped" if self.mode == "trim" else ""
        raise OllamaContextError(
            f"{too_long}{left}. Nothing was sent. {self.advice(window)}",
            host=self.host,
            model=self.model,
            tokens_wanted=estimate.tokens,
            tokens_available=window.ceiling,
        )

    def advice(self, window: ContextWindow) -> str:
        """Return a sentence that says what helps against prompts that are too long."""
        ways = ["shorten the prompt"]
        if (larger := self._larger_window(window)) is not None:
            ways.append(larger)
        if self.mode != "trim":
            ways.append("set on_overflow='trim' to drop the oldest turns")
        ways.append("use a model with a longer context")
        text = f"{', '.join(ways[:-1])}, or {ways[-1]}."
        return text[0].upper() + text[1:]

    def _larger_window(self, window: ContextWindow) -> str | None:
        limit = self.model_limit
        if self.is_cloud or (limit is not None and limit <= window.ceiling):
            return None
        up_to = "" if limit is None else f" (the model takes up to {limit})"
        if self.num_ctx is None:
            return f"set num_ctx='auto', so that the window grows with the prompt{up_to}"
        name = "max_num_ctx" if self.num_ctx == AUTO else "num_ctx"
        return f"raise {name} above {window.ceiling}{up_to}"


def to_on_overflow(value: Any) -> str:
    """Return a driver's `on_overflow`.

    Raises:
        OllamaContentError: It is not one of `OVERFLOW_MODES`.
    """
    if value not in OVERFLOW_MODES:
        raise OllamaContentError(f"on_overflow={value!r} must be one of {', '.join(map(repr, OVERFLOW_MODES))}")
    return value
