"""The chat endpoint: what it accepts, and how a model answers it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.chat_lines import Occasion, error_line, load_body, piece_lines, stream_lines, whole_body
from griptape_ollama.testing.models import plausible_answers as brain
from griptape_ollama.testing.models.generation import CutCall, Speech, Voice
from griptape_ollama.testing.models.load_settings import Runner, runner_for
from griptape_ollama.testing.models.memory import Loaded
from griptape_ollama.testing.models.prompts import Prompt, continuation, drop_messages, fit, rendered
from griptape_ollama.testing.models.simulated_model import Catalogue, SimulatedModel
from griptape_ollama.testing.request_context import Exchange, as_given
from griptape_ollama.testing.request_log import Outcome, unscripted
from griptape_ollama.testing.response_writer import Outgoing, plain
from griptape_ollama.testing.script import Entry, Reply
from griptape_ollama.testing.validation import check_schema
from griptape_ollama.testing.wire_format import Refusal, as_list, as_object, as_text, encode, runner_refusal, timestamp

NDJSON = "application/x-ndjson"
# A reply ends after this many windows, whatever num_predict says.
_WINDOWS_PER_REPLY = 10


@dataclass(frozen=True, kw_only=True)
class SpokenRequest:
    """A chat or generate request that the server accepts.

    Attributes:
        body: Body of the request.
        model: Model that is asked.
        keep_alive: Seconds that it stays loaded after the reply; None leaves that as it is.
        runner: What it is to be loaded with.
        prompt: What it gets to see; no messages where it is only loaded or unloaded.
        is_generate: Whether this is a generate request.
        context: Tokens of an earlier generate reply that this one goes on from, None for no context at all.
    """

    body: Mapping[str, Any]
    model: SimulatedModel
    keep_alive: float | None
    runner: Runner
    prompt: Prompt = field(default_factory=lambda: Prompt([], 0))
    is_generate: bool = False
    context: list[int] | None = None

    @property
    def name(self) -> str:
        """Model name as the request spells it."""
        return as_text(self.body["model"])

    @property
    def streams(self) -> bool:
        """Whether the reply comes in lines."""
        return self.body.get("stream") is not False

    @property
    def options(self) -> dict[str, Any]:
        """Model options of the request."""
        return as_object(self.body.get("options"))

    @property
    def is_about_loading(self) -> bool:
        """Whether there is nothing to answer."""
        return not self.prompt.messages

    @property
    def is_about_unloading(self) -> bool:
        """Whether the model is to go."""
        return self.is_about_loading and self.keep_alive == 0

    @property
    def is_about_rendering(self) -> bool:
        """Whether the prompt is only to be shown."""
        return not self.is_about_loading and self.body.get("_debug_render_only") is True

    @property
    def thinks(self) -> bool:
        """Whether the model reasons before it answers."""
        return self.model.can("thinking") and self.body.get("think") is not False

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Tools that the request offers."""
        return [as_object(tool) for tool in as_list(self.body.get("tools"))]

    @property
    def room(self) -> int:
        """Tokens that the reply may have: what is left of a window that does not move on, or else several windows."""
        longest = _WINDOWS_PER_REPLY * self.runner.context_length
        return longest if self.runner.shift else min(longest, max(1, self.runner.cells - self.prompt.tokens))


