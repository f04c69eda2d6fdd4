"""What of a response has to agree with a recorded one: its shape, and as a stricter measure its values."""

import json
import re
from itertools import groupby

_TIMES = re.compile(r".*_duration|.*_at|created")
_DIGITS = re.compile(r"\b\d{4,}\b")
_HEX = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")
_RESOLVER = re.compile(r" on 192\.0\.2\.53:53")


def shape(value):
    """Reduce a value to what has to agree: keys in their order, and types."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and "token" in value[0]:
        # The end mark, an alternative without text, has no bytes.
        value = [entry for entry in value if entry["token"]]
    if isinstance(value, dict):
        return [(key, shape(child)) for key, child in value.items()]
    if isinstance(value, list):
        return ["list of", shape(value[0])] if value else ["empty list"]
    if isinstance(value, bool) or value is None:
        return type(value).__name__
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def kind(line):
    """What a line is about."""
    if not isinstance(line, dict):
        return "list"
    if "status" in line:
        return _HEX.sub("H", line["status"])
    if "choices" in line:
        return [[sorted(choice.get("delta", {})), choice["finish_reason"]] for choice in line["choices"]]
    message = line.get("message", line)
    for name in ("error", "done"):
        if line.get(name):
            return name
    return next((key for key in ("tool_calls", "thinking", "content", "response") if message.get(key)), "empty")


def error_text(text):
    """An error text without the numbers, digests and addresses that are a machine's own."""
    if isinstance(text, dict):
        return {key: error_text(value) for key, value in text.items()}
    return _HEX.sub("H", _DIGITS.sub("N", _RESOLVER.sub("", text))) if isinstance(text, str) else text


def described(status, headers, text):
    """Everything about a response that has to agree."""
    names = {name.lower() for name, _ in headers} - {"x-ollama-simulator"}
    content_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    lines, is_stream = _decoded(content_type, text)
    if is_stream:
        body = [(kind(line), shape(line)) for line in lines]
        body += [error_text(line["error"]) for line in lines if isinstance(line, dict) and "error" in line]
    elif lines:
        (value,) = lines
        if status == 200:
            # Which of the two it is depends on the length of the body alone: asserted on its own in the tests.
            names -= {"content-length", "transfer-encoding"}
        body = [shape(value), error_text(value.get("error", "")), value.get("done_reason")]
    else:
        body = text
    return {"status": status, "headers": sorted(names), "content_type": content_type, "body": body}


def valued(status, headers, text):
    """The same with all values, but for times, digests and ids, which differ from run to run."""
    content_type = next((value for name, value in headers if name.lower() == "content-type"), None)
    lines, _ = _decoded(content_type, text)
    return [status, content_type, [_masked(line) for line in lines] or text]


def merged(description):
    """Runs of lines of one kind count as one: where the words, or the pace, are the simulator's own."""
    if isinstance(description["body"], list):
        return {**description, "body": [entry for entry, _ in groupby(description["body"])]}
    return description


def _decoded(content_type, text):
    if not content_type or not text:
        return [], False
    if content_type == "text/event-stream":
        events = [line.removeprefix("data: ") for line in text.split("\n") if line]
        return [json.loads(event) if event != "[DONE]" else ["DONE"] for event in events], True
    if content_type == "application/x-ndjson":
        return [json.loads(line) for line in text.split("\n") if line], True
    if content_type.startswith("application/json"):
        return [json.loads(text)], False
    return [], False


def _masked(value, key=""):
    if _TIMES.fullmatch(key) or key in ("id", "digest"):
        return key
    if isinstance(value, dict):
        return {name: _masked(child, name) for name, child in value.items()}
    if isinstance(value, list):
        return [_masked(child) for child in value]
    return error_text(value) if isinstance(value, str) else value
