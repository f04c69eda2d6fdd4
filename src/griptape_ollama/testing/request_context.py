"""One request on its way through the simulator, and what all requests share."""

import asyncio
import contextlib
import ipaddress
import logging
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from aiohttp import web

from griptape_ollama.testing.chat_lines import error_line, given_line
from griptape_ollama.testing.clock import Clock
from griptape_ollama.testing.faults import Fault, Rules, apply
from griptape_ollama.testing.models.generation import Voice
from griptape_ollama.testing.models.load_settings import Runner
from griptape_ollama.testing.models.memory import Holding, Memory
from griptape_ollama.testing.models.registry import Library
from griptape_ollama.testing.models.simulated_model import Catalogue, SimulatedModel
from griptape_ollama.testing.request_log import Journal, RecordedRequest, Unexpected, mismatch
from griptape_ollama.testing.response_writer import NDJSON, Outgoing, Wire, Written, phrase_of, plain
from griptape_ollama.testing.script import Entry, Reply, ReplyFunction, Script
from griptape_ollama.testing.wire_format import Refusal, encode

_logger = logging.getLogger(__name__)
_TEXT = "text/plain"
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})")
_TELLS_CACHED = (0, 34)
_SECOND = 1_000_000_000


@dataclass(kw_only=True)
class State:
    """Everything that requests share."""

    catalogue: Catalogue
    library: Library
    memory: Memory
    clock: Clock
    script: Script
    rules: Rules
    journal: Journal
    version: str
    context_length: int
    plausible: bool
    line_delay: float
    voice: Voice = field(default_factory=Voice)
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    downloads: dict[str, int] = field(default_factory=dict[str, int])
    refuse: Callable[[Fault], Awaitable[None]] | None = None
    is_stopping: bool = False

    @property
    def tells_cached(self) -> bool:
        """Whether the server is one that tells how much of a prompt was cached (from 0.34)."""
        match = _VERSION.match(self.version)
        return match is not None and (int(match[1]), int(match[2])) >= _TELLS_CACHED


