"""The embed endpoints. Vectors are hashed character n-grams, so that similar texts have similar vectors."""

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.models.load_settings import LoadSettings, load_settings_for
from griptape_ollama.testing.models.simulated_model import InstalledModels, SimulatedModel
from griptape_ollama.testing.request_context import RequestContext, verbatim_response
from griptape_ollama.testing.request_log import RecordedRequest
from griptape_ollama.testing.response_writer import PreparedResponse, body_response
from griptape_ollama.testing.script import ScriptEntry
from griptape_ollama.testing.wire_format import ErrorResponse, as_list, as_object, as_text, encode

_MARKS = 2  # tokens that the model adds before and after a text
_LARGEST_BATCH = 2048  # tokens of a text at most, whatever the window, where no num_batch is given
_GRAMS = (3, 4)
_WORD_WEIGHT = 2.0
_LONGEST_CACHED = 32  # letters of words whose features are cached
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
    load_settings: LoadSettings

    @property
    def dimensions(self) -> int:
        """Length of the vectors; a value that is too large or not positive is ignored."""
        wanted = self.body.get("dimensions") or 0
        return int(wanted) if 0 < wanted <= self.model.embedding_length else self.model.embedding_length

    @property
    def seconds(self) -> float:
        """Seconds that the model takes, on the simulator's clock; 0 without texts."""
        model, texts = self.model, len(self.texts)
        return model.embed_seconds + texts * model.embed_seconds_per_text if texts else 0