async def chat(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/chat`."""
    body = validation.decode_body(exchange.recorded.raw, "ChatRequest")
    state = exchange.state
    return await answer(exchange, entry, accept_chat(body, state.catalogue, state.context_length))


async def answer(exchange: Exchange, entry: Entry | None, request: SpokenRequest) -> Outgoing:
    """Load a model, wait for its turn, and let it say what is scripted or what it finds by itself."""
    state = exchange.state
    if request.is_about_unloading:
        state.memory.unload(request.model)
        return plain(load_body(request.name, "unload", state.clock.now_ns, is_generate=request.is_generate))
    is_answered = not (request.is_about_loading or request.is_about_rendering)
    if is_answered and entry is None and not state.plausible:
        exchange.refuse_unexpected(unscripted(exchange.recorded, *state.script.latest))
    scripted = exchange.claim(entry) if entry is not None and is_answered else None
    held = await exchange.hold(request.model, request.runner, request.keep_alive)
    if request.is_about_loading:
        return plain(load_body(request.name, "load", state.clock.now_ns, is_generate=request.is_generate))
    if request.is_about_rendering:
        return plain(render_body(request, state.clock.now_ns))
    reply = think_up(request) if scripted is None else await exchange.evaluate(scripted)
    if not reply.is_spoken:
        return as_given(reply, exchange.recorded)
    evaluated = _read_prompt(exchange.recorded.outcome, held.loaded, request.prompt)
    occasion = occasion_of(
        request, lambda: state.clock.now_ns, held.load_ns, evaluated, tells_cached=state.tells_cached
    )

    def on_speech(speech: Speech) -> None:
        _remember(exchange.recorded.outcome, held.loaded, request, reply, speech)

    return spoken(request, unparsed(request, reply), state.voice, occasion, on_speech)


def accept_chat(body: dict[str, Any], catalogue: Catalogue, default_window: int) -> SpokenRequest:
    """Check a chat request in the order in which the server does.

    Raises:
        Refusal: The server refuses it.
    """
    validation.check_chat(body, think_levels(body, catalogue))
    keep_alive = validation.keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = catalogue.find(name)
    if model is None:
        raise Refusal(404, f"model '{name}' not found")
    messages = [as_object(message) for message in as_list(body.get("messages"))]
    if not messages and keep_alive == 0:
        # Unloads models of any kind, also those that cannot chat.
        runner = Runner(context_length=default_window)
        return SpokenRequest(body=body, model=model, keep_alive=keep_alive, runner=runner)
    _check_capabilities(body, model, name)
    validation.check_options(model.parameters)
    validation.check_options(as_object(body.get("options")))
    runner = runner_for(model, body, default_window)
    request = SpokenRequest(body=body, model=model, keep_alive=keep_alive, runner=runner)
    if model.load_error is not None:
        raise Refusal(500, model.load_error)
    if not messages:
        return request
    system = [{"role": "system", "content": model.system}] if model.system else []
    if messages[0].get("role") == "system":
        system = []
    whole = [*system, *map(dict, model.messages), *messages]
    return replace(request, prompt=read_prompt(request, whole))


def read_prompt(request: SpokenRequest, messages: list[dict[str, Any]]) -> Prompt:
    """Check what a model is to read and to write, and fit it into the window.

    Args:
        request: The request, still without a prompt.
        messages: Messages that its model is to read.

    Raises:
        Refusal: The model cannot read it, write it, or hold it.
    """
    body, model, runner = request.body, request.model, request.runner
    window = runner.context_length if body.get("truncate") is not False else None
    prompt = drop_messages(messages, as_list(body.get("tools")), model, window)
    if body.get("_debug_render_only") is True:
        # Neither the process that runs the model nor what cuts the prompt for it gets to see it.
        return prompt
    check_task(request, messages)
    return fit(prompt, model, runner, body, is_chat=not request.is_generate)


def check_task(request: SpokenRequest, messages: list[dict[str, Any]]) -> None:
    """Check what a model is to read and to write.

    Raises:
        Refusal: The model cannot read or write it.
    """
    form = request.body.get("format")
    validation.check_format(form)
    if isinstance(form, dict):
        check_schema(as_object(form), is_native=request.model.kind == "native")  # pyright: ignore[reportUnknownArgumentType]
    _check_images(messages, request.model)


def think_up(request: SpokenRequest) -> Reply:
    """Let the simulator find an answer by itself."""
    return brain.answer(request.prompt.messages, request.tools, request.body.get("format"), thinks=request.thinks)


def occasion_of(
    request: SpokenRequest, now: Callable[[], int], load_ns: int, evaluated: int, *, tells_cached: bool = False
) -> Occasion:
    """Gather what the lines of a reply show of its request."""
    logprobs = request.body.get("top_logprobs") or 0
    return Occasion(
        model=request.name,
        now=now,
        started=now() - load_ns,
        load_ns=load_ns,
        prompt_tokens=request.prompt.tokens,
        evaluated_tokens=evaluated,
        tells_cached=tells_cached,
        is_native=request.model.kind == "native",
        is_generate=request.is_generate,
        context=request.context,
        logprobs=int(logprobs) if request.body.get("logprobs") is True else None,
    )


def render_body(request: SpokenRequest, now: int) -> bytes:
    """Make the reply to a request whose prompt is only to be shown."""
    prompt = request.prompt
    is_raw = request.is_generate and request.body.get("raw") is True
    text = prompt.text if is_raw else rendered(prompt.messages, prompt.tools)
    said = {"response": ""} if request.is_generate else {"message": {"role": "", "content": ""}}
    shown = {"rendered_template": text, **({"image_count": prompt.images} if prompt.images else {})}
    head = {"model": request.name, "created_at": timestamp(now)}
    return encode({**head, **said, "done": False, "_debug_info": shown})


def spoken(
    request: SpokenRequest, reply: Reply, voice: Voice, occasion: Occasion, on_speech: Callable[[Speech], None]
) -> Outgoing:
    """Let the model say a reply.

    Args:
        request: The request.
        reply: What to say.
        voice: Who numbers the tool calls.
        occasion: What the lines show of the request.
        on_speech: Called with what is said in the end, before any of it is sent.
    """
    try:
        speech = voice.speak(reply, request.model, request.options, request.room)
    except CutCall as cut:
        if not (request.streams and cut.pieces):
            raise
        lines = [*piece_lines(cut.pieces, occasion), error_line(cut.message)]
        return Outgoing(content_type=NDJSON, lines=lines, reply=reply)
    on_speech(speech)
    if request.streams:
        return Outgoing(content_type=NDJSON, lines=stream_lines(speech, reply, occasion), reply=reply)
    if reply.error_line is not None:
        text = reply.error_line if isinstance(reply.error_line, str) else reply.error_line[1]
        return plain(encode({"error": text}), reply, status=500)
    return plain(b"" if reply.end_without_done is not False else whole_body(speech, reply, occasion), reply)


def think_levels(body: Mapping[str, Any], catalogue: Catalogue) -> Sequence[str]:
    """Return the levels of thinking that the model of a request knows."""
    model = catalogue.get(as_text(body.get("model")))
    return validation.THINK_LEVELS if model is None or model.think_levels is None else model.think_levels


def registry_name(model: SimulatedModel) -> str:
    """Return a model's name with the host and the folder that it leaves out."""
    missing = ("registry.ollama.ai/library/", "registry.ollama.ai/", "")
    return missing[min(model.full_name.count("/"), 2)] + model.full_name


def _check_capabilities(body: Mapping[str, Any], model: SimulatedModel, name: str) -> None:
    wanted: list[tuple[str, Callable[[], bool], str]] = [
        ("completion", lambda: True, f'"{name}" does not support chat'),
        ("tools", lambda: bool(body.get("tools")), f"{registry_name(model)} does not support tools"),
        ("thinking", lambda: body.get("think") not in (None, False), f'"{name}" does not support thinking'),
    ]
    for capability, is_wanted, text in wanted:
        if is_wanted() and not model.can(capability):
            raise Refusal(400, text)


def _check_images(messages: list[dict[str, Any]], model: SimulatedModel) -> None:
    if model.can("vision") or not any(as_list(message.get("images")) for message in messages):
        return
    if model.kind == "native":
        hint = "hint: if this is unexpected, you may need to provide the mmproj"
        raise runner_refusal(500, f"image input is not supported - {hint}", "server_error")
    raise runner_refusal(400, "Multimodal data provided, but model does not support multimodal requests.")


def unparsed(request: SpokenRequest, reply: Reply) -> Reply:
    """Return a reply as generate gives it: nobody parses what a native model says."""
    if not (request.is_generate and request.model.kind == "native" and reply.thinking):
        return reply
    thinking = [reply.thinking] if isinstance(reply.thinking, str) else reply.thinking
    text = [reply.text] if isinstance(reply.text, str) else reply.text
    said: Sequence[str] = ["<think>\n", *thinking, "</think>\n\n", *text]
    return replace(reply, thinking="", text=said)


def _read_prompt(outcome: Outcome, loaded: Loaded, prompt: Prompt) -> int:
    """Let a model read a prompt; give the tokens that it did not know from before."""
    outcome.prompt_tokens, outcome.whole_prompt_tokens = prompt.tokens, prompt.whole_tokens
    outcome.dropped_messages = prompt.dropped
    outcome.evaluated_tokens = loaded.cache.evaluate(prompt.text, prompt.tokens)
    return outcome.evaluated_tokens


def _remember(outcome: Outcome, loaded: Loaded, request: SpokenRequest, reply: Reply, speech: Speech) -> None:
    """Keep what was said for the next turn, unless the window has moved on meanwhile."""
    prompt = request.prompt
    outcome.has_shifted = request.runner.shift and prompt.tokens + speech.tokens > request.runner.cells
    if outcome.has_shifted:
        loaded.cache.forget(prompt.text)
    else:
        loaded.cache.extend(prompt.text, continuation(reply))
