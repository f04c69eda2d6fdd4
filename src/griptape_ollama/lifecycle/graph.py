"""Which models the tasks of a structure use, and in which order the tasks come."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import attrs
from griptape.artifacts import BaseArtifact
from griptape.structures import Structure, Workflow
from griptape.tasks import BaseTask, PromptTask
from griptape.tools import BaseTool

from griptape_ollama.errors import OllamaContentError
from griptape_ollama.lifecycle.eviction import MemoryLimits, Step
from griptape_ollama.lifecycle.model_pool import ModelPool
from griptape_ollama.lifecycle.server_adapter import ServerAdapter, model_of
from griptape_ollama.lifecycle.usage import UsageRecorder
from griptape_ollama.models.connection_settings import OllamaServerMixin
from griptape_ollama.protocol.model_name import model_key

MEMORY_STEP = "conversation memory"
"""Id of the step for what a structure's conversation memory does after the last task, such as writing a summary."""

# These lead to other tasks, to messages, to tools (which are read by themselves), or to task memories, which only
# tools that are off prompt use.
_SKIPPED_FIELDS = frozenset(
    {
        "structure",
        "subtasks",
        "tools",
        "context",
        "output",
        "meta_memory",
        "task_memory",
        "input_memory",
        "output_memory",
    }
    | {"_conversation_memory", "_execution_args", "_futures_executor"}
)
# Drivers stand alone or in lists of a few modules; longer lists are data, such as the entries of a vector store.
_MAX_ITEMS = 100


@dataclass(frozen=True)
class TaskDrivers:
    """The drivers that one task uses.

    Attributes:
        own: Drivers that it uses in any case, in the likely order.
        tools: For each of its tools by name, the drivers that the tool uses when it is called.
    """

    own: tuple[OllamaServerMixin, ...] = ()
    tools: Mapping[str, tuple[OllamaServerMixin, ...]] = field(
        default_factory=dict[str, "tuple[OllamaServerMixin, ...]"]
    )

    @property
    def all(self) -> tuple[OllamaServerMixin, ...]:
        """All drivers, each once, its own first."""
        return _unique([*self.own, *(driver for used in self.tools.values() for driver in used)])


def tasks_of(structure: Structure) -> list[BaseTask[Any]]:
    """Return the tasks that may still run. A Pipeline also runs tasks that a task has skipped."""
    tasks = cast("list[BaseTask[Any]]", structure.tasks)  # pyright: ignore[reportUnknownMemberType]
    return [task for task in tasks if not (isinstance(structure, Workflow) and task.is_skipped())]


def find_memory_drivers(structure: Structure) -> tuple[OllamaServerMixin, ...]:
    """Return the drivers that the conversation memory uses after the last task, for instance for a summary."""
    if structure.conversation_memory is None or structure.conversation_memory_strategy != "per_structure":
        return ()
    return tuple(find_drivers(structure.conversation_memory))


def find_task_drivers(task: BaseTask[Any], declared: Iterable[Any] = ()) -> TaskDrivers:
    """Return the drivers that a task uses.

    Args:
        task: The task.
        declared: What it uses that cannot be found from outside: drivers, or objects that have them.
    """
    own = [getattr(task, "prompt_driver", None)]
    tools = cast("list[BaseTool]", getattr(task, "tools", None) or [])
    by_tool = {tool.name: tuple(find_drivers(tool, _off_prompt_memory(tool))) for tool in tools}
    drivers = [*find_drivers(own, task), *find_drivers(*declared), *find_drivers(_memory_of(task))]
    return TaskDrivers(_unique(drivers), {name: used for name, used in by_tool.items() if used})


def find_drivers(*roots: Any) -> Iterator[OllamaServerMixin]:
    """Find our drivers in objects and in their parts: fields of attrs classes, further attributes, short lists.

    Args:
        *roots: Where to begin.

    Yields:
        Each driver once, in the order of the fields.
    """
    waiting = list(reversed(roots))
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, OllamaServerMixin):
            if hasattr(one, "model"):
                yield one
        else:
            waiting.extend(reversed(list(_parts(one))))


