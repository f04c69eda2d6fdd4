"""The lines of a chat or generate response, with the fields and key order of the server."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from griptape_ollama.protocol.surrogates import replace_surrogates
from griptape_ollama.testing.models.generation import GeneratedReply, Piece
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
class ReplyMetadata:
    """What the lines of a reply contain besides the generated tokens.

    Attributes:
        model: Model name as the request spells it.
        now: Function that returns the time in nanoseconds since 1970.
        started: Time at which the request came, in nanoseconds since 1970.
        load_ns: Nanoseconds that loading took.
        prompt_tokens: Tokens of the prompt.
        evaluated_tokens: Prompt tokens that were not in the prompt cache.
        reports_cached: Whether the number of cached tokens is reported, as by servers from 0.34.
        is_native: Whether tool calls are in the last line.
        is_generate: Whether it is a generate request, whose lines have a `response` in place of a `message`.
        context: Tokens before this prompt, for the `context` of a generate reply; None for no context.
        logprobs: Number of alternatives for each token, None for no log probabilities.
    """

    model: str
    now: Callable[[], int]
    started: int
    load_ns: int
    prompt_tokens: int
    evaluated_tokens: int
    is_native: bool
    reports_cached: bool = False
    is_generate: bool = False
    context: list[int] | None = None
    logprobs: int | None = None


def stream_lines(generated: GeneratedReply, reply: Reply, metadata: ReplyMetadata) -> Iterator[bytes]:
    """Yield the lines of a streamed reply."""
    fields = _generated_lines(generated, metadata)
    if reply.error_line is not None:
        count, text = reply.error_line if isinstance(reply.error_line, tuple) else (None, reply.error_line)
        yield from itertools.islice(fields, count)
        yield error_line(text)
    elif reply.end_without_done is not False:
        yield from fields if reply.end_without_done is True else itertools.islice(fields, reply.end_without_done)
    else:
        yield from fields
        calls = generated.calls if metadata.is_native else ()
        yield (
            encode(_final_line(_message_fields("", calls=calls, metadata=metadata), generated, reply, metadata)) + b"\n"
        )


def whole_body(generated: GeneratedReply, reply: Reply, metadata: ReplyMetadata) -> bytes:
    """Build the body of a reply that is not streamed."""
    fields = _message_fields(generated.text("content"), generated.text("thinking"), generated.calls, metadata)
    logprobs = (
        [_logprob(piece, metadata.logprobs) for _, piece in generated.pieces] if metadata.logprobs is not None else []
    )
    return encode(_final_line(fields, generated, reply, metadata, logprobs))


def load_body(model: str, reason: str, now: int, *, is_generate: bool) -> bytes:
    """Build the reply to a request without messages: `load` or `unload`."""
    fields: dict[str, Any] = {"response": ""} if is_generate else {"message": {"role": "assistant", "content": ""}}
    return encode({"model": model, "created_at": timestamp(now), **fields, "done": True, "done_reason": reason})


def verbatim_line(line: Line) -> bytes:
    """Encode a line that a test scripted."""
    data = encode(line) if isinstance(line, Mapping) else line.encode() if isinstance(line, str) else line
    return data if data.endswith(b"\n") else data + b"\n"


def error_line(text: str) -> bytes:
    """Build the line that reports an error inside a stream."""
    return encode({"error": text}) + b"\n"


def token_lines(pieces: list[Piece], metadata: ReplyMetadata) -> Iterator[bytes]:
    """Yield the lines of thinking and content, one per token."""
    head = f'{{"model":{dumps(metadata.model)},"created_at":"'
    before = _BEFORE_RESPONSE if metadata.is_generate else _BEFORE_MESSAGE
    end = ',"done":false' if metadata.is_generate else '},"done":false'
    if metadata.is_generate and pieces and pieces[0][0] == "thinking":
        # The tag that opens the thinking has a line of its own here, which chat omits.
        yield f'{head}{timestamp(metadata.now())}{before["content"]}""{end}}}\n'.encode()
    for kind, piece in pieces:
        tail = end
        if metadata.logprobs is not None:
            tail += f',"logprobs":{dumps([_logprob(piece, metadata.logprobs)])}'
        yield replace_surrogates(f"{head}{timestamp(metadata.now())}{before[kind]}{dumps(piece)}{tail}}}\n").encode()


def _generated_lines(generated: GeneratedReply, metadata: ReplyMetadata) -> Iterator[bytes]:
    yield from token_lines(list(generated.pieces), metadata)
    for call in () if metadata.is_native else generated.calls:
        fields = _message_fields("", calls=[call], metadata=metadata)
        line = {"model": metadata.model, "created_at": timestamp(metadata.now()), **fields, "done": False}
        yield encode(line) + b"\n"


def _message_fields(
    content: str, thinking: str = "", calls: Sequence[dict[str, Any]] = (), metadata: ReplyMetadata | None = None
) -> dict[str, Any]:
    """Return the fields with content, thinking and calls: a message, or for generate the fields themselves."""
    if metadata is not None and metadata.is_generate:
        return {"response": content} | ({"thinking": thinking} if thinking else {})
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if thinking:
        message["thinking"] = thinking
    if calls:
        message["tool_calls"] = list(calls)
    return {"message": message}


def _final_line(
    fields: Mapping[str, Any],
    generated: GeneratedReply,
    reply: Reply,
    metadata: ReplyMetadata,
    logprobs: list[Any] | None = None,
) -> dict[str, Any]:
    now = metadata.now()
    prompt_ns = metadata.evaluated_tokens * _PROMPT_NS_PER_TOKEN
    eval_ns = generated.tokens * _NS_PER_TOKEN
    load_ns = metadata.load_ns + _WARM_LOAD_NS
    cached = max(metadata.prompt_tokens - metadata.evaluated_tokens, 0)
    last: dict[str, Any] = {
        "model": metadata.model,
        "created_at": timestamp(now),
        **fields,
        "done": True,
        "done_reason": generated.done_reason,
        **({} if metadata.is_generate else {"logprobs": logprobs or None}),
        "context": _context(generated, metadata),
        "total_duration": max(now - metadata.started, load_ns + prompt_ns + eval_ns + _MILLISECOND),
        "load_duration": load_ns,
        "prompt_eval_count": metadata.prompt_tokens,
        "prompt_eval_cached_count": cached if metadata.reports_cached else None,
        "prompt_eval_duration": prompt_ns,
        "eval_count": generated.tokens,
        "eval_duration": eval_ns,
        # After the durations in generate, before them in chat: two structures of the server.
        **({"logprobs": logprobs or None} if metadata.is_generate else {}),
        **reply.final,
    }
    return {name: value for name, value in last.items() if value is not None}


def _context(generated: GeneratedReply, metadata: ReplyMetadata) -> list[int] | None:
    """Return invented token numbers for prompt and reply."""
    if metadata.context is None:
        return None
    count = metadata.prompt_tokens + generated.tokens
    return [*metadata.context, *(_FIRST_TOKEN + place % _TOKENS for place in range(count))]


def _logprob(token: str, alternatives: int | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": token, "logprob": _LOGPROB, "bytes": list(replace_surrogates(token).encode())}
    if alternatives:
        top = [{**entry, "logprob": _LOGPROB * (place + 1)} for place in range(alternatives)]
        return {**entry, "top_logprobs": top}
    return entry
