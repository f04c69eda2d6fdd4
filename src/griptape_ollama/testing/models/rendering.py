"""The text that a model reads, in ChatML, whatever its template says."""

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from griptape_ollama.testing.json_text import as_list, as_object, as_text
from griptape_ollama.testing.script import Reply, normal_call

_PLACE = "[img]"
_START, _END = "<|im_start|>", "<|im_end|>\n"


def rendered(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
    """Write what `_debug_render_only` shows: images are numbered marks, at the start or where `[img]` stands."""
    return _render(messages, tools, lambda number, _: f"[img-{number}]")


def remembered(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
    """Write what the prompt cache compares: other images make another text."""
    return _render(messages, tools, lambda _, image: f"[img-{zlib.crc32(image.encode()):08x}]")


def continuation(reply: Reply) -> str:
    """Write what a reply adds to the prompt that it answers."""
    text = reply.text if isinstance(reply.text, str) else "".join(reply.text)
    calls = [{"function": normal_call(call)["function"]} for call in reply.tool_calls]
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
        # The model goes on with what it is given.
        return "".join(parts).removesuffix(_END)
    return "".join(parts) + f"{_START}assistant\n"


def _content(message: Mapping[str, Any], marks: Sequence[str]) -> str:
    content = as_text(message.get("content"))
    before = ""
    for one in marks:
        if _PLACE in content:
            content = content.replace(_PLACE, one, 1)
        else:
            before += one
    thinking = as_text(message.get("thinking"))
    thought = f"<think>\n{thinking}\n</think>\n\n" if thinking else ""
    return thought + before + content + _calls(as_list(message.get("tool_calls")))


def _calls(calls: Sequence[Any]) -> str:
    functions = [as_object(as_object(call).get("function")) for call in calls]
    texts = [json.dumps({"name": each.get("name"), "arguments": each.get("arguments")}) for each in functions]
    return "".join(f"\n<tool_call>\n{text}\n</tool_call>" for text in texts)