class Exchange:
    """One request and its response.

    Attributes:
        state: What all requests share.
        recorded: The request.
        detail: What follows the path of the endpoint, such as the digest of a blob.
    """

    def __init__(self, state: State, request: web.BaseRequest, recorded: RecordedRequest) -> None:
        self.state = state
        self.recorded = recorded
        self.detail = ""
        self._request = request
        self._held: Holding | None = None

    async def run(self, routes: "Routes") -> Written:
        """Answer the request."""
        try:
            outgoing = await self._struck(routes)
            if outgoing.reply.reset not in (True, "before_headers"):
                self.recorded.outcome.status = outgoing.status
            refusal = self.state.rules.closes_next()
            if refusal is not None and self.state.refuse is not None:
                # Before this response ends, so that whoever has read it finds the port closed.
                await self.state.refuse(refusal)
                outgoing = replace(outgoing, closes=True)

            def before_last() -> None:
                if outgoing.before_last is not None:
                    outgoing.before_last()
                self._let_go()

            wire = Wire(self._request, outgoing, self.state.clock, self.state.line_delay, before_last)
            return await wire.send()
        finally:
            self._let_go()

    async def hold(self, model: SimulatedModel, runner: Runner, keep_alive: float | None) -> Holding:
        """Wait until a model is loaded and free, and keep it in memory while the reply is written."""
        self._held = await self.state.memory.enter(model, runner, keep_alive)
        outcome = self.recorded.outcome
        outcome.window = runner.context_length
        outcome.load_seconds = self._held.load_ns / _SECOND
        outcome.wait_seconds = (self.state.clock.now_ns - self._held.began_ns) / _SECOND
        return self._held

    async def take(self, entry: Entry) -> Reply:
        """Take a reply from the script.

        Raises:
            Refusal: It was scripted for another request than this.
        """
        return await self.evaluate(self.claim(entry))

    def claim(self, entry: Entry) -> Reply | ReplyFunction:
        """Take what is scripted, before anything is awaited: two requests never take the same reply.

        Raises:
            Refusal: It was scripted for another request than this.
        """
        answer = self.state.script.take(entry, self.recorded)
        wrong = mismatch(entry.expect, self.recorded) if entry.expect is not None else None
        if wrong is not None:
            self.refuse_unexpected(f"it is not what the scripted reply expects:\n{wrong}")
        return answer

    def refuse_unexpected(self, reason: str) -> None:
        """Report a request that the test did not foresee.

        Raises:
            Refusal: Always.
        """
        self.state.journal.add_unexpected(Unexpected(self.recorded, reason))
        # Not a 5xx: a client would try again what cannot succeed.
        raise Refusal(400, f"the simulator did not expect this request: {self.recorded}: {reason}")

    async def evaluate(self, answer: Reply | ReplyFunction) -> Reply:
        """Return a reply; a function runs in a thread of its own, so that it may block.

        Raises:
            Refusal: The function failed. That is not a 5xx: a client would try again what cannot succeed.
        """
        if isinstance(answer, Reply):
            return answer
        reply = await self._called(answer)
        if isinstance(reply, str):
            raise Refusal(400, reply)
        return reply

    def _called(self, function: ReplyFunction) -> asyncio.Future[Reply | str]:
        """Call a function in a thread; give the future of its reply, or of a text that says how it failed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply | str] = loop.create_future()

        def settle(reply: Reply | str) -> None:
            if not future.done():
                future.set_result(reply)

        def call() -> None:
            try:
                reply = _as_reply(function(self.recorded))
            except BaseException as error:  # noqa: BLE001  `pytest.fail` raises no Exception
                reply = f"the reply function failed: {type(error).__name__}: {error}"
                # At once: the test is to hear of it even if the client is gone.
                self.state.journal.add_unexpected(Unexpected(self.recorded, reply, error))
            # The simulator may have stopped since, without waiting for the function.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, reply)

        threading.Thread(target=call, name="ollama-simulator-reply", daemon=True).start()
        return future

    def _let_go(self) -> None:
        """Let the model go. That is before the last line, so that a client that has it finds the model gone."""
        held, self._held = self._held, None
        if held is not None:
            held.end()

    async def _struck(self, routes: "Routes") -> Outgoing:
        """Answer the request, and let the answer go wrong if a rule says so."""
        fault = self.state.rules.strike(self.recorded)
        if fault is None:
            return await self._answered(routes)
        self.recorded.outcome.fault = fault.kind
        outgoing = Outgoing() if fault.comes_first else await self._answered(routes)
        try:
            if fault.kind == "dead_runner" and (model := self.state.catalogue.find(self.recorded.model)) is not None:
                self.state.memory.lose(model)
            return apply(fault, outgoing, self.recorded.path)
        except Exception as error:  # noqa: BLE001  nothing but the simulator's own answers may get out
            return self._failed(error)

    async def _answered(self, routes: "Routes") -> Outgoing:
        try:
            return await self._admitted(routes)
        except Refusal as refusal:
            return self._refused(refusal)
        except RecursionError:
            return self._refused(Refusal(400, "exceeded max depth"))
        except Exception as error:  # noqa: BLE001  nothing but the simulator's own answers may get out
            return self._failed(error)

    def _failed(self, error: Exception) -> Outgoing:
        _logger.error("The simulator cannot answer %s", self.recorded, exc_info=error)
        return self._refused(Refusal(500, f"the simulator failed: {type(error).__name__}: {error}"))

    async def _admitted(self, routes: "Routes") -> Outgoing:
        recorded = self.recorded
        origin = recorded.headers.get("Origin", "")
        if not is_host_allowed(recorded.headers.get("Host", "")) or not is_origin_allowed(origin):
            return Outgoing(status=403, content_type=None, length=0)
        methods, self.detail = _find(routes, recorded.path)
        cors = {"Access-Control-Allow-Origin": origin} if origin else {}
        if recorded.method == "OPTIONS" and origin:
            allow = {"Allow": ", ".join(sorted(methods or ()))}
            return Outgoing(status=204, content_type=None, headers={**PREFLIGHT, **allow, **cors}, has_body=False)
        outgoing = await self._routed(methods)
        return replace(outgoing, headers={**outgoing.headers, **cors}) if cors else outgoing

    async def _routed(self, methods: "Mapping[str, Route] | None") -> Outgoing:
        entry = self.state.script.peek(self.recorded)
        if entry is not None and not entry.checks_request:
            return as_given(await self.take(entry), self.recorded)
        route = (methods or {}).get(self.recorded.method)
        if route is not None:
            if entry is not None and not route.speaks:
                return as_given(await self.take(entry), self.recorded)
            outgoing = await route.endpoint(self, entry)
            return replace(outgoing, has_body=False) if self.recorded.method == "HEAD" else outgoing
        if methods is not None:
            allow = {"Allow": ", ".join(sorted(methods))}
            return plain(b"405 method not allowed", status=405, content_type=_TEXT, headers=allow)
        if entry is not None:
            return as_given(await self.take(entry), self.recorded)
        return plain(b"404 page not found", status=404, content_type=_TEXT)

    def _refused(self, refusal: Refusal) -> Outgoing:
        if self.recorded.path.startswith("/v1/"):
            return openai_error(refusal)
        body = encode({"error": refusal.message})
        streams = not isinstance(self.recorded.body, dict) or self.recorded.body.get("stream") is not False  # pyright: ignore[reportUnknownMemberType]
        if refusal.from_runner and streams:
            return Outgoing(status=refusal.status, content_type="application/json", lines=[body])
        return plain(body, status=refusal.status)


Endpoint = Callable[[Exchange, Entry | None], Awaitable[Outgoing]]


@dataclass(frozen=True)
class Route:
    """What answers a method of a path.

    Attributes:
        endpoint: What answers it.
        speaks: Whether it looks at scripted replies itself.
    """

    endpoint: Endpoint
    speaks: bool = False


Routes = Mapping[str, Mapping[str, Route]]


def openai_error(refusal: Refusal) -> Outgoing:
    """Make the response to a refused request in OpenAI's form."""
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    error = {
        "message": refusal.message,
        "type": kinds.get(refusal.status, "api_error"),
        "param": None,
        "code": None,
    }
    # Refused before any model was asked, the server names the character set as well.
    content_type = "application/json" if refusal.status != 400 else "application/json; charset=utf-8"
    return plain(
        encode({"error": error}) + b"\n" * (refusal.status != 400), status=refusal.status, content_type=content_type
    )


