"""Conversation memory that does not take what went wrong for an answer.

The framework adds each run of a structure to its memory at the end, the text of an error too, and tells nobody.
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
class _Before:
    """One memory, as it was before a run.

    Attributes:
        memory: The memory.
        runs: What it remembered.
        summary: What it had summed up, and how many runs that was; None where it does not sum up.
    """

    memory: BaseConversationMemory
    runs: tuple[Run, ...]
    summary: tuple[str | None, int] | None


class Memories:
    """The conversation memories that a run of a structure may be added to: its own, and those of its tasks.

    Args:
        structure: The structure, which is about to run.
    """

    def __init__(self, structure: Structure) -> None:
        owners: list[Any] = [structure, *cast("list[Any]", structure.tasks)]  # pyright: ignore[reportUnknownMemberType]
        found = [getattr(owner, "conversation_memory", None) for owner in owners]
        memories = {id(memory): memory for memory in found if isinstance(memory, BaseConversationMemory)}
        self._lock = threading.Lock()
        self._before = [_Before(each, tuple(each.runs), _summary(each)) for each in memories.values()]

    def forget(self, outputs: Iterable[BaseArtifact]) -> None:
        """Take out the runs that ended in one of these very artifacts, and no others."""
        ids = {id(output) for output in outputs}
        with self._lock:
            for before in self._before:
                if gone := [run for run in before.memory.runs if id(run.output) in ids]:
                    _take_out(before, gone)


def _take_out(before: _Before, gone: list[Run]) -> None:
    memory = before.memory
    there = {id(run) for run in memory.runs}
    for run in gone:
        # By identity: runs with the same contents are equal.
        del memory.runs[next(index for index, each in enumerate(memory.runs) if each is run)]
    dropped = [run for run in before.runs if id(run) not in there]
    if [id(run) for run in (*dropped, *memory.runs)] == [id(run) for run in before.runs]:
        # Nobody else has added anything: what had to make room for the run, or was summed up for it, comes back.
        memory.runs[0:0] = dropped
        if before.summary is not None and isinstance(memory, SummaryConversationMemory):
            memory.summary, memory.summary_index = before.summary
    memory.conversation_memory_driver.store(memory.runs, memory.meta)


def _summary(memory: BaseConversationMemory) -> tuple[str | None, int] | None:
    return (memory.summary, memory.summary_index) if isinstance(memory, SummaryConversationMemory) else None
