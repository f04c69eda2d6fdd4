"""The tasks of a structure with the models that they use: what was read from the graph, and what servers say of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from griptape.structures import Structure
from griptape.tasks import BaseTask

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.lifecycle.eviction import Room, Step
from griptape_ollama.lifecycle.graph import MEMORY_STEP, TaskStep, find_memory_drivers, model_of, read_task, tasks_of
from griptape_ollama.lifecycle.model_pool import Residence
from griptape_ollama.lifecycle.server_adapter import DriverServer, runner_options
from griptape_ollama.lifecycle.usage import Ledger
from griptape_ollama.models.server import OllamaServerMixin
from griptape_ollama.protocol.model_name import model_key


@dataclass(frozen=True, eq=False)
class KnownModel:
    """A model that a driver asks.

    Attributes:
        name: Its name, as the driver spells it.
        key: What it is known by in memory.
        residence: The memory that it lives in.
        options: Options that it is loaded with.
    """

    name: str
    key: str
    residence: Residence
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, eq=False)
class KnownStep:
    """A step and its models.

    Attributes:
        models: Models of its drivers, but for those that take no memory here.
        own: Those of them that are asked in any case.
        tools: Those of its tools, by name of the tool.
    """

    models: tuple[KnownModel, ...] = ()
    own: tuple[KnownModel, ...] = ()
    tools: Mapping[str, tuple[KnownModel, ...]] = field(default_factory=dict[str, "tuple[KnownModel, ...]"])

    @property
    def opens_with(self) -> KnownModel | None:
        """The model that is asked first of all; None where the step asks none for sure."""
        return self.own[0] if self.own else None


class KnownSteps:
    """Reads the tasks of a structure, and remembers what it read of each until it is told to forget.

    Args:
        structure: The structure.
        room: What fits into the memory of each server.
        ledger: Where models are noted.
        unload_foreign: Whether models that somebody else loaded may be unloaded.
        declared: Drivers that cannot be seen from outside, or what has them, by id of the task.
    """

    def __init__(
        self,
        structure: Structure,
        room: Room,
        ledger: Ledger,
        *,
        unload_foreign: bool,
        declared: Mapping[str, tuple[Any, ...]],
    ) -> None:
        self._structure = structure
        self._room = room
        self._ledger = ledger
        self._unload_foreign = unload_foreign
        self._declared = declared
        self._steps: dict[str, KnownStep] = {}
        self._residences: dict[str, Residence] = {}
        self._models: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def residences(self) -> list[Residence]:
        """The memories of all servers that are known."""
        return list(self._residences.values())

    def read(self) -> list[KnownStep]:
        """Give all steps; new tasks are read, others are remembered."""
        return [*map(self.of, tasks_of(self._structure)), self._memory()]

    def of(self, task: BaseTask[Any]) -> KnownStep:
        """Give the step of a task."""
        if task.id not in self._steps:
            self._steps[task.id] = self._known(read_task(task, self._declared.get(task.id, ())))
        return self._steps[task.id]

    def of_memory(self) -> tuple[KnownModel, ...]:
        """Give the models of the structure's conversation memory."""
        return self._memory().models

    def forget_task(self, task: BaseTask[Any]) -> None:
        """Read a task anew next time: its driver and its tools can be changed."""
        self._steps.pop(task.id, None)

    def forget_tasks(self) -> None:
        """Read everything anew next time."""
        self._steps.clear()

    def find(self, host: str, name: str) -> KnownModel | None:
        """Find a model of the structure by the address of its server and its name."""
        known = self._models.get((host, model_key(name)))
        return KnownModel(name, known[0], self._residences[host]) if known is not None and known[1] else None

    def plan(self, residence: Residence) -> list[Step]:
        """Give the steps as the plan for one server sees them."""
        tasks = tasks_of(self._structure)
        steps = [
            Step(id=task.id, models=_keys(self.of(task).models, residence), after=frozenset(task.parent_ids))
            for task in tasks
        ]
        memory = self.of_memory()
        if memory:
            after = frozenset(step.id for step in steps)
            steps.append(Step(id=MEMORY_STEP, models=_keys(memory, residence), after=after))
        return steps

    def models_of(self, residence: Residence, steps: Collection[str]) -> frozenset[str]:
        """Give the models of one server that some steps may use."""
        return frozenset(
            key for step in steps if step in self._steps for key in _keys(self._steps[step].models, residence)
        )

    def openings(self, residence: Residence, steps: Iterable[str]) -> dict[str, KnownModel]:
        """Give the model of one server that each of some steps opens with."""
        known = {step: self._steps[step].opens_with for step in steps if step in self._steps}
        return {step: model for step, model in known.items() if model is not None and model.residence is residence}

    @staticmethod
    def check_memory(steps: Iterable[KnownStep], memory: int | None) -> None:
        """Take what models have on disk for the least that they need, and check that each of them fits.

        Args:
            steps: The steps.
            memory: Bytes that there are; None for any number.

        Raises:
            OllamaContentError: One does not.
        """
        for model in (model for step in steps for model in step.models):
            size = model.residence.server.disk_size(model.name)
            model.residence.expect_size(model.key, size)
            if memory is not None and size > memory:
                raise OllamaContentError(
                    f"memory={memory:,} is less than model {model.name!r} of {model.residence.server.host} needs: "
                    f"it has {size:,} bytes on disk. Allow more memory, or use a smaller model.",
                    host=model.residence.server.host,
                    model=model.name,
                )

    def cancel(self) -> None:
        """Stop all requests of the planner that are under way."""
        for residence in self.residences:
            residence.server.cancel()

    def _memory(self) -> KnownStep:
        if MEMORY_STEP not in self._steps:
            self._steps[MEMORY_STEP] = self._known(TaskStep(MEMORY_STEP, find_memory_drivers(self._structure)))
        return self._steps[MEMORY_STEP]

    def _known(self, step: TaskStep) -> KnownStep:
        models = {id(driver): self._model(driver) for driver in step.drivers}

        def local(drivers: Iterable[OllamaServerMixin]) -> tuple[KnownModel, ...]:
            found = (models.get(id(driver)) for driver in drivers)
            return tuple(model for model in found if model is not None)

        tools = {name: local(drivers) for name, drivers in step.tools.items()}
        return KnownStep(local(step.drivers), local(step.own), tools)

    def _model(self, driver: OllamaServerMixin) -> KnownModel | None:
        """Find out about the model of a driver; None where it has none, or takes no memory of the server."""
        host = driver.connection.base_url
        if host not in self._residences:
            server = DriverServer(driver)
            residence = Residence(server, self._room, self._ledger, unload_foreign=self._unload_foreign)
            self._residences[host] = residence
            residence.begin()
        residence = self._residences[host]
        name = model_of(driver) or residence.only_chat_model()
        if name is None:
            return None
        known = (host, model_key(name))
        if known not in self._models:
            with self._ledger.asking():
                self._models[known] = residence.server.key(name), residence.server.is_local(name)
        key, is_local = self._models[known]
        if not is_local:
            return None
        residence.know(key, name)
        return KnownModel(name, key, residence, runner_options(driver))


def _keys(models: Iterable[KnownModel], residence: Residence) -> frozenset[str]:
    return frozenset(model.key for model in models if model.residence is residence)
