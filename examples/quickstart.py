"""A Griptape Agent on Ollama: streaming, a tool, memory.

    python examples/quickstart.py [--model NAME] [--host ADDRESS]

Uses the server at OLLAMA_HOST, or at the default address, if it has a chat model. Otherwise it starts the simulator of
`griptape_ollama.testing`, and prints that.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator

from griptape.artifacts import TextArtifact
from griptape.events import ActionChunkEvent, EventListener, FinishActionsSubtaskEvent, TextChunkEvent
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Literal, Schema

from griptape_ollama import OllamaError, OllamaPromptDriver, OllamaResponseEvent
from griptape_ollama.testing import OllamaSimulator

QUESTIONS = (
    "Hello, my name is Ada. Please greet me in one sentence.",
    "Please multiply 17 by 23 with the calculator.",
    "What is my name?",
)


class Calculator(BaseTool):
    """A tool; an activity gets its validated arguments in `params["values"]`."""

    @activity(
        config={
            "description": "Multiplies two numbers.",
            "schema": Schema(
                {Literal("a", description="First number"): int, Literal("b", description="Second number"): int}
            ),
        }
    )
    def multiply(self, params: dict) -> TextArtifact:
        """Multiply two numbers."""
        values = params["values"]
        return TextArtifact(str(values["a"] * values["b"]))


def find_model(host: str | None) -> str | None:
    """Return a chat model of the server, preferably one with tools; None if there is no server or no such model."""
    metadata = OllamaPromptDriver(model="", host=host).facts
    names = [str(model["name"]) for model in metadata.tags() if "name" in model]
    chat = [name for name in names if metadata.show(name).can("completion")]
    return next((name for name in chat if metadata.show(name).can("tools")), chat[0] if chat else None)


@contextlib.contextmanager
def server(host: str | None, model: str | None) -> Iterator[tuple[str | None, str]]:
    """Yield the address and the model to use."""
    if found := model or find_model(host):
        print(
            f"Model {found} of the Ollama server at {OllamaPromptDriver(model=found, host=host).connection.base_url}\n"
        )
        yield host, found
        return
    if host is not None:
        raise SystemExit(f"No Ollama server with a chat model answers at {host}. Start it with `ollama serve`.")
    with OllamaSimulator() as simulator:
        print("No Ollama server with a chat model answers: this is the SIMULATOR talking, not a language model.\n")
        yield simulator.host, "simulator"


class Screen:
    """Prints events as they arrive, and adds up the tokens and seconds of the replies."""

    def __init__(self) -> None:
        self.tokens = 0
        self.seconds = 0.0

    def show(self, event: object) -> None:
        """Print one event."""
        if isinstance(event, TextChunkEvent):
            print(event.token, end="", flush=True)
        elif isinstance(event, ActionChunkEvent):
            print(f"[calls {event.name}.{event.path} with {event.partial_input}]", flush=True)
        elif isinstance(event, FinishActionsSubtaskEvent) and event.subtask_actions:
            print(f"[result: {event.task_output}]", flush=True)
        elif isinstance(event, OllamaResponseEvent):
            self.tokens += event.output_tokens or 0
            self.seconds += event.generation_seconds or 0.0


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except OllamaError as error:
        raise SystemExit(f"{error}") from error


def main() -> None:
    """Ask three questions."""
    parser = argparse.ArgumentParser(description="A Griptape Agent on Ollama: streaming, a tool, memory.")
    parser.add_argument("--model", help="model to use (default: one that the server has)")
    parser.add_argument("--host", help="address of the server (default: OLLAMA_HOST, then this machine)")
    arguments = parser.parse_args()
    logging.getLogger("griptape").setLevel(logging.CRITICAL)  # the failure is printed once, at the end
    screen = Screen()
    with _clear_errors(), server(arguments.host, arguments.model) as (host, model), EventListener(screen.show):
        driver = OllamaPromptDriver(model=model, host=host, stream=True, max_tokens=500)
        agent = Agent(prompt_driver=driver, tools=[Calculator()])
        for question in QUESTIONS:
            print(f"You:   {question}\nAgent: ", end="", flush=True)
            output = agent.run(question).output
            if getattr(output, "exception", None) is not None:
                raise SystemExit(f"\n{output}")
            print("\n")
    rate = f", {screen.tokens / screen.seconds:.0f} tokens per second" if screen.seconds else ""
    print(f"{screen.tokens} tokens in {screen.seconds:.2f} s of generation{rate}.")


if __name__ == "__main__":
    main()
