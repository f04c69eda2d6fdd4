"""What a driver asks of the server, whatever the texts: all that texts must share to travel in one request."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import tenacity

from griptape_ollama.conversion.chunking import likely_tokens
from griptape_ollama.embeddings.model_identity import ModelIdentity
from griptape_ollama.models.keep_alive_leases import LEASE_SECONDS, is_leased, is_unloading, leased
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.timeouts import OllamaTimeout

OnLongText = Literal["chunk", "truncate", "error"]

Reply = tuple[int, Mapping[str, Any]]
"""How many texts a request had, and what came back."""


SURELY_FITS = 128
"""Characters of a text that takes one request: no model in use has a window of fewer tokens."""


@dataclass(frozen=True)
class BatchLimits:
    """How much one request may hold.

    Attributes:
        texts: Number of texts.
        characters: Characters of all of them; a single text may have more.
    """

    texts: int
    characters: int

    def fitting(self, lengths: Sequence[int]) -> int:
        """Tell how many of the first texts fit into one request; at least one.

        Args:
            lengths: Characters of each text.
        """
        total = 0
        for number, length in enumerate(lengths[: self.texts]):
            total += length
            if total > self.characters and number:
                return number
        return min(len(lengths), self.texts)


@dataclass(frozen=True)
class EmbeddingSpec:
    """The settings of one request for vectors, or of many.

    Attributes:
        connection: The way to the server.
        body: The request but for its texts.
        limits: How long each request may take.
        policy: Which failures are tried again.
        batches: How much one request may hold.
        on_long_text: What is done with a text that is longer than the model's window.
        window: Tells a run the tokens of that window, at most; None where nobody knows. Asked for long texts only.
        identity: Tells whether the model is still the one that it was.
        most_tokens: Estimates the tokens of a text, rather too many than too few; better with each reply.
        cut_tokens: The same for where texts are cut. It learns nothing: a text is to have the same vector each time.
        learn_tokens: Learns from what the server counted for the texts of a request; by default nothing does.
        is_audited: Whether each request is recorded.
        manner: Tells apart how it is asked for: limits, retries and the like. Calls of another manner ask for
            themselves; whose limits a shared request kept to would be chance.
        count_tokens: Counts the tokens of a text; by default nobody can.
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
    manner: str = ""
    count_tokens: Callable[[str], int] | None = None

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.body["model"]

    @property
    def dimensions(self) -> int | None:
        """How many numbers a vector is to have; None for as many as the model gives."""
        return self.body.get("dimensions")

    @cached_property
    def key(self) -> str:
        """Tell orders apart: for those of the same key, a text has the same vector from the same server."""
        return f"{id(self.connection)} {self.on_long_text} {_canonical(self.body)}"

    @cached_property
    def vector_key(self) -> str:
        """Tell apart orders that give other vectors: how long the model stays is not among what decides about them."""
        return f"{id(self.connection)} {self.on_long_text} {_canonical(self._deciding)}"

    def fingerprint(self, digest: str) -> bytes:
        """Tell apart what decides about a vector, besides its text.

        Args:
            digest: Digest of the model.
        """
        deciding = {name: value for name, value in self._deciding.items() if name != "model"}
        return f"{self.connection.base_url} {digest} {self.on_long_text} {_canonical(deciding)}".encode()

    @property
    def _deciding(self) -> dict[str, Any]:
        return {name: value for name, value in self.body.items() if name != "keep_alive"}


@contextlib.contextmanager
def leased_spec_of(spec: EmbeddingSpec, *, takes_one: bool = False) -> Generator[EmbeddingSpec, None, None]:
    """Give the order for something that takes several requests: a keep_alive of 0 counts after the last of them.

    Args:
        spec: The order.
        takes_one: Whether one request will do, so that the server can let the model go; unless somebody else needs it.
    """
    is_simple = takes_one and not is_leased(spec.connection, spec.model)
    if is_simple or not is_unloading(spec.body.get("keep_alive")):
        yield spec
        return
    with leased(spec.connection, spec.model):
        yield replace(spec, body={**spec.body, "keep_alive": LEASE_SECONDS})


def _canonical(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, sort_keys=True, default=repr)
    except (TypeError, ValueError, RecursionError):
        # Names of several kinds, or a value that holds itself: sending it says what is wrong with it.
        return repr(value)
