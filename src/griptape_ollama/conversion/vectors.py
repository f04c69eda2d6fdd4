"""Builds embed requests, and reads the vectors of a reply."""

from __future__ import annotations

import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from griptape_ollama.errors import OllamaContentError, OllamaStreamError
from griptape_ollama.events import OllamaEmbeddingEvent
from griptape_ollama.protocol.keep_alive import normalize_keep_alive
from griptape_ollama.protocol.numbers import (
    check_whole,
    reported_count,
    reported_seconds,
    to_boolean,
    to_plain_scalar,
)
from griptape_ollama.protocol.options import check_options

PLACEHOLDER = "."
"""Embedded in place of a blank text: for some the server makes no vector (0.33), for the rest one that depends on how
the model handles blanks."""

_UNIT_TOLERANCE = 1e-3  # the server scales to length 1 in 32-bit floats (0.33)


class Passage(NamedTuple):
    """One text to embed.

    Attributes:
        prefix: What the model expects before it.
        text: The text.
    """

    prefix: str
    text: str

    @property
    def sent(self) -> str:
        """The text that is sent."""
        return f"{self.prefix}{self.text}" if self.text.strip() else f"{self.prefix}{PLACEHOLDER}"


class Vectors(NamedTuple):
    """The vectors of a reply.

    Attributes:
        values: One per text: a vector of length 1, or what is wrong with it.
        were_scaled: Whether some came with another length.
    """

    values: list[list[float] | str]
    were_scaled: bool


def to_embed_request(
    *, model: str, options: Mapping[str, Any], fields: Mapping[str, Any], extra: Mapping[str, Any]
) -> dict[str, Any]:
    """Build a request, but for its texts, and check every setting in it.

    Args:
        model: Model name.
        options: Model options, already merged.
        fields: `dimensions`, `truncate`, `keep_alive`; None means "not set".
        extra: The user's `extra_params` but for `options`; they win over fields, and unknown ones are sent as they are.

    Raises:
        OllamaContentError: A setting has a value that the server would refuse or ignore.
    """
    settings = {name: value for name, value in {**fields, **extra}.items() if value is not None}
    if "input" in settings:
        raise OllamaContentError("'input' cannot be set in extra_params: texts are given to embed().", model=model)
    try:
        checked = check_options(options)
        request = {"model": model} | {name: check_field(name, value) for name, value in settings.items()}
    except ValueError as error:
        raise OllamaContentError(str(error), model=model) from error
    return {**request, "options": checked} if checked else request


def check_field(name: str, value: Any) -> Any:
    """Return what is sent for a field of the request.

    Raises:
        ValueError: The server would refuse or ignore it.
    """
    if name == "keep_alive":
        return normalize_keep_alive(value)
    if name == "dimensions":
        return check_whole(value, name="dimensions")
    if name == "truncate" and to_boolean(value) is None:
        raise ValueError(f"truncate={value!r} must be True or False")
    return to_plain_scalar(value)


def to_vectors(
    reply: Mapping[str, Any], count: int, *, dimensions: int | None = None, size: int | None = None
) -> Vectors:
    """Read and check the vectors of a reply.

    A vector whose length is not 1, as old servers give, is scaled.

    Args:
        reply: The reply of `/api/embed`.
        count: How many texts were sent.
        dimensions: Requested numbers per vector; None for as many as the model gives.
        size: How many numbers the vectors of other replies had; None if this is the first.

    Raises:
        OllamaStreamError: There are more or fewer vectors than texts, or an error in place of them.
        OllamaContentError: All vectors have another size than was requested.
    """
    found = reply.get("embeddings")
    vectors = cast("list[Any]", found) if isinstance(found, list) else []
    if isinstance(error := reply.get("error"), str) and not vectors:
        raise OllamaStreamError(f"the reply says {error!r}")
    if len(vectors) != count:
        raise OllamaStreamError(f"the reply has {len(vectors)} vectors for {count} texts")
    sizes = Counter(len(cast("list[Any]", vector)) for vector in vectors if isinstance(vector, list))
    if dimensions is not None and len(sizes) == 1 and dimensions not in sizes:
        raise OllamaContentError(f"it gives vectors of {next(iter(sizes))} numbers, not dimensions={dimensions}")
    size = dimensions or size or (sizes.most_common(1)[0][0] if sizes else 0)
    values: list[list[float] | str] = []
    were_scaled = False
    for vector in vectors:
        checked = _checked(vector, size)
        if isinstance(checked, str):
            values.append(checked)
            continue
        numbers, length = checked
        if abs(length - 1.0) > _UNIT_TOLERANCE:
            were_scaled = True
            numbers = [value / length for value in numbers]
        values.append(numbers)
    return Vectors(values, were_scaled)


def vector_size(reply: Mapping[str, Any]) -> int | None:
    """Return the size of all vectors of a reply; None if they differ, or the reply has no vector."""
    found = reply.get("embeddings")
    vectors = cast("list[Any]", found) if isinstance(found, list) else []
    sizes = {len(cast("list[Any]", vector)) for vector in vectors if isinstance(vector, list)} - {0}
    return sizes.pop() if len(sizes) == 1 else None


def mean_of(vectors: Sequence[tuple[int, list[float]]]) -> list[float]:
    """Return the weighted mean of vectors, scaled to length 1."""
    columns = zip(*([weight * value for value in vector] for weight, vector in vectors), strict=True)
    sums = [math.fsum(column) for column in columns]
    length = math.hypot(*sums)
    return [value / length for value in sums] if length else vectors[0][1]


def to_embedding_event(texts: int, reply: Mapping[str, Any], *, host: str) -> OllamaEmbeddingEvent:
    """Build the event of a reply.

    Args:
        texts: How many texts the request had.
        reply: The reply of `/api/embed`.
        host: Address of the server, without user and password.
    """
    return OllamaEmbeddingEvent(
        model=str(reply.get("model", "")),
        host=host,
        texts=texts,
        input_tokens=tokens_of(reply),
        total_seconds=reported_seconds(reply.get("total_duration")),
        load_seconds=reported_seconds(reply.get("load_duration")),
    )


def tokens_of(reply: Mapping[str, Any]) -> int | None:
    """Return the tokens of all texts of a request; None if the reply has no count."""
    return reported_count(reply.get("prompt_eval_count"))


def _checked(vector: Any, size: int) -> tuple[list[float], float] | str:
    """Return a vector of floats with its length, or what is wrong with it."""
    if not isinstance(vector, list) or not vector:
        return "its vector has no numbers"
    numbers = cast("list[Any]", vector)
    if len(numbers) != size:
        return f"its vector has {len(numbers)} numbers, not {size}"
    try:
        length = math.hypot(*numbers)
    except (TypeError, OverflowError):
        return "its vector has values that are no numbers"
    # Counted in C: this is done for every number of every vector.
    if operator.countOf(map(type, numbers), float) != size:
        if bool in set(map(type, numbers)):
            return "its vector has values that are no numbers"
        numbers = list(map(float, numbers))
    if not math.isfinite(length):
        return "its vector has numbers that are not finite"
    return (numbers, length) if length else "its vector has zeros only"
