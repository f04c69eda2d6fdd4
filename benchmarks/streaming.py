"""CPU time per streamed token, as a multiple of a hand-written loop."""

import importlib.util
import json
import statistics
import time

import httpx
from griptape.common import PromptStack
from griptape.events import EventBus, EventListener

from benchmarks.server import LINES, running
from benchmarks.tables import markdown
from griptape_ollama import OllamaPromptDriver

ROUNDS = 15
BODY = {"model": "bench", "messages": [{"role": "user", "content": "Go."}], "stream": True}


def _by_hand(host, **_):
    client = httpx.Client(timeout=60)

    def run():
        with client.stream("POST", f"{host}/api/chat", json=BODY) as response:
            return "".join(json.loads(line)["message"]["content"] for line in response.iter_lines())

    return run


def _griptape(driver_class):
    def make(host, *, stream=True):
        driver = driver_class(model="bench", host=host, stream=stream)

        def run():
            stack = PromptStack()
            stack.add_user_message("Go.")
            return driver.run(stack).to_text()

        return run

    return make


def _built_in(host, *, stream=True):
    from griptape.drivers.prompt.ollama_prompt_driver import OllamaPromptDriver as BuiltIn

    return _griptape(BuiltIn)(host, stream=stream)


def _langchain(host):
    from langchain_ollama import ChatOllama

    model = ChatOllama(model="bench", base_url=host)
    return lambda: "".join(chunk.content for chunk in model.stream("Go."))


def _llama_index(host):
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.ollama import Ollama

    model = Ollama(model="bench", base_url=host, request_timeout=60, context_window=4096)
    return lambda: "".join(chunk.delta or "" for chunk in model.stream_chat([ChatMessage(role="user", content="Go.")]))


def _haystack(host):
    from haystack.dataclasses import ChatMessage
    from haystack_integrations.components.generators.ollama import OllamaChatGenerator

    texts = []
    model = OllamaChatGenerator(model="bench", url=host, streaming_callback=lambda chunk: texts.append(chunk.content))

    def run():
        texts.clear()
        model.run([ChatMessage.from_user("Go.")])
        return "".join(texts)

    return run


CLIENTS = {
    "hand-written httpx loop": (_by_hand, "httpx"),
    "griptape-ollama": (_griptape(OllamaPromptDriver), "griptape_ollama"),
    "Griptape's built-in driver": (_built_in, "griptape"),
    "haystack": (_haystack, "haystack_integrations.components.generators.ollama"),
    "langchain-ollama": (_langchain, "langchain_ollama"),
    "llama-index": (_llama_index, "llama_index.llms.ollama"),
}


def _is_installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _measure(runs):
    """Seconds of CPU time per run, by client: the clients take turns, so that noise hits all alike."""
    seconds = {name: [] for name in runs}
    expected = None
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.process_time()
            text = run()
            seconds[name].append(time.process_time() - start)
            expected = expected or text
            assert text == expected, f"{name} gave another text"
    return {name: statistics.median(values[2:]) for name, values in seconds.items()}


def table():
    listener = EventListener(lambda _: None)
    EventBus.add_event_listener(listener)
    with running() as host:
        runs = {name: make(host) for name, (make, module) in CLIENTS.items() if _is_installed(module)}
        seconds = _measure(runs)
    EventBus.remove_event_listener(listener)
    base = seconds["hand-written httpx loop"]
    rows = [
        (name, f"{value / LINES * 1e6:.1f}", f"{value / base:.2f}")
        for name, value in sorted(seconds.items(), key=lambda item: item[1])
    ]
    title = f"CPU time per streamed token ({LINES:,} lines, one event listener, median of {ROUNDS - 2} runs)"
    return markdown(title, ("client", "µs per token", "times the loop"), rows)
