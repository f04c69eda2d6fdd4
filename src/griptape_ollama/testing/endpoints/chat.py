"""The chat endpoint, and what it shares with generate: checks, loading and generation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.chat_lines import (
    ReplyMetadata,
    error_line,
    load_body,
    stream_lines,
    token_lines,
    whole_body,
)
from griptape_ollama.testing.models.generation import CutToolCall, GeneratedReply, ReplyGenerator
from griptape_ollama.testing.models.load_settings import LoadSettings, load_settings_for
from griptape_ollama.testing.models.memory import ResidentModel
from griptape_ollama.testing.models.plausible_answers import plausible_answer
from griptape_ollama.testing.models.prompts import (
    RenderedPrompt,
    drop_messages,
    fit_prompt,
    render_prompt,
    render_reply,
)
from griptape_ollama.testing.models.simulated_model import InstalledModels, SimulatedModel
from griptape_ollama.testing.request_context import RequestContext, verbatim_response
from griptape_ollama.testing.request_log import Outcome, exhausted_reason
from griptape_ollama.testing.response_writer import NDJSON, PreparedResponse, body_response
from griptape_ollama.testing.script import Reply, ScriptEntry
from griptape_ollama.testing.validation import check_schema
from griptape_ollama.testing.wire_format import (
    ErrorResponse,
    as_list,
    as_object,
    as_text,
    encode,
    runner_error,
    timestamp,
)

# A reply ends after this many windows, whatever num_predict says.
_WINDOWS_PER_REPLY = 10


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """A chat or generate request that the server accepts.

    Attributes:
        body: Body of the request.
        model: Model of the request.
        keep_alive: Seconds that it stays loaded after the reply; None for no change.
        load_settings: Settings that it is loaded with.
        prompt: Prompt that it reads; without messages where it is only loaded or unloaded.
        is_generate: Whether this is a generate request.
        context: Tokens of an earlier generate reply that this one continues, None for no context.
    """

    body: Mapping[str, Any]
    model: SimulatedModel
    keep_alive: float | None
    load_settings: LoadSettings
    prompt: RenderedPrompt = field(default_factory=lambda: RenderedPrompt([], 0))
    is_generate: bool = False
    context: list[int] | None = None

    @property
    def name(self) -> str:
        """Model name as the request spells it."""
        return as_text(self.body["model"])

    @property
    def streams(self) -> bool:
        """Whether the reply is streamed."""
        return self.body.get("stream") is not False

    @property
    def options(self) -> dict[str, Any]:
        """Model options of the request."""
        return as_object(self.body.get("options"))

    @property
    def only_loads(self) -> bool:
        """Whether the request only loads or unloads the model."""
        return not self.prompt.messages

    @property
    def only_unloads(self) -> bool:
        """Whether the request unloads the model."""
        return self.only_loads and self.keep_alive == 0

    @property
    def only_renders(self) -> bool:
        """Whether the request only returns the rendered prompt."""
        return not self.only_loads and self.body.get("_debug_render_only") is True

    @property
    def thinks(self) -> bool:
        """Whether the model reasons before it answers."""
        return self.model.can("thinking") and self.body.get("think") is not False

    @property
    def tools(self) -> list[dict[str, Any]]:
        """Tools that the request offers."""
        return [as_object(tool) for tool in as_list(self.body.get("tools"))]

    @property
    def max_tokens(self) -> int:
        """Largest number of generated tokens: the rest of a window without shift, otherwise several windows."""
        longest = _WINDOWS_PER_REPLY * self.load_settings.context_length
        return (
            longest
            if self.load_settings.shift
            else min(longest, max(1, self.load_settings.allocated_tokens - self.prompt.tokens))
        )


async def chat(context: RequestContext, entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/chat`."""
    body = validation.decode_body(context.recorded.raw, "ChatRequest")
    state = context.state
    return await respond(context, entry, parse_chat_request(body, state.installed, state.context_length))


