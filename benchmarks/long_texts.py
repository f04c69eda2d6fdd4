"""Texts around the window of an embedding model: `embed_batch` against a loop that sends them one by one.

Needs a real server, since the simulator's cost does not depend on tokens: OLLAMA_HOST and OLLAMA_TEST_EMBED_MODEL.
"""

import contextlib
import os
import random
import statistics
import time

import httpx
import ollama

from benchmarks import texts
from benchmarks.tables import markdown
from griptape_ollama import OllamaEmbeddingDriver
from griptape_ollama.shared_state import reset_shared_state

MODES = ("chunk", "truncate", "error")
TEXTS = int(os.environ.get("LONG_TEXTS", "40"))
KINDS = tuple(os.environ.get("LONG_KINDS", "prose,code,Chinese,mixed").split(","))
ROUNDS = int(os.environ.get("LONG_ROUNDS", "3"))
NUM_CTX = int(os.environ.get("LONG_NUM_CTX", "0"))
SHARES = (0.8, 1.15)
"""Lengths of the texts, as shares of the window."""


MARKS = 2  # tokens around each text


class Server:
    """The server that is asked, with a count of what it answered."""

    def __init__(self, host, model):
        self.host, self.model = host, model
        self.http = httpx.Client(base_url=host, timeout=300)
        self.statuses = []
        hooks = {"response": [lambda response: self.statuses.append((response.url.path, response.status_code))]}
        self.client = ollama.Client(host, event_hooks=hooks)
        # One thread: where others compute, too, those of one model wait for each other.
        self.options = {"num_thread": 1} | ({"num_ctx": NUM_CTX} if NUM_CTX else {})
        self.window = self._window()

    def _window(self):
        info = self.http.post("/api/show", json={"model": self.model}).json()["model_info"]
        return min(filter(None, (info[f"{info['general.architecture']}.context_length"], NUM_CTX)))

    def ask(self, text, *, truncate):
        body = {"model": self.model, "input": text, "truncate": truncate, "options": self.options}
        return self.http.post("/api/embed", json=body)

    def tokens(self, text):
        return self.ask(text, truncate=True).json()["prompt_eval_count"]


def _around(server, kind):
    """Texts whose tokens are spread evenly around the window."""
    chance = random.Random(kind)
    source = texts.texts(1)[kind]
    found = []
    for number in range(TEXTS):
        share = SHARES[0] + (SHARES[1] - SHARES[0]) * number / (TEXTS - 1)
        whole = ""
        while len(whole) < 8 * server.window:
            whole += f"{chance.choice(source)}\n\n"
        sample = whole[: server.window]
        while (tokens := server.tokens(sample)) < server.window * 0.6:
            sample = whole[: int(len(sample) * 0.7 * server.window / tokens)]
        found.append(whole[: int(len(sample) / (tokens - MARKS) * (server.window * share - MARKS))])
    chance.shuffle(found)
    return found


def _loop(server, given, mode):
    began = time.perf_counter()
    for text in given:
        server.ask(text, truncate=mode != "error")
    return time.perf_counter() - began


def _batch(server, given, mode):
    """Seconds of a driver that knows nothing yet, and how many requests were sent and refused."""
    reset_shared_state()
    driver = OllamaEmbeddingDriver(
        model=server.model, client=server.client, on_long_text=mode, options=server.options, cache_bytes=0
    )
    server.statuses.clear()
    began = time.perf_counter()
    with contextlib.suppress(Exception):
        driver.embed_batch(given)
    seconds = time.perf_counter() - began
    statuses = [status for path, status in server.statuses if path.endswith("/api/embed")]
    return seconds, len(statuses), sum(status != 200 for status in statuses)


def _rows(server):
    for kind in KINDS:
        given = _around(server, kind)
        _loop(server, given[:3], "chunk")
        for mode in MODES:
            loops, batches = [], []
            for _ in range(ROUNDS):
                loops.append(_loop(server, given, mode))
                batches.append(_batch(server, given, mode))
            ratio = statistics.median(batch[0] / loop for batch, loop in zip(batches, loops, strict=True))
            seconds = statistics.median(batch[0] for batch in batches)
            yield (
                kind, mode, f"{statistics.median(loops):.2f}", f"{seconds:.2f}", f"{ratio:.2f}",
                batches[-1][1], batches[-1][2],
            )  # fmt: skip


def table():
    host, model = os.environ.get("OLLAMA_HOST"), os.environ.get("OLLAMA_TEST_EMBED_MODEL")
    if not host or not model:
        return "Texts around the window: left out, OLLAMA_HOST and OLLAMA_TEST_EMBED_MODEL are not set."
    head = ("texts", "on_long_text", "loop, s", "`embed_batch`, s", "times the loop", "requests", "refused")
    server = Server(host, model)
    title = f"{TEXTS} texts of {SHARES[0]} to {SHARES[1]} times the window of {server.window} tokens"
    return markdown(f"{title} (median of {ROUNDS})", head, list(_rows(server)))