async def embed(context: RequestContext, entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/embed`."""
    request = parse_embed_request(context.recorded, context.state.installed, context.state.context_length)
    if entry is not None:
        return verbatim_response(await context.take_reply(entry), context.recorded)
    # Also without a text: that is how an embedding model is preloaded.
    return body_response(await run_embedding(context, request, embed_body))


async def embeddings(context: RequestContext, entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/embeddings`, the old form."""
    request = parse_embeddings_request(context.recorded, context.state.installed, context.state.context_length)
    if entry is not None:
        return verbatim_response(await context.take_reply(entry), context.recorded)
    if not request.texts:
        return body_response(embeddings_body(request))
    return body_response(await run_embedding(context, request, lambda request, _load_ns: embeddings_body(request)))


async def run_embedding(
    context: RequestContext, request: EmbedRequest, write: Callable[[EmbedRequest, int], bytes]
) -> bytes:
    """Load the model, wait for a slot, and build the body in the time that the model takes.

    Args:
        context: Context of the request.
        request: The request.
        write: Builds the body from the request and the nanoseconds that loading took.
    """
    reservation = await context.acquire_model(request.model, request.load_settings, request.keep_alive)
    clock = context.state.clock
    due = clock.seconds + request.seconds
    body = write(request, reservation.load_ns)
    if request.seconds:
        # The time of the simulator's own work is part of it.
        await clock.sleep_until(due)
    return body


def parse_embed_request(recorded: RecordedRequest, installed: InstalledModels, default_window: int) -> EmbedRequest:
    """Check an embed request.

    Raises:
        ErrorResponse: The server rejects it.
    """
    body = validation.decode_request(recorded.raw, "EmbedRequest")
    return _parse(body, _texts(body.get("input")), installed, default_window)


def parse_embeddings_request(
    recorded: RecordedRequest, installed: InstalledModels, default_window: int
) -> EmbedRequest:
    """Check a request in the old form, which has one `prompt`, never truncates it, and has fewer kinds of errors.

    Raises:
        ErrorResponse: The server rejects it.
    """
    body = validation.decode_request(recorded.raw, "EmbeddingRequest")
    text = as_text(body.get("prompt"))
    try:
        return _parse({**body, "truncate": False}, [text] if text else [], installed, default_window)
    except ErrorResponse as error_response:
        if error_response.message in (_TOO_LONG, _NO_EMBEDDINGS):
            raise ErrorResponse(500, error_response.message) from error_response
        raise


def _parse(body: dict[str, Any], texts: list[str], installed: InstalledModels, default_window: int) -> EmbedRequest:
    keep_alive = validation.parse_keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = installed.find(name)
    if model is None:
        raise ErrorResponse(404, f'model "{name}" not found, try pulling it first')
    validation.check_options(model.parameters)
    validation.check_options(as_object(body.get("options")))
    if model.load_error is not None:
        raise ErrorResponse(500, model.load_error)
    if texts and not model.can("embedding"):
        raise ErrorResponse(501, _NO_EMBEDDINGS)
    load_settings = load_settings_for(model, body, default_window)
    batch = dict(load_settings.options).get("num_batch") or _LARGEST_BATCH
    limit = min(load_settings.context_length, batch)
    counts = [model.tokens_of(text) + _MARKS for text in texts]
    if body.get("truncate") is False and any(count > limit for count in counts):
        raise ErrorResponse(400, _TOO_LONG)
    return EmbedRequest(
        body=body,
        model=model,
        keep_alive=keep_alive,
        texts=[_truncate(text, count, limit) for text, count in zip(texts, counts, strict=True)],
        tokens=sum(min(count, limit) for count in counts),
        load_settings=load_settings,
    )


def _truncate(text: str, tokens: int, limit: int) -> str:
    """Truncate a text that is too long at its end."""
    if tokens <= limit:
        return text
    return text[: len(text) * max(limit - _MARKS, 0) // (tokens - _MARKS)]


def embed_body(request: EmbedRequest, load_ns: int) -> bytes:
    """Build the body of the reply."""
    started = time.perf_counter_ns()
    vectors = [embed_text(text, request.dimensions) for text in request.texts]
    body: dict[str, Any] = {"model": request.body["model"], "embeddings": vectors}
    if vectors:
        took_ns = max(time.perf_counter_ns() - started, int(request.seconds * _SECOND))
        body["total_duration"] = took_ns + load_ns + 2 * _WARM_LOAD_NS
        body["load_duration"] = load_ns + _WARM_LOAD_NS
        body["prompt_eval_count"] = request.tokens
    return encode(body)


def embeddings_body(request: EmbedRequest) -> bytes:
    """Build the body of the reply in the old form."""
    return encode({"embedding": [value for text in request.texts for value in embed_text(text, request.dimensions)]})


def embed_text(text: str, dimensions: int) -> list[float]:
    """Return a vector of length 1 for a text; the first unit vector for a text without letters or digits.

    Its features are the words and the runs of three and four letters inside them, in any order.
    """
    vector = [0.0] * dimensions
    for word in _words(text):
        for place, weight in _cached_features(word) if len(word) <= _LONGEST_CACHED else _features(word):
            vector[place % dimensions] += weight
    length = math.sqrt(sum(value * value for value in vector))
    if not length:
        return [1.0] + [0.0] * (dimensions - 1)
    return [round(value / length, _DIGITS) for value in vector]


def _features(word: str) -> tuple[tuple[int, float], ...]:
    """Return the hash and the weight of the word and of each run of letters in it."""
    padded = f" {word} "
    grams = [padded[i : i + n] for n in _GRAMS for i in range(len(padded) - n + 1)]
    return (_feature(padded, _WORD_WEIGHT), *(_feature(gram, 1.0) for gram in grams))


_cached_features = lru_cache(maxsize=4096)(_features)


def _feature(letters: str, weight: float) -> tuple[int, float]:
    digest = zlib.crc32(letters.encode("utf-8", "replace"))
    # The top bit is the sign, so that unrelated features cancel out.
    return digest, weight if digest >> 31 else -weight


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.lower()).split()


def _texts(value: Any) -> list[str]:
    if value is None or value == "":
        return []
    texts = [value] if isinstance(value, str) else as_list(value)
    if not isinstance(value, (str, list)) or not all(isinstance(text, str) for text in texts):
        raise ErrorResponse(400, "invalid input type")
    return texts
