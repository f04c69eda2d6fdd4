"""How soon a failure that would come again reaches the caller: no second try, no wait."""

import socket
import time

from griptape.artifacts import TextArtifact

from benchmarks.tables import markdown
from griptape_ollama import OllamaEmbeddingDriver, OllamaError, OllamaModels, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator

TRIES = 200
WANTED = 50
FAILURES = {
    "400": {"status": 400, "error": "bad request"},
    "401": {"status": 401, "error": "unauthorized"},
    "404": {"status": 404, "error": "model 'simulator' not found"},
    "429 quota": {"status": 429, "error": "you reached your hourly usage limit"},
    "500 wrong option": {"status": 500, "error": 'option "seed" must be of type integer'},
}


def _milliseconds(call):
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        try:
            call()
        except OllamaError:
            times.append((time.perf_counter() - start) * 1e3)
    assert len(times) == TRIES
    return sorted(times)


def _calls(host):
    prompt = OllamaPromptDriver(model="simulator", host=host)
    vectors = OllamaEmbeddingDriver(model="simulator-embed", host=host)
    models = OllamaModels(host=host)
    return {
        "/api/chat": ("run", lambda: prompt.run(TextArtifact("Hi"))),
        "/api/embed": ("embed", lambda: vectors.embed("text")),
        "/api/show": ("OllamaModels.show", lambda: models.show("simulator")),
    }


def _row(failure, way, times):
    p50, p99 = times[len(times) // 2], times[int(len(times) * 0.99) - 1]
    return failure, way, f"{p50:.1f}", f"{p99:.1f}", "yes" if p99 <= WANTED else "no"


def table():
    rows = []
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        for way, call in _calls(f"127.0.0.1:{unused.getsockname()[1]}").values():
            rows.append(_row("refused", way, _milliseconds(call)))
    with OllamaSimulator(keep_requests=1) as simulator:
        for name, failure in FAILURES.items():
            for path, (way, call) in _calls(simulator.host).items():
                simulator.reply(path=path, times=None, **failure)
                rows.append(_row(name, way, _milliseconds(call)))
            simulator.reset()
    title = f"From the call to the exception, where a retry cannot help ({TRIES} tries each, in ms)"
    return markdown(title, ("failure", "call", "p50", "p99", f"at most {WANTED}"), rows)
