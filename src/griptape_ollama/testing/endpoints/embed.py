"""The embed endpoint: vectors out of hashed character n-grams, so that texts alike lie near each other."""

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.models.load_settings import Runner, runner_for
from griptape_ollama.testing.models.simulated_model import Catalogue, SimulatedModel
from griptape_ollama.testing.request_context import Exchange, as_given
from griptape_ollama.testing.request_log import RecordedRequest
from griptape_ollama.testing.response_writer import Outgoing, plain
from griptape_ollama.testing.script import Entry
from griptape_ollama.testing.wire_format import Refusal, as_list, as_object, as_text, encode

_MARKS = 2  # tokens that the model puts before and after a text
_LARGEST_BATCH = 2048  # tokens of a text at most, whatever the window, where no num_batch is given
_GRAMS = (3, 4)
_WORD_WEIGHT = 2.0
_LONGEST_KNOWN = 32  # letters of words that are worth remembering
_DIGITS = 8
_WARM_LOAD_NS = 1_300_000
_SECOND = 1_000_000_000
_TOO_LONG = "the input length exceeds the context length"
_NO_EMBEDDINGS = "This server does not support embeddings. Start it with `--embeddings`"


@dataclass(frozen=True, kw_only=True)
class EmbedRequest:
    """An embed request that the server accepts."""

    body: Mapping[str, Any]
    model: SimulatedModel
    keep_alive: float | None
    texts: Sequence[str]
    tokens: int
    runner: Runner

    @property
    def dimensions(self) -> int:
        """Length of the vectors; a wish that is too large or not positive is ignored."""
        wanted = self.body.get("dimensions") or 0
        return int(wanted) if 0 < wanted <= self.model.embedding_length else self.model.embedding_length

    @property
    def seconds(self) -> float:
        """How long the model takes, on the simulator's clock; nothing where there is nothing to embed."""
        model, texts = self.model, len(self.texts)
        return model.embed_seconds + texts * model.embed_seconds_per_text if texts else 0


