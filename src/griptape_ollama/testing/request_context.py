"""Context of one request: how it is routed and answered, and the state that all requests share."""

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

from griptape_ollama.testing.chat_lines import error_line, verbatim_line
from griptape_ollama.testing.clock import Clock
from griptape_ollama.testing.faults import Fault, FaultRules, apply_fault
from griptape_ollama.testing.models.generation import ReplyGenerator
from griptape_ollama.testing.models.load_settings import LoadSettings
from griptape_ollama.testing.models.memory import ModelMemory, ModelReservation
from griptape_ollama.testing.models.registry import ModelRegistry
from griptape_ollama.testing.models.simulated_model import InstalledModels, SimulatedModel
from griptape_ollama.testing.request_log import RecordedRequest, RequestLog, UnexpectedRequest, expectation_diff
from griptape_ollama.testing.response_writer import (
    NDJSON,
    PreparedResponse,
    ResponseWriter,
    SentResponse,
    body_response,
    reason_phrase,
)
from griptape_ollama.testing.script import Reply, ReplyFunction, Script, ScriptEntry
from griptape_ollama.testing.wire_format import ErrorResponse, encode

_logger = logging.getLogger(__name__)
_TEXT = "text/plain"
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})")
_REPORTS_CACHED = (0, 34)
_SECOND = 1_000_000_000


@dataclass(kw_only=True)
class ServerState:
    """State that all requests share."""

    installed: InstalledModels
    library: ModelRegistry
    memory: ModelMemory
    clock: Clock
    script: Script
    rules: FaultRules
    log: RequestLog
    version: str
    context_length: int
    plausible: bool
    line_delay: float
    generator: ReplyGenerator = field(default_factory=ReplyGenerator)
    blobs: dict[str, bytes] = field(default_factory=dict[str, bytes])
    downloads: dict[str, int] = field(default_factory=dict[str, int])
    close_port: Callable[[Fault], Awaitable[None]] | None = None
    is_stopping: bool = False

    @property
    def reports_cached(self) -> bool:
        """Whether this version reports how much of a prompt was cached (from 0.34)."""
        match = _VERSION.match(self.version)
        return match is not None and (int(match[1]), int(match[2])) >= _REPORTS_CACHED