async def respond(context: RequestContext, entry: ScriptEntry | None, request: GenerationRequest) -> PreparedResponse:
    """Load the model, wait for a slot, and send the scripted reply or a plausible one."""
    state = context.state
    if request.only_unloads:
        state.memory.unload(request.model)
        return body_response(load_body(request.name, "unload", state.clock.now_ns, is_generate=request.is_generate))
    generates = not (request.only_loads or request.only_renders)
    if generates and entry is None and not state.plausible:
        context.reject_unexpected(exhausted_reason(context.recorded, *state.script.latest))
    scripted = context.take_scripted(entry) if entry is not None and generates else None
    reservation = await context.acquire_model(request.model, request.load_settings, request.keep_alive)
    if request.only_loads:
        return body_response(load_body(request.name, "load", state.clock.now_ns, is_generate=request.is_generate))
    if request.only_renders:
        return body_response(rendered_prompt_body(request, state.clock.now_ns))
    reply = plausible_reply(request) if scripted is None else await context.resolve_reply(scripted)
    if not reply.is_spoken:
        return verbatim_response(reply, context.recorded)
    evaluated = _evaluate_prompt(context.recorded.outcome, reservation.loaded, request.prompt)
    metadata = reply_metadata(
        request, lambda: state.clock.now_ns, reservation.load_ns, evaluated, reports_cached=state.reports_cached
    )

    def on_generated(generated: GeneratedReply) -> None:
        _update_prompt_cache(context.recorded.outcome, reservation.loaded, request, reply, generated)

    return generated_response(request, with_inline_thinking(request, reply), state.generator, metadata, on_generated)


def parse_chat_request(body: dict[str, Any], installed: InstalledModels, default_window: int) -> GenerationRequest:
    """Check a chat request in the order in which the server does.

    Raises:
        ErrorResponse: The server rejects it.
    """
    validation.check_chat(body, think_levels(body, installed))
    keep_alive = validation.parse_keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = installed.find(name)
    if model is None:
        raise ErrorResponse(404, f"model '{name}' not found")
    messages = [as_object(message) for message in as_list(body.get("messages"))]
    if not messages and keep_alive == 0:
        # Unloads models of any kind, also those without chat.
        load_settings = LoadSettings(context_length=default_window)
        return GenerationRequest(body=body, model=model, keep_alive=keep_alive, load_settings=load_settings)
    _check_capabilities(body, model, name)
    validation.check_options(model.parameters)
    validation.check_options(as_object(body.get("options")))
    load_settings = load_settings_for(model, body, default_window)
    request = GenerationRequest(body=body, model=model, keep_alive=keep_alive, load_settings=load_settings)
    if model.load_error is not None:
        raise ErrorResponse(500, model.load_error)
    if not messages:
        return request
    system = [{"role": "system", "content": model.system}] if model.system else []
    if messages[0].get("role") == "system":
        system = []
    whole = [*system, *map(dict, model.messages), *messages]
    return replace(request, prompt=build_prompt(request, whole))


def build_prompt(request: GenerationRequest, messages: list[dict[str, Any]]) -> RenderedPrompt:
    """Check the messages and the format of a request, and fit the messages into the window.

    Raises:
        ErrorResponse: The model does not support them, or the prompt does not fit.
    """
    body, model, load_settings = request.body, request.model, request.load_settings
    window = load_settings.context_length if body.get("truncate") is not False else None
    prompt = drop_messages(messages, as_list(body.get("tools")), model, window)
    if body.get("_debug_render_only") is True:
        # The process that runs the model does not get it, and nothing truncates it.
        return prompt
    check_generation(request, messages)
    return fit_prompt(prompt, model, load_settings, body, is_chat=not request.is_generate)


def check_generation(request: GenerationRequest, messages: list[dict[str, Any]]) -> None:
    """Check the format of the reply and the images of the messages.

    Raises:
        ErrorResponse: The model does not support them.
    """
    form = request.body.get("format")
    validation.check_format(form)
    if isinstance(form, dict):
        check_schema(as_object(form), is_native=request.model.kind == "native")  # pyright: ignore[reportUnknownArgumentType]
    _check_images(messages, request.model)


def plausible_reply(request: GenerationRequest) -> Reply:
    """Return a plausible reply to a request."""
    return plausible_answer(request.prompt.messages, request.tools, request.body.get("format"), thinks=request.thinks)


def reply_metadata(
    request: GenerationRequest, now: Callable[[], int], load_ns: int, evaluated: int, *, reports_cached: bool = False
) -> ReplyMetadata:
    """Return what the lines of a reply contain besides the generated tokens."""
    logprobs = request.body.get("top_logprobs") or 0
    return ReplyMetadata(
        model=request.name,
        now=now,
        started=now() - load_ns,
        load_ns=load_ns,
        prompt_tokens=request.prompt.tokens,
        evaluated_tokens=evaluated,
        reports_cached=reports_cached,
        is_native=request.model.kind == "native",
        is_generate=request.is_generate,
        context=request.context,
        logprobs=int(logprobs) if request.body.get("logprobs") is True else None,
    )


def rendered_prompt_body(request: GenerationRequest, now: int) -> bytes:
    """Build the reply with the rendered prompt."""
    prompt = request.prompt
    is_raw = request.is_generate and request.body.get("raw") is True
    text = prompt.text if is_raw else render_prompt(prompt.messages, prompt.tools)
    fields = {"response": ""} if request.is_generate else {"message": {"role": "", "content": ""}}
    shown = {"rendered_template": text, **({"image_count": prompt.images} if prompt.images else {})}
    head = {"model": request.name, "created_at": timestamp(now)}
    return encode({**head, **fields, "done": False, "_debug_info": shown})


