"""A simulator with the models and replies of the recorded server."""

import json
from datetime import datetime
from functools import cache
from pathlib import Path

from griptape_ollama.testing import Reply, SimulatedModel

RECORDINGS = Path(__file__).parent / "recordings" / "0.33.0-rc2"
REGISTRY = "127.0.0.1:9321/library/"
_PULL_BYTES_PER_SECOND = 300_000_000


@cache
def load(name):
    return json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))


def installed():
    """Return the models of the recorded server."""
    return [model for model in _listed() if not model.name.startswith(REGISTRY)]


def registry():
    """Return the models of the registry that it pulled from."""
    return [model for model in _listed() if model.name.startswith(REGISTRY)]


def _listed():
    native = ("tiny-native",)
    builtin = ("tiny-qwen3",)
    recorded = [*load("tags")["response"]["body"]["models"], *load("tags_pulled")["response"]["body"]["models"]]
    broken = load("load_fails_nostream")["response"]["body"]["error"]
    for entry in recorded:
        name = entry["name"].removesuffix(":latest")
        details = entry["details"]
        is_chat = name.endswith("tiny-chat")
        yield SimulatedModel(
            name=name,
            capabilities=["tools", "thinking", "completion"] if name in native else entry["capabilities"],
            kind="native" if name in native else "builtin" if name in builtin else "go_template",
            context_length=details["context_length"],
            embedding_length=details["embedding_length"],
            family=details["family"],
            parameter_size=details["parameter_size"],
            quantization_level=details["quantization_level"],
            size=entry["size"],
            modified_at=int(datetime.fromisoformat(entry["modified_at"][:26]).timestamp() * 1e9),
            parameters={"temperature": 0} if is_chat else {},
            system="You are tiny." if is_chat else None,
            load_error=broken if name == "tiny-broken" else None,
            pull_bytes_per_second=_PULL_BYTES_PER_SECOND if name.startswith(REGISTRY) else None,
        )


def decoded_lines(response):
    """Return the lines of a recorded response, its body as the only one, or the data of server-sent events."""
    if "lines" not in response:
        return [response["body"]]
    texts = [entry["line"].removeprefix("data: ") for entry in response["lines"]]
    return [json.loads(text) for text in texts if text.startswith("{")]


def messages_of(response):
    """Return the messages of a recorded chat by line, and its last line."""
    lines = decoded_lines(response)
    return [line.get("message", {}) for line in lines], lines[-1]


def whole_sentence():
    """Return the tokens of the constant reply of tiny-chat."""
    return [message["content"] for message in messages_of(load("chat_stream")["response"])[0][:-1]]


def scripted_reply(recording):
    """Return a scripted reply with the contents of a recording."""
    response = recording["response"]
    if response["status"] != 200:
        return Reply(status=response["status"], error=response["body"]["error"])
    path = recording["request"]["path"]
    fields, last = _reply_fields(path, decoded_lines(response))
    if "error" in last:
        return Reply(**fields, error_line=last["error"])
    text = fields["text"]
    if "".join(whole_sentence()).startswith("".join(text)) and not fields["thinking"]:
        # Cut by num_predict or stop, if at all: the simulator must apply them.
        fields["text"] = whole_sentence() if text else []
    elif "lines" not in response:
        # The tokens of the text are not recorded, and so neither is where a limit cut it.
        fields["done_reason"] = last.get("done_reason")
    if path == "/api/chat" and last.get("done_reason") == "length" and not text and not fields["thinking"]:
        fields["tool_calls"] = [("get_weather", {"city": "Paris"})]
    return Reply(**fields)


def _reply_fields(path, lines):
    messages = [_MESSAGE[path](line) for line in lines]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", [])]
    arguments = [call["arguments"] for call in calls]
    said = {
        "text": [message["content"] for message in messages if message.get("content")],
        "thinking": [message["thinking"] for message in messages if message.get("thinking")],
        "tool_calls": [
            (call["name"], json.loads(given) if isinstance(given, str) else given)
            for call, given in zip(calls, arguments, strict=True)
        ],
    }
    return said, lines[-1]


def _generated(line):
    opened, _, text = line.get("response", "").partition("</think>\n\n")
    if not text:
        return {"content": line.get("response"), "thinking": line.get("thinking")}
    return {"content": text, "thinking": opened.removeprefix("<think>\n")}


def _completed(line):
    (choice,) = line["choices"] or [{}]
    message = choice.get("message") or choice.get("delta") or {}
    return {**message, "thinking": message.get("reasoning")}


_MESSAGE = {
    "/api/chat": lambda line: line.get("message", {}),
    "/api/generate": _generated,
    "/v1/chat/completions": _completed,
}
