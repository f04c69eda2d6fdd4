"""The OpenAI-compatible endpoints: chat completions, embeddings and the list of models."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.endpoints.chat import parse_chat_request, respond
from griptape_ollama.testing.endpoints.embed import EmbedRequest, embed_text, parse_embed_request, run_embedding
from griptape_ollama.testing.request_context import RequestContext
from griptape_ollama.testing.response_writer import NDJSON, PreparedResponse, TimedLine, body_response
from griptape_ollama.testing.script import ScriptEntry
from griptape_ollama.testing.wire_format import ErrorResponse, as_list, as_object, as_text, encode

_JSON = "application/json"
_SECOND = 1_000_000_000
_OPTIONS = {
    "max_tokens": "num_predict",
    "max_completion_tokens": "num_predict",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "stop": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
_numbers = itertools.count(1)


async def chat(context: RequestContext, entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /v1/chat/completions` by a converted chat request."""
    body = validation.decode_body(context.recorded.raw, "ChatCompletionRequest")
    if not as_list(body.get("messages")):
        raise ErrorResponse(400, "[] is too short - 'messages'")
    streams = body.get("stream") is True
    state = context.state
    request = parse_chat_request(_chat_body(body, streams=streams), state.installed, state.context_length)
    response = await respond(context, entry, request)
    head = {
        "id": f"chatcmpl-{next(_numbers)}",
        "object": "chat.completion.chunk" if streams else "chat.completion",
        "created": state.clock.now_ns // _SECOND,
        "model": request.name,
        "system_fingerprint": "fp_ollama",
    }
    if response.content_type == NDJSON:
        has_usage = as_object(body.get("stream_options")).get("include_usage") is True
        events = _events(response.lines, head, has_usage=has_usage)
        return replace(response, content_type="text/event-stream", lines=events)
    whole = json.loads(b"".join(line for line in response.lines if isinstance(line, bytes)) or b"{}")
    if response.status != 200 or "message" not in whole:
        raise ErrorResponse(response.status if response.status != 200 else 500, as_text(whole.get("error")))
    choice = {"index": 0, "message": _message(whole["message"]), "finish_reason": _reason(whole)}
    return body_response(
        encode({**head, "choices": [choice], "usage": _usage(whole)}) + b"\n", response.reply, content_type=_JSON
    )


async def embeddings(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /v1/embeddings`."""
    request = parse_embed_request(context.recorded, context.state.installed, context.state.context_length)
    return body_response(await run_embedding(context, request, _embeddings_body), content_type=_JSON)


async def models(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `GET /v1/models`."""
    installed = context.state.installed
    data = [
        {
            "id": model.full_name,
            "object": "model",
            "created": installed.modified_at(model) // _SECOND,
            "owned_by": model.full_name.split("/")[-2] if "/" in model.full_name else "library",
        }
        for model in installed
    ]
    return body_response(encode({"object": "list", "data": data}) + b"\n", content_type=_JSON)


def _embeddings_body(request: EmbedRequest, _load_ns: int) -> bytes:
    data = [
        {"object": "embedding", "embedding": embed_text(text, request.dimensions), "index": index}
        for index, text in enumerate(request.texts)
    ]
    usage = {"prompt_tokens": request.tokens, "total_tokens": request.tokens}
    body = {"object": "list", "data": data, "model": request.body["model"], "usage": usage}
    return encode(body) + b"\n"


def _chat_body(body: Mapping[str, Any], *, streams: bool) -> dict[str, Any]:
    options = {ours: body[theirs] for theirs, ours in _OPTIONS.items() if body.get(theirs) is not None}
    if isinstance(options.get("stop"), str):
        options["stop"] = [options["stop"]]
    form = as_object(body.get("response_format"))
    schema = as_object(form.get("json_schema")).get("schema")
    return {
        "model": body.get("model"),
        "messages": [_plain_message(as_object(message)) for message in as_list(body.get("messages"))],
        "tools": body.get("tools"),
        "stream": streams,
        "options": options,
        "format": schema or ("json" if form.get("type") == "json_object" else None),
    }


def _plain_message(message: dict[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    parts = [as_object(part) for part in as_list(content)]
    calls = [as_object(as_object(call).get("function")) for call in as_list(message.get("tool_calls"))]
    return {
        "role": message.get("role"),
        "content": "".join(as_text(part.get("text")) for part in parts) if parts else content,
        "tool_calls": [
            {"function": {**call, "arguments": json.loads(as_text(call.get("arguments")) or "{}")}} for call in calls
        ],
    }


def _events(lines: Any, head: Mapping[str, Any], *, has_usage: bool) -> Iterator[bytes]:
    first: dict[str, Any] = {"role": "assistant"}
    has_calls = False
    for line in lines:
        line_fields = json.loads(line.data if isinstance(line, TimedLine) else line)
        if "error" in line_fields:
            yield _event({"error": {"message": line_fields["error"], "type": "api_error", "param": None, "code": None}})
            return
        message = line_fields["message"]
        has_calls = has_calls or bool(message.get("tool_calls"))
        if not line_fields["done"] or message.get("tool_calls"):
            delta = first | _message(message, is_delta=True)
            first = {}
            yield _event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
        if line_fields["done"]:
            reason = "tool_calls" if has_calls else _reason(line_fields)
            yield _event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            if has_usage:
                yield _event({**head, "choices": [], "usage": _usage(line_fields)})
    yield b"data: [DONE]\n\n"


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + encode(value) + b"\n\n"


def _message(message: Mapping[str, Any], *, is_delta: bool = False) -> dict[str, Any]:
    converted: dict[str, Any] = {} if is_delta else {"role": "assistant"}
    converted["content"] = message["content"]
    if message.get("thinking"):
        converted["reasoning"] = message["thinking"]
    if calls := as_list(message.get("tool_calls")):
        converted["tool_calls"] = _calls(calls)
    return converted


def _calls(calls: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {
            "id": call.get("id", ""),
            "index": call["function"].get("index", 0),
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": encode(call["function"]["arguments"]).decode(),
            },
        }
        for call in calls
    ]


def _reason(line_fields: Mapping[str, Any]) -> str:
    return "tool_calls" if line_fields["message"].get("tool_calls") else line_fields.get("done_reason", "stop")


def _usage(line_fields: Mapping[str, Any]) -> dict[str, int]:
    prompt_tokens, completion_tokens = line_fields.get("prompt_eval_count", 0), line_fields.get("eval_count", 0)
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
