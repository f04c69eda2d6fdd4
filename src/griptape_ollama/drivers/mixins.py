"""What drivers for prompts and for embeddings have in common: the model, and the calls in an event loop.

Each asynchronous call is the synchronous one in a thread: the same conversion, limits, retries and errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from attrs import define, field
from griptape.artifacts import BaseArtifact
from griptape.drivers.embedding.base_embedding_driver import VectorOperation

from griptape_ollama.drivers.settings import to_bool_of, to_pull_policy
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.models.connection_settings import LIVE, OllamaServerMixin
from griptape_ollama.models.pull_policy import ensure_model, published
from griptape_ollama.protocol.model_name import model_key
from griptape_ollama.transport.async_bridge import run_in_thread
from griptape_ollama.transport.run import PendingCall

if TYPE_CHECKING:
    from griptape_ollama.embeddings.results import Matrix, OnProgress
    from griptape_ollama.errors import OllamaEmbeddingError

THREAD_NAME = "griptape-ollama-async"


def model_of_environment() -> str:
    """Return the name of the model in `OLLAMA_MODEL`; an empty one if there is none."""
    return os.environ.get("OLLAMA_MODEL", "").strip()


@define(kw_only=True, slots=False)
class ModelMixin(OllamaServerMixin):
    """The settings of a driver that uses one model.

    Attributes:
        pull_policy: Whether the server pulls the model: `never` (the default), `when_missing`, or `always`, which pulls
            its newest version before the first request of this driver.
        audit_requests: Whether each request is recorded on the logger `griptape_ollama.audit`: model, host, tokens,
            seconds and outcome, never texts.
    """

    pull_policy: str = field(default="never", converter=to_pull_policy, metadata={"serializable": True})
    audit_requests: bool = field(default=False, converter=to_bool_of("audit_requests"), metadata={"serializable": True})
    _pulled: set[str] = field(factory=set[str], init=False, repr=False, eq=False, metadata=LIVE)

    def _ensure_model(self, model: str, api: OllamaApi) -> None:
        """Pull the model if `pull_policy` says so.

        Raises:
            OllamaError: It cannot be pulled.
        """
        policy: Any = self.pull_policy
        if policy == "never" or (policy == "always" and model_key(model) in self._pulled):
            return
        ensure_model(api, model, policy, published())
        self._pulled.add(model_key(model))


class _Watching(Protocol):
    def _watch(self, awaited: PendingCall) -> None: ...


class _Embedding(_Watching, Protocol):
    def embed(self, value: str | BaseArtifact, *, vector_operation: VectorOperation | None = None) -> list[float]: ...

    def embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Any = False,
        on_progress: OnProgress | None = None,
    ) -> Any: ...

    def _vectors_by_request(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None,
        *,
        as_numpy: bool,
        on_progress: OnProgress | None,
    ) -> Generator[tuple[list[Any], OllamaEmbeddingError | None], None, None]: ...


def _batches_of(
    driver: _Embedding,
) -> Callable[..., Generator[tuple[list[Any], OllamaEmbeddingError | None], None, None]]:
    return driver._vectors_by_request  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # as below


def _watch_of(driver: _Watching) -> Callable[[PendingCall], None]:
    return driver._watch  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # of the class that this is mixed into


class AsyncEmbeddingMixin:
    """Vectors without blocking the event loop."""

    async def aembed(
        self: _Embedding, value: str | BaseArtifact, *, vector_operation: VectorOperation | None = None
    ) -> list[float]:
        """Return the vector of a text, as `embed` does. Calls that run at the same time share requests.

        Args:
            value: A text or a TextArtifact.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.

        Raises:
            OllamaError: Any kind of it.
        """
        work = functools.partial(self.embed, value, vector_operation=vector_operation)
        return await run_in_thread(work, name=THREAD_NAME, watch=_watch_of(self))

    @overload
    async def aembed_batch(
        self: _Embedding,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[False] = False,
        on_progress: OnProgress | None = None,
    ) -> list[list[float]]: ...

    @overload
    async def aembed_batch(
        self: _Embedding,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[True],
        on_progress: OnProgress | None = None,
    ) -> Matrix: ...

    async def aembed_batch(
        self: _Embedding,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: bool = False,
        on_progress: OnProgress | None = None,
    ) -> list[list[float]] | Matrix:
        """Return the vectors of many texts, as `embed_batch` does.

        Args:
            values: Texts or TextArtifacts; read in another thread.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.
            as_numpy: Whether to return one array of float32 in place of lists.
            on_progress: Called in the event loop after each request, with the number of texts that are done, and that
                of all texts.

        Raises:
            OllamaError: Any kind of it.
        """
        work = functools.partial(
            self.embed_batch, values, vector_operation, as_numpy=as_numpy, on_progress=_in_loop(on_progress)
        )
        return await run_in_thread(work, name=THREAD_NAME, watch=_watch_of(self))

    @overload
    def aiter_embed_batch(
        self: _Embedding,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[False] = False,
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[list[float], None]: ...

    @overload
    def aiter_embed_batch(
        self: _Embedding,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Literal[True],
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[Matrix, None]: ...

    async def aiter_embed_batch(
        self: _Embedding,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: bool = False,
        on_progress: OnProgress | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Yield the vectors of any number of texts one by one, in bounded memory, as `iter_embed_batch` does.

        The texts of a request are read, in another thread, when the earlier vectors were consumed.

        Args:
            values: Texts or TextArtifacts; may be endless.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.
            as_numpy: Whether each vector is an array of float32, of shape (numbers per vector,).
            on_progress: Called in the event loop after each request with the number of texts that are done, and that
                of all texts or None if it is not known.

        Yields:
            A vector for each text, in their order.

        Raises:
            OllamaError: As `iter_embed_batch` does.
        """
        in_other_thread = functools.partial(run_in_thread, name=THREAD_NAME, watch=_watch_of(self))
        batches = _batches_of(self)(values, vector_operation, as_numpy=as_numpy, on_progress=_in_loop(on_progress))
        try:
            while (batch := await in_other_thread(lambda: next(batches, None))) is not None:
                vectors, failure = batch
                for vector in vectors:
                    yield vector
                if failure is not None:
                    raise failure
        finally:
            # This may release a lease, which takes a request. A thread that has not stopped in time does so itself.
            with contextlib.suppress(ValueError):
                await run_in_thread(batches.close, name=THREAD_NAME)


def _in_loop(on_progress: OnProgress | None) -> OnProgress | None:
    """Return a function that calls another one in the event loop that runs here, from any thread."""
    if on_progress is None:
        return None
    return functools.partial(asyncio.get_running_loop().call_soon_threadsafe, on_progress)
