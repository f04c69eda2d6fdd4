"""A Pipeline of two models, with and without the planner that keeps them in memory.

    python examples/pipeline_models.py [--models NAME NAME] [--host ADDRESS] [--max-models N]

Uses the server at OLLAMA_HOST, or at the default address, if it has two chat models. Otherwise it starts the
simulator of `griptape_ollama.testing`, whose models take half a second to load, and prints that.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence

from griptape.events import EventListener
from griptape.structures import Pipeline
from griptape.tasks import PromptTask
from rich.console import Console
from rich.table import Table

from griptape_ollama import ModelLifecycle, OllamaError, OllamaPromptDriver, OllamaResponseEvent
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

STEPS = (
    "Name three things that llamas like, in one line.",
    "Say in one sentence what is good about this: {{ parent_output }}",
    "Write a short title for: {{ parent_output }}",
    "Translate into French: {{ parent_output }}",
)
GB = 1_000_000_000


def find_models(host: str | None) -> list[str]:
    """Return the two smallest chat models of the server; fewer if it has fewer, or if there is no server."""
    metadata = OllamaPromptDriver(model="", host=host).facts
    tags = sorted(metadata.tags(), key=lambda tag: tag.get("size", 0))
    names = [str(tag["name"]) for tag in tags if "name" in tag]
    local = [name for name in names if metadata.show(name).can("completion") and not metadata.show(name).remote_host]
    return local[:2]


@contextlib.contextmanager
def server(host: str | None, models: Sequence[str] | None, max_models: int) -> Iterator[tuple[str | None, list[str]]]:
    """Yield the address and the two models to use."""
    found = list(models) if models else find_models(host)
    if len(found) >= 2:
        address = OllamaPromptDriver(model="", host=host).connection.base_url
        print(f"Models {found[0]} and {found[1]} of the Ollama server at {address}\n")
        yield host, found
        return
    if host is not None:
        raise SystemExit(
            f"No Ollama server with two chat models answers at {host}. Pull another model with `ollama pull`."
        )
    simulated = [SimulatedModel(name=name, size=GB, load_seconds=0.5) for name in ("writer", "editor")]
    with OllamaSimulator(models=simulated, max_loaded_models=max_models, tokens_per_second=200) as simulator:
        print("No Ollama server with two chat models answers: this is the SIMULATOR talking, not language models.\n")
        yield simulator.host, ["writer", "editor"]


def make_pipeline(host: str | None, models: Sequence[str]) -> Pipeline:
    """Build a Pipeline whose first two tasks use the first model, and whose remaining tasks use the second one."""
    drivers = [OllamaPromptDriver(model=model, host=host, max_tokens=60) for model in models]
    tasks = [PromptTask(text, prompt_driver=drivers[number * 2 // len(STEPS)]) for number, text in enumerate(STEPS)]
    return Pipeline(tasks=tasks, conversation_memory=None)


class Observed:
    """The load time of a run without the planner, as the server reports it with each reply."""

    def __init__(self) -> None:
        self.load_seconds = 0.0

    def record(self, event: object) -> None:
        """Add up one reply."""
        if isinstance(event, OllamaResponseEvent):
            self.load_seconds += event.load_seconds or 0.0


def loaded(host: str | None, models: Sequence[str]) -> str:
    """Return the names of the loaded models."""
    metadata = OllamaPromptDriver(model=models[0], host=host).facts
    metadata.forget()
    return ", ".join(sorted(str(model.get("name")) for model in metadata.ps())) or "nothing"


def unload(host: str | None, models: Sequence[str]) -> None:
    """Unload the models, so that each run starts in the same state."""
    for model in models:
        OllamaPromptDriver(model=model, host=host).client.generate(model=model, keep_alive=0)


def run(pipeline: Pipeline) -> float:
    """Run the Pipeline, and return the seconds that it took."""
    began = time.monotonic()
    pipeline.run()
    failed = next((task.output for task in pipeline.tasks if getattr(task.output, "exception", None)), None)
    if failed is not None:
        raise SystemExit(f"{failed}")
    return time.monotonic() - began


def compare(host: str | None, models: Sequence[str], max_models: int) -> None:
    """Run the Pipeline without the planner and with it, and print the times of both."""
    console = Console()
    pipeline = make_pipeline(host, models)
    unload(host, models)
    observed = Observed()
    with EventListener(observed.record, event_types=[OllamaResponseEvent]):
        seconds = run(pipeline)
    table = Table(title="Without the planner: keep_alive as the server has it")
    for name in ("seconds", "of these loading", "in memory afterwards"):
        table.add_column(name)
    table.add_row(f"{seconds:.2f}", f"{observed.load_seconds:.2f}", loaded(host, models))
    console.print(table)
    unload(host, models)
    with ModelLifecycle(pipeline, max_models=max_models, warm_ahead=max_models > 1) as lifecycle:
        seconds = run(pipeline)
    table = Table(title="With the planner")
    for name in ("seconds", "of these loading", "loaded ahead", "in memory afterwards"):
        table.add_column(name)
    report = lifecycle.report
    waited = report.load_seconds - report.ahead_seconds
    table.add_row(f"{seconds:.2f}", f"{waited:.2f}", f"{report.ahead_seconds:.2f}", loaded(host, models))
    console.print(table)
    console.print(report)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except OllamaError as error:
        raise SystemExit(f"{error}") from error


def main() -> None:
    """Compare a Pipeline with and without the planner."""
    parser = argparse.ArgumentParser(description="A Pipeline of two models, with and without the planner.")
    parser.add_argument("--models", nargs=2, metavar="NAME", help="models to use (default: the two smallest ones)")
    parser.add_argument("--host", help="address of the server (default: OLLAMA_HOST, then this machine)")
    parser.add_argument("--max-models", type=int, default=2, help="how many models fit into memory (default: 2)")
    arguments = parser.parse_args()
    logging.getLogger("griptape").setLevel(logging.CRITICAL)  # the failure is printed once, at the end
    with _clear_errors(), server(arguments.host, arguments.models, arguments.max_models) as (host, models):
        compare(host, models, arguments.max_models)


if __name__ == "__main__":
    main()
