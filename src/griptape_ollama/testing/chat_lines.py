"""The lines of a chat or generate reply, in the server's shapes and order of keys."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from griptape_ollama.protocol.surrogates import without_halves
from griptape_ollama.testing.models.generation import Piece, Speech
from griptape_ollama.testing.script import Line, Reply
from griptape_ollama.testing.wire_format import dumps, encode, timestamp

_MICROSECOND = 1000
_MILLISECOND = 1_000_000
_PROMPT_NS_PER_TOKEN = 10 * _MICROSECOND
_NS_PER_TOKEN = 150 * _MICROSECOND
_LOGPROB = -0.25
_WARM_LOAD_NS = 1_300_000
_FIRST_TOKEN, _TOKENS = 260, 200
_BEFORE_MESSAGE = {
    "content": '","message":{"role":"assistant","content":',
    "thinking": '","message":{"role":"assistant","content":"","thinking":',
}
_BEFORE_RESPONSE = {"content": '","response":', "thinking": '","response":"","thinking":'}


@dataclass(frozen=True, kw_only=True)
class Occasion:
    """The request that a speech answers, as far as its lines show it.

    Attributes:
        model: Model name as the request spells it.
        now: Gives the time, in nanoseconds since 1970.
        started: When the request came, likewise.
        load_ns: How long loading took, in nanoseconds.
        prompt_tokens: Tokens of the prompt.
        evaluated_tokens: Those of them that were not in the prompt cache.
        tells_cached: Whether the others are told, as servers from 0.34 do.
        is_native: Whether tool calls stand in the last line.
        is_generate: Whether it is a generate request, whose lines have a `response` in place of a `message`.
        context: Tokens that came before this prompt, for the `context` of a generate reply; None for no context.
        logprobs: Number of alternatives that each token comes with, None for no log probabilities at all.
    """

    model: str
    now: Callable[[], int]
    started: int
    load_ns: int
    prompt_tokens: int
    evaluated_tokens: int
    is_native: bool
    tells_cached: bool = False
    is_generate: bool = False
    context: list[int] | None = None
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
        calls = speech.calls if occasion.is_native else ()
        yield encode(_last(_said("", calls=calls, occasion=occasion), speech, reply, occasion)) + b"\n"


def whole_body(speech: Speech, reply: Reply, occasion: Occasion) -> bytes:
    """Make the body of a reply that is not streamed."""
    said = _said(speech.text("content"), speech.text("thinking"), speech.calls, occasion)
    logprobs = (
        [_logprob(piece, occasion.logprobs) for _, piece in speech.pieces] if occasion.logprobs is not None else []
    )
    return encode(_last(said, speech, reply, occasion, logprobs))


def load_body(model: str, reason: str, now: int, *, is_generate: bool) -> bytes:
    """Make the reply to a request without messages: `load` or `unload`."""
    said: dict[str, Any] = {"response": ""} if is_generate else {"message": {"role": "assistant", "content": ""}}
    return encode({"model": model, "created_at": timestamp(now), **said, "done": True, "done_reason": reason})


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
    before = _BEFORE_RESPONSE if occasion.is_generate else _BEFORE_MESSAGE
    end = ',"done":false' if occasion.is_generate else '},"done":false'
    if occasion.is_generate and pieces and pieces[0][0] == "thinking":
        # The mark that opens the thinking has a line of its own here, which chat leaves out.
        yield f'{head}{timestamp(occasion.now())}{before["content"]}""{end}}}\n'.encode()
    for kind, piece in pieces:
        tail = end
        if occasion.logprobs is not None:
            tail += f',"logprobs":{dumps([_logprob(piece, occasion.logprobs)])}'
        yield without_halves(f"{head}{timestamp(occasion.now())}{before[kind]}{dumps(piece)}{tail}}}\n").encode()


def _said_lines(speech: Speech, occasion: Occasion) -> Iterator[bytes]:
    yield from piece_lines(list(speech.pieces), occasion)
    for call in () if occasion.is_native else speech.calls:
        said = _said("", calls=[call], occasion=occasion)
        line = {"model": occasion.model, "created_at": timestamp(occasion.now()), **said, "done": False}
        yield encode(line) + b"\n"


def _said(
    content: str, thinking: str = "", calls: Sequence[dict[str, Any]] = (), occasion: Occasion | None = None
) -> dict[str, Any]:
    """Put into a line what was said: a message, or its parts side by side."""
    if occasion is not None and occasion.is_generate:
        return {"response": content} | ({"thinking": thinking} if thinking else {})
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = list(calls)
    return {"message": message}


def _last(
    said: Mapping[str, Any], speech: Speech, reply: Reply, occasion: Occasion, logprobs: list[Any] | None = None
) -> dict[str, Any]:
    now = occasion.now()
    prompt_ns = occasion.evaluated_tokens * _PROMPT_NS_PER_TOKEN
    eval_ns = speech.tokens * _NS_PER_TOKEN
    load_ns = occasion.load_ns + _WARM_LOAD_NS
    cached = max(occasion.prompt_tokens - occasion.evaluated_tokens, 0)
    last: dict[str, Any] = {
        "model": occasion.model,
        "created_at": timestamp(now),
        **said,
        "done": True,
        "done_reason": speech.done_reason,
        **({} if occasion.is_generate else {"logprobs": logprobs or None}),
        "context": _context(speech, occasion),
        "total_duration": max(now - occasion.started, load_ns + prompt_ns + eval_ns + _MILLISECOND),
        "load_duration": load_ns,
        "prompt_eval_count": occasion.prompt_tokens,
        "prompt_eval_cached_count": cached if occasion.tells_cached else None,
        "prompt_eval_duration": prompt_ns,
        "eval_count": speech.tokens,
        "eval_duration": eval_ns,
        # Behind the durations there, before them in a chat: two structures of the server.
        **({"logprobs": logprobs or None} if occasion.is_generate else {}),
        **reply.final,
    }
    return {name: value for name, value in last.items() if value is not None}


def _context(speech: Speech, occasion: Occasion) -> list[int] | None:
    """Return made-up tokens for all that was read and said."""
    if occasion.context is None:
        return None
    count = occasion.prompt_tokens + speech.tokens
    return [*occasion.context, *(_FIRST_TOKEN + place % _TOKENS for place in range(count))]


def _logprob(token: str, alternatives: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": token, "logprob": _LOGPROB, "bytes": list(without_halves(token).encode())}
    if alternatives:
        others = [{**entry, "logprob": _LOGPROB * (place + 1)} for place in range(alternatives)]
        return {**entry, "top_logprobs": others}
    return entry
