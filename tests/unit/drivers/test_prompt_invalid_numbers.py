"""Impossible numbers in replies are ignored, wherever a reply has numbers."""

import json
import logging

import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import (
    OllamaEmbeddingEvent,
    OllamaError,
    OllamaMetrics,
    OllamaModels,
    OllamaProgressEvent,
    OllamaResponseEvent,
)
from griptape_ollama.testing import Reply

# As JSON spells them.
ODD = {
    "400 digits": "9" * 400,
    "5000 digits": "9" * 5000,
    "less than nothing": "-1",
    "-400 digits": "-" + "9" * 400,
    "infinite": "Infinity",
    "too large": "1e999",
    "no number": "NaN",
    "a float": "1e300",
    "one too many": "9223372036854775808",
    "a boolean": "true",
    "a text": '"12"',
    "a list": "[1]",
    "null": "null",
}
_each = pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
_COUNTERS = (
    *("prompt_eval_count", "prompt_eval_cached_count", "eval_count"),
    *("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
)


def _bytes(value, odd):
    return json.dumps(value).replace('"@"', odd).encode()


def _plain(event):
    """All of an event as JSON, so that a number that JSON does not know shows."""
    return json.dumps(event.to_dict(), allow_nan=False)


@_each
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_of_a_chat(simulator, make_driver, events, caplog, *, odd, stream):
    head = {"model": "simulator", "created_at": "2026-11-20T08:49:41Z"}
    said = {**head, "message": {"role": "assistant", "content": "Yes."}, "done": False}
    end = {**head, "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop"}
    simulator.reply(
        Reply(lines=[json.dumps(said).encode(), _bytes({**end, **dict.fromkeys(_COUNTERS, "@")}, odd)]), times=None
    )
    with OllamaMetrics() as metrics, caplog.at_level(logging.INFO, logger="griptape_ollama.audit"):
        message = make_driver(stream=stream, audit_requests=True).run(TextArtifact("Hi"))
    assert message.to_text() == "Yes."
    assert (message.usage.input_tokens, message.usage.output_tokens) == (None, None)
    meta = message.content[0].artifact.meta["ollama"]
    assert not {"tokens_per_second", "total_seconds", "load_seconds", "prompt_seconds", "generation_seconds"} & set(
        meta
    )
    assert json.dumps(meta)  # as the server sent them
    (event,) = (each for each in events if isinstance(each, OllamaResponseEvent))
    assert (event.input_tokens, event.cached_tokens, event.total_seconds, event.tokens_per_second) == (None,) * 4
    assert _plain(event)
    assert metrics.summary().input_tokens == metrics.summary().cached_tokens == 0
    json.dumps(metrics.summary().to_dict(), allow_nan=False)
    (record,) = (each for each in caplog.records if hasattr(each, "audit"))
    json.dumps(record.audit, allow_nan=False)


@_each
def test_of_vectors(simulator, make_embedder, events, odd):
    body = {"model": "m", "embeddings": [[0.6, 0.8]], **dict.fromkeys(_COUNTERS, "@")}
    simulator.reply(Reply(body=_bytes(body, odd).decode()), path="/api/embed")
    assert make_embedder().embed("text") == [0.6, 0.8]
    (event,) = (each for each in events if isinstance(each, OllamaEmbeddingEvent))
    assert (event.input_tokens, event.total_seconds, event.load_seconds) == (None, None, None)


_FINITE = ("-1", "1e300", "9223372036854775808", "0", "1")


@pytest.mark.parametrize("number", _FINITE)
def test_a_vector_has_floats_whatever_its_numbers_are(simulator, make_embedder, number):
    simulator.reply(Reply(body=_bytes({"embeddings": [[0, "@", 1]]}, number).decode()), path="/api/embed")
    vector = make_embedder().embed("text")
    assert all(type(value) is float and -1 <= value <= 1 for value in vector)


@pytest.mark.parametrize("odd", [value for value in ODD.values() if value not in _FINITE], ids=lambda odd: odd[:8])
def test_what_is_no_number_in_a_vector_is_an_error_that_says_so(simulator, make_embedder, odd):
    simulator.reply(Reply(body=_bytes({"embeddings": [[0.6, "@"]]}, odd).decode()), path="/api/embed", times=None)
    with pytest.raises(OllamaError, match="its vector has"):
        make_embedder().embed("text")


@_each
def test_of_models(simulator, make_driver, odd):
    model = {"name": "simulator:latest", "model": "simulator:latest", "digest": "d" * 64}
    details = {"context_length": "@", "embedding_length": "@"}
    tags = {"models": [{**model, "size": "@", "details": details}]}
    ps = {"models": [{**model, "size": "@", "size_vram": "@", "context_length": "@"}]}
    show = {
        "model_info": {
            "general.architecture": "llama",
            **dict.fromkeys(("llama.context_length", "llama.embedding_length", "general.parameter_count"), "@"),
        },
        "parameters": f"num_ctx {odd}\nnum_predict {odd}\ntemperature {odd}\nstop {odd}",
        "capabilities": ["completion", "@"],
    }
    for path, body in (("/api/tags", tags), ("/api/ps", ps), ("/api/show", show)):
        simulator.reply(Reply(body=_bytes(body, odd).decode()), path=path, times=None)
    models = OllamaModels(host=simulator.url)
    (listed,) = models.list()
    assert (listed.size, listed.context_length, listed.embedding_length) == (0, None, None)
    (loaded,) = models.loaded()
    assert (loaded.size, loaded.size_vram, loaded.context_length, loaded.gpu_share) == (0, 0, None, 0.0)
    details = models.show("simulator")
    assert (details.context_length, details.embedding_length, details.parameter_count) == (None, None, None)
    assert make_driver().run(TextArtifact("Hi")).to_text()
    assert make_driver(num_ctx="auto").run(TextArtifact("Hi")).to_text()


@_each
def test_of_a_pull(simulator, events, odd):
    lines = [
        {"status": "pulling manifest"},
        {"status": "pulling d", "digest": "sha256:d", "total": "@", "completed": "@"},
        {"status": "pulling d", "digest": "sha256:d", "total": 10, "completed": "@"},
        {"status": "success"},
    ]
    simulator.reply(Reply(lines=[_bytes(line, odd) for line in lines]), path="/api/pull")
    seen = []
    OllamaModels(host=simulator.url).pull("simulator", on_progress=seen.append)
    assert (seen[-1].total, seen[-1].completed, seen[-1].share) == (10, 10, 1.0)
    assert all(_plain(event) for event in events if isinstance(event, OllamaProgressEvent))
