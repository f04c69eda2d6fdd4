"""Settings of embedding requests: everything in them but the texts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

import tenacity

from griptape_ollama.conversion.chunking import likely_tokens
from griptape_ollama.embeddings.model_identity import ModelIdentity
from griptape_ollama.errors import OllamaContentError
from griptape_ollama.models.keep_alive_leases import LEASE_SECONDS, is_leased, is_unloading, leased
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

OnLongText = Literal["chunk", "truncate", "error"]

Reply = tuple[int, Mapping[str, Any]]
"""The number of texts in a request, and the reply."""

SURELY_FITS = 128
"""Characters of a text that takes one request: no model in use has a window of fewer tokens."""


@dataclass(frozen=True)
class BatchLimits:
    """The size of one request.

    Attributes:
        texts: Largest number of texts.
        characters: Largest number of characters of all texts together; a single text may have more.
    """

    texts: int
    characters: int

    def allow(self, texts: int, characters: int, length: int) -> bool:
        """Return whether another text, of `length` characters, fits beside so many texts and characters."""
        return not texts or (texts < self.texts and characters + length <= self.characters)

    def fitting(self, lengths: Sequence[int]) -> int:
        """Return how many of the first texts fit into one request, at least one; texts are given by their lengths."""
        total = 0
        for number, length in enumerate(lengths):
            if not self.allow(number, total, length):
                return number
            total += length
        return len(lengths)


@dataclass(frozen=True)
class EmbeddingSpec:
    """The settings of embedding requests.

    Attributes:
        connection: Connection to the server.
        body: The request without its texts.
        limits: Timeouts of each request.
        policy: Which failures are retried.
        batches: Size of one request.
        on_long_text: What happens to a text that is longer than the model's context window.
        window: Returns the size of that window in tokens within a run; None if it is unknown. Called for long texts
            only.
        identity: Checks that the model has not changed.
        most_tokens: Estimates the tokens of a text, rather too high than too low; improves with each reply.
        cut_tokens: Estimates tokens where texts are cut. It never changes: a text is to have the same vector each time.
        learn_tokens: Called with the texts of a request and the number of tokens that the server counted.
        is_audited: Whether each request is recorded.
        retry_key: Identifies limits, retries and hooks. Calls share a request only if these are equal.
        count_tokens: Counts the tokens of a text exactly, in place of the estimates.
    """

    connection: Connection
    body: Mapping[str, Any]
    limits: OllamaTimeout
    policy: tenacity.Retrying
    batches: BatchLimits
    on_long_text: OnLongText
    window: Callable[[Run], int | None]
    identity: ModelIdentity = field(default_factory=ModelIdentity)
    most_tokens: Callable[[str], int] = likely_tokens
    cut_tokens: Callable[[str], int] = likely_tokens
    learn_tokens: Callable[[Sequence[str], int], object] | None = None
    is_audited: bool = False
    retry_key: Hashable = ""
    count_tokens: Callable[[str], int] | None = None

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.body["model"]

    @property
    def dimensions(self) -> int | None:
        """Requested size of a vector; None for the model's own."""
        return self.body.get("dimensions")

    @cached_property
    def vector_key(self) -> str:
        """Identifies the vectors that one model returns: specs with the same key get the same vector for a text."""
        deciding = {name: value for name, value in self.body.items() if name not in ("model", "keep_alive")}
        return f"{self.on_long_text} {_canonical(deciding)}"

    @property
    def key(self) -> tuple[int, str, str]:
        """Identifies the vectors that one connection returns."""
        return id(self.connection), self.model, self.vector_key


@contextlib.contextmanager
def leased_spec(spec: EmbeddingSpec, *, takes_one_request: bool = False) -> Generator[EmbeddingSpec, None, None]:
    """Keep a model with `keep_alive` 0 loaded until the end of the block, and return the spec for requests in it.

    Args:
        spec: The spec.
        takes_one_request: Whether one request will do, after which the server unloads the model by itself.
    """
    needs_no_lease = takes_one_request and not is_leased(spec.connection, spec.model)
    if needs_no_lease or not is_unloading(spec.body.get("keep_alive")):
        yield spec
        return
    with leased(spec.connection, spec.model):
        yield replace(spec, body={**spec.body, "keep_alive": LEASE_SECONDS})


def resolve_on_long_text(on_long_text: str | None, truncate: Any) -> OnLongText:
    """Return what happens to long texts, from the two settings that decide on it.

    Raises:
        OllamaContentError: They contradict each other, or `truncate` is not a boolean.
    """
    if truncate not in (None, True, False):
        raise OllamaContentError(f"truncate={truncate!r} must be True or False")
    if truncate is None:
        return cast("OnLongText", on_long_text or "chunk")
    if on_long_text is not None and (on_long_text == "truncate") != truncate:
        raise OllamaContentError(f"truncate={truncate} contradicts on_long_text={on_long_text!r}: give one of them")
    return cast("OnLongText", on_long_text or ("truncate" if truncate else "error"))


def check_dimensions(connection: Connection, body: Mapping[str, Any], run: Run) -> None:
    """Raise if a request has a vector size that the server would ignore (0.33).

    Raises:
        OllamaContentError: The model's vectors are smaller.
    """
    if (dimensions := body.get("dimensions")) is None:
        return
    longest = ServerMetadata(connection, run).show(body["model"]).embedding_length
    if longest is not None and dimensions > longest:
        raise OllamaContentError(
            f"dimensions={dimensions} is more than model {body['model']!r} gives: {longest} at most.",
            model=body["model"],
        )


def window_of(connection: Connection, body: Mapping[str, Any], tokenizer: Any, run: Run) -> int | None:
    """Return the size of a model's context window in tokens, at most; None if it is unknown.

    Args:
        connection: Connection to the server.
        body: The request.
        tokenizer: The user's tokenizer, whose limit counts; None for none.
        run: The run of the request.
    """
    if tokenizer is not None:
        return tokenizer.max_input_tokens
    known = ServerMetadata(connection, run).show(body["model"])
    own = known.parameters.get("num_ctx")
    requested = body.get("options", {}).get("num_ctx") or (own if isinstance(own, int) else None)
    return min((size for size in (known.context_length, requested) if size and size > 0), default=None)


def _canonical(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        # Keys of several types, or a value that contains itself: the error comes when the request is sent.
        return repr(value)
