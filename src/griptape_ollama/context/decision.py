"""Which window is asked for, from what is known: pure, nothing is remembered here."""

from __future__ import annotations

from dataclasses import dataclass

from griptape_ollama.context.bounds import Bounds, assumed_window, own_window
from griptape_ollama.context.remembered import Remembered, Server
from griptape_ollama.models.metadata_cache import ModelFacts
from griptape_ollama.protocol.context_window import MAX_NUM_CTX


@dataclass(frozen=True)
class Window:
    """The window of a model for one request.

    Attributes:
        num_ctx: What to send as `num_ctx`; None for nothing.
        tokens: Window that the model has when it answers.
        ceiling: Largest window that it can be grown to; `tokens` where it is fixed.
        grown_from: Window before, where this request makes it grow.
        is_known: Whether the server or the caller told it, or the model was made for no more; otherwise it is assumed.
    """

    num_ctx: int | None
    tokens: int
    ceiling: int
    grown_from: int | None = None
    is_known: bool = False


@dataclass(frozen=True)
class Default:
    """The window that a model gets if nothing is asked for.

    Attributes:
        tokens: Its size.
        is_known: Whether it is baked into the model, or was learned from the server; otherwise it is assumed.
    """

    tokens: int
    is_known: bool


def default_of(bounds: Bounds, known: ModelFacts, server: Server, memory: Remembered) -> Default:
    """Find the window that a model gets if nothing is asked for."""
    own = own_window(known, bounds)
    if own is not None:
        return Default(own, is_known=True)
    learned = memory.default or server.default
    tokens = assumed_window(bounds) if learned is None else bounds.clamp(learned)
    # A server that counts more than the model was made for proves nothing beyond that.
    return Default(max(tokens, bounds.clamp(memory.proven)), is_known=learned is not None)


def decided(num_ctx: int | str | None, bounds: Bounds, default: Default, memory: Remembered, needed: int) -> Window:
    """Decide on a window.

    Args:
        num_ctx: What the user wants.
        bounds: Bounds of the window.
        default: What the model gets if nothing is asked for.
        memory: What is remembered of the model.
        needed: Tokens of the prompt and the reply together.
    """
    if isinstance(num_ctx, int):
        tokens = bounds.clamp(num_ctx)
        # Larger numbers overflow on the server, to the smallest window there is (server 0.33).
        return Window(min(num_ctx, MAX_NUM_CTX), tokens, tokens, is_known=True)
    loaded = memory.tokens if memory.is_loaded else None
    is_told = loaded is not None and not memory.is_default
    if num_ctx is None:
        # What somebody else had loaded may be the default; what a request of ours made larger is not.
        tokens = loaded if loaded is not None and memory.sent is None and not default.is_known else default.tokens
        is_known = default.is_known or (is_told and tokens == loaded) or tokens == bounds.limit
        return Window(None, tokens, tokens, is_known=is_known)
    before = default.tokens if loaded is None else loaded
    grown = bounds.grown(needed)
    if needed > before and grown > before:
        return Window(grown, grown, bounds.largest_growth, grown_from=before, is_known=True)
    # Nothing, where the server does the same without being asked.
    sent = None if before == default.tokens else before
    is_known = is_told or default.is_known or before == bounds.limit
    return Window(sent, before, max(bounds.largest_growth, before), is_known=is_known)