class RequestContext:
    """One request and its response.

    Attributes:
        state: State that all requests share.
        recorded: The request.
        detail: Rest of the path after that of the endpoint, such as the digest of a blob.
    """

    def __init__(self, state: ServerState, request: web.BaseRequest, recorded: RecordedRequest) -> None:
        self.state = state
        self.recorded = recorded
        self.detail = ""
        self._request = request
        self._reservation: ModelReservation | None = None

    async def respond(self, routes: "Routes") -> SentResponse:
        """Build the response and write it."""
        try:
            response = await self._respond_with_faults(routes)
            if response.reply.reset not in (True, "before_headers"):
                self.recorded.outcome.status = response.status
            fault = self.state.rules.next_port_closure()
            if fault is not None and self.state.close_port is not None:
                # Before this response ends, so that a client that has read it finds the port closed.
                await self.state.close_port(fault)
                response = replace(response, closes=True)

            def before_last() -> None:
                if response.before_last is not None:
                    response.before_last()
                self._release_model()

            writer = ResponseWriter(self._request, response, self.state.clock, self.state.line_delay, before_last)
            return await writer.send()
        finally:
            self._release_model()

    async def acquire_model(
        self, model: SimulatedModel, load_settings: LoadSettings, keep_alive: float | None
    ) -> ModelReservation:
        """Wait until a model is loaded and has a free slot, and reserve it until the reply is written."""
        self._reservation = await self.state.memory.acquire(model, load_settings, keep_alive)
        outcome = self.recorded.outcome
        outcome.window = load_settings.context_length
        outcome.load_seconds = self._reservation.load_ns / _SECOND
        outcome.wait_seconds = (self.state.clock.now_ns - self._reservation.began_ns) / _SECOND
        return self._reservation

    async def take_reply(self, entry: ScriptEntry) -> Reply:
        """Return the next reply of the script and remove it.

        Raises:
            ErrorResponse: The request does not fit what the reply expects.
        """
        return await self.resolve_reply(self.take_scripted(entry))

    def take_scripted(self, entry: ScriptEntry) -> Reply | ReplyFunction:
        """Return the next reply or reply function without awaiting, so that each is used by one request.

        Raises:
            ErrorResponse: The request does not fit what the reply expects.
        """
        answer = self.state.script.take(entry, self.recorded)
        wrong = expectation_diff(entry.expect, self.recorded) if entry.expect is not None else None
        if wrong is not None:
            self.reject_unexpected(f"it is not what the scripted reply expects:\n{wrong}")
        return answer

    def reject_unexpected(self, reason: str) -> None:
        """Record a request that does not fit the script.

        Raises:
            ErrorResponse: Always.
        """
        self.state.log.add_unexpected(UnexpectedRequest(self.recorded, reason))
        # Not a 5xx, which clients retry.
        raise ErrorResponse(400, f"the simulator did not expect this request: {self.recorded}: {reason}")

    async def resolve_reply(self, answer: Reply | ReplyFunction) -> Reply:
        """Return the reply; a reply function runs in a thread of its own and may block.

        Raises:
            ErrorResponse: The function failed. The status is 400, as clients retry a 5xx.
        """
        if isinstance(answer, Reply):
            return answer
        reply = await self._call_function(answer)
        if isinstance(reply, str):
            raise ErrorResponse(400, reply)
        return reply

    def _call_function(self, function: ReplyFunction) -> asyncio.Future[Reply | str]:
        """Call a function in a thread, and return the future of its reply, or of a text with its error."""
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
                # At once: the test reports it even if the client has disconnected.
                self.state.log.add_unexpected(UnexpectedRequest(self.recorded, reply, error))
            # The simulator may have stopped meanwhile, as it does not wait for functions.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, reply)

        threading.Thread(target=call, name="ollama-simulator-reply", daemon=True).start()
        return future

    def _release_model(self) -> None:
        """Release the model before the last line, so that a client that has read it finds the model released."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()

    async def _respond_with_faults(self, routes: "Routes") -> PreparedResponse:
        """Build the response, and apply the fault that a rule has for it."""
        fault = self.state.rules.next_fault(self.recorded)
        if fault is None:
            return await self._respond_or_error(routes)
        self.recorded.outcome.fault = fault.kind
        response = PreparedResponse() if fault.skips_request else await self._respond_or_error(routes)
        try:
            if fault.kind == "dead_runner" and (model := self.state.installed.find(self.recorded.model)) is not None:
                self.state.memory.drop(model)
            return apply_fault(fault, response, self.recorded.path)
        except Exception as error:  # noqa: BLE001  aiohttp would send an answer of its own
            return self._internal_error(error)

    async def _respond_or_error(self, routes: "Routes") -> PreparedResponse:
        try:
            return await self._check_origin_and_route(routes)
        except ErrorResponse as error_response:
            return self._error_response(error_response)
        except RecursionError:
            return self._error_response(ErrorResponse(400, "exceeded max depth"))
        except Exception as error:  # noqa: BLE001  aiohttp would send an answer of its own
            return self._internal_error(error)

    def _internal_error(self, error: Exception) -> PreparedResponse:
        _logger.error("The simulator cannot answer %s", self.recorded, exc_info=error)
        return self._error_response(ErrorResponse(500, f"the simulator failed: {type(error).__name__}: {error}"))

    async def _check_origin_and_route(self, routes: "Routes") -> PreparedResponse:
        recorded = self.recorded
        origin = recorded.headers.get("Origin", "")
        if not is_host_allowed(recorded.headers.get("Host", "")) or not is_origin_allowed(origin):
            return PreparedResponse(status=403, content_type=None, length=0)
        methods, self.detail = _find_route(routes, recorded.path)
        cors = {"Access-Control-Allow-Origin": origin} if origin else {}
        if recorded.method == "OPTIONS" and origin:
            allow = {"Allow": ", ".join(sorted(methods or ()))}
            return PreparedResponse(
                status=204, content_type=None, headers={**PREFLIGHT, **allow, **cors}, has_body=False
            )
        response = await self._route(methods)
        return replace(response, headers={**response.headers, **cors}) if cors else response

    async def _route(self, methods: "Mapping[str, Route] | None") -> PreparedResponse:
        entry = self.state.script.peek(self.recorded)
        if entry is not None and not entry.checks_request:
            return verbatim_response(await self.take_reply(entry), self.recorded)
        route = (methods or {}).get(self.recorded.method)
        if route is not None:
            if entry is not None and not route.uses_script:
                return verbatim_response(await self.take_reply(entry), self.recorded)
            response = await route.endpoint(self, entry)
            return replace(response, has_body=False) if self.recorded.method == "HEAD" else response
        if methods is not None:
            allow = {"Allow": ", ".join(sorted(methods))}
            return body_response(b"405 method not allowed", status=405, content_type=_TEXT, headers=allow)
        if entry is not None:
            return verbatim_response(await self.take_reply(entry), self.recorded)
        return body_response(b"404 page not found", status=404, content_type=_TEXT)

    def _error_response(self, error_response: ErrorResponse) -> PreparedResponse:
        if self.recorded.path.startswith("/v1/"):
            return openai_error(error_response)
        body = encode({"error": error_response.message})
        streams = not isinstance(self.recorded.body, dict) or self.recorded.body.get("stream") is not False  # pyright: ignore[reportUnknownMemberType]
        if error_response.from_runner and streams:
            return PreparedResponse(status=error_response.status, content_type="application/json", lines=[body])
        return body_response(body, status=error_response.status)


Endpoint = Callable[[RequestContext, ScriptEntry | None], Awaitable[PreparedResponse]]


@dataclass(frozen=True)
class Route:
    """Endpoint of a method and a path.

    Attributes:
        endpoint: Function that builds the response.
        uses_script: Whether the endpoint takes scripted replies itself.
    """

    endpoint: Endpoint
    uses_script: bool = False


Routes = Mapping[str, Mapping[str, Route]]


def openai_error(error_response: ErrorResponse) -> PreparedResponse:
    """Build an error response in the form of OpenAI."""
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    error = {
        "message": error_response.message,
        "type": kinds.get(error_response.status, "api_error"),
        "param": None,
        "code": None,
    }
    # For errors before a model is involved, the server names the character set too.
    content_type = "application/json" if error_response.status != 400 else "application/json; charset=utf-8"
    return body_response(
        encode({"error": error}) + b"\n" * (error_response.status != 400),
        status=error_response.status,
        content_type=content_type,
    )


def verbatim_response(reply: Reply, recorded: RecordedRequest) -> PreparedResponse:
    """Build the response of a reply that contains its body."""
    if reply.raw is not None:
        return PreparedResponse(lines=[reply.raw], reply=reply)
    if reply.lines is not None:
        lines = [verbatim_line(line) for line in reply.lines]
        if isinstance(reply.end_without_done, bool):
            lines = lines[:-1] if reply.end_without_done else lines
        else:
            lines = lines[: reply.end_without_done]
        if reply.error_line is not None:
            count, text = reply.error_line if isinstance(reply.error_line, tuple) else (None, reply.error_line)
            lines = [*lines[:count], error_line(text)]
        return PreparedResponse(status=reply.status, content_type=NDJSON, lines=lines, reply=reply)
    if reply.is_error and reply.body is None:
        error = reason_phrase(reply.status).lower() if reply.error is None else reply.error
        return body_response(encode({"error": error}), reply, status=reply.status)
    if reply.body is None:
        raise ErrorResponse(
            500, f"the reply for {recorded} has text, but nothing generates text there: use body= or lines="
        )
    body = reply.body
    data = body.encode() if isinstance(body, str) else body if isinstance(body, bytes) else encode(body)
    return body_response(data, reply, status=reply.status)


def _as_reply(answer: object) -> Reply:
    """Convert the result of a reply function.

    Raises:
        TypeError: It is neither a text nor a Reply.
    """
    if isinstance(answer, str):
        return Reply(text=answer)
    if isinstance(answer, Reply):
        return answer
    raise TypeError(f"it returned {answer!r:.80}, which is neither a text nor a Reply")


def _find_route(routes: Routes, path: str) -> tuple[Mapping[str, Route] | None, str]:
    """Return the methods of a path, and the rest of the path where the route ends in a slash."""
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
"""Headers of the response to a preflight request of a browser."""
_LOCAL_ENDINGS = (".localhost", ".local", ".internal")
_APP_SCHEMES = ("app", "file", "tauri", "vscode-webview", "vscode-file")


def is_host_allowed(host: str) -> bool:
    """Return whether a Host header is accepted: empty, or a name or address of this machine."""
    name = urlsplit(f"//{host}").hostname or ""
    if name in ("", "localhost") or name.endswith(_LOCAL_ENDINGS):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_private or address.is_unspecified


def is_origin_allowed(origin: str) -> bool:
    """Return whether an Origin header is accepted: empty, or of a local page or a desktop app."""
    if not origin:
        return True
    parts = urlsplit(origin)
    return parts.scheme in _APP_SCHEMES or parts.hostname in ("localhost", "127.0.0.1", "0.0.0.0", "::1")  # noqa: S104  a name to compare
