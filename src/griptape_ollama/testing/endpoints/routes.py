"""The HTTP side: which endpoint a request goes to, and what was seen of its client."""

import asyncio
import json
from typing import Any

from aiohttp import web

from griptape_ollama.testing.endpoints import chat, embed, generate, metadata, model_management, openai
from griptape_ollama.testing.request_context import Exchange, Route, Routes, State
from griptape_ollama.testing.request_log import RecordedRequest
from griptape_ollama.testing.response_writer import Written

_LOOK = Route(metadata.look)
ROUTES: Routes = {
    "/": {"GET": Route(metadata.root), "HEAD": Route(metadata.root)},
    "/api/chat": {"POST": Route(chat.chat, speaks=True)},
    "/api/generate": {"POST": Route(generate.generate, speaks=True)},
    "/api/embed": {"POST": Route(embed.embed, speaks=True)},
    "/api/embeddings": {"POST": Route(embed.embeddings, speaks=True)},
    "/api/show": {"POST": Route(metadata.show)},
    "/api/tags": {"GET": _LOOK, "HEAD": _LOOK},
    "/api/ps": {"GET": _LOOK},
    "/api/version": {"GET": _LOOK, "HEAD": _LOOK},
    "/api/pull": {"POST": Route(model_management.pull)},
    "/api/push": {"POST": Route(model_management.push)},
    "/api/create": {"POST": Route(model_management.create)},
    "/api/copy": {"POST": Route(model_management.copy)},
    "/api/delete": {"DELETE": Route(model_management.delete)},
    "/api/blobs/": {"HEAD": Route(model_management.has_blob), "POST": Route(model_management.add_blob)},
    "/v1/chat/completions": {"POST": Route(openai.chat, speaks=True)},
    "/v1/embeddings": {"POST": Route(openai.embeddings)},
    "/v1/models": {"GET": Route(openai.models)},
}
"""What answers which method of which path; what follows a path that ends in a slash is a detail of it."""


async def handle(state: State, request: web.BaseRequest) -> Written:
    """Record a request and answer it; notice when its client goes away."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    raw = await request.content.read()
    recorded = RecordedRequest(
        method=request.method, path=request.path, headers=request.headers, body=_decoded(raw), raw=raw
    )
    state.journal.add_request(recorded)
    try:
        return await Exchange(state, request, recorded).run(ROUTES)
    except asyncio.CancelledError:
        # aiohttp cancels the handler when the connection is lost.
        if not state.is_stopping:
            state.journal.add_disconnect()
        raise
    except ConnectionError:
        if not state.is_stopping:
            state.journal.add_disconnect()
        return Written(keeps_connection=False)


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw, parse_constant=_refuse_constant) if raw else None
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