def as_given(reply: Reply, recorded: RecordedRequest) -> Outgoing:
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
        return Outgoing(status=reply.status, content_type=NDJSON, lines=lines, reply=reply)
    if reply.is_error and reply.body is None:
        error = phrase_of(reply.status).lower() if reply.error is None else reply.error
        return plain(encode({"error": error}), reply, status=reply.status)
    if reply.body is None:
        raise Refusal(500, f"the reply for {recorded} has text, but nothing speaks there: use body= or lines=")
    body = reply.body
    data = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else encode(body)
    return plain(data, reply, status=reply.status)


def _as_reply(answer: object) -> Reply:
    """Return what a function gave as a reply.

    Raises:
        TypeError: It is none.
    """
    if isinstance(answer, str):
        return Reply(text=answer)
    if isinstance(answer, Reply):
        return answer
    raise TypeError(f"it returned {answer!r:.80}, which is neither a text nor a Reply")


def _find(routes: Routes, path: str) -> tuple[Mapping[str, Route] | None, str]:
    """Find the methods of a path; what follows a path that ends in a slash is its detail."""
    if path in routes and path != "/":
        return routes[path], ""
    folder, _, detail = path.rpartition("/")
    if detail and f"{folder}/" in routes and folder:
        return routes[f"{folder}/"], detail
    return (routes["/"], "") if path == "/" else (None, "")


PREFLIGHT = {
    "Access-Control-Allow-Headers": "Authorization,Content-Type,User-Agent,Accept,X-Requested-With",
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
    "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
}
"""Headers of the answer to a browser that asks whether it may ask."""
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")


def is_host_allowed(host: str) -> bool:
    """Say whether a Host header is accepted: this machine's names and addresses, or none."""
    name = urlsplit(f"//{host}").hostname or ""
    if name in ("", "localhost") or name.endswith(_LOCAL_ENDINGS):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def is_origin_allowed(origin: str) -> bool:
    """Say whether an Origin header is accepted: pages of this machine, desktop apps, or none."""
    if not origin:
        return True
    parts = urlsplit(origin)
    return parts.scheme in _APP_SCHEMES or parts.hostname in ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104  a name to compare
