"""The prompt stack as chat messages. Nothing is dropped."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from griptape.artifacts import (
    AudioArtifact,
    BaseArtifact,
    GenericArtifact,
    ImageArtifact,
    ImageUrlArtifact,
    ModelArtifact,
    VideoUrlArtifact,
)
from griptape.common import (
    ActionCallMessageContent,
    ActionResultMessageContent,
    BaseMessageContent,
    ImageMessageContent,
    Message,
    TextMessageContent,
)

from griptape_ollama.conversion.images import leaves_of, to_base64
from griptape_ollama.conversion.tool_history import ToolTurn, complete_turn, to_tool_call, to_tool_result
from griptape_ollama.errors import OllamaContentError

_SUPPORTED = "Ollama takes text, images, tool calls and tool results"
_NOT_TEXT: tuple[type[BaseArtifact], ...] = (AudioArtifact, VideoUrlArtifact, GenericArtifact)
_ROLE_AND_CONTENT = 2  # keys of a message without images and calls
_SEPARATOR = "\n\n"  # as ListArtifact.to_text has it


def to_chat_groups(
    messages: Iterable[Message],
    *,
    find_turn: Callable[[str], ToolTurn | None] = lambda _: None,
    fetched: Mapping[str, bytes] | None = None,
    reads_images: bool = True,
) -> list[list[dict[str, Any]]]:
    """Convert messages, in order, and keep apart what each of them becomes.

    Each tool result becomes a message of its own (role `tool`). Results come before everything else in the same
    message, since models expect them right after the calls that they answer. The texts of one message are joined as
    `Message.to_text` joins them.

    Args:
        messages: The messages.
        find_turn: Finds a turn by the tag of one of its calls.
        fetched: Images by their URLs.
        reads_images: False replaces each image by an empty text, for a model without vision, and for a check of
            everything else.

    Raises:
        OllamaContentError: A message holds something that Ollama cannot carry.
    """
    read_image = functools.partial(to_base64, fetched=fetched or {}) if reads_images else _unread
    return [list(_to_chat_messages(message, find_turn, read_image)) for message in messages]


def merge_system_messages(groups: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Merge all system messages into one, in order, and place it first, in the first group.

    Templates of newer models (Qwen 3.5) refuse a second system message, and one after another message.
    """
    system = [message for group in groups for message in group if message["role"] == Message.SYSTEM_ROLE]
    if not system or (len(system) == 1 and groups[0] and groups[0][0] is system[0]):
        return groups
    merged: dict[str, Any] = {
        "role": Message.SYSTEM_ROLE,
        "content": _SEPARATOR.join(message["content"] for message in system if message["content"]),
    }
    if images := [image for message in system for image in message.get("images", ())]:
        merged["images"] = images
    first, *rest = ([message for message in group if message["role"] != Message.SYSTEM_ROLE] for group in groups)
    return [[merged, *first], *rest]


def replace_images(message: dict[str, Any]) -> dict[str, Any]:
    """Replace the images of a message by text, for a model without vision."""
    images = message["images"]
    count = len(cast("list[Any]", images)) if isinstance(images, list) else 1
    words = "An image was" if count == 1 else f"{count} images were"
    notice = f"[{words} left out: this model cannot see images.]"
    content = message.get("content")
    rest = {name: value for name, value in message.items() if name != "images"}
    return {**rest, "content": f"{content}{_SEPARATOR}{notice}" if content else notice}


def _unread(_: BaseArtifact) -> str:
    return ""


def _to_chat_messages(
    message: Message, find_turn: Callable[[str], ToolTurn | None], read_image: Callable[[BaseArtifact], str]
) -> Iterator[dict[str, Any]]:
    results = [content for content in message.content if isinstance(content, ActionResultMessageContent)]
    if not results:
        chat_message = _to_chat_message(message.role, message.content, read_image)
        turn = find_turn(chat_message["tool_calls"][0]["id"]) if "tool_calls" in chat_message else None
        yield from [chat_message] if turn is None else complete_turn(chat_message, turn)
        return
    yield from (_to_tool_message(result, read_image) for result in results)
    no_results = [content for content in message.content if not isinstance(content, ActionResultMessageContent)]
    rest = _to_chat_message(message.role, no_results, read_image)
    if len(rest) > _ROLE_AND_CONTENT or rest["content"]:
        yield rest


def _to_chat_message(
    role: str, contents: Iterable[BaseMessageContent], read_image: Callable[[BaseArtifact], str]
) -> dict[str, Any]:
    texts: list[str] = []
    images: list[str] = []
    calls: list[dict[str, Any]] = []
    for content in contents:
        if isinstance(content, TextMessageContent):
            texts.append(content.artifact.to_text())
        elif isinstance(content, ImageMessageContent):
            images.append(read_image(content.artifact))
        elif isinstance(content, ActionCallMessageContent):
            calls.append(_to_tool_call(content, len(calls)))
        elif isinstance(content.artifact, ModelArtifact):
            texts.append(content.artifact.to_text())  # a structured answer of an earlier task
        else:
            raise _unsupported(content.artifact)
    message: dict[str, Any] = {"role": role, "content": "".join(texts)}
    if images:
        message["images"] = images
    if calls:
        message["tool_calls"] = calls
    return message


def _to_tool_call(content: ActionCallMessageContent, index: int) -> dict[str, Any]:
    action: Any = content.artifact.value
    return to_tool_call(action.tag, action.to_native_tool_name(), action.input or {}, index)


def _to_tool_message(content: ActionResultMessageContent, read_image: Callable[[BaseArtifact], str]) -> dict[str, Any]:
    texts: list[str] = []
    images: list[str] = []
    for artifact in leaves_of(content.artifact):
        if isinstance(artifact, (ImageArtifact, ImageUrlArtifact)):
            images.append(read_image(artifact))
        elif isinstance(artifact, _NOT_TEXT) and not isinstance(artifact, ModelArtifact):
            raise _unsupported(artifact)
        else:
            texts.append(_text_of(artifact))
    message = to_tool_result(content.action.tag, content.action.to_native_tool_name(), _SEPARATOR.join(texts))
    if images:
        message["images"] = images
    return message


def _text_of(artifact: BaseArtifact) -> str:
    try:
        return artifact.to_text()
    except UnicodeDecodeError as error:
        raise OllamaContentError(f"{type(artifact).__name__} {artifact.name!r} is no text: {_SUPPORTED}.") from error


def _unsupported(artifact: object) -> OllamaContentError:
    return OllamaContentError(f"{type(artifact).__name__} cannot be sent: {_SUPPORTED}.")
