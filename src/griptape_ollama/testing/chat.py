"""The chat endpoint: from a checked request to the lines of its reply."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from griptape_ollama.testing import brain, validation
from griptape_ollama.testing.chat_lines import Occasion, error_line, load_body, piece_lines, stream_lines, whole_body
from griptape_ollama.testing.journal import RecordedRequest
from griptape_ollama.testing.json_text import as_list, as_object, as_text, encode
from griptape_ollama.testing.memory import Memory
from griptape_ollama.testing.models import Catalogue, SimulatedModel
from griptape_ollama.testing.prompt_size import Prompt, fit_prompt
from griptape_ollama.testing.refusals import Refusal, runner_refusal
from griptape_ollama.testing.schemas import check_schema
from griptape_ollama.testing.script import Reply
from griptape_ollama.testing.speech import CutCall, Voice
from griptape_ollama.testing.wire import Outgoing, plain

NDJSON = "application/x-ndjson"


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A chat request that the server accepts."""

    body: Mapping[str, Any]
    model: SimulatedModel
    keep_alive: float
    window: int
    prompt: Prompt

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
        """Whether there is no message to answer."""
        return not as_list(self.body.get("messages"))

    @property
    def thinks(self) -> bool:
        """Whether the model reasons before it answers."""
        return self.model.can("thinking") and self.body.get("think") is not False


def accept(recorded: RecordedRequest, catalogue: Catalogue, default_window: int) -> ChatRequest:
    """Check a chat request in the order in which the server does.

    Raises:
        Refusal: The server refuses it.
    """
    body = validation.decode_body(recorded.raw, "ChatRequest")
    validation.check_chat(body)
    keep_alive = validation.keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = catalogue.find(name)
    if model is None:
        raise Refusal(404, f"model '{name}' not found")
    messages = [as_object(message) for message in as_list(body.get("messages"))]
    _check_capabilities(body, model, name)
    validation.check_options(as_object(body.get("options")))
    window = window_of(model, as_object(body.get("options")), default_window)
    is_unload = not messages and keep_alive == 0
    if model.load_error is not None and not is_unload:
        raise Refusal(500, model.load_error)
    if not messages:
        return ChatRequest(body=body, model=model, keep_alive=keep_alive, window=window, prompt=Prompt([], 0))
    validation.check_format(body.get("format"))
    if isinstance(body.get("format"), dict):
        check_schema(as_object(body.get("format")), is_native=model.kind == "native")
    _check_images(messages, model)
    truncate = body.get("truncate") is not False
    prompt = fit_prompt(messages, as_list(body.get("tools")), model, window, truncate=truncate)
    return ChatRequest(body=body, model=model, keep_alive=keep_alive, window=window, prompt=prompt)


def window_of(model: SimulatedModel, options: Mapping[str, Any], default: int) -> int:
    """Return the window a request runs with: what it asks for, up to what the model was made for."""
    asked = options.get("num_ctx") or model.parameters.get("num_ctx") or default
    return max(1, min(int(asked), model.context_length))


def load_reply(chat: ChatRequest, memory: Memory) -> Outgoing:
    """Answer a request without messages: the model is loaded, or unloaded with a `keep_alive` of 0."""
    if chat.keep_alive == 0:
        memory.unload(chat.model)
        return plain(load_body(chat.name, "unload"))
    return plain(load_body(chat.name, "load"))


def think_up(chat: ChatRequest) -> Reply:
    """Let the simulator find an answer by itself."""
    return brain.answer(
        chat.prompt.messages,
        [as_object(tool) for tool in as_list(chat.body.get("tools"))],
        chat.body.get("format"),
        thinks=chat.thinks,
    )


def spoken(chat: ChatRequest, reply: Reply, voice: Voice, load_ns: int) -> Outgoing:
    """Let the model say a reply."""
    started = time.time_ns() - load_ns
    logprobs = chat.body.get("top_logprobs") or 0
    occasion = Occasion(
        model=chat.name,
        started=started,
        load_ns=load_ns,
        prompt_tokens=chat.prompt.tokens,
        is_native=chat.model.kind == "native",
        logprobs=int(logprobs) if chat.body.get("logprobs") is True else None,
    )
    try:
        speech = voice.speak(reply, chat.model, chat.options)
    except CutCall as cut:
        if not (chat.streams and cut.pieces):
            raise
        lines = [*piece_lines(cut.pieces, occasion), error_line(cut.message)]
        return Outgoing(content_type=NDJSON, lines=lines, reply=reply)
    if chat.streams:
        return Outgoing(content_type=NDJSON, lines=stream_lines(speech, reply, occasion), reply=reply)
    if reply.error_line is not None:
        text = reply.error_line if isinstance(reply.error_line, str) else reply.error_line[1]
        return plain(encode({"error": text}), reply, status=500)
    return plain(b"" if reply.end_without_done is not False else whole_body(speech, reply, occasion), reply)


def _check_capabilities(body: Mapping[str, Any], model: SimulatedModel, name: str) -> None:
    wanted: list[tuple[str, Callable[[], bool], str]] = [
        ("completion", lambda: True, f'"{name}" does not support chat'),
        ("tools", lambda: bool(body.get("tools")), f"{_registry_name(model)} does not support tools"),
        ("thinking", lambda: body.get("think") not in (None, False), f'"{name}" does not support thinking'),
    ]
    for capability, is_wanted, text in wanted:
        if is_wanted() and not model.can(capability):
            raise Refusal(400, text)


def _registry_name(model: SimulatedModel) -> str:
    missing = ("registry.ollama.ai/library/", "registry.ollama.ai/", "")
    return missing[min(model.full_name.count("/"), 2)] + model.full_name


def _check_images(messages: list[dict[str, Any]], model: SimulatedModel) -> None:
    if model.can("vision") or not any(as_list(message.get("images")) for message in messages):
        return
    if model.kind == "native":
        hint = "hint: if this is unexpected, you may need to provide the mmproj"
        raise runner_refusal(500, f"image input is not supported - {hint}", "server_error")
    raise runner_refusal(400, "Multimodal data provided, but model does not support multimodal requests.")
