"""Rollback of conversation memory after a run that failed or was left.

Griptape adds each run of a structure to its memory at the end, also the text of an error, and publishes no event.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from griptape.artifacts import BaseArtifact
from griptape.memory.structure import BaseConversationMemory, Run, SummaryConversationMemory
from griptape.structures import Structure


@dataclass(frozen=True)
class _Snapshot:
    """A memory as it was before a run.

    Attributes:
        memory: The memory.
        runs: Its runs.
        summary: Its summary, and the number of runs in it; None if it has none.
    """

    memory: BaseConversationMemory
    runs: tuple[Run, ...]
    summary: tuple[str | None, int] | None


class MemoryRollback:
    """Removes runs from the conversation memories of a structure: its own, and those of its tasks.

    Args:
        structure: The structure, before it runs.
    """

    def __init__(self, structure: Structure) -> None:
        owners: list[Any] = [structure, *cast("list[Any]", structure.tasks)]  # pyright: ignore[reportUnknownMemberType]
        found = [getattr(owner, "conversation_memory", None) for owner in owners]
        memories = {id(memory): memory for memory in found if isinstance(memory, BaseConversationMemory)}
        self._lock = threading.Lock()
        self._snapshots = [_Snapshot(each, tuple(each.runs), _summary(each)) for each in memories.values()]

    def remove(self, outputs: Iterable[BaseArtifact]) -> None:
        """Remove the runs that ended in one of these very artifacts."""
        ids = {id(output) for output in outputs}
        with self._lock:
            for snapshot in self._snapshots:
                if removed := [run for run in snapshot.memory.runs if id(run.output) in ids]:
                    _remove(snapshot, removed)


def _remove(snapshot: _Snapshot, removed: list[Run]) -> None:
    memory = snapshot.memory
    there = {id(run) for run in memory.runs}
    for run in removed:
        # By identity: runs with the same contents are equal.
        del memory.runs[next(index for index, each in enumerate(memory.runs) if each is run)]
    dropped = [run for run in snapshot.runs if id(run) not in there]
    if [id(run) for run in (*dropped, *memory.runs)] == [id(run) for run in snapshot.runs]:
        # No other run was added: restore the runs that were dropped or summarized because of this one.
        memory.runs[0:0] = dropped
        if snapshot.summary is not None and isinstance(memory, SummaryConversationMemory):
            memory.summary, memory.summary_index = snapshot.summary
    memory.conversation_memory_driver.store(memory.runs, memory.meta)


def _summary(memory: BaseConversationMemory) -> tuple[str | None, int] | None:
    return (memory.summary, memory.summary_index) if isinstance(memory, SummaryConversationMemory) else None
