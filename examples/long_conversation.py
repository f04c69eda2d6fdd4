"""A conversation that outgrows the context window of its model: growth, trimming, and how they are reported.

    python examples/long_conversation.py [--model NAME] [--host ADDRESS]

Uses the server at OLLAMA_HOST, or at the default address, if it has a chat model. Otherwise it starts the simulator of
`griptape_ollama.testing`, and prints that. On a real server, the model is reloaded a few times, and
evaluates prompts of up to 8,192 tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator

from griptape.artifacts import BaseArtifact
from griptape.common import PromptStack
from griptape.events import EventListener
from griptape.structures import Agent
from rich.console import Console
from rich.table import Table

from griptape_ollama import OllamaContextError, OllamaContextEvent, OllamaError, OllamaModels, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

TURNS = 45
FIRST_WINDOW = 2048  # small, so that it grows soon
LARGEST_WINDOW = 8192
NOTE = (
    "Entry {number} of the log of the pump house: at {hour} o'clock the second pump ran at {rate} litres per minute, "
    "the filter was changed, and the level of the upper basin fell by {number} millimetres. "
)


def find_model(host: str | None) -> str | None:
    """Return the smallest chat model of the server; None if there is no server or no chat model."""
    facts = OllamaPromptDriver(model="", host=host).facts
    tags = sorted(facts.tags(), key=lambda tag: tag.get("size", 0))
    names = [str(tag["name"]) for tag in tags if "name" in tag]
    return next(
        (name for name in names if facts.show(name).can("completion") and not facts.show(name).remote_host), None
    )


@contextlib.contextmanager
def server(host: str | None, model: str | None) -> Iterator[tuple[str | None, str]]:
    """Yield the address and the model to use."""
    if found := model or find_model(host):
        address = OllamaPromptDriver(model=found, host=host).connection.base_url
        print(f"Model {found} of the Ollama server at {address}\n")
        yield host, found
        return
    if host is not None:
        raise SystemExit(f"No Ollama server with a chat model answers at {host}. Start it with `ollama serve`.")
    simulated = SimulatedModel(name="simulator", context_length=32_768, load_seconds=0.2)
    with OllamaSimulator(models=[simulated], tokens_per_second=1000) as simulator:
        print("No Ollama server with a chat model answers: this is the SIMULATOR talking, not a language model.")
        print(
            "It imitates windows, loading, and the truncation of prompts that do not fit; a token is four characters.\n"
        )
        yield simulator.host, "simulator"


def entry(number: int, *, times: int = 4) -> str:
    """Return a text of about 50 tokens, several times."""
    return "".join(NOTE.format(number=number + each, hour=each % 24, rate=40 + each) for each in range(times))


def checked(output: BaseArtifact) -> BaseArtifact:
    """Return the output of a run, or raise its exception."""
    if (failure := getattr(output, "exception", None)) is not None:
        raise failure
    return output


def converse(driver: OllamaPromptDriver, console: Console) -> None:
    """Chat until the conversation exceeds the largest window, and print the turns in which the context changes."""
    happened: list[str] = []

    def record(event: object) -> None:
        if isinstance(event, OllamaContextEvent):
            happened.append(
                {
                    "grown": f"reloaded, from {event.window_before}",
                    "trimmed": f"{event.dropped_messages} oldest messages left out",
                }.get(event.kind, event.kind)
            )

    table = Table(title=f"An Agent with conversation memory, {TURNS} turns")
    for name in ("turn", "tokens read", "estimate", "window", "what happened"):
        table.add_column(name, no_wrap=True)
    agent = Agent(input="{{ args[0] }}", prompt_driver=driver)
    news = ""
    with EventListener(record, event_types=[OllamaContextEvent]):
        for turn in range(1, TURNS + 1):
            happened.clear()
            metadata = checked(agent.run(f"{entry(turn)}Please note that.").output).meta["ollama"]
            news, before = ", ".join(happened), news
            if turn in (1, TURNS) or (news and news != before):
                sure = f"± {driver.tokenizer.uncertainty:.0%}"
                table.add_row(
                    str(turn), str(metadata["prompt_eval_count"]), sure, str(metadata["context"]["window"]), news
                )
    console.print(table)
    facts = ", ".join(f"{name}={metadata[name]}" for name in ("truncated", "complete", "context"))
    console.print(f"Metadata of the last answer: {facts}\n")


def guard(driver: OllamaPromptDriver, console: Console) -> None:
    """Send a prompt that exceeds the largest window, and print the result of each `on_overflow`."""
    stack = PromptStack()
    stack.add_system_message("You keep the log of a pump house.")
    for turn in range(50):
        stack.add_user_message(entry(turn))
        stack.add_assistant_message("Noted.")
    stack.add_user_message("How many entries are there?")

    preview = driver.preview(stack)
    console.rule("on_overflow='warn', the default: what would happen")
    console.print("\n".join(str(preview).splitlines()[:4]))

    console.rule("on_overflow='error'")
    try:
        driver.with_settings(on_overflow="error").run(stack)
    except OllamaContextError as error:
        console.print(f"{type(error).__name__}: wanted {error.tokens_wanted} tokens, had {error.tokens_available}.")
        console.print(error)

    console.rule("on_overflow='trim'")
    metadata = driver.with_settings(on_overflow="trim").run(stack).to_artifact().meta["ollama"]
    context = metadata["context"]
    console.print(
        f"{context['dropped_messages']} messages (about {context['dropped_tokens']} tokens) were not sent; "
        f"the model read {metadata['prompt_eval_count']} tokens, truncated={metadata['truncated']}."
    )


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except OllamaError as error:
        raise SystemExit(f"{error}") from error


def main() -> None:
    """Run the conversation."""
    parser = argparse.ArgumentParser(description="A conversation that outgrows the window of its model.")
    parser.add_argument("--model", help="model to use (default: the smallest one that the server has)")
    parser.add_argument("--host", help="address of the server (default: OLLAMA_HOST, then this machine)")
    arguments = parser.parse_args()
    logging.getLogger("griptape").setLevel(logging.CRITICAL)  # the failure is printed once, at the end
    console = Console(highlight=False)
    with _clear_errors(), server(arguments.host, arguments.model) as (host, model):
        driver = OllamaPromptDriver(model=model, host=host, max_tokens=60, max_num_ctx=LARGEST_WINDOW)
        OllamaModels(host=host).warm(model, options={"num_ctx": FIRST_WINDOW})
        converse(driver, console)
        guard(driver, console)


if __name__ == "__main__":
    main()
