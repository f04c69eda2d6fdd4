"""The prompt of a model: rendered in ChatML whatever its template, counted, and fitted into the window."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from griptape_ollama.testing.models.load_settings import LoadSettings
from griptape_ollama.testing.models.simulated_model import SimulatedModel
from griptape_ollama.testing.script import Reply, normalize_tool_call
from griptape_ollama.testing.wire_format import ErrorResponse, as_list, as_object, as_text, runner_error

_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_TEMPLATE = 3
# Tokens of an image when the server decides which messages to drop, whatever its real number is.
_CHARGED_PER_IMAGE = 768
_DEFAULT_NUM_KEEP = 4
_NO_SHIFT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True)
class RenderedPrompt:
    """The prompt that a model reads.

    Attributes:
        messages: Messages that are left.
        tokens: Their tokens, tools and template included.
        text: The whole text that the model reads.
        tools: Tools in the prompt.
        dropped: Number of messages dropped because the prompt was too long.
        whole_tokens: Tokens before anything was dropped or truncated.
    """

    messages: list[dict[str, Any]]
    tokens: int
    text: str = ""
    tools: Sequence[Any] = ()
    dropped: int = 0
    whole_tokens: int = 0

    @property
    def images(self) -> int:
        """Images in the messages that are left."""
        return sum(len(as_list(message.get("images"))) for message in self.messages)


def drop_messages(
    messages: Sequence[dict[str, Any]], tools: Sequence[Any], model: SimulatedModel, window: int | None
) -> RenderedPrompt:
    """Drop the oldest messages until the rest fits the window, as the server does.

    System messages and the last message stay, even if they are too long.

    Args:
        messages: Messages of the request.
        tools: Tools of the request.
        model: Model of the request.
        window: Window in tokens, None to drop nothing.
    """
    fixed = _TOKENS_PER_TEMPLATE + (model.tokens_of(json.dumps(list(tools))) if tools else 0)
    sizes = [_message_tokens(message, model) for message in messages]
    whole = fixed + sum(sizes)
    charged = [
        size + (_CHARGED_PER_IMAGE - model.tokens_per_image) * len(as_list(message.get("images")))
        for message, size in zip(messages, sizes, strict=True)
    ]
    first = 0
    left = fixed + sum(charged)
    while window is not None and left > window and first < len(messages) - 1:
        left -= charged[first] if messages[first].get("role") != "system" else 0
        first += 1
    kept = [place for place, message in enumerate(messages) if place >= first or message.get("role") == "system"]
    return RenderedPrompt(
        messages=[messages[place] for place in kept],
        tokens=fixed + sum(sizes[place] for place in kept),
        text=cache_text([messages[place] for place in kept], tools),
        tools=tools,
        dropped=len(messages) - len(kept),
        whole_tokens=whole,
    )


def raw_prompt(text: str, images: Sequence[Any], model: SimulatedModel) -> RenderedPrompt:
    """Return a prompt without a template; only the token of its beginning is added."""
    tokens = model.tokens_of(text) + 1 + model.tokens_per_image * len(images)
    return RenderedPrompt([{"role": "user", "content": text, "images": images}], tokens, text, whole_tokens=tokens)


def fit_prompt(
    prompt: RenderedPrompt,
    model: SimulatedModel,
    load_settings: LoadSettings,
    body: Mapping[str, Any],
    *,
    is_chat: bool,
) -> RenderedPrompt:
    """Truncate a prompt that is still too long, or reject it.

    Args:
        prompt: Prompt, after messages were dropped.
        model: Model of the request. The chat of a native one is never truncated.
        load_settings: Settings that it is loaded with.
        body: Body of the request.
        is_chat: Whether it is a chat.

    Raises:
        ErrorResponse: The prompt does not fit and must not, or cannot, be truncated.
    """
    window = load_settings.context_length
    may_cut = body.get("truncate") is not False and not prompt.images and not (is_chat and model.kind == "native")
    if not may_cut:
        if prompt.tokens >= load_settings.allocated_tokens:
            raise _too_long(prompt.tokens, load_settings.allocated_tokens)
        return prompt
    if prompt.tokens < window:
        return prompt
    if not load_settings.shift:
        raise ErrorResponse(400, _NO_SHIFT)
    return _cut(prompt, window, _kept(prompt, window, _option(body, model, "num_keep", _DEFAULT_NUM_KEEP)))


def _kept(prompt: RenderedPrompt, window: int, num_keep: int) -> int:
    """Return the number of tokens to keep at the beginning, the token of the beginning included."""
    return min((num_keep if num_keep >= 0 else prompt.tokens) + 1, window - 1)


def _cut(prompt: RenderedPrompt, window: int, kept: int) -> RenderedPrompt:
    """Remove the middle: the first tokens stay, and the end, in about half of the window."""
    tokens = window - max((window - kept) // 2, 1)
    share = len(prompt.text) / prompt.tokens
    head, tail = int(share * kept), int(share * (tokens - kept))
    messages: list[dict[str, Any]] = []
    left = tail
    for message in reversed(prompt.messages):
        content = as_text(message.get("content"))
        messages.insert(0, {**message, "content": content[-left:] if left else ""})
        left -= len(content)
        if left <= 0:
            break
    text = prompt.text[:head] + prompt.text[len(prompt.text) - tail :]
    return replace(prompt, messages=messages, tokens=tokens, text=text)


def _option(body: Mapping[str, Any], model: SimulatedModel, name: str, default: int) -> int:
    options = as_object(body.get("options"))
    given = [value for value in (options.get(name), model.parameters.get(name)) if value is not None]
    return int(given[0]) if given else default


def _message_tokens(message: Mapping[str, Any], model: SimulatedModel) -> int:
    calls = message.get("tool_calls")
    text = as_text(message.get("content")) + as_text(message.get("thinking")) + (json.dumps(calls) if calls else "")
    return _TOKENS_PER_MESSAGE + model.tokens_of(text) + model.tokens_per_image * len(as_list(message.get("images")))


def _too_long(tokens: int, allocated_tokens: int) -> Exception:
    return runner_error(
        400,
        f"request ({tokens} tokens) exceeds the available context size ({allocated_tokens} tokens), try increasing it",
        "exceed_context_size_error",
        n_prompt_tokens=tokens,
        n_ctx=allocated_tokens,
    )


_IMAGE_MARK = "[img]"
_START, _END = "<|im_start|>", "<|im_end|>\n"


def render_prompt(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
    """Return the text that `_debug_render_only` shows: images are numbered tags, first or in place of `[img]`."""
    return _render(messages, tools, lambda number, _: f"[img-{number}]")


def cache_text(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
    """Return the text that the prompt cache compares: other images give another text."""
    return _render(messages, tools, lambda _, image: f"[img-{zlib.crc32(image.encode()):08x}]")


def render_reply(reply: Reply) -> str:
    """Return the text that a reply appends to the prompt that it answers."""
    text = reply.text if isinstance(reply.text, str) else "".join(reply.text)
    calls = [{"function": normalize_tool_call(call)["function"]} for call in reply.tool_calls]
    return text + _calls(calls)


def _render(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any], mark: Callable[[int, str], str]) -> str:
    offered = "\n\n# Tools\n" + "\n".join(json.dumps(tool) for tool in tools) if tools else ""
    parts: list[str] = []
    images = 0
    if offered and (not messages or messages[0].get("role") != "system"):
        parts.append(f"{_START}system{offered}{_END}")
        offered = ""
    for message in messages:
        marks = [mark(images + place, str(image)) for place, image in enumerate(as_list(message.get("images")))]
        images += len(marks)
        parts.append(f"{_START}{as_text(message.get('role'))}\n{_content(message, marks)}{offered}{_END}")
        offered = ""
    if messages and messages[-1].get("role") == "assistant":
        # The model continues the last message.
        return "".join(parts).removesuffix(_END)
    return "".join(parts) + f"{_START}assistant\n"


def _content(message: Mapping[str, Any], marks: Sequence[str]) -> str:
    content = as_text(message.get("content"))
    before = ""
    for one in marks:
        if _IMAGE_MARK in content:
            content = content.replace(_IMAGE_MARK, one, 1)
        else:
            before += one
    thinking = as_text(message.get("thinking"))
    thought = f"<think>\n{thinking}\n</think>\n\n" if thinking else ""
    return thought + before + content + _calls(as_list(message.get("tool_calls")))


def _calls(calls: Sequence[Any]) -> str:
    functions = [as_object(as_object(call).get("function")) for call in calls]
    texts = [json.dumps({"name": each.get("name"), "arguments": each.get("arguments")}) for each in functions]
    return "".join(f"\n<tool_call>\n{text}\n</tool_call>" for text in texts)
