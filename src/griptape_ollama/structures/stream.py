"""Streaming of a structure's answer, which can be left before its end."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any, cast

from griptape.artifacts import BaseArtifact, ErrorArtifact
from griptape.structures import Structure
from griptape.tasks import BaseTask

from griptape_ollama.drivers.chunks import enabling_chunks
from griptape_ollama.errors import OllamaCancelledError, OllamaContentError, OllamaError
from griptape_ollama.structures.chunk_listener import ChunkListener, OllamaChunk
from griptape_ollama.structures.memory_rollback import MemoryRollback
from griptape_ollama.structures.run_lock import run_lock
from griptape_ollama.transport.async_bridge import BackgroundIterator, has_running_loop

_THREAD_NAME = "griptape-ollama-stream"


class OllamaStream:
    """Runs an Agent, a Pipeline or a Workflow, and yields its answer while it is generated.

    ```python
    for chunk in OllamaStream(agent).run("Tell me a story."):
        print(chunk, end="")
    ```

    `async for` works as well. Whatever the driver's `stream` says, the prompts of the structure's tasks are streamed.
    Leaving early stops the generation on the server; what was left or failed is not kept in conversation memory.

    Args:
        structure: The structure. Runs of one structure wait for each other.
        reasoning: Whether chunks of reasoning are included; they have `is_reasoning` set.

    Raises:
        OllamaContentError: The structure is none.
    """

    def __init__(self, structure: Structure, *, reasoning: bool = False) -> None:
        if not isinstance(structure, Structure):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OllamaContentError(f"structure must be an Agent, a Pipeline or a Workflow, got {structure!r}")
        self.structure = structure
        self.reasoning = reasoning
        self._latest: _Job | None = None

    @property
    def output(self) -> BaseArtifact | None:
        """What the latest run ended in: an ErrorArtifact where it failed or was left; None before its end."""
        return self._latest.output if self._latest is not None else None

    def run(self, *args: Any) -> StreamedRun:
        """Return a run, which begins when its first chunk is asked for.

        Args:
            *args: Arguments of the structure's own `run`.

        Returns:
            The run, to go through with `for` or `async for`. After the last chunk of a run that failed, its error is
            raised; an OllamaCancelledError if it was cancelled elsewhere.
        """
        self._latest = _Job(self.structure, args, reasoning=self.reasoning)
        return StreamedRun(self._latest)


class StreamedRun(BackgroundIterator[OllamaChunk]):
    """One run of a structure: its chunks, for one consumer.

    It can be left by `break`, by `close` or `aclose`, at the end of a `with` or `async with` block, by cancelling the
    task that waits for a chunk, by Ctrl-C, or by dropping it. `cancel`, from any thread, ends it with an
    OllamaCancelledError.
    """

    def __init__(self, job: _Job) -> None:
        super().__init__(job.work, name=_THREAD_NAME)
        self._job = job
        self._rollback_thread: threading.Thread | None = None

    @property
    def output(self) -> BaseArtifact | None:
        """What the run ended in: an ErrorArtifact where it failed or was left; None before its end."""
        return self._job.output

    async def aclose(self) -> None:
        """Leave: stop the run, and wait for its end. Harmless after the end."""
        await super().aclose()
        if self._rollback_thread is not None:
            await asyncio.to_thread(self._rollback_thread.join)

    def _left(self) -> None:
        roll_back = self._job.leave()
        if roll_back is None:
            return
        if has_running_loop():  # a memory may be stored far away
            self._rollback_thread = threading.Thread(target=roll_back, name=_THREAD_NAME, daemon=True)
            self._rollback_thread.start()
        else:
            roll_back()


class _Job:
    """The work of the thread of a run.

    Args:
        structure: The structure.
        args: Arguments of its `run`.
        reasoning: Whether to yield reasoning, too.
    """

    def __init__(self, structure: Structure, args: tuple[Any, ...], *, reasoning: bool) -> None:
        self.output: BaseArtifact | None = None
        self._structure = structure
        self._args = args
        self._reasoning = reasoning
        self._lock = threading.Lock()
        self._is_left = False
        self._roll_back: Callable[[], None] | None = None

    def work(self, put: Callable[[OllamaChunk], None]) -> None:
        """Run the structure.

        Raises:
            Exception: The error that the run ended in.
        """
        with run_lock.held(self._structure):
            rollback = MemoryRollback(self._structure)
            # Listeners belong to the context of this thread: they get the events of this run only.
            try:
                with ChunkListener(self._structure, put, reasoning=self._reasoning).listener, enabling_chunks():
                    self._structure.run(*self._args)  # pyright: ignore[reportUnknownMemberType]
            finally:
                failure = self._finish(rollback)
        if failure is not None:
            raise failure.exception or OllamaError(failure.to_text())

    def leave(self) -> Callable[[], None] | None:
        """Mark the run as left; return what rolls the memory back, where the run has ended already."""
        with self._lock:
            self._is_left = True
            return self._roll_back

    def _finish(self, rollback: MemoryRollback) -> ErrorArtifact | None:
        """Set the output of the run, and roll the memory back if it failed or was left."""
        tasks = cast("list[BaseTask[BaseArtifact]]", self._structure.tasks)  # pyright: ignore[reportUnknownMemberType]
        outputs = [task.output for task in tasks if task.output is not None]
        errors = [output for output in outputs if isinstance(output, ErrorArtifact)]
        last_task = cast("BaseTask[BaseArtifact] | None", self._structure.output_task)  # pyright: ignore[reportUnknownMemberType]
        last = last_task.output if last_task else None
        failure = _failure(last, errors)
        self.output = failure or last
        with self._lock:
            self._roll_back = functools.partial(rollback.remove, outputs)
            is_left = self._is_left
        if is_left:
            rollback.remove(outputs)
        elif failure is not None:
            rollback.remove(errors)
        return failure


def _failure(last: BaseArtifact | None, errors: list[ErrorArtifact]) -> ErrorArtifact | None:
    """Return the error that a run ended in; None if it has an answer. A task that was cancelled cancels all."""
    for error in errors:
        if isinstance(error.exception, OllamaCancelledError):
            return error
    if isinstance(last, ErrorArtifact):
        return last
    return errors[0] if errors and last is None else None
