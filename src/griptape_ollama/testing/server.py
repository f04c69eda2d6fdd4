"""The HTTP side: which endpoint a request goes to, and what comes back when there is none."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from aiohttp import web

from griptape_ollama.testing import chat, embeddings, validation
from griptape_ollama.testing.access import PREFLIGHT, is_host_allowed, is_origin_allowed
from griptape_ollama.testing.chat_lines import error_line, given_line
from griptape_ollama.testing.journal import Journal, RecordedRequest
from griptape_ollama.testing.json_text import as_text, encode
from griptape_ollama.testing.memory import Holding, Memory
from griptape_ollama.testing.models import Catalogue, SimulatedModel, with_tag
from griptape_ollama.testing.refusals import Refusal
from griptape_ollama.testing.script import Entry, Reply, ReplyFunction, Script
from griptape_ollama.testing.show import show_body, tags_body
from griptape_ollama.testing.speech import Voice
from griptape_ollama.testing.wire import Outgoing, Wire, Written, plain

_logger = logging.getLogger(__name__)
_TEXT = "text/plain"
_SECOND = 1_000_000_000


@dataclass(kw_only=True)
class State:
    """Everything that requests share."""

    catalogue: Catalogue
    memory: Memory
    script: Script
    journal: Journal
    version: str
    context_length: int
    plausible: bool
    line_delay: float
    voice: Voice = field(default_factory=Voice)
    is_stopping: bool = False


class Exchange:
    """One request and its response."""

    def __init__(self, state: State, request: web.BaseRequest, recorded: RecordedRequest) -> None:
        self._state = state
        self._request = request
        self._recorded = recorded
        self._held: Holding | None = None

    async def run(self) -> Written:
        """Answer the request."""
        try:
            try:
                outgoing = await self._outgoing()
            except Refusal as refusal:
                outgoing = self._refused(refusal)
            except Exception as error:
                _logger.exception("The simulator cannot answer %s", self._recorded)
                outgoing = self._refused(Refusal(500, f"the simulator failed: {type(error).__name__}: {error}"))
            return await Wire(self._request, outgoing, self._state.line_delay, self._let_go).send()
        finally:
            self._let_go()

    async def _hold(self, model: SimulatedModel, window: int, keep_alive: float) -> int:
        """Keep a model in memory while the reply is written; return the nanoseconds that loading took."""
        self._held = Holding(self._state.memory, model, window, keep_alive)
        if self._held.is_cold and model.load_seconds:
            await asyncio.sleep(model.load_seconds)
        return int(model.load_seconds * _SECOND) if self._held.is_cold else 0

    def _let_go(self) -> None:
        """Let the model go. That is before the last line, so that a client that has it finds the model gone."""
        held, self._held = self._held, None
        if held is not None:
            held.end()

    async def _outgoing(self) -> Outgoing:
        recorded = self._recorded
        origin = recorded.headers.get("Origin", "")
        if not is_host_allowed(recorded.headers.get("Host", "")) or not is_origin_allowed(origin):
            return Outgoing(status=403, content_type=None, length=0)
        cors = {"Access-Control-Allow-Origin": origin} if origin else {}
        if recorded.method == "OPTIONS" and origin:
            allow = {"Allow": ", ".join(sorted(_ROUTES.get(recorded.path, ())))}
            return Outgoing(status=204, content_type=None, headers={**PREFLIGHT, **allow, **cors}, has_body=False)
        outgoing = await self._routed()
        return replace(outgoing, headers={**outgoing.headers, **cors}) if cors else outgoing

    async def _routed(self) -> Outgoing:
        entry = self._state.script.peek(self._recorded)
        if entry is not None and not entry.checks_request:
            return _as_given(await self._take(entry), self._recorded)
        methods = _ROUTES.get(self._recorded.path)
        if methods is None:
            if entry is not None:
                return _as_given(await self._take(entry), self._recorded)
            return plain(b"404 page not found", status=404, content_type=_TEXT)
        endpoint = methods.get(self._recorded.method)
        if endpoint is None:
            allow = {"Allow": ", ".join(sorted(methods))}
            return plain(b"405 method not allowed", status=405, content_type=_TEXT, headers=allow)
        return await endpoint(self, entry)

    async def _take(self, entry: Entry) -> Reply:
        return await self._evaluate(self._state.script.take(entry))

    async def _evaluate(self, answer: Reply | ReplyFunction) -> Reply:
        """Return a reply; a function runs in a thread, so that it may block."""
        if isinstance(answer, Reply):
            return answer
        try:
            reply = await asyncio.to_thread(answer, self._recorded)
        except Exception as error:  # noqa: BLE001  whatever it is, the client has to hear of it
            return Reply(status=500, error=f"the reply function failed: {type(error).__name__}: {error}")
        return Reply(text=reply) if isinstance(reply, str) else reply

    def _refused(self, refusal: Refusal) -> Outgoing:
        body = encode({"error": refusal.message})
        streams = not isinstance(self._recorded.body, dict) or self._recorded.body.get("stream") is not False  # pyright: ignore[reportUnknownMemberType]
        if refusal.from_runner and streams:
            return Outgoing(status=refusal.status, content_type="application/json", lines=[body])
        return plain(body, status=refusal.status)

    async def chat(self, entry: Entry | None) -> Outgoing:
        """Answer `POST /api/chat`."""
        state = self._state
        request = chat.accept(self._recorded, state.catalogue, state.context_length)
        if request.is_about_loading and request.keep_alive == 0:
            return chat.load_reply(request, state.memory)
        if not request.is_about_loading and entry is None and not state.plausible:
            state.journal.add_unexpected(self._recorded)
            raise Refusal(500, f"the script of the simulator is exhausted; nothing is left for {self._recorded}")
        # Taken before anything is awaited: two requests never take the same reply.
        answer = state.script.take(entry) if entry is not None and not request.is_about_loading else None
        load_ns = await self._hold(request.model, request.window, request.keep_alive)
        if request.is_about_loading:
            return chat.load_reply(request, state.memory)
        reply = chat.think_up(request) if answer is None else await self._evaluate(answer)
        if not reply.is_spoken:
            return _as_given(reply, self._recorded)
        return chat.spoken(request, reply, state.voice, load_ns)

    async def embed(self, entry: Entry | None) -> Outgoing:
        """Answer `POST /api/embed`."""
        request = embeddings.accept(self._recorded, self._state.catalogue)
        if entry is not None:
            return _as_given(await self._take(entry), self._recorded)
        if not request.texts:
            return plain(embeddings.embed_body(request, 0))
        load_ns = await self._hold(request.model, request.model.context_length, request.keep_alive)
        return plain(embeddings.embed_body(request, load_ns))

    async def show(self, entry: Entry | None) -> Outgoing:
        """Answer `POST /api/show`."""
        if entry is not None:
            return _as_given(await self._take(entry), self._recorded)
        body = validation.decode_body(self._recorded.raw, "ShowRequest")
        validation.check_show(body)
        name = as_text(body.get("model")) or as_text(body.get("name"))
        model = self._state.catalogue.find(name)
        if model is None:
            raise Refusal(404, f"model '{with_tag(name)}' not found")
        modified_at = self._state.catalogue.modified_at(model)
        return plain(encode(show_body(model, modified_at, verbose=body.get("verbose") is True)))

    async def look(self, entry: Entry | None) -> Outgoing:
        """Answer the requests that only look: tags, ps and version."""
        if entry is not None:
            return _as_given(await self._take(entry), self._recorded)
        bodies: Mapping[str, Callable[[], Any]] = {
            "/api/tags": lambda: tags_body(self._state.catalogue),
            "/api/ps": self._state.memory.ps,
            "/api/version": lambda: {"version": self._state.version},
        }
        return self._for_method(plain(encode(bodies[self._recorded.path]())))

    async def root(self, entry: Entry | None) -> Outgoing:
        """Answer `/`."""
        if entry is not None:
            return _as_given(await self._take(entry), self._recorded)
        return self._for_method(plain(b"Ollama is running", content_type="text/plain; charset=utf-8"))

    def _for_method(self, outgoing: Outgoing) -> Outgoing:
        return replace(outgoing, has_body=False) if self._recorded.method == "HEAD" else outgoing


Endpoint = Callable[[Exchange, Entry | None], Awaitable[Outgoing]]
_ROUTES: Mapping[str, Mapping[str, Endpoint]] = {
    "/": {"GET": Exchange.root, "HEAD": Exchange.root},
    "/api/chat": {"POST": Exchange.chat},
    "/api/embed": {"POST": Exchange.embed},
    "/api/show": {"POST": Exchange.show},
    "/api/tags": {"GET": Exchange.look, "HEAD": Exchange.look},
    "/api/ps": {"GET": Exchange.look},
    "/api/version": {"GET": Exchange.look, "HEAD": Exchange.look},
}


async def handle(state: State, request: web.BaseRequest) -> Written:
    """Record a request and answer it; notice when its client goes away."""
    raw = await request.content.read()
    recorded = RecordedRequest(
        method=request.method, path=request.path, headers=request.headers, body=_decoded(raw), raw=raw
    )
    state.journal.add_request(recorded)
    try:
        return await Exchange(state, request, recorded).run()
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
        return json.loads(raw) if raw else None
    except ValueError:
        return None


def _as_given(reply: Reply, recorded: RecordedRequest) -> Outgoing:
    """Make a response out of a reply that says itself what is on the wire."""
    if reply.raw is not None:
        return Outgoing(lines=[reply.raw], reply=reply)
    if reply.lines is not None:
        lines = [given_line(line) for line in reply.lines]
        if isinstance(reply.end_without_done, bool):
            lines = lines[:-1] if reply.end_without_done else lines
        else:
            lines = lines[: reply.end_without_done]
        if reply.error_line is not None:
            count, text = reply.error_line if isinstance(reply.error_line, tuple) else (None, reply.error_line)
            lines = [*lines[:count], error_line(text)]
        return Outgoing(status=reply.status, content_type=chat.NDJSON, lines=lines, reply=reply)
    if reply.is_error and reply.body is None:
        error = HTTPStatus(reply.status).phrase.lower() if reply.error is None else reply.error
        return plain(encode({"error": error}), reply, status=reply.status)
    if reply.body is None:
        raise Refusal(500, f"the reply for {recorded} has text, but only chat can speak: use body= or lines=")
    body = reply.body
    data = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else encode(body)
    return plain(data, reply, status=reply.status)
