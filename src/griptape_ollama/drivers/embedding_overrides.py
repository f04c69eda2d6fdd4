"""Embedding by the methods of a subclass, text by text, as Griptape's base class does."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from griptape.artifacts import ImageArtifact, TextArtifact
from griptape.drivers.embedding.base_embedding_driver import VectorOperation

from griptape_ollama.drivers.overrides import check_run, is_overridden, with_retries
from griptape_ollama.embeddings.embedder import Outcome, may_be_about_a_text
from griptape_ollama.errors import OllamaContentError, OllamaError
from griptape_ollama.transport.run import Run

_active: ContextVar[frozenset[tuple[int, str]]] = ContextVar("ollama_active_overrides", default=frozenset())
"""The methods of subclasses that are running: what they call in turn must not come back to them."""


@dataclass(frozen=True)
class Single:
    """A value that a method of a subclass embeds, by itself.

    Attributes:
        method: Name of the method.
        value: The value.
        operation: What the vector is for.
    """

    method: str
    value: Any
    operation: VectorOperation | None


def single_of(
    driver: Any, value: Any, operation: VectorOperation | None, own: Mapping[str, Any], *, of_many: bool = False
) -> Single | None:
    """Return how a subclass embeds a value; None where our class does.

    Args:
        driver: The driver.
        value: What is embedded.
        operation: What the vector is for.
        own: The methods of our class.
        of_many: Whether it is one of many, so that an `embed` of the subclass would be passed by.
    """
    methods = ["embed"] if of_many else []
    if isinstance(value, (str, TextArtifact)):
        methods.append("try_embed_chunk")
    elif isinstance(value, ImageArtifact):
        methods.append("try_embed_artifact")
    for method in methods:
        if is_overridden(driver, method, own) and (id(driver), method) not in _active.get():
            return Single(method, value, operation)
    return None


def embedded(driver: Any, single: Single, run: Run, *, in_pieces: bool) -> list[float]:
    """Return the vector that a method of a subclass gives, with the retries of Griptape's base class.

    Args:
        driver: The driver.
        single: What is embedded, and by which method.
        run: The run, whose end ends the waits.
        in_pieces: Whether a text that is longer than the tokenizer's limit is embedded in pieces.
    """
    value = single.value
    if single.method == "try_embed_chunk":
        value = value if isinstance(value, str) else value.to_text()
        if in_pieces and _is_long(driver, value):
            return driver._embed_long_string(value, vector_operation=single.operation)  # noqa: SLF001 # of Griptape's base

    def work() -> list[float]:
        check_run(run)
        with _running(driver, single.method):
            return getattr(driver, single.method)(value, vector_operation=single.operation)

    # An `embed` brings retries of its own.
    return work() if single.method == "embed" else with_retries(driver, work, run)


def outcome_of(driver: Any, single: Single, run: Run, *, in_pieces: bool) -> Outcome:
    """Return the vector, or the error where it is about this value alone.

    Raises:
        OllamaError: It would befall other values, too.
    """
    try:
        return embedded(driver, single, run, in_pieces=in_pieces)
    except OllamaError as error:
        if isinstance(error, OllamaContentError) or may_be_about_a_text(error):
            return error
        raise


def _is_long(driver: Any, text: str) -> bool:
    tokenizer = driver.tokenizer
    return tokenizer is not None and tokenizer.count_tokens(text) > tokenizer.max_input_tokens


@contextlib.contextmanager
def _running(driver: Any, method: str) -> Generator[None, None, None]:
    before = _active.set(_active.get() | {(id(driver), method)})
    try:
        yield
    finally:
        _active.reset(before)
