"""Values of an embedding driver: its own texts, and values that methods of a subclass embed, as Griptape does."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from griptape.artifacts import BaseArtifact, ImageArtifact, TextArtifact
from griptape.drivers.embedding.base_embedding_driver import VectorOperation

from griptape_ollama.conversion.prefixes import prefixes_of
from griptape_ollama.conversion.vectors import Passage
from griptape_ollama.drivers.subclass_overrides import check_run, is_overridden, with_retries
from griptape_ollama.embeddings.embedder import Outcome, may_be_about_a_text
from griptape_ollama.errors import OllamaContentError, OllamaError
from griptape_ollama.transport.run import Run

_active: ContextVar[frozenset[tuple[int, str]]] = ContextVar("ollama_active_overrides", default=frozenset())
"""The methods of subclasses that are running: calls that they make in turn must not come back to them."""


@dataclass(frozen=True)
class Single:
    """A value that a method of a subclass embeds by itself.

    Attributes:
        method: Name of the method.
        value: The value.
        operation: The `vector_operation`.
    """

    method: str
    value: Any
    operation: VectorOperation | None


def passages_of(
    driver: Any, values: Any, operation: VectorOperation | None, own: Mapping[str, Any]
) -> Iterator[Passage | Single]:
    """Yield the texts of a batch, with the prefix of the operation; values that a subclass embeds are kept as they are.

    Args:
        driver: The driver.
        values: Texts or TextArtifacts.
        operation: The `vector_operation`.
        own: The methods of our class.

    Raises:
        OllamaContentError: `values` is a single value, or one of the values is not a text.
    """
    if isinstance(values, (str, bytes, BaseArtifact, Mapping)):
        kind = type(cast("object", values)).__name__
        raise OllamaContentError(
            f"Many texts are wanted here, got one {kind}. Give [text], or use embed().", model=driver.model
        )
    is_overridden_somewhere = has_own_methods(driver, own)
    for index, value in enumerate(values):
        single = single_of(driver, value, operation, own, of_many=True) if is_overridden_somewhere else None
        yield passage_of(driver, value, operation, index) if single is None else single


def passage_of(driver: Any, value: Any, operation: VectorOperation | None, index: int | None = None) -> Passage:
    """Return a text with the prefix of the operation.

    Raises:
        OllamaContentError: The value is not a text.
    """
    if not isinstance(value, (str, TextArtifact)):
        what = "" if index is None else f"Value {index}: "
        raise OllamaContentError(
            f"{what}Ollama embeds texts only, got {type(value).__name__}. Give a text or a TextArtifact.",
            model=driver.model,
        )
    return Passage(_prefix(driver, operation), value if isinstance(value, str) else value.to_text())


def _prefix(driver: Any, operation: VectorOperation | None) -> str:
    if operation is None:
        return ""
    if operation not in ("query", "upsert"):
        raise OllamaContentError(f"vector_operation={operation!r} must be 'query', 'upsert' or None")
    given: str | None = driver.query_prefix if operation == "query" else driver.document_prefix
    if given is not None:
        return given
    family = prefixes_of(driver.model)
    return family.query if operation == "query" else family.document


def has_own_methods(driver: Any, own: Mapping[str, Any]) -> bool:
    """Return whether a subclass, or a test, replaced one of the methods that embed a value."""
    return any(is_overridden(driver, name, own) for name in own)


def single_of(
    driver: Any, value: Any, operation: VectorOperation | None, own: Mapping[str, Any], *, of_many: bool = False
) -> Single | None:
    """Return how a subclass embeds a value; None if our class does.

    Args:
        driver: The driver.
        value: The value.
        operation: The `vector_operation`.
        own: The methods of our class.
        of_many: Whether it is one of many, for which an `embed` of the subclass counts, too.
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
    """Return the vector that a method of a subclass returns, with the retries of Griptape's base class.

    Args:
        driver: The driver.
        single: The value, and the method.
        run: The run, which limits the retries.
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

    # `embed` has retries of its own.
    return work() if single.method == "embed" else with_retries(driver, work, run)


def mixed_outcomes(
    driver: Any,
    items: Iterable[Passage | Single],
    runs: Callable[[], contextlib.AbstractContextManager[Run]],
    batched: Callable[
        [Iterable[Passage], Callable[[], contextlib.AbstractContextManager[Run]]], Iterator[list[Outcome]]
    ],
    *,
    in_pieces: bool,
) -> Iterator[list[Outcome]]:
    """Embed some values with methods of a subclass, one by one, and the texts between them in batches.

    Args:
        driver: The driver.
        items: The values.
        runs: Starts the run of each request.
        batched: Embeds texts in batches.
        in_pieces: As for `embedded`.
    """
    for is_single, group in itertools.groupby(items, lambda item: isinstance(item, Single)):
        if not is_single:
            yield from batched(cast("Iterator[Passage]", group), runs)
            continue
        for single in cast("Iterator[Single]", group):
            with runs() as run:
                outcome = _outcome_of(driver, single, run, in_pieces=in_pieces)
            yield [outcome]


def _outcome_of(driver: Any, single: Single, run: Run, *, in_pieces: bool) -> Outcome:
    """Return the vector, or the error if it is about this value alone; raise other errors."""
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
