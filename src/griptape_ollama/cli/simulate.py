"""`griptape-ollama simulate`: a simulated server for tests in other languages, and to try by hand."""

import signal
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# The command never reads them, and it may run for weeks.
_KEPT_REQUESTS = 10


@click.command()
@click.option("--port", default=0, show_default="a free one", type=click.IntRange(0, 65535), help="Port on 127.0.0.1.")
@click.option("--model", "chat", metavar="NAME", multiple=True, help="Serve a model that chats and calls tools.")
@click.option("--thinking-model", "thinking", metavar="NAME", multiple=True, help="Serve one that also thinks.")
@click.option("--embedding-model", "embedding", metavar="NAME", multiple=True, help="Serve a model that embeds.")
@click.option(
    "--tokens-per-second", type=click.FloatRange(0, min_open=True), help="Pace of replies. [default: no limit]"
)
@click.option("--load-seconds", type=click.FloatRange(0), default=0, help="How long a model takes to load.")
@click.option("--time-scale", type=click.FloatRange(0, min_open=True), default=1, help="Simulated seconds per second.")
def simulate(
    *,
    port: int,
    chat: Sequence[str],
    thinking: Sequence[str],
    embedding: Sequence[str],
    tokens_per_second: float | None,
    load_seconds: float,
    time_scale: float,
) -> None:
    """Serve Ollama's protocol on loopback without a model, until Ctrl-C.

    It is no language model: its answers are made up by rules and always alike.
    """
    try:
        from griptape_ollama import testing  # noqa: PLC0415  an extra, which other commands do without
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    kinds = (
        (chat, ("completion", "tools")),
        (thinking, ("completion", "tools", "thinking")),
        (embedding, ("embedding",)),
    )
    try:
        models = [
            testing.SimulatedModel(name=name, capabilities=capabilities, load_seconds=load_seconds)
            for names, capabilities in kinds
            for name in names
        ]
        simulator = testing.OllamaSimulator(
            models or None,
            port=port,
            tokens_per_second=tokens_per_second,
            time_scale=time_scale,
            keep_requests=_KEPT_REQUESTS,
        )
        with _stopped_by_signals() as stopped, simulator:
            _print_banner(simulator)
            stopped.wait()
    except (OSError, ValueError) as error:
        raise click.ClickException(
            str(error.strerror or error) if isinstance(error, OSError) else str(error)
        ) from error
    click.echo("The simulator has stopped.")


def _print_banner(simulator: Any) -> None:
    names = ", ".join(simulator.models)
    click.echo(f"This is a SIMULATOR of an Ollama server, not a language model. Models: {names}")
    click.echo(f"It answers at {simulator.url}")
    click.echo(f"Use it with: export OLLAMA_HOST={simulator.url}")
    click.echo("Ctrl-C stops it.")


@contextmanager
def _stopped_by_signals() -> Generator[threading.Event, None, None]:
    """Yield an event that Ctrl-C or SIGTERM sets."""
    stopped = threading.Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
