"""The report of a ModelLifecycle, as data and as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from griptape_ollama.lifecycle.keep_alive_replay import PolicyCost
from griptape_ollama.protocol.numbers import format_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """The figures of one model.

    Attributes:
        model: Its name.
        host: Address of the server.
        uses: Number of its replies.
        loads: Number of its loads.
        load_seconds: Seconds that these took in all, as far as the server or the planner measured it.
        unloads: How often the planner unloaded it.
        evictions: How many of these were needed to load another model.
        bytes: Bytes that it took in memory; 0 where the server did not report them.
        was_loaded_before: Whether another client had loaded it.
    """

    model: str
    host: str
    uses: int = 0
    loads: int = 0
    load_seconds: float = 0.0
    unloads: int = 0
    evictions: int = 0
    bytes: int = 0
    was_loaded_before: bool = False


@dataclass(frozen=True, kw_only=True)
class LifecycleReport:
    """What it took to keep the models of a structure in memory.

    Attributes:
        models: One entry for each model.
        policies: What plain `keep_alive` would have cost, replayed from the uses that were observed.
        peak_bytes: Most bytes that the loaded models of one server took at a time, those of other clients included.
        ahead_seconds: Seconds of loading while other tasks ran (`warm_ahead`).
        tasks: Number of tasks that ran.
        planner_seconds: CPU seconds that planning took in all, without its requests.
        request_seconds: Seconds that the requests of the planner took in all, without those that load ahead.
        problems: What went wrong, as logged.
    """

    models: tuple[ModelReport, ...] = ()
    policies: tuple[PolicyCost, ...] = ()
    peak_bytes: int = 0
    ahead_seconds: float = 0.0
    tasks: int = 0
    planner_seconds: float = 0.0
    request_seconds: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def loads(self) -> int:
        """Number of loads of all models."""
        return sum(model.loads for model in self.models)

    @property
    def load_seconds(self) -> float:
        """Seconds that loading took in all."""
        return sum(model.load_seconds for model in self.models)

    @property
    def unloads(self) -> int:
        """Number of unloads of all models."""
        return sum(model.unloads for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, sums included."""
        sums = {"loads": self.loads, "load_seconds": self.load_seconds, "unloads": self.unloads}
        return {**sums, **asdict(self)}

    def __rich__(self) -> RenderableType:
        """Return two tables: the models, and what plain keep_alive would have cost."""
        from rich.console import Group  # noqa: PLC0415  imported when it is printed
        from rich.table import Table  # noqa: PLC0415

        models = Table(title="Models in memory")
        for name in ("model", "uses", "loads", "load seconds", "unloads", "of these evicted", "bytes"):
            models.add_column(name, justify="left" if name == "model" else "right")
        for row in self._rows():
            models.add_row(*row)
        costs = Table(title="With and without the planner")
        for name in ("", "loads", "load seconds"):
            costs.add_column(name, justify="right" if name else "left")
        costs.add_row(self._planner_label(), str(self.loads), f"{self.load_seconds:.2f}")
        for cost in self.policies:
            costs.add_row(f"{cost.policy}, replayed", str(cost.loads), f"{cost.load_seconds:.2f}")
        return Group(models, costs, *(f"! {problem}" for problem in self.problems))

    def __str__(self) -> str:
        """Return the tables as text."""
        from rich.console import Console  # noqa: PLC0415  imported when it is printed

        console = Console(width=120, no_color=True, force_terminal=False)
        with console.capture() as capture:
            console.print(self)
        return capture.get().rstrip()

    def _rows(self) -> list[tuple[str, ...]]:
        several = len({model.host for model in self.models}) > 1
        rows = [
            (
                model.model + (f" at {model.host}" if several else "") + " (was loaded)" * model.was_loaded_before,
                *(str(number) for number in (model.uses, model.loads)),
                f"{model.load_seconds:.2f}",
                *(str(number) for number in (model.unloads, model.evictions)),
                _format_size(model.bytes),
            )
            for model in self.models
        ]
        totals = (str(self.loads), f"{self.load_seconds:.2f}", str(self.unloads))
        evictions = str(sum(model.evictions for model in self.models))
        uses = str(sum(model.uses for model in self.models))
        return [*rows, ("all", uses, *totals, evictions, f"{_format_size(self.peak_bytes)} at most")]

    def _planner_label(self) -> str:
        return f"planner ({self.ahead_seconds:.2f} s of it ahead)" if self.ahead_seconds else "planner"


def _format_size(size: int) -> str:
    return format_bytes(size) if size else "?"
