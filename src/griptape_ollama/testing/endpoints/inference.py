"""The endpoints that use a model: chat, generate, embed and the old embeddings."""

from collections.abc import Callable

from griptape_ollama.testing import expectations, validation
from griptape_ollama.testing.chat_lines import load_body
from griptape_ollama.testing.endpoints import chat as chats
from griptape_ollama.testing.endpoints import embed as vectors
from griptape_ollama.testing.endpoints.generate import accept_generate, unparsed
from griptape_ollama.testing.models.generation import Speech
from griptape_ollama.testing.models.memory import Loaded
from griptape_ollama.testing.models.prompt_size import Prompt
from griptape_ollama.testing.models.rendering import continuation
from griptape_ollama.testing.request_context import Exchange, as_given
from griptape_ollama.testing.request_log import Outcome
from griptape_ollama.testing.response_writer import Outgoing, plain
from griptape_ollama.testing.script import Entry, Reply


async def chat(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/chat`."""
    body = validation.decode_body(exchange.recorded.raw, "ChatRequest")
    state = exchange.state
    return await answer(exchange, entry, chats.accept_chat(body, state.catalogue, state.context_length))


async def generate(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/generate`."""
    body = validation.decode_body(exchange.recorded.raw, "GenerateRequest")
    state = exchange.state
    return await answer(exchange, entry, accept_generate(body, state.catalogue, state.context_length))


async def answer(exchange: Exchange, entry: Entry | None, request: chats.SpokenRequest) -> Outgoing:
    """Load a model, wait for its turn, and let it say what is scripted or what it finds by itself."""
    state = exchange.state
    if request.is_about_unloading:
        state.memory.unload(request.model)
        return plain(load_body(request.name, "unload", state.clock.now_ns, is_generate=request.is_generate))
    is_answered = not (request.is_about_loading or request.is_about_rendering)
    if is_answered and entry is None and not state.plausible:
        exchange.refuse_unexpected(expectations.unscripted(exchange.recorded, *state.script.latest))
    scripted = exchange.claim(entry) if entry is not None and is_answered else None
    held = await exchange.hold(request.model, request.runner, request.keep_alive)
    if request.is_about_loading:
        return plain(load_body(request.name, "load", state.clock.now_ns, is_generate=request.is_generate))
    if request.is_about_rendering:
        return plain(chats.render_body(request, state.clock.now_ns))
    reply = chats.think_up(request) if scripted is None else await exchange.evaluate(scripted)
    if not reply.is_spoken:
        return as_given(reply, exchange.recorded)
    evaluated = _read(exchange.recorded.outcome, held.loaded, request.prompt)
    occasion = chats.occasion_of(
        request, lambda: state.clock.now_ns, held.load_ns, evaluated, tells_cached=state.tells_cached
    )

    def on_speech(speech: Speech) -> None:
        _remember(exchange.recorded.outcome, held.loaded, request, reply, speech)

    return chats.spoken(request, unparsed(request, reply), state.voice, occasion, on_speech)


def _read(outcome: Outcome, loaded: Loaded, prompt: Prompt) -> int:
    """Let a model read a prompt; give the tokens that it did not know from before."""
    outcome.prompt_tokens, outcome.whole_prompt_tokens = prompt.tokens, prompt.whole_tokens
    outcome.dropped_messages = prompt.dropped
    outcome.evaluated_tokens = loaded.cache.evaluate(prompt.text, prompt.tokens)
    return outcome.evaluated_tokens


def _remember(outcome: Outcome, loaded: Loaded, request: chats.SpokenRequest, reply: Reply, speech: Speech) -> None:
    """Keep what was said for the next turn, unless the window has moved on meanwhile."""
    prompt = request.prompt
    outcome.has_shifted = request.runner.shift and prompt.tokens + speech.tokens > request.runner.cells
    if outcome.has_shifted:
        loaded.cache.forget(prompt.text)
    else:
        loaded.cache.extend(prompt.text, continuation(reply))


async def embed(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/embed`."""
    request = vectors.accept(exchange.recorded, exchange.state.catalogue, exchange.state.context_length)
    if entry is not None:
        return as_given(await exchange.take(entry), exchange.recorded)
    # Without a text, too: that is how an embedding model is loaded ahead of time.
    return plain(await embedded(exchange, request, vectors.embed_body))


async def embeddings(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/embeddings`, the old form."""
    request = vectors.accept_old(exchange.recorded, exchange.state.catalogue, exchange.state.context_length)
    if entry is not None:
        return as_given(await exchange.take(entry), exchange.recorded)
    if not request.texts:
        return plain(vectors.old_body(request))
    return plain(await embedded(exchange, request, lambda request, _load_ns: vectors.old_body(request)))


async def embedded(
    exchange: Exchange, request: vectors.EmbedRequest, write: Callable[[vectors.EmbedRequest, int], bytes]
) -> bytes:
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
