"""How far the steps of a structure have come, and hence which models are still to be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from griptape_ollama.lifecycle.eviction import Step, distances, next_uses


class Progress:
    """What has begun, what runs, and what is still to come.

    Args:
        runs: How often all of the steps are going to run; None for any number of times.
    """

    def __init__(self, runs: int | None = 1) -> None:
        self._runs_left = runs
        self._begun: set[str] = set()
        self._running: Counter[str] = Counter()
        self._is_over = True  # before the first run, all that is to come lies in the runs

    def begin_run(self) -> None:
        """Begin with the first step, for the first time or once more."""
        self._begun.clear()
        self._is_over = False
        if self._runs_left is not None:
            self._runs_left = max(self._runs_left - 1, 0)

    def end_run(self) -> None:
        """Note that no step begins any more in this run."""
        self._is_over = True

    def begin(self, step: str) -> None:
        """Note that a step begins."""
        self._begun.add(step)
        self._running[step] += 1

    def end(self, step: str) -> None:
        """Note that a step is over, whatever became of it."""
        self._running[step] -= 1

    @property
    def running(self) -> set[str]:
        """Steps that run now."""
        return {step for step, count in self._running.items() if count > 0}

    def coming(self, steps: Sequence[Step]) -> dict[str, int]:
        """Give the distance of the next use of each model that is going to be used."""
        return next_uses(steps, self._passed(steps), again=self._runs_left is None or self._runs_left > 0)

    def next_steps(self, steps: Sequence[Step]) -> dict[str, int]:
        """Give how far away the steps are that have not begun in this run."""
        return distances(steps, self._passed(steps))

    def _passed(self, steps: Sequence[Step]) -> set[str]:
        return {step.id for step in steps} if self._is_over else self._begun
