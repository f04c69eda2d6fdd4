"""Results: vectors as lists or arrays, events of replies, and one error for all texts that have no vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from griptape.events import EventBus

from griptape_ollama.conversion.vectors import to_embedding_event
from griptape_ollama.embeddings.spec import EmbeddingSpec, Reply
from griptape_ollama.errors import OllamaEmbeddingError, OllamaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32]

OnProgress = Callable[[int, "int | None"], object]
"""Called with the number of texts that are done, and the number of all texts or None if it is not known."""

_NAMED = 10


def converted(vector: list[float], *, as_numpy: bool) -> Any:
    """Return a vector as it is, or as an array of float32 of shape (numbers per vector,)."""
    if not as_numpy:
        return vector
    import numpy as np  # noqa: PLC0415 # takes a tenth of a second

    return np.asarray(vector, dtype=np.float32)


def to_matrix(vectors: list[Any]) -> Matrix:
    """Stack vectors of one size into an array of shape (vectors, size); shape (0, 0) without vectors."""
    import numpy as np  # noqa: PLC0415 # takes a tenth of a second

    return np.stack(vectors) if vectors else np.empty((0, 0), dtype=np.float32)


def publish_reply(spec: EmbeddingSpec, reply: Reply) -> None:
    """Publish the event of a reply."""
    texts, body = reply
    EventBus.publish_event(to_embedding_event(texts, body, host=spec.connection.base_url))


def not_all_embedded(
    failures: dict[int, OllamaError], *, total: int | None, vectors: list[Any] | None = None
) -> OllamaEmbeddingError:
    """Build the error for texts that have no vector.

    Args:
        failures: The errors by the index of the text, in ascending order.
        total: Number of all texts; None if it is not known.
        vectors: The vectors of all texts, None for those that have none.
    """
    index, first = next(iter(failures.items()))
    of_all = "" if total is None else f" of {total}"
    error = OllamaEmbeddingError(
        f"Text {index}{of_all} could not be embedded: {first}{_named(list(failures)[1:])}",
        host=first.host,
        model=first.model,
        index=index,
        failures=failures,
        vectors=vectors or [],
    )
    error.__cause__ = first
    return error


def _named(more: list[int]) -> str:
    if not more:
        return ""
    indexes = ", ".join(map(str, more[:_NAMED]))
    return f" Neither could {len(more)} more: {indexes}{', ...' if len(more) > _NAMED else ''}."