def generated_response(
    request: GenerationRequest,
    reply: Reply,
    generator: ReplyGenerator,
    metadata: ReplyMetadata,
    on_generated: Callable[[GeneratedReply], None],
) -> PreparedResponse:
    """Generate a reply and build its response.

    Args:
        request: The request.
        reply: Scripted or plausible reply.
        generator: Generator of the simulator, which numbers tool calls.
        metadata: What the lines contain besides the generated tokens.
        on_generated: Called with the generated reply before any of it is sent.
    """
    try:
        generated = generator.generate(reply, request.model, request.options, request.max_tokens)
    except CutToolCall as cut:
        if not (request.streams and cut.pieces):
            raise
        lines = [*token_lines(cut.pieces, metadata), error_line(cut.message)]
        return PreparedResponse(content_type=NDJSON, lines=lines, reply=reply)
    on_generated(generated)
    if request.streams:
        return PreparedResponse(content_type=NDJSON, lines=stream_lines(generated, reply, metadata), reply=reply)
    if reply.error_line is not None:
        text = reply.error_line if isinstance(reply.error_line, str) else reply.error_line[1]
        return body_response(encode({"error": text}), reply, status=500)
    return body_response(b"" if reply.end_without_done is not False else whole_body(generated, reply, metadata), reply)


def think_levels(body: Mapping[str, Any], installed: InstalledModels) -> Sequence[str]:
    """Return the think levels that the model of a request has."""
    model = installed.get(as_text(body.get("model")))
    return validation.THINK_LEVELS if model is None or model.think_levels is None else model.think_levels


def qualified_name(model: SimulatedModel) -> str:
    """Return the name of a model with the default host and namespace."""
    missing = ("registry.ollama.ai/library/", "registry.ollama.ai/", "")
    return missing[min(model.full_name.count("/"), 2)] + model.full_name


def _check_capabilities(body: Mapping[str, Any], model: SimulatedModel, name: str) -> None:
    wanted: list[tuple[str, Callable[[], bool], str]] = [
        ("completion", lambda: True, f'"{name}" does not support chat'),
        ("tools", lambda: bool(body.get("tools")), f"{qualified_name(model)} does not support tools"),
        ("thinking", lambda: body.get("think") not in (None, False), f'"{name}" does not support thinking'),
    ]
    for capability, is_wanted, text in wanted:
        if is_wanted() and not model.can(capability):
            raise ErrorResponse(400, text)


def _check_images(messages: list[dict[str, Any]], model: SimulatedModel) -> None:
    if model.can("vision") or not any(as_list(message.get("images")) for message in messages):
        return
    if model.kind == "native":
        hint = "hint: if this is unexpected, you may need to provide the mmproj"
        raise runner_error(500, f"image input is not supported - {hint}", "server_error")
    raise runner_error(400, "Multimodal data provided, but model does not support multimodal requests.")


def with_inline_thinking(request: GenerationRequest, reply: Reply) -> Reply:
    """Return a reply as generate sends it, where the thinking of a native model stays inline."""
    if not (request.is_generate and request.model.kind == "native" and reply.thinking):
        return reply
    thinking = [reply.thinking] if isinstance(reply.thinking, str) else reply.thinking
    text = [reply.text] if isinstance(reply.text, str) else reply.text
    output: Sequence[str] = ["<think>\n", *thinking, "</think>\n\n", *text]
    return replace(reply, thinking="", text=output)


def _evaluate_prompt(outcome: Outcome, loaded: ResidentModel, prompt: RenderedPrompt) -> int:
    """Record the sizes of a prompt, and return the number of its tokens that the prompt cache does not have."""
    outcome.prompt_tokens, outcome.whole_prompt_tokens = prompt.tokens, prompt.whole_tokens
    outcome.dropped_messages = prompt.dropped
    outcome.evaluated_tokens = loaded.cache.evaluate(prompt.text, prompt.tokens)
    return outcome.evaluated_tokens


def _update_prompt_cache(
    outcome: Outcome, loaded: ResidentModel, request: GenerationRequest, reply: Reply, generated: GeneratedReply
) -> None:
    """Add the reply to the prompt cache, unless the window was shifted meanwhile."""
    prompt = request.prompt
    outcome.has_shifted = (
        request.load_settings.shift and prompt.tokens + generated.tokens > request.load_settings.allocated_tokens
    )
    if outcome.has_shifted:
        loaded.cache.forget(prompt.text)
    else:
        loaded.cache.extend(prompt.text, render_reply(reply))
