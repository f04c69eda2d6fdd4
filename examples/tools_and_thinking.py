"""Thinking, tool calls, and an answer that fits a schema, in one task.

    python examples/tools_and_thinking.py [--model NAME] [--host ADDRESS]

With `--host` (or `OLLAMA_HOST`) or `--model`, a real server answers. Otherwise the simulator of
`griptape_ollama.testing` answers.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator

from griptape.artifacts import TextArtifact
from griptape.events import ActionChunkEvent, EventListener, FinishActionsSubtaskEvent, TextChunkEvent
from griptape.structures import Agent
from griptape.tasks import PromptTask
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from pydantic import BaseModel
from schema import Literal, Schema

from griptape_ollama import OllamaPromptDriver, OllamaResponseEvent, ReasoningChunkEvent
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

QUESTION = "What is the weather in Oslo? Look it up with the tool."
DIM, NORMAL = "\033[2m", "\033[0m"


class Report(BaseModel):
    """The schema of the answer."""

    city: str
    degrees: int
    advice: str | None = None


class GetTool(BaseTool):
    """A tool whose only function is `get_weather`."""

    @activity(
        config={
            "description": "Weather of a city: temperature in degrees Celsius, and the sky",
            "schema": Schema({Literal("city", description="Name of the city"): str}),
        }
    )
    def weather(self, params: dict) -> TextArtifact:
        """Return the weather of a city."""
        return TextArtifact(f"{params['values']['city']}: 12 degrees, light rain")


class Screen:
    """Prints events as they arrive: thinking in dim letters, then calls, results and the answer."""

    def __init__(self) -> None:
        self._thinks = False

    def show(self, event: object) -> None:
        """Print one event."""
        if isinstance(event, ReasoningChunkEvent):
            print(event.token if self._thinks else f"{DIM}[thinks] {event.token}", end="", flush=True)
            self._thinks = True
            return
        if self._thinks:
            print(NORMAL)
            self._thinks = False
        if isinstance(event, TextChunkEvent):
            print(event.token, end="", flush=True)
        elif isinstance(event, ActionChunkEvent):
            print(f"[calls {event.name}_{event.path} with {event.partial_input}]")
        elif isinstance(event, FinishActionsSubtaskEvent) and event.subtask_actions:
            print(f"[result: {event.task_output}]")
        elif isinstance(event, OllamaResponseEvent):
            print(f"\n[{event.output_tokens} tokens, {event.done_reason}]")


@contextlib.contextmanager
def server(host: str | None, model: str | None) -> Iterator[tuple[str | None, str]]:
    """Yield the address and the model to use."""
    if host or model or os.environ.get("OLLAMA_HOST"):
        yield host, model or "qwen3"
        return
    thinker = SimulatedModel(name="simulator", capabilities=("completion", "tools", "thinking"))
    with OllamaSimulator(models=[thinker]) as simulator:
        print("This is the SIMULATOR talking, not a language model; --host and --model ask a real one.\n")
        yield simulator.host, "simulator"


def main() -> None:
    """Run one task."""
    parser = argparse.ArgumentParser(description="Thinking, a tool call, and an answer that fits a schema.")
    parser.add_argument("--model", help="model to use (default: qwen3)")
    parser.add_argument("--host", help="address of the server (default: OLLAMA_HOST; the simulator if there is none)")
    arguments = parser.parse_args()
    logging.getLogger("griptape").setLevel(logging.CRITICAL)
    with server(arguments.host, arguments.model) as (host, model), EventListener(Screen().show):
        driver = OllamaPromptDriver(model=model, host=host, stream=True, max_tokens=1000)
        task = PromptTask(
            QUESTION, prompt_driver=driver, tools=[GetTool(name="get")], output_schema=Report, max_subtasks=5
        )
        print(f"{QUESTION}\n")
        output = Agent(tasks=[task]).run().output
        if not isinstance(output.value, Report):
            raise SystemExit(f"\n{output}")
        print(f"\nAs {type(output.value).__name__}: {output.value!r}")


if __name__ == "__main__":
    main()