async def embed(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/embed`."""
    request = accept(exchange.recorded, exchange.state.catalogue, exchange.state.context_length)
    if entry is not None:
        return as_given(await exchange.take(entry), exchange.recorded)
    # Without a text, too: that is how an embedding model is loaded ahead of time.
    return plain(await embedded(exchange, request, embed_body))


async def embeddings(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/embeddings`, the old form."""
    request = accept_old(exchange.recorded, exchange.state.catalogue, exchange.state.context_length)
    if entry is not None:
        return as_given(await exchange.take(entry), exchange.recorded)
    if not request.texts:
        return plain(old_body(request))
    return plain(await embedded(exchange, request, lambda request, _load_ns: old_body(request)))


async def embedded(exchange: Exchange, request: EmbedRequest, write: Callable[[EmbedRequest, int], bytes]) -> bytes:
    """Load a model, wait for its turn, and have it write a reply, in the time that it takes for that.

    Args:
        exchange: The exchange.
        request: The request.
        write: Makes the reply, given the request and the nanoseconds that loading took.
    """
    held = await exchange.hold(request.model, request.runner, request.keep_alive)
    clock = exchange.state.clock
    due = clock.seconds + request.seconds
    body = write(request, held.load_ns)
    if request.seconds:
        # What the simulator needs itself is part of it.
        await clock.sleep_until(due)
    return body


def accept(recorded: RecordedRequest, catalogue: Catalogue, default_window: int) -> EmbedRequest:
    """Check an embed request.

    Raises:
        Refusal: The server refuses it.
    """
    body = validation.decode(recorded.raw, "EmbedRequest")
    return _accept(body, _texts(body.get("input")), catalogue, default_window)


def accept_old(recorded: RecordedRequest, catalogue: Catalogue, default_window: int) -> EmbedRequest:
    """Check a request in the old form, which has one `prompt`, never cuts it, and knows fewer kinds of errors.

    Raises:
        Refusal: The server refuses it.
    """
    body = validation.decode(recorded.raw, "EmbeddingRequest")
    text = as_text(body.get("prompt"))
    try:
        return _accept({**body, "truncate": False}, [text] if text else [], catalogue, default_window)
    except Refusal as refusal:
        if refusal.message in (_TOO_LONG, _NO_EMBEDDINGS):
            raise Refusal(500, refusal.message) from refusal
        raise


def _accept(body: dict[str, Any], texts: list[str], catalogue: Catalogue, default_window: int) -> EmbedRequest:
    keep_alive = validation.keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = catalogue.find(name)
    if model is None:
        raise Refusal(404, f'model "{name}" not found, try pulling it first')
    validation.check_options(model.parameters)
    validation.check_options(as_object(body.get("options")))
    if model.load_error is not None:
        raise Refusal(500, model.load_error)
    if texts and not model.can("embedding"):
        raise Refusal(501, _NO_EMBEDDINGS)
    runner = runner_for(model, body, default_window)
    batch = dict(runner.options).get("num_batch") or _LARGEST_BATCH
    limit = min(runner.context_length, batch)
    counts = [model.tokens_of(text) + _MARKS for text in texts]
    if body.get("truncate") is False and any(count > limit for count in counts):
        raise Refusal(400, _TOO_LONG)
    return EmbedRequest(
        body=body,
        model=model,
        keep_alive=keep_alive,
        texts=[_front(text, count, limit) for text, count in zip(texts, counts, strict=True)],
        tokens=sum(min(count, limit) for count in counts),
        runner=runner,
    )


def _front(text: str, tokens: int, limit: int) -> str:
    """Cut a text that is too long; its front stays."""
    if tokens <= limit:
        return text
    return text[: len(text) * max(limit - _MARKS, 0) // (tokens - _MARKS)]


def embed_body(request: EmbedRequest, load_ns: int) -> bytes:
    """Make the reply."""
    started = time.perf_counter_ns()
    vectors = [embed_text(text, request.dimensions) for text in request.texts]
    body: dict[str, Any] = {"model": request.body["model"], "embeddings": vectors}
    if vectors:
        took_ns = max(time.perf_counter_ns() - started, int(request.seconds * _SECOND))
        body["total_duration"] = took_ns + load_ns + 2 * _WARM_LOAD_NS
        body["load_duration"] = load_ns + _WARM_LOAD_NS
        body["prompt_eval_count"] = request.tokens
    return encode(body)


def old_body(request: EmbedRequest) -> bytes:
    """Make the reply in the old form."""
    return encode({"embedding": [value for text in request.texts for value in embed_text(text, request.dimensions)]})


def embed_text(text: str, dimensions: int) -> list[float]:
    """Turn a text into a vector of length 1.

    Words count, and so do the runs of three and four letters inside them; order does not.

    Args:
        text: Any text; one without letters or digits gives the first unit vector.
        dimensions: Length of the vector.
    """
    vector = [0.0] * dimensions
    for word in _words(text):
        for place, weight in _known_features(word) if len(word) <= _LONGEST_KNOWN else _features(word):
            vector[place % dimensions] += weight
    length = math.sqrt(sum(value * value for value in vector))
    if not length:
        return [1.0] + [0.0] * (dimensions - 1)
    return [round(value / length, _DIGITS) for value in vector]


def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Give the hash and the weight of the word and of each run of letters in it."""
    padded = f" {word} "
    grams = [padded[i : i + n] for n in _GRAMS for i in range(len(padded) - n + 1)]
    return (_feature(padded, _WORD_WEIGHT), *(_feature(gram, 1.0) for gram in grams))


_known_features = lru_cache(maxsize=4096)(_features)


def _feature(letters: str, weight: float) -> tuple[int, float]:
    digest = zlib.crc32(letters.encode("utf-8", "replace"))
    # The top bit is the sign, so that unrelated features cancel out rather than pile up.
    return digest, weight if digest >> 31 else -weight


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else as_list(value)
    if not isinstance(value, (str, list)) or not all(isinstance(text, str) for text in texts):
        raise Refusal(400, "invalid input type")
    return texts
