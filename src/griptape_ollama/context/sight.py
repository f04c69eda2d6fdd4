"""What a server says of the window of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from griptape_ollama.models.metadata_cache import Facts, LoadedList, ModelFacts
from griptape_ollama.models.types import weights_of
from griptape_ollama.protocol.context_window import MAX_NUM_CTX
from griptape_ollama.protocol.counters import to_count
from griptape_ollama.protocol.model_name import find_model, name_of_entry


@dataclass(frozen=True)
class Sight:
    """One look at what is loaded.

    Attributes:
        asked_at: When the server was asked, on the clock of `time.monotonic()`.
        is_listed: Whether the model is loaded.
        tokens: Its window; None where the server does not tell, as before 0.12.
    """

    asked_at: float
    is_listed: bool
    tokens: int | None = None


def sight_of(facts: Facts, model: str, known: ModelFacts, loaded: LoadedList) -> Sight:
    """Find a model among those that are loaded."""
    entry = _find(facts, model, known, loaded)
    if entry is None:
        return Sight(loaded.asked_at, is_listed=False)
    tokens = to_count(entry.get("context_length"), least=1, most=MAX_NUM_CTX)
    return Sight(loaded.asked_at, is_listed=True, tokens=tokens)


def _find(facts: Facts, model: str, known: ModelFacts, loaded: LoadedList) -> Mapping[str, Any] | None:
    found = find_model(model, loaded.entries, name_of_entry)
    if found is not None:
        return found
    # Models with the same weights share one place, under the name that was loaded first (server 0.33).
    weights = weights_of(known.raw)
    if weights is None:
        return None
    named = ((name_of_entry(entry), entry) for entry in loaded.entries)
    alike = ((name, entry) for name, entry in named if name and _looks_alike(entry, known.raw))
    return next((entry for name, entry in alike if weights_of(facts.show(name).raw) == weights), None)


def _looks_alike(entry: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    """Whether it may be the same weights, so that it is worth a request to know."""
    one, other = entry.get("details"), shown.get("details")
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    mine, theirs = cast("dict[str, Any]", one), cast("dict[str, Any]", other)
    return all(mine.get(name) == theirs.get(name) for name in ("family", "quantization_level"))
