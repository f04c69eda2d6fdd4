"""Settings that a model is loaded with; a request with other settings reloads the model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from griptape_ollama.protocol.options import RELOADING_OPTIONS
from griptape_ollama.testing.models.simulated_model import SimulatedModel
from griptape_ollama.testing.wire_format import as_object

_SMALLEST_WINDOW = 4
_SMALLEST_VISION_WINDOW = 2048
_ALLOCATION_STEP = 256
# Go's integers have 64 bits; what does not fit becomes the smallest of them.
_LARGEST_INTEGER = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class LoadSettings:
    """Settings that a model is loaded with.

    Attributes:
        context_length: Context window in tokens, as `/api/ps` reports it: the requested one, never rounded.
        shift: Whether the window is shifted when a reply exceeds it.
        options: Other options, by name.
    """

    context_length: int
    shift: bool = True
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def allocated_tokens(self) -> int:
        """Size of the window in memory: the process that runs a model rounds it up to a multiple of 256 tokens."""
        return -(-self.context_length // _ALLOCATION_STEP) * _ALLOCATION_STEP


@dataclass(frozen=True, kw_only=True)
class Load:
    """One load of a model.

    Attributes:
        model: Its name, with the tag.
        context_length: Window in tokens.
        shift: Whether the window is shifted when a reply exceeds it.
        is_reload: Whether the model was in memory before, with another window or other settings.
        at: Simulated seconds since the simulator was built.
    """

    model: str
    context_length: int
    shift: bool
    is_reload: bool
    at: float


def load_settings_for(model: SimulatedModel, body: Mapping[str, Any], default: int) -> LoadSettings:
    """Return the settings that a request asks for.

    Args:
        model: The model.
        body: Body of the request, whose options have the right types.
        default: Window in tokens where neither the request nor the model sets one.
    """
    options = {**_given(model.parameters), **_given(as_object(body.get("options")))}
    reloading = [(name, options[name]) for name in sorted(RELOADING_OPTIONS - {"num_ctx"}) if name in options]
    return LoadSettings(
        context_length=_window(model, options.get("num_ctx", default)),
        shift=body.get("shift") is not False,
        options=tuple((name, value) for name, value in reloading if name != "num_gpu" or value >= 0),
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _window(model: SimulatedModel, asked: float) -> int:
    smallest = _SMALLEST_VISION_WINDOW if model.can("vision") else _SMALLEST_WINDOW
    # 0 means the smallest window, not the default, and so does a number with too many digits.
    wanted = int(asked) if abs(asked) <= _LARGEST_INTEGER else smallest
    return min(max(wanted, smallest), model.context_length)
