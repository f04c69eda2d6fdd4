"""Routes: which endpoint answers which request; records requests and disconnects."""

import asyncio
import json
from typing import Any

from aiohttp import web

from griptape_ollama.testing.endpoints import chat, embed, generate, metadata, model_management, openai
from griptape_ollama.testing.request_context import RequestContext, Route, Routes, ServerState
from griptape_ollama.testing.request_log import RecordedRequest
from griptape_ollama.testing.response_writer import SentResponse

ROUTES: Routes = {
    "/": {"GET": Route(metadata.root), "HEAD": Route(metadata.root)},
    "/api/chat": {"POST": Route(chat.chat, uses_script=True)},
    "/api/generate": {"POST": Route(generate.generate, uses_script=True)},
    "/api/embed": {"POST": Route(embed.embed, uses_script=True)},
    "/api/embeddings": {"POST": Route(embed.embeddings, uses_script=True)},
    "/api/show": {"POST": Route(metadata.show)},
    "/api/tags": {"GET": Route(metadata.tags), "HEAD": Route(metadata.tags)},
    "/api/ps": {"GET": Route(metadata.ps)},
    "/api/version": {"GET": Route(metadata.version), "HEAD": Route(metadata.version)},
    "/api/pull": {"POST": Route(model_management.pull)},
    "/api/push": {"POST": Route(model_management.push)},
    "/api/create": {"POST": Route(model_management.create)},
    "/api/copy": {"POST": Route(model_management.copy)},
    "/api/delete": {"DELETE": Route(model_management.delete)},
    "/api/blobs/": {"HEAD": Route(model_management.has_blob), "POST": Route(model_management.add_blob)},
    "/v1/chat/completions": {"POST": Route(openai.chat, uses_script=True)},
    "/v1/embeddings": {"POST": Route(openai.embeddings)},
    "/v1/models": {"GET": Route(openai.models)},
}
"""Endpoints by path and method; a path that ends in a slash matches all paths below it."""


async def handle(state: ServerState, request: web.BaseRequest) -> SentResponse:
    """Record a request and answer it; record a disconnect of its client."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    raw = await request.content.read()
    recorded = RecordedRequest(
        method=request.method, path=request.path, headers=request.headers, body=_decoded(raw), raw=raw
    )
    state.log.add_request(recorded)
    try:
        return await RequestContext(state, request, recorded).respond(ROUTES)
    except asyncio.CancelledError:
        # aiohttp cancels the handler when the connection is lost.
        if not state.is_stopping:
            state.log.add_disconnect()
        raise
    except ConnectionError:
        if not state.is_stopping:
            state.log.add_disconnect()
        return SentResponse(keeps_connection=False)


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_constant=_refuse_constant) if raw else None
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
