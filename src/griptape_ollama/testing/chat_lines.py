"""The lines of a chat reply, in the server's shapes and order of keys."""

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from griptape_ollama.testing.json_text import dumps, encode, timestamp
from griptape_ollama.testing.script import Line, Reply
from griptape_ollama.testing.speech import Piece, Speech

_MICROSECOND = 1000
_MILLISECOND = 1_000_000
_PROMPT_NS_PER_TOKEN = 10 * _MICROSECOND
_NS_PER_TOKEN = 150 * _MICROSECOND
_LOGPROB = -0.25
_WARM_LOAD_NS = 1_300_000


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """The request that a speech answers, as far as its lines show it.

    Attributes:
        model: Model name as the request spells it.
        started: When the request came, in nanoseconds since 1970.
        load_ns: How long loading took, in nanoseconds.
        prompt_tokens: Tokens of the prompt.
        is_native: Whether tool calls stand in the last line.
        logprobs: Number of alternatives that each token comes with, None for no log probabilities at all.
    """

    model: str
    started: int
    load_ns: int
    prompt_tokens: int
    is_native: bool
    logprobs: int | None = None


def stream_lines(speech: Speech, reply: Reply, occasion: Occasion) -> Iterator[bytes]:
    """Make the lines of a streamed reply, each when it is asked for."""
    said = _said_lines(speech, occasion)
    if reply.error_line is not None:
        count, text = reply.error_line if isinstance(reply.error_line, tuple) else (None, reply.error_line)
        yield from itertools.islice(said, count)
        yield error_line(text)
    elif reply.end_without_done is not False:
        yield from said if reply.end_without_done is True else itertools.islice(said, reply.end_without_done)
    else:
        yield from said
        message: dict[str, Any] = {"role": "assistant", "content": ""}
        if occasion.is_native and speech.calls:
            message["tool_calls"] = speech.calls
        yield encode(_last(message, speech, reply, occasion)) + b"\n"


def whole_body(speech: Speech, reply: Reply, occasion: Occasion) -> bytes:
    """Make the body of a reply that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": speech.text("content")}
    if thinking := speech.text("thinking"):
        message["thinking"] = thinking
    if speech.calls:
        message["tool_calls"] = speech.calls
    logprobs = (
        [_logprob(piece, occasion.logprobs) for _, piece in speech.pieces] if occasion.logprobs is not None else []
    )
    return encode(_last(message, speech, reply, occasion, logprobs))


def load_body(model: str, reason: str) -> bytes:
    """Make the reply to a request without messages: `load` or `unload`."""
    message = {"role": "assistant", "content": ""}
    return encode({"model": model, "created_at": timestamp(), "message": message, "done": True, "done_reason": reason})


def given_line(line: Line) -> bytes:
    """Make a line out of what a test gave."""
    data = encode(line) if isinstance(line, Mapping) else line.encode() if isinstance(line, str) else line
    return data if data.endswith(b"\n") else data + b"\n"


def error_line(text: str) -> bytes:
    """Make the bare line that reports an error inside a stream."""
    return encode({"error": text}) + b"\n"


def piece_lines(pieces: list[Piece], occasion: Occasion) -> Iterator[bytes]:
    """Make the lines of thinking and content."""
    head = f'{{"model":{dumps(occasion.model)},"created_at":"'
    before = {
        "content": '","message":{"role":"assistant","content":',
        "thinking": '","message":{"role":"assistant","content":"","thinking":',
    }
    for kind, piece in pieces:
        tail = '},"done":false'
        if occasion.logprobs is not None:
            tail += f',"logprobs":{dumps([_logprob(piece, occasion.logprobs)])}'
        yield f"{head}{timestamp()}{before[kind]}{dumps(piece)}{tail}}}\n".encode("utf-8", "replace")


def _said_lines(speech: Speech, occasion: Occasion) -> Iterator[bytes]:
    yield from piece_lines(list(speech.pieces), occasion)
    for call in () if occasion.is_native else speech.calls:
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        yield encode({"model": occasion.model, "created_at": timestamp(), "message": message, "done": False}) + b"\n"


def _last(
    message: Mapping[str, Any], speech: Speech, reply: Reply, occasion: Occasion, logprobs: list[Any] | None = None
) -> dict[str, Any]:
    now = time.time_ns()
    prompt_ns = occasion.prompt_tokens * _PROMPT_NS_PER_TOKEN
    eval_ns = speech.tokens * _NS_PER_TOKEN
    load_ns = occasion.load_ns + _WARM_LOAD_NS
    last: dict[str, Any] = {
        "model": occasion.model,
        "created_at": timestamp(now),
        "message": message,
        "done": True,
        "done_reason": speech.done_reason,
        "logprobs": logprobs or None,
        "total_duration": max(now - occasion.started, load_ns + prompt_ns + eval_ns + _MILLISECOND),
        "load_duration": load_ns,
        "prompt_eval_count": occasion.prompt_tokens,
        "prompt_eval_duration": prompt_ns,
        "eval_count": speech.tokens,
        "eval_duration": eval_ns,
        **reply.final,
    }
    return {name: value for name, value in last.items() if value is not None}


def _logprob(token: str, alternatives: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": token, "logprob": _LOGPROB, "bytes": list(token.encode("utf-8", "replace"))}
    if alternatives:
        others = [{**entry, "logprob": _LOGPROB * (place + 1)} for place in range(alternatives)]
        return {**entry, "top_logprobs": others}
    return entry
