"""What callers get of many texts: lists or arrays, and one error for all texts that have no vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from griptape_ollama.errors import OllamaEmbeddingError, OllamaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

OnProgress = Callable[[int, "int | None"], object]
"""Called with the number of texts that are done, and that of all texts or None where it is not known."""

_NAMED = 10


def converted(vector: list[float], *, as_numpy: bool) -> Any:
    """Give a vector as it is, or as an array of float32 of shape (numbers per vector,)."""
    if not as_numpy:
        return vector
    import numpy as np  # noqa: PLC0415 # only who wants arrays waits for its import

    return np.asarray(vector, dtype=np.float32)


def to_matrix(vectors: list[Any]) -> Matrix:
    """Give arrays of one size as one of shape (number of vectors, numbers per vector); of none, of shape (0, 0)."""
    import numpy as np  # noqa: PLC0415 # only who wants arrays waits for its import

    return np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def not_all_embedded(
    failures: dict[int, OllamaError], *, total: int | None, vectors: list[Any] | None = None
) -> OllamaEmbeddingError:
    """Make the error for texts that have no vector.

    Args:
        failures: Why, by the place of the text; the first comes first.
        total: Number of all texts; None where it is not known.
        vectors: The vectors of all texts, None for those that have none.
    """
    index, first = next(iter(failures.items()))
    of_all = "" if total is None else f" of {total}"
    error = OllamaEmbeddingError(
        f"Text {index}{of_all} could not be embedded: {first}{_said_of(list(failures)[1:])}",
        host=first.host,
        model=first.model,
        index=index,
        failures=failures,
        vectors=vectors or [],
    )
    error.__cause__ = first
    return error


def _said_of(others: list[int]) -> str:
    if not others:
        return ""
    places = ", ".join(map(str, others[:_NAMED]))
    return f" Neither could {len(others)} more: {places}{', ...' if len(others) > _NAMED else ''}."
