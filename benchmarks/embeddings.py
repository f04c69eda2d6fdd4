"""What the embedding driver adds to its requests: in batches, alone, and in memory."""

import statistics
import time
import tracemalloc

import httpx

from benchmarks import prose
from benchmarks.embedding_server import COSTS, WIDE, WIDE_NUMBERS, running
from benchmarks.tables import markdown
from griptape_ollama import OllamaEmbeddingDriver

MODEL = "short-texts"
FREE = "free"

BATCH = 64
BATCH_TEXTS = 10_000
LONE_TEXTS = 500  # one by one
BATCH_ROUNDS = 5

LONE_CALLS = 800

CPU_TEXTS = 1000
CPU_ROUNDS = 9

STREAM_TEXTS = 100_000
STREAM_NUMBERS = 64
STREAM_MARKS = (10_000, STREAM_TEXTS)


class ByHand:
    """A hand-written loop without a driver."""

    def __init__(self, host, model):
        self._client = httpx.Client(timeout=60)
        self._url = f"{host}/api/embed"
        self._model = model

    def _post(self, given):
        response = self._client.post(self._url, json={"model": self._model, "input": given})
        response.raise_for_status()
        return response.json()["embeddings"]

    def embed(self, text):
        return self._post(text)[0]

    def embed_batch(self, texts):
        return [vector for start in range(0, len(texts), BATCH) for vector in self._post(texts[start : start + BATCH])]

    def close(self):
        self._client.close()


def _texts_per_second(embed, texts):
    began = time.perf_counter()
    vectors = embed(texts)
    seconds = time.perf_counter() - began
    assert len(vectors) == len(texts)
    return len(texts) / seconds


def _batches(host, model):
    """Texts per second, by way; the ways take turns."""
    by_hand = ByHand(host, model)
    texts = list(prose.short_texts(BATCH_TEXTS))
    ways = {
        "hand-written loop": lambda: _texts_per_second(by_hand.embed_batch, texts),
        "embed_batch": lambda: _texts_per_second(OllamaEmbeddingDriver(model=model, host=host).embed_batch, texts),
        "embed": lambda: _one_by_one(OllamaEmbeddingDriver(model=model, host=host), texts[:LONE_TEXTS]),
    }
    found = {name: [] for name in ways}
    for _ in range(BATCH_ROUNDS):
        for name, way in ways.items():
            found[name].append(way())
    by_hand.close()
    return found


def _one_by_one(driver, texts):
    return _texts_per_second(lambda texts: [driver.embed(text) for text in texts], texts)


def _ratio(found, one, other):
    return statistics.median(a / b for a, b in zip(found[one], found[other], strict=True))


def batches(server):
    rows = []
    for model in (MODEL, FREE):
        found = _batches(server.host, model)
        speeds = (f"{statistics.median(each):,.0f}" for each in found.values())
        ratio, gain = _ratio(found, "embed_batch", "hand-written loop"), _ratio(found, "embed_batch", "embed")
        rows.append((COSTS[model], *speeds, f"{ratio:.2f}", f"{gain:.1f}"))
    title = f"`embed_batch` of {BATCH_TEXTS:,} short texts, texts per second (simulator, median of {BATCH_ROUNDS})"
    head = ("cost", f"loop, {BATCH} a request", "`embed_batch`", "one by one", "times the loop", "times one by one")
    return markdown(title, head, rows)


def _lone_seconds(host, model):
    """Median seconds of a call by hand and of one by the driver; they take turns, each text is another."""
    by_hand, driver = ByHand(host, model), OllamaEmbeddingDriver(model=model, host=host)
    ways = ((by_hand.embed, []), (driver.embed, []))
    by_hand.embed("Connect.")
    driver.embed("Connect, and learn the facts.")
    for number, text in enumerate(prose.short_texts(LONE_CALLS)):
        for embed, found in ways if number % 2 else reversed(ways):
            began = time.perf_counter()
            embed(text)
            found.append(time.perf_counter() - began)
    assert driver.cache_info.hits == 0
    by_hand.close()
    return [statistics.median(found) for _, found in ways]


def lone(server):
    rows = []
    for model in (MODEL, FREE):
        hand, ours = _lone_seconds(server.host, model)
        more = f"{(ours - hand) * 1e6:,.0f}"
        rows.append((COSTS[model], f"{hand * 1e6:,.0f}", f"{ours * 1e6:,.0f}", more, f"{ours / hand:.3f}"))
    title = f"A lone `embed` (simulator, {LONE_CALLS} calls each, medians in µs)"
    return markdown(title, ("cost", "hand-written POST", "`embed`", "more", "times the POST"), rows)


def _cpu_seconds(embed, texts):
    began = time.process_time()
    assert len(embed(texts)) == len(texts)
    return time.process_time() - began


def cpu(server):
    """Processor time of this process, without the simulator's."""
    by_hand = ByHand(server.host, WIDE)
    texts = list(prose.short_texts(CPU_TEXTS))
    ways = {
        "hand-written loop with `json`": lambda: by_hand.embed_batch,
        "`embed_batch`": lambda: OllamaEmbeddingDriver(model=WIDE, host=server.host).embed_batch,
        "`embed_batch`, `cache_bytes=0`": lambda: (
            OllamaEmbeddingDriver(model=WIDE, host=server.host, cache_bytes=0).embed_batch
        ),
    }
    found = {name: [] for name in ways}
    for _ in range(CPU_ROUNDS):
        for name, new_embed in ways.items():
            found[name].append(_cpu_seconds(new_embed(), texts))
    by_hand.close()
    loop = next(iter(ways))
    rows = [
        (name, f"{statistics.median(each) * 1e3:,.0f}", f"{_ratio(found, name, loop):.2f}")
        for name, each in found.items()
    ]
    title = f"CPU time of {CPU_TEXTS:,} vectors of {WIDE_NUMBERS} numbers (simulator, median of {CPU_ROUNDS})"
    return markdown(title, ("", "ms", "times the loop"), rows)


def _mebibytes(driver):
    """Memory in use by Python, after so many vectors."""
    texts = prose.short_texts(STREAM_TEXTS)
    found = []
    tracemalloc.start()
    for number, _ in enumerate(driver.iter_embed_batch(texts), 1):
        if number in STREAM_MARKS:
            found.append(tracemalloc.get_traced_memory()[0] / 2**20)
    tracemalloc.stop()
    return found


def memory(server):
    rows = []
    for mebibytes in (0, 64):
        driver = OllamaEmbeddingDriver(
            model=FREE, host=server.host, dimensions=STREAM_NUMBERS, cache_bytes=mebibytes * 2**20
        )
        rows.append((f"{mebibytes} MiB", *(f"{each:.1f}" for each in _mebibytes(driver))))
    title = f"Memory of `iter_embed_batch`, MiB in use by Python (simulator, {STREAM_NUMBERS} numbers a vector)"
    return markdown(title, ("`cache_bytes`", *(f"after {count:,} texts" for count in STREAM_MARKS)), rows)


def table():
    with running() as server:
        return "\n\n".join(each(server) for each in (batches, lone, cpu, memory))
