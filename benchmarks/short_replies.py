"""CPU time of a prompt with a short reply, as a multiple of Griptape's built-in driver."""

import gc
import statistics
import time

from griptape.events import EventBus, EventListener

from benchmarks.server import running
from benchmarks.streaming import CLIENTS
from benchmarks.tables import markdown

TOKENS = 10
RUNS = 40
ROUNDS = 15
NAMES = ("griptape-ollama", "Griptape's built-in driver", "hand-written httpx loop")
KINDS = {"plain": False, "streamed": True}


def _measure(runs):
    """Seconds of CPU time per run, by client: the clients take turns, so that noise hits all alike."""
    seconds = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            gc.collect()
            start = time.process_time()
            for _ in range(RUNS):
                run()
            seconds[name].append((time.process_time() - start) / RUNS)
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def table():
    listener = EventListener(lambda _: None)
    EventBus.add_event_listener(listener)
    rows = []
    with running(TOKENS) as host:
        for kind, streams in KINDS.items():
            seconds = _measure({name: CLIENTS[name][0](host, stream=streams) for name in NAMES})
            base = seconds["Griptape's built-in driver"]
            rows += [(kind, name, f"{value * 1e3:.2f}", f"{value / base:.2f}") for name, value in seconds.items()]
    EventBus.remove_event_listener(listener)
    title = f"CPU time of a prompt with {TOKENS} tokens (median of {ROUNDS - 2} times {RUNS} runs)"
    return markdown(title, ("prompt", "client", "ms per prompt", "times the built-in driver"), rows)


if __name__ == "__main__":
    print(table())
