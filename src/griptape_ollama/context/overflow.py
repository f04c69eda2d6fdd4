"""What to do with a prompt that may not fit, before it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.errors import OllamaContentError, OllamaContextError
from griptape_ollama.protocol.context_window import AUTO

OVERFLOW_MODES = ("warn", "error", "trim")
"""What a driver's `on_overflow` may be."""


class WindowLike(Protocol):
    """What the guard needs of a context window."""

    @property
    def tokens(self) -> int:
        """Tokens that fit when the model answers."""
        ...

    @property
    def ceiling(self) -> int:
        """Tokens that it may grow to."""
        ...

    @property
    def is_known(self) -> bool:
        """Whether the server or the caller told, so that it is not assumed."""
        ...


@dataclass(frozen=True)
class WindowSettings:
    """What holds the window where it is.

    Attributes:
        num_ctx: The driver's setting: a number, `"auto"`, or None for "never sent".
        max_num_ctx: The driver's setting; None for the default.
        model_limit: Longest context that the model was made for; None where unknown.
        is_cloud: Whether the model runs elsewhere, where its window cannot be chosen.
    """

    num_ctx: int | str | None = "auto"
    max_num_ctx: int | None = None
    model_limit: int | None = None
    is_cloud: bool = False


@dataclass(frozen=True)
class Guard:
    """Judges prompts of one model before they are sent.

    Attributes:
        mode: One of `OVERFLOW_MODES`.
        model: Name of the model.
        host: Address of the server, without user and password.
        settings: What holds the window where it is.
    """

    mode: str
    model: str
    host: str
    settings: WindowSettings = field(default_factory=WindowSettings)

    @property
    def is_auto(self) -> bool:
        """Whether the window is chosen here."""
        return self.settings.num_ctx == AUTO

    def fields(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Give the fields that make the server refuse what does not fit, without those that the request has.

        They go out with every request of a driver, or with none: `shift` is part of what a model is loaded with, and
        loading it otherwise takes seconds (server 0.33).

        Args:
            request: The request, with what the user set.
        """
        if self.mode != "error":
            return {}
        return {name: False for name in ("truncate", "shift") if request.get(name) is None}

    def check(
        self, estimate: TokenEstimate, window: WindowLike, request: Mapping[str, Any] | None = None
    ) -> str | None:
        """Judge a prompt, as it is left where old turns were dropped.

        Nothing is said of what may fit after all: of that the server tells (mode `error`), or its reply.

        Args:
            estimate: Tokens of the prompt.
            window: The window.
            request: The request, with what the user set.

        Returns:
            A line for the log where the server is going to cut the prompt; None where it is not, or not surely.

        Raises:
            OllamaContextError: The prompt surely does not fit, and mode is `error` or `trim`. Nothing was sent.
        """
        if not (window.is_known and estimate.low > window.ceiling):
            return None
        too_long = (
            f"A prompt of about {estimate.tokens} tokens ({estimate.low} to {estimate.high}) does not fit into the "
            f"context window of {window.ceiling} tokens of model {self.model!r} of Ollama at {self.host}"
        )
        if self.mode == "warn":
            if request is not None and request.get("truncate") is False:
                return None  # the server is going to refuse it
            return f"{too_long}; the server is going to cut it. {to_advice(self.settings, window, self.mode)}"
        left = ", although all that may be dropped was dropped" if self.mode == "trim" else ""
        raise OllamaContextError(
            f"{too_long}{left}. Nothing was sent. {to_advice(self.settings, window, self.mode)}",
            host=self.host,
            model=self.model,
            tokens_wanted=estimate.tokens,
            tokens_available=window.ceiling,
        )


def to_on_overflow(value: Any) -> str:
    """Give what is done with prompts that do not fit."""
    if value not in OVERFLOW_MODES:
        raise OllamaContentError(f"on_overflow={value!r} must be one of {', '.join(map(repr, OVERFLOW_MODES))}")
    return value


def message_budget(room: int, fixed: float, uncertainty: float) -> float:
    """Return how many tokens all messages may have together by the estimate, for the prompt to fit surely.

    Args:
        room: Tokens that the prompt may have.
        fixed: Tokens of the template and the tools.
        uncertainty: How far the estimate may be off, as a share of it.
    """
    return max(0.0, room / (1 + uncertainty) - fixed)


def to_advice(settings: WindowSettings, window: WindowLike, mode: str) -> str:
    """Say what helps against prompts that are too long."""
    ways = ["shorten the prompt"]
    if (larger := _larger_window(settings, window)) is not None:
        ways.append(larger)
    if mode != "trim":
        ways.append("set on_overflow='trim' to drop the oldest turns")
    ways.append("use a model with a longer context")
    text = f"{', '.join(ways[:-1])}, or {ways[-1]}."
    return text[0].upper() + text[1:]


def _larger_window(settings: WindowSettings, window: WindowLike) -> str | None:
    limit = settings.model_limit
    if settings.is_cloud or (limit is not None and limit <= window.ceiling):
        return None
    up_to = "" if limit is None else f" (the model takes up to {limit})"
    if settings.num_ctx is None:
        return f"set num_ctx='auto', so that the window grows with the prompt{up_to}"
    name = "max_num_ctx" if settings.num_ctx == "auto" else "num_ctx"
    return f"raise {name} above {window.ceiling}{up_to}"