def _unique(drivers: Iterable[OllamaServerMixin]) -> tuple[OllamaServerMixin, ...]:
    return tuple({id(driver): driver for driver in drivers}.values())


def _parts(one: Any) -> Iterable[Any]:
    if isinstance(one, (str, bytes, type, BaseArtifact, Structure)):
        return ()
    if isinstance(one, (list, tuple, set, frozenset, dict)):
        items = cast("Any", one)
        if len(items) > _MAX_ITEMS:
            return ()
        return list(items.values() if isinstance(one, dict) else items)
    if not attrs.has(cast("type[Any]", type(one))):
        return ()
    names = [attribute.name for attribute in attrs.fields(cast("type[Any]", type(one)))]
    names = dict.fromkeys([*names, *getattr(one, "__dict__", {})])
    return [getattr(one, name, None) for name in names if name not in _SKIPPED_FIELDS and not name.startswith("__")]


def _off_prompt_memory(tool: BaseTool) -> Any:
    """Return where a tool stores its output instead of adding it to the prompt, which may use an embedding model."""
    if not tool.off_prompt or tool.output_memory is None:
        return None
    return [memory.artifact_storages for memories in tool.output_memory.values() for memory in memories]


def _memory_of(task: BaseTask[Any]) -> Any:
    """Return the conversation memory that the task itself adds to when it ends."""
    structure = task.structure
    if not isinstance(task, PromptTask) or (
        structure is not None and structure.conversation_memory_strategy != "per_task"
    ):
        return None
    return task.conversation_memory


@dataclass(frozen=True, eq=False)
class PlannedModel:
    """A model that a driver uses.

    Attributes:
        name: Its name, as the driver spells it.
        key: What identifies it in memory.
        pool: The memory that it is loaded into.
        options: Options that it is loaded with.
    """

    name: str
    key: str
    pool: ModelPool
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """A step and its models, without those that take no memory of the server.

    Attributes:
        models: Models of all its drivers.
        own: Models that it uses in any case.
        tools: Models of its tools, by name of the tool.
    """

    models: tuple[PlannedModel, ...] = ()
    own: tuple[PlannedModel, ...] = ()
    tools: Mapping[str, tuple[PlannedModel, ...]] = field(default_factory=dict[str, "tuple[PlannedModel, ...]"])


