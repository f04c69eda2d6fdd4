"""Which of our drivers the tasks of a Griptape structure use, and in what order tasks come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import attrs
from griptape.artifacts import BaseArtifact
from griptape.structures import Structure, Workflow
from griptape.tasks import BaseTask, PromptTask
from griptape.tools import BaseTool

from griptape_ollama.models.server import OllamaServerMixin

MEMORY_STEP = "conversation memory"
"""Step that stands for what a structure's conversation memory does after its last task, such as writing a summary."""

# What leads to other tasks, to what was said, to tools, which are looked at by themselves, or to task memories, which
# only tools that are off prompt use.
_NOT_USED = frozenset(
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
# Drivers stand alone or in lists of a few modules; what is longer is data, such as the entries of a vector store.
_MAX_ITEMS = 100


@dataclass(frozen=True)
class TaskStep:
    """What one task uses.

    Attributes:
        id: Id of the task, or `MEMORY_STEP`.
        own: Drivers that it asks in any case, in the order in which it is likely to.
        tools: For each of its tools by name, the drivers that the tool asks when it is called.
    """

    id: str
    own: tuple[OllamaServerMixin, ...] = ()
    tools: Mapping[str, tuple[OllamaServerMixin, ...]] = field(
        default_factory=dict[str, "tuple[OllamaServerMixin, ...]"]
    )

    @property
    def drivers(self) -> tuple[OllamaServerMixin, ...]:
        """All drivers, each once, its own first."""
        drivers = [*self.own, *(each for used in self.tools.values() for each in used)]
        return tuple({id(driver): driver for driver in drivers}.values())


def model_of(driver: OllamaServerMixin) -> str | None:
    """Name the model that a driver asks; None where it has none yet."""
    extra = cast("Mapping[str, Any]", getattr(driver, "extra_params", None) or {})
    model = extra.get("model") or getattr(driver, "model", None)
    return model if isinstance(model, str) and model else None


def tasks_of(structure: Structure) -> list[BaseTask[Any]]:
    """Give the tasks that may still run. A Pipeline runs also those that a task has skipped."""
    tasks = cast("list[BaseTask[Any]]", structure.tasks)  # pyright: ignore[reportUnknownMemberType]
    return [task for task in tasks if not (isinstance(structure, Workflow) and task.is_skipped())]


def find_memory_drivers(structure: Structure) -> tuple[OllamaServerMixin, ...]:
    """Find the drivers that a structure's conversation memory uses after the last task, for instance for a summary."""
    if structure.conversation_memory is None or structure.conversation_memory_strategy != "per_structure":
        return ()
    return tuple(find_drivers(structure.conversation_memory))


def read_task(task: BaseTask[Any], declared: Iterable[Any] = ()) -> TaskStep:
    """Read one task.

    Args:
        task: The task.
        declared: What it uses, but which cannot be seen from outside: drivers, or what has them.
    """
    own = [getattr(task, "prompt_driver", None)]
    tools: list[BaseTool] = list(cast("list[BaseTool]", getattr(task, "tools", None) or []))
    by_tool = {tool.name: tuple(find_drivers(tool, _off_prompt_memory(tool))) for tool in tools}
    drivers = [*find_drivers(own, task), *find_drivers(*declared), *find_drivers(_memory_of(task))]
    return TaskStep(
        task.id,
        tuple({id(driver): driver for driver in drivers}.values()),
        {name: used for name, used in by_tool.items() if used},
    )


def find_drivers(*roots: Any) -> Iterator[OllamaServerMixin]:
    """Find our drivers in objects and in what these consist of: fields of attrs classes, further attributes, lists.

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
    return [getattr(one, name, None) for name in names if name not in _NOT_USED and not name.startswith("__")]


def _off_prompt_memory(tool: BaseTool) -> Any:
    """Give where a tool puts its output instead of into the prompt: storing it may ask an embedding model."""
    if not tool.off_prompt or tool.output_memory is None:
        return None
    return [memory.artifact_storages for memories in tool.output_memory.values() for memory in memories]


def _memory_of(task: BaseTask[Any]) -> Any:
    """Give the conversation memory that the task itself adds to when it ends."""
    structure = task.structure
    if not isinstance(task, PromptTask) or (
        structure is not None and structure.conversation_memory_strategy != "per_task"
    ):
        return None
    return task.conversation_memory
