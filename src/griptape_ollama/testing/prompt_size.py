"""How many tokens a prompt has, and what of it still fits the window."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from griptape_ollama.testing.json_text import as_list, as_text
from griptape_ollama.testing.models import SimulatedModel
from griptape_ollama.testing.refusals import Refusal, runner_refusal

_CHARACTERS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_TEMPLATE = 3
_TOKENS_PER_IMAGE = 256
# The process that runs a model rounds its window up to a multiple of this.
_CELLS = 256
_NO_SHIFT = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, "
    "adjust the context length in settings, or use a model with a longer context length"
)


@dataclass(frozen=True)
class Prompt:
    """What the model gets to see.

    Attributes:
        messages: Messages that are left.
        tokens: Their tokens, tools and template included.
        text: All that the model reads, in one piece.
    """

    messages: list[dict[str, Any]]
    tokens: int
    text: str = ""


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text."""
    return -(-len(text) // _CHARACTERS_PER_TOKEN)


def fit_prompt(
    messages: Sequence[dict[str, Any]],
    tools: Sequence[Any],
    model: SimulatedModel,
    window: int,
    *,
    truncate: bool,
    shift: bool = True,
    raw: bool = False,
) -> Prompt:
    """Fit a prompt into the window as the server does: old messages go first, then the front of the last one.

    Args:
        messages: Messages of the request.
        tools: Tools of the request.
        model: Model that is asked; a native one rejects a single message that is too long.
        window: Window in tokens.
        truncate: Whether anything may go.
        shift: Whether the window may move on; if not, a prompt that is too long is refused rather than cut.
        raw: Whether neither template nor system prompt is added.

    Raises:
        Refusal: The prompt does not fit and must not, or cannot, be cut.
    """
    messages = list(messages)
    if model.system and not raw and not any(message.get("role") == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": model.system})
    offered = json.dumps(list(tools)) if tools else ""
    fixed = _TOKENS_PER_TEMPLATE + count_tokens(offered)
    sizes = [_message_tokens(message) for message in messages]
    total = fixed + sum(sizes)
    if total <= window:
        return Prompt(messages, total, _text(offered, messages))
    if not truncate:
        raise _too_long(total, window)
    kept = [
        (message, size)
        for place, (message, size) in enumerate(zip(messages, sizes, strict=True))
        if message.get("role") == "system" or fixed + sum(sizes[place:]) <= window or place == len(messages) - 1
    ]
    total = fixed + sum(size for _, size in kept)
    if total <= window:
        left = [message for message, _ in kept]
        return Prompt(left, total, _text(offered, left))
    if model.kind == "native":
        raise _too_long(total, window)
    if not shift:
        raise Refusal(400, _NO_SHIFT)
    # The recorded server halves the window for what is left of an overlong prompt.
    half = window // 2
    last = dict(kept[-1][0])
    last["content"] = as_text(last.get("content"))[-half * _CHARACTERS_PER_TOKEN :]
    return Prompt([last], half + _TOKENS_PER_TEMPLATE, _text("", [last]))


def room_left(prompt: Prompt, window: int) -> int:
    """Return how many tokens fit behind a prompt while the window does not move on."""
    return max(1, -(-window // _CELLS) * _CELLS - prompt.tokens)


def _text(offered: str, messages: Sequence[Mapping[str, Any]]) -> str:
    return offered + "".join(
        f"<{message.get('role')}>{as_text(message.get('thinking'))}{as_text(message.get('content'))}"
        f"{json.dumps(message['tool_calls']) if message.get('tool_calls') else ''}"
        f"{''.join(map(str, as_list(message.get('images'))))}"
        for message in messages
    )


def _message_tokens(message: Mapping[str, Any]) -> int:
    calls = message.get("tool_calls")
    text = as_text(message.get("content")) + as_text(message.get("thinking")) + (json.dumps(calls) if calls else "")
    return _TOKENS_PER_MESSAGE + count_tokens(text) + _TOKENS_PER_IMAGE * len(as_list(message.get("images")))


def _too_long(tokens: int, window: int) -> Exception:
    return runner_refusal(
        400,
        f"request ({tokens} tokens) exceeds the available context size ({window} tokens), try increasing it",
        "exceed_context_size_error",
        n_prompt_tokens=tokens,
        n_ctx=window,
    )