class ModelGraph:
    """The steps of a structure with their models. What was read of a task is cached until it is invalidated.

    Args:
        structure: The structure.
        limits: What fits into the memory of each server.
        usage: Records what happens to the models.
        unload_foreign: As for ModelLifecycle.
        declared: `uses` of ModelLifecycle.
    """

    def __init__(
        self,
        structure: Structure,
        limits: MemoryLimits,
        usage: UsageRecorder,
        *,
        unload_foreign: bool,
        declared: Mapping[str, tuple[Any, ...]],
    ) -> None:
        self._structure = structure
        self._limits = limits
        self._usage = usage
        self._unload_foreign = unload_foreign
        self._declared = declared
        self._steps: dict[str, PlannedStep] = {}
        self._pools: dict[str, ModelPool] = {}
        self._models: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def pools(self) -> list[ModelPool]:
        """The memories of all servers that the structure uses."""
        return list(self._pools.values())

    def read(self) -> list[PlannedStep]:
        """Return all steps, after reading those that are not cached."""
        return [*map(self.step_of, tasks_of(self._structure)), self.memory_step()]

    def step_of(self, task: BaseTask[Any]) -> PlannedStep:
        """Return the step of a task."""
        if task.id not in self._steps:
            self._steps[task.id] = self._plan(find_task_drivers(task, self._declared.get(task.id, ())))
        return self._steps[task.id]

    def memory_step(self) -> PlannedStep:
        """Return the step of the structure's conversation memory."""
        if MEMORY_STEP not in self._steps:
            self._steps[MEMORY_STEP] = self._plan(TaskDrivers(find_memory_drivers(self._structure)))
        return self._steps[MEMORY_STEP]

    def invalidate_task(self, task: BaseTask[Any]) -> None:
        """Read a task again next time: its driver and its tools can be replaced."""
        self._steps.pop(task.id, None)

    def invalidate(self) -> None:
        """Read everything again next time."""
        self._steps.clear()

    def find_model(self, host: str, name: str) -> PlannedModel | None:
        """Find a model of the structure by the address of its server and its name."""
        key, is_local = self._models.get((host, model_key(name)), ("", False))
        return PlannedModel(name, key, self._pools[host]) if is_local else None

    def steps_on(self, pool: ModelPool) -> list[Step]:
        """Return the steps with their models on one server."""
        tasks = tasks_of(self._structure)
        steps = [
            Step(id=task.id, models=_keys(self.step_of(task).models, pool), after=frozenset(task.parent_ids))
            for task in tasks
        ]
        memory = self.memory_step().models
        if memory:
            after = frozenset(step.id for step in steps)
            steps.append(Step(id=MEMORY_STEP, models=_keys(memory, pool), after=after))
        return steps

    def models_of(self, pool: ModelPool, steps: Collection[str]) -> frozenset[str]:
        """Return the models of one server that some steps may use."""
        return frozenset(key for step in steps if step in self._steps for key in _keys(self._steps[step].models, pool))

    def first_models(self, pool: ModelPool, steps: Iterable[str]) -> dict[str, PlannedModel]:
        """Return the model of one server that each step uses first, for steps that use one in any case."""
        first = {step: self._steps[step].own[:1] for step in steps if step in self._steps}
        return {step: model for step, models in first.items() for model in models if model.pool is pool}

    @staticmethod
    def check_memory(steps: Iterable[PlannedStep], memory: int | None) -> None:
        """Check that each model fits into `memory` bytes (None for no limit): it needs its size on disk at least.

        Raises:
            OllamaContentError: A model does not fit.
        """
        for model in (model for step in steps for model in step.models):
            size = model.pool.server.disk_size(model.name)
            model.pool.expect_size(model.key, size)
            if memory is not None and size > memory:
                host = model.pool.server.host
                raise OllamaContentError(
                    f"memory={memory:,} is less than model {model.name!r} of {host} needs: "
                    f"it has {size:,} bytes on disk. Allow more memory, or use a smaller model.",
                    host=host,
                    model=model.name,
                )

    def cancel(self) -> None:
        """Cancel all requests of the scheduler that are under way."""
        for pool in self.pools:
            pool.server.cancel()

    def _plan(self, drivers: TaskDrivers) -> PlannedStep:
        models = {id(driver): self._plan_model(driver) for driver in drivers.all}

        def local(used: Iterable[OllamaServerMixin]) -> tuple[PlannedModel, ...]:
            found = (models[id(driver)] for driver in used)
            return tuple(model for model in found if model is not None)

        tools = {name: local(used) for name, used in drivers.tools.items()}
        return PlannedStep(local(drivers.all), local(drivers.own), tools)

    def _plan_model(self, driver: OllamaServerMixin) -> PlannedModel | None:
        """Return the model of a driver; None if it has none, or takes no memory of the server."""
        host = driver.connection.base_url
        if host not in self._pools:
            server = ServerAdapter(driver)
            self._pools[host] = ModelPool(server, self._limits, self._usage, unload_foreign=self._unload_foreign)
            self._pools[host].refresh()
        pool = self._pools[host]
        name = model_of(driver) or pool.only_chat_model()
        if name is None:
            return None
        known = (host, model_key(name))
        if known not in self._models:
            with self._usage.measuring_request():
                self._models[known] = pool.server.memory_key(name), pool.server.is_local(name)
        key, is_local = self._models[known]
        if not is_local:
            return None
        pool.add_model(key, name)
        return PlannedModel(name, key, pool, driver.load_options())


def _keys(models: Iterable[PlannedModel], pool: ModelPool) -> frozenset[str]:
    return frozenset(model.key for model in models if model.pool is pool)
