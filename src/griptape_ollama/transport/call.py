"""One request to the server: its limits, its retries, and the lines of its reply."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import tenacity

from griptape_ollama.errors import (
    OllamaAuthError,
    OllamaConnectionError,
    OllamaError,
)
from griptape_ollama.protocol.ndjson import MAX_LINE_BYTES, NdjsonDecoder, NdjsonError, decode_object
from griptape_ollama.protocol.numbers import reported_count
from griptape_ollama.protocol.stream_kinds import CHAT, StreamKind
from griptape_ollama.transport.call_reports import (
    CallReport,
    Listener,
    record_unreachable,
    record_use,
    reporting,
)
from griptape_ollama.transport.concurrency import ConcurrencyLimit, SlotTimeoutError
from griptape_ollama.transport.connection import Connection
from griptape_ollama.transport.request_body import encode_body
from griptape_ollama.transport.request_errors import MAX_ERROR_BYTES, RequestErrors
from griptape_ollama.transport.response_body import ACCEPTED, STREAMED, PageError, read_reply, reply_chunks
from griptape_ollama.transport.retry import retry_policy
from griptape_ollama.transport.run import Run
from griptape_ollama.transport.server_clock import clock_offset
from griptape_ollama.transport.timeouts import OllamaTimeout

T = TypeVar("T")

# After the last line only the end of the chunked body is missing, which travels with it or right behind it.
_DRAIN_SECONDS = 0.1
# Lines that carry nothing are kept until one does, but not for ever.
_MAX_SILENT_LINES = 1000
_MAX_SILENT_BYTES = 1024 * 1024
_OK = 200
_TOO_LARGE = 413
# What models work for. Questions, loads and unloads do not wait behind it.
_TAKING_SLOTS = frozenset({"/api/chat", "/api/embed"})
_USING = _TAKING_SLOTS | {"/api/generate"}


class Call:
    """One request. It can be made once, and stopped from any thread.

    The wire always streams: time to first token, stalls and cancelling then work alike for all callers, and a reply
    that breaks leaves its partial text.

    Args:
        connection: Connection to the server.
        path: Path of the request, for example `/api/chat`.
        body: Body, sent as JSON; None for none.
        method: HTTP method.
        limits: How long each phase may take; by default those of the run.
        run: The run that the call belongs to; by default one of its own.
        policy: Which failures are tried again, and how often; by default none.
        kind: What the lines of the reply mean, where it comes in lines.
        model: Model that errors name; by default the one that the body asks for.
        listener: Called with the report of this call, beside those that listen to all calls.

    Attributes:
        path: Path of the request.
        model: Model that the request is about; None if it is not about a model.
        time_to_first_token: Seconds from the start of the call to the first line that carried output; None before.
        clock_offset: By how many seconds the server's clock is ahead of this machine's, by the last response.

    Raises:
        OllamaContentError: The body cannot be written as JSON.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        method: str = "POST",
        limits: OllamaTimeout | None = None,
        run: Run | None = None,
        policy: tenacity.Retrying | None = None,
        kind: StreamKind = CHAT,
        model: str | None = None,
        listener: Listener | None = None,
    ) -> None:
        self.time_to_first_token: float | None = None
        self.clock_offset = 0.0
        self._connection = connection
        self.path = path
        self._method = method
        self._content = encode_body(body)
        self._size = len(self._content or b"")
        self.model: str | None = model or (body.get("model") if body else None)
        self._keep_alive: Any = body.get("keep_alive") if body else None
        self._errors = RequestErrors(connection.base_url, self.model, method, path, connection.proxy)
        self._kind = kind
        self._run = run or Run(limits)
        self._limits = limits or self._run.limits
        self._listener = listener
        self._policy = policy or retry_policy(max_attempts=1)
        self._cancellation = self._run.cancellation
        self._started = 0.0
        self._ends_at = math.inf
        self._lines_received = 0
        self._bytes_received = 0
        self._began = False
        self._retries = 0
        self._failure = ""
        self._seconds_in_queue = 0.0
        self._last: Mapping[str, Any] | None = None

    @property
    def host(self) -> str:
        """Address of the server, without user and password."""
        return self._connection.base_url

    def cancel(self) -> None:
        """Stop the call, in any phase, from any thread. The caller gets OllamaCancelledError within milliseconds.

        The connection is closed, so that the server stops generating. Harmless before the start,
        twice, or after the end.
        """
        self._run.cancel()

    def lines(self) -> Generator[dict[str, Any], None, None]:
        """Send the request and yield the lines of the reply, the last of which marks the end.

        Whatever fails before the first line that carries output is tried again by the policy; after it, nothing is.
        Leaving the iterator early closes the connection.

        Raises:
            OllamaConnectionError: Nothing answered, or the line broke before any output.
            OllamaTimeoutError: A limit was reached.
            OllamaResponseError: The server refused.
            OllamaStreamError: The reply broke after it had begun.
            OllamaCancelledError: The call was stopped.
        """
        with self._reported():
            first, rest = self._with_retries(self._begin)
            with contextlib.closing(rest):
                yield from first
                yield from rest

    def document(self, *, max_bytes: int = MAX_LINE_BYTES) -> dict[str, Any]:
        """Send the request and return the one JSON object of the reply.

        Args:
            max_bytes: Longest reply that is read.

        Raises:
            OllamaError: As `lines` does.
        """
        with self._reported():
            return self._with_retries(lambda: self._fetch(max_bytes))

    def confirm(self) -> None:
        """Send the request, where status 200 is the whole answer.

        Raises:
            OllamaError: As `lines` does.
        """
        with self._reported():
            self._with_retries(self._acknowledged)

    def _reported(self) -> contextlib.AbstractContextManager[None]:
        self._started = time.monotonic()
        total = self._limits.total
        self._ends_at = self._run.ends_at if total is None else min(self._started + total, self._run.ends_at)
        return reporting(self._report, lambda: self._last is not None, self._listener)

    def _report(self, error: BaseException | None) -> CallReport:
        last = self._last or {}
        return CallReport(
            host=self.host,
            model=self.model,
            path=self.path,
            seconds=time.monotonic() - self._started,
            time_to_first_token=self.time_to_first_token,
            seconds_in_queue=self._seconds_in_queue,
            retries=self._retries,
            input_tokens=reported_count(last.get("prompt_eval_count")),
            output_tokens=reported_count(last.get("eval_count")),
            cached_tokens=reported_count(last.get("prompt_eval_cached_count")),
            error=error,
        )

    def _with_retries(self, work: Callable[[], T]) -> T:
        policy = self._policy.copy(sleep=self._sleep)
        policy = policy.copy(stop=tenacity.stop_after_attempt(1)) if self._run.has_waited else policy
        return policy(lambda: self._try(work))

    def _try(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OllamaError as error:
            if isinstance(error, (OllamaConnectionError, OllamaAuthError)) and self.path in _TAKING_SLOTS:
                record_unreachable(self.host)
            self._failure = str(error)  # the error itself would keep its frames, and they the call
            raise

    def _begin(self) -> tuple[list[dict[str, Any]], Generator[dict[str, Any], None, None]]:
        """Make one try, up to the first line with output."""
        first: list[dict[str, Any]] = []
        self._lines_received = self._bytes_received = 0
        lines = self._read_lines()
        for line in lines:
            first.append(line)
            if self._kind.is_empty(line):
                lines.close()
                raise self._errors.only_loaded()
            if self._kind.has_output(line) or self._kind.is_last(line):
                break
            if len(first) >= _MAX_SILENT_LINES or self._bytes_received > _MAX_SILENT_BYTES:
                break
        self.time_to_first_token = time.monotonic() - self._started
        self._began = True
        return first, lines

    def _fetch(self, max_bytes: int) -> dict[str, Any]:
        with self._response() as response:
            document = decode_object(read_reply(response, max_bytes))
        self._record_reply(document)
        return document

    def _acknowledged(self) -> None:
        with self._response() as response:
            read_reply(response, MAX_ERROR_BYTES)

    @contextlib.contextmanager
    def _response(self, *, accepted: str = ACCEPTED) -> Generator[httpx.Response, None, None]:
        """Send the request and yield the response if its status is 200; only our own errors leave the block."""
        try:
            with self._slot(), self._send(accepted) as response:
                self.clock_offset = clock_offset(response.headers)
                self._record_size(response.status_code)
                if response.status_code != _OK:
                    refused = self._errors.refused(response, self._size)
                    self._check_stopped()  # which may be why its body ended
                    raise refused
                yield response
        except (
            httpx.HTTPError,
            httpx.StreamError,
            httpx.InvalidURL,
            UnicodeEncodeError,
            NdjsonError,
            PageError,
        ) as error:
            # What the HTTP library refuses to send is quoted in its error, and may be a secret. How a connection breaks
            # that was shut down on purpose does not matter.
            is_secret = isinstance(error, (httpx.LocalProtocolError, httpx.InvalidURL, UnicodeError))
            raise self._translate(error) from (None if is_secret or self._cancellation.is_cancelled else error)
        finally:
            self._cancellation.release()

    def _record_reply(self, last: Mapping[str, Any]) -> None:
        self._last = last
        if self.path in _USING and self.model:
            record_use(self.host, self.model, self._keep_alive, last)

    def _record_size(self, status: int) -> None:
        limits = self._connection.body_limits
        if status == _OK:
            limits.record_accepted(self.path, self._size)
        elif status == _TOO_LARGE:
            limits.record_refused(self.path, self._size)

    @contextlib.contextmanager
    def _slot(self) -> Generator[None, None, None]:
        """Hold one of the slots of the server, where they are limited."""
        admission = self._connection.admission
        if admission is None or self.path not in _TAKING_SLOTS:
            yield
            return
        with contextlib.ExitStack() as held:
            try:
                slot = admission.slot(self._cancellation, self._shorter(admission.max_wait))
                self._seconds_in_queue += held.enter_context(slot)
            except SlotTimeoutError as error:
                self._seconds_in_queue += error.seconds
                raise self._without_slot(admission, error) from None
            yield

    def _without_slot(self, admission: ConcurrencyLimit, error: SlotTimeoutError) -> OllamaError:
        if self._cancellation.is_cancelled:
            return self._errors.cancelled()
        if self._total_is_over:
            return self._timed_out()
        seconds = error.seconds if admission.max_wait is None else admission.max_wait
        return self._errors.no_slot(seconds, slots=admission.limit, ahead=error.ahead)

    def _send(self, accepted: str) -> contextlib.AbstractContextManager[httpx.Response]:
        self._check_stopped()
        if self._total_is_over:  # used up by the facts, or by the wait for a slot
            raise self._timed_out()
        first_token = self._shorter(self._limits.first_token)
        self._cancellation.set_limit(first_token)
        limits = {
            **dict.fromkeys(("read", "write", "pool"), first_token),
            "connect": self._shorter(self._limits.connect),
        }
        return self._connection.send(
            self._cancellation, self._method, self.path, self._content, limits, accepted=accepted
        )

    def _read_lines(self) -> Generator[dict[str, Any], None, None]:
        """Make one try, and yield the lines of its reply."""
        between, ends_at = self._limits.between_tokens, self._ends_at
        last_field, last_value = self._kind.last_field, self._kind.last_value
        with self._response(accepted=STREAMED) as response:
            cancellation = self._cancellation
            # Where the socket is not ours (a client with its own transport), this is what sets the limit.
            response.request.extensions["timeout"]["read"] = self._shorter(between)
            feed = NdjsonDecoder(kind=self._kind).feed
            chunks = reply_chunks(response)
            for chunk in itertools.chain(chunks, (b"\n",)):  # the last line may come without its end
                received = self._lines_received
                self._bytes_received += len(chunk)
                for line in feed(chunk):
                    if cancellation.is_cancelled or line.get("error"):
                        raise self._errors.cancelled() if cancellation.is_cancelled else self._error_line(line)
                    self._lines_received += 1
                    if line.get(last_field) == last_value:
                        self._record_reply(line)
                        yield line
                        self._drain(chunks)
                        return
                    yield line
                now = time.monotonic()
                if self._lines_received > received:
                    deadline = ends_at if between is None else min(now + between, ends_at)
                    cancellation.deadline = None if deadline == math.inf else deadline
                if cancellation.is_cancelled:
                    raise self._errors.cancelled()
                if now >= ends_at or (cancellation.deadline is not None and now > cancellation.deadline):
                    raise self._timed_out()
            raise self._ended()

    def _drain(self, chunks: Iterator[bytes]) -> None:
        """Read what is left, so that the connection can be used again."""
        can_be_limited = self._cancellation.is_bound
        self._cancellation.release()
        self._cancellation.set_limit(_DRAIN_SECONDS)
        if can_be_limited:
            try:
                for _ in chunks:
                    break  # More than the end of the body: not worth reading, the connection is closed instead.
            except httpx.HTTPError:
                pass  # The reply is whole; only the connection is lost.

    def _translate(self, error: Exception) -> OllamaError:
        """Convert an exception of the HTTP library or of the decoder into one of our errors."""
        errors = self._errors
        if self._cancellation.is_cancelled:
            return errors.cancelled()
        if isinstance(error, httpx.TimeoutException):
            return self._timed_out(type(error))
        if isinstance(error, PageError):
            return errors.page(error)
        if isinstance(error, NdjsonError):
            is_begun = self._began
            return errors.broken(str(error), self._lines_received) if is_begun else errors.no_reply_of_ollama(error)
        if isinstance(error, httpx.ConnectError):
            return errors.not_connected(error)
        if isinstance(error, httpx.ProxyError):
            return errors.proxy_refused(error)
        if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError, httpx.DecodingError)):
            return self._disconnected(error)
        return errors.cannot_be_sent(error)

    def _disconnected(self, error: Exception) -> OllamaError:
        if self._began:
            return self._errors.broken(self._errors.broken_connection(error), self._lines_received)
        return self._errors.no_answer(error, stale=self._cancellation.is_stale)

    def _ended(self) -> OllamaError:
        self._check_stopped()
        return self._errors.broken("it ended without its last line", self._lines_received, retryable=not self._began)

    def _error_line(self, line: dict[str, Any]) -> OllamaError:
        error = self._errors.error_line(line)
        return self._errors.error_after(error, self._lines_received) if self._began else error

    def _timed_out(self, kind: type[httpx.TimeoutException] = httpx.ReadTimeout) -> OllamaError:
        name, what = self._limit_reached(kind)
        seconds: float | None = getattr(self._limits, "first_token" if name == "slot" else name)
        return self._errors.timed_out(name, what, seconds)

    def _limit_reached(self, kind: type[httpx.TimeoutException]) -> tuple[str, str]:
        """Return the name of the limit, and what it means."""
        if self._total_is_over:
            return "total", "took longer than {} in all"
        if kind is httpx.PoolTimeout:
            return "slot", "was not asked: no connection of the client became free within {}"
        if kind is httpx.ConnectTimeout:
            return "connect", "did not accept a connection within {}; is the address right?"
        if self._lines_received:
            unit = self._kind.unit
            return "between_tokens", f"sent no {unit} for {{}} after {self._lines_received} {unit}s"
        return "first_token", (
            f"sent no first {self._kind.unit} within {{}}; the model may be loading, or other requests are in the queue"
        )

    def _check_stopped(self) -> None:
        if self._cancellation.is_cancelled:
            raise self._errors.cancelled()

    def _sleep(self, seconds: float) -> None:
        self._cancellation.sleep(self._shorter(seconds) or 0.0)
        self._check_stopped()
        if self._total_is_over:
            error = self._timed_out()
            error.args = (f"{error} The last try failed: {self._failure}",)
            raise error
        self._retries += 1

    @property
    def _total_is_over(self) -> bool:
        return time.monotonic() >= self._ends_at

    def _shorter(self, seconds: float | None) -> float | None:
        """Cut a limit to what is left of the total ones: the call's own, and that of the run."""
        if self._ends_at == math.inf:
            return seconds
        left = max(self._ends_at - time.monotonic(), 0.001)
        return left if seconds is None else min(seconds, left)
