"""What a model is loaded with; anything else of it loads the model anew."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from griptape_ollama.testing.models.simulated_model import SimulatedModel
from griptape_ollama.testing.wire_format import as_object

_SMALLEST_WINDOW = 4
_SMALLEST_VISION_WINDOW = 2048
_CELLS = 256
# Go's integers have 64 bits; what does not fit becomes the smallest of them.
_LARGEST_INTEGER = 2**63 - 1
# Options besides num_ctx that loaded the recorded server's models anew. num_keep and use_mmap did not.
_RUNNER_OPTIONS = ("num_batch", "num_thread", "num_gpu", "main_gpu")


@dataclass(frozen=True, kw_only=True)
class Runner:
    """How a model is in memory.

    Attributes:
        context_length: Window in tokens, as `/api/ps` tells it: what was asked for, never rounded.
        shift: Whether the window moves on when a reply outgrows it.
        options: Other options that it was loaded with, by name.
    """

    context_length: int
    shift: bool = True
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def cells(self) -> int:
        """Tokens that it has room for: the process that runs a model rounds its window up to a multiple of 256."""
        return -(-self.context_length // _CELLS) * _CELLS


@dataclass(frozen=True, kw_only=True)
class Load:
    """One time that a model was loaded.

    Attributes:
        model: Its name, with the tag.
        context_length: Window in tokens.
        shift: Whether the window moves on when a reply outgrows it.
        is_reload: Whether the model was in memory until then, with another window or other settings.
        at: Simulated seconds since the simulator was made.
    """

    model: str
    context_length: int
    shift: bool
    is_reload: bool
    at: float


def runner_for(model: SimulatedModel, body: Mapping[str, Any], default: int) -> Runner:
    """Return what a request wants its model to be loaded with.

    Args:
        model: The model.
        body: Body of the request, whose options have the right types.
        default: Window of a model for which nobody asks another.
    """
    options = {**_given(model.parameters), **_given(as_object(body.get("options")))}
    others = [(name, options[name]) for name in _RUNNER_OPTIONS if name in options]
    return Runner(
        context_length=_window(model, options.get("num_ctx", default)),
        shift=body.get("shift") is not False,
        options=tuple((name, value) for name, value in others if name != "num_gpu" or value >= 0),
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _window(model: SimulatedModel, asked: float) -> int:
    smallest = _SMALLEST_VISION_WINDOW if model.can("vision") else _SMALLEST_WINDOW
    # 0 is not the default but as small as it gets, and so is what has too many digits.
    wanted = int(asked) if abs(asked) <= _LARGEST_INTEGER else smallest
    return min(max(wanted, smallest), model.context_length)
