"""How small and how large the window of a model can be."""

from __future__ import annotations

from dataclasses import dataclass, replace

from griptape_ollama.models.metadata_cache import DEFAULT_WINDOW, ModelFacts
from griptape_ollama.protocol.context_window import MAX_NUM_CTX
from griptape_ollama.protocol.counters import to_count

DEFAULT_MAX_NUM_CTX = 32_768
"""Size up to which a window grows where nobody says otherwise, in tokens.

The cache of an 8B model (32 layers of 8 KV heads of 128 numbers, keys and values of 2 bytes) takes 128 KiB per token:
4 GiB for this window, about as much as the weights.
"""

CLOUD_WINDOW = 131_072
"""Window of a cloud model whose facts are not known, in tokens: the smallest of those at ollama.com in 2026."""

# The server raises smaller ones (server 0.33, `getRunner`).
_SMALLEST = 4
_SMALLEST_WITH_VISION = 2048


@dataclass(frozen=True)
class Bounds:
    """Bounds of a model's window, in tokens.

    Attributes:
        smallest: The server raises smaller windows to this.
        limit: The server lowers larger ones to this: what the model was made for. None where that is unknown.
        largest_growth: Size up to which a window may be grown.
    """

    smallest: int
    limit: int | None
    largest_growth: int

    @classmethod
    def of(cls, known: ModelFacts, max_num_ctx: int | None) -> Bounds:
        """Find the bounds of a model."""
        has_vision = known.capabilities is not None and known.can("vision")
        smallest = _SMALLEST_WITH_VISION if has_vision else _SMALLEST
        wanted = DEFAULT_MAX_NUM_CTX if max_num_ctx is None else max_num_ctx
        largest = wanted if known.context_length is None else min(wanted, known.context_length)
        return cls(smallest, known.context_length, largest)

    def clamp(self, tokens: int) -> int:
        """Give the window that the server makes of a request for so many tokens."""
        raised = max(tokens, self.smallest)
        return raised if self.limit is None else min(raised, self.limit)

    def lowered(self, room: int | None) -> Bounds:
        """Give the bounds where the server has room for growth up to `room` tokens only; None is no limit."""
        return self if room is None else replace(self, largest_growth=min(self.largest_growth, room))

    def grown(self, needed: int) -> int:
        """Give the window to grow to: the next power of two that is enough, as far as it may grow."""
        enough = 1 << max(needed - 1, 0).bit_length()
        return min(enough, self.largest_growth)


def own_window(known: ModelFacts, bounds: Bounds) -> int | None:
    """Give the window that is baked into a model as its own `num_ctx`; None where there is none."""
    own = to_count(known.parameters.get("num_ctx"), least=1, most=MAX_NUM_CTX)
    return None if own is None else bounds.clamp(own)


def assumed_window(bounds: Bounds) -> int:
    """Give the window that a model gets where nothing is asked for and nothing is known."""
    return bounds.clamp(DEFAULT_WINDOW)
