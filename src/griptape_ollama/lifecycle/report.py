"""What keeping models in memory took, as data and as a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from griptape_ollama.lifecycle.keep_alive_replay import Cost

if TYPE_CHECKING:
    from rich.console import RenderableType

_UNITS = ("B", "KB", "MB", "GB", "TB")
_THOUSAND = 1000


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """What became of one model.

    Attributes:
        model: Its name.
        host: Address of the server.
        uses: Replies that it gave.
        loads: How often it was loaded.
        load_seconds: How long that took in all, as far as the server or the planner measured it.
        unloads: How often it was unloaded by the planner.
        evictions: How many of these were to make room for another.
        bytes: What it took in memory; 0 where the server did not tell.
        was_loaded_before: Whether somebody else had loaded it.
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
    """What keeping the models of a structure in memory took.

    Attributes:
        models: One entry for each model.
        policies: What plain `keep_alive` would have cost, replayed from the uses that were observed.
        peak_bytes: The most that all loaded models of one server took at a time, those of others included.
        ahead_seconds: How much of the loading went on beside other tasks, by warming ahead.
        tasks: Tasks that ran.
        planner_seconds: Processor time that planning took in all, without its requests.
        request_seconds: What the requests of the planner took in all, those for warming ahead left out.
        problems: What went wrong, in the words of the log.
    """

    models: tuple[ModelReport, ...] = ()
    policies: tuple[Cost, ...] = ()
    peak_bytes: int = 0
    ahead_seconds: float = 0.0
    tasks: int = 0
    planner_seconds: float = 0.0
    request_seconds: float = 0.0
    problems: tuple[str, ...] = ()

    @property
    def loads(self) -> int:
        """How often a model was loaded."""
        return sum(model.loads for model in self.models)

    @property
    def load_seconds(self) -> float:
        """How long loading took in all."""
        return sum(model.load_seconds for model in self.models)

    @property
    def unloads(self) -> int:
        """How often a model was unloaded."""
        return sum(model.unloads for model in self.models)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as plain data, sums included."""
        sums = {"loads": self.loads, "load_seconds": self.load_seconds, "unloads": self.unloads}
        return {**sums, **asdict(self)}

    def __rich__(self) -> RenderableType:
        """Give two tables: the models, and what it would have cost without the planner."""
        from rich.console import Group  # noqa: PLC0415  only who prints pays for importing it
        from rich.table import Table  # noqa: PLC0415

        models = Table(title="Models in memory")
        for name in ("model", "uses", "loads", "load seconds", "unloads", "of these evicted", "bytes"):
            models.add_column(name, justify="left" if name == "model" else "right")
        for row in self._rows():
            models.add_row(*row)
        costs = Table(title="With and without the planner")
        for name in ("", "loads", "load seconds"):
            costs.add_column(name, justify="right" if name else "left")
        costs.add_row(self._own_name(), str(self.loads), f"{self.load_seconds:.2f}")
        for cost in self.policies:
            costs.add_row(f"{cost.policy}, replayed", str(cost.loads), f"{cost.load_seconds:.2f}")
        return Group(models, costs, *(f"! {problem}" for problem in self.problems))

    def __str__(self) -> str:
        """Give the tables as text."""
        from rich.console import Console  # noqa: PLC0415  only who prints pays for importing it

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
                _size(model.bytes),
            )
            for model in self.models
        ]
        totals = (str(self.loads), f"{self.load_seconds:.2f}", str(self.unloads))
        evictions = str(sum(model.evictions for model in self.models))
        uses = str(sum(model.uses for model in self.models))
        return [*rows, ("all", uses, *totals, evictions, f"{_size(self.peak_bytes)} at most")]

    def _own_name(self) -> str:
        return f"planner ({self.ahead_seconds:.2f} s of it ahead)" if self.ahead_seconds else "planner"


def _size(number: float) -> str:
    if not number:
        return "?"
    for unit in _UNITS[:-1]:
        if number < _THOUSAND:
            return f"{number:.1f} {unit}" if unit != "B" else f"{number:.0f} B"
        number /= _THOUSAND
    return f"{number:.1f} {_UNITS[-1]}"
