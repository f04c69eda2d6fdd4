"""The drivers in an event loop.

Each call is the synchronous one, in a thread: the same conversion, limits, retries and errors.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, overload

from griptape.artifacts import BaseArtifact
from griptape.common import DeltaMessage, Message, PromptStack
from griptape.drivers.embedding.base_embedding_driver import VectorOperation

from griptape_ollama.transport.feed import Feed, in_thread

if TYPE_CHECKING:
    from griptape_ollama.embeddings.results import Matrix, OnProgress

THREAD_NAME = "griptape-ollama-async"


class _Prompting(Protocol):
    def run(self, prompt_input: PromptStack | BaseArtifact) -> Message: ...

    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]: ...


class _Embedding(Protocol):
    def embed(self, value: str | BaseArtifact, *, vector_operation: VectorOperation | None = None) -> list[float]: ...

    def embed_batch(
        self,
        values: Iterable[str | BaseArtifact],
        vector_operation: VectorOperation | None = None,
        *,
        as_numpy: Any = False,
        on_progress: OnProgress | None = None,
    ) -> Any: ...


class AsyncPromptMixin:
    """Prompts without blocking the event loop."""

    async def arun(self: _Prompting, prompt_input: PromptStack | BaseArtifact) -> Message:
        """Answer a prompt, as `run` does. Cancelling the task stops the server.

        Events go to the listeners of the caller, in another thread.

        Raises:
            OllamaError: Any kind of it.
        """
        return await in_thread(functools.partial(self.run, prompt_input), name=THREAD_NAME)

    def astream(self: _Prompting, prompt_stack: PromptStack | BaseArtifact) -> Feed[DeltaMessage]:
        """Answer a prompt piece by piece, as `try_stream` does: `async for delta in driver.astream(stack)`.

        Nothing is asked before the first piece is wanted. Leaving early, and cancelling the task, stops the server.

        Raises:
            OllamaError: Any kind of it, from the loop.
        """
        stack = PromptStack.from_artifact(prompt_stack) if isinstance(prompt_stack, BaseArtifact) else prompt_stack

        def work(put: Callable[[DeltaMessage], None]) -> None:
            for delta in self.try_stream(stack):
                put(delta)

        return Feed(work, name=THREAD_NAME)


class AsyncEmbeddingMixin:
    """Vectors without blocking the event loop."""

    async def aembed(
        self: _Embedding, value: str | BaseArtifact, *, vector_operation: VectorOperation | None = None
    ) -> list[float]:
        """Give the vector of a text, as `embed` does. Calls that run at the same time share requests.

        Args:
            value: A text or a TextArtifact.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.

        Raises:
            OllamaError: Any kind of it.
        """
        return await in_thread(
            functools.partial(self.embed, value, vector_operation=vector_operation), name=THREAD_NAME
        )

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
        """Give the vectors of many texts, as `embed_batch` does.

        Args:
            values: Texts or TextArtifacts; read in another thread.
            vector_operation: `query` or `upsert`, which decides on the prefix; None for no prefix.
            as_numpy: Whether to give one array of float32 in place of lists.
            on_progress: Called in the event loop after each request, with the number of texts that are done, and that
                of all texts.

        Raises:
            OllamaError: Any kind of it.
        """
        loop = asyncio.get_running_loop()
        report = None if on_progress is None else functools.partial(loop.call_soon_threadsafe, on_progress)
        work = functools.partial(self.embed_batch, values, vector_operation, as_numpy=as_numpy, on_progress=report)
        return await in_thread(work, name=THREAD_NAME)
