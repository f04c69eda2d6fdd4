"""What a test tells the simulator to say: replies, and the queue they wait in."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from griptape_ollama.protocol.model_name import is_same_model
from griptape_ollama.testing.request_log import RecordedRequest

Line = Mapping[str, Any] | str | bytes
ToolCall = tuple[str, Mapping[str, Any]] | Mapping[str, Any]
_CHUNKINGS = ("lines", "whole", "bytes")
_RESETS = ("before_headers", "after_headers")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One reply: what it says, and how it travels.

    What it says is one of four kinds. `text`, `thinking` and `tool_calls` are spoken by the model: the simulator
    makes the lines, applies the request's `num_predict` and `stop`, and refuses requests that the real server
    refuses. `lines`, `body` with or without `status`, and `raw` are sent as they are, whatever the request was.

    Attributes:
        text: Answer; a string is streamed word by word, a sequence one item per line.
        thinking: Reasoning before the answer, streamed likewise.
        tool_calls: Calls: `("get_weather", {"city": "Paris"})`, `{"name": ..., "arguments": ...}`, or a whole
            call with a `function` key, which is sent as it is (no id is added).
        done_reason: Reason in the last line. By default `stop`, or `length` where `num_predict` cut the answer;
            when given, nothing is cut.
        final: Fields to change in the last line; None takes a field out.
        lines: Lines as they are: objects are encoded, text and bytes are sent unchanged; each gets its newline.
        body: A single body in place of lines: text and bytes as they are, anything else as JSON.
        status: HTTP status; from 400 up the body is `{"error": error}`.
        error: Error text for a status from 400 up.
        headers: Headers to add or replace.
        content_type: Content type in place of the usual one.
        raw: Whole HTTP response, written to the socket as it is; the connection is closed after it.
        chunking: How the body is cut into HTTP chunks: `"lines"` (one line each), `"whole"` (all in one),
            `"bytes"` (one byte each), or pieces of this many bytes.
        headers_delay: Seconds before the headers.
        line_delay: Seconds between lines. By default the pace of the simulator.
        wait: Event to wait for before the headers.
        pause: `(n, event)`: silence after n lines until the event is set.
        cut: Close the connection after this many lines, without the end of the HTTP body. A body that is not
            streamed counts as two lines, its halves; so for `reset`.
        reset: Reset the connection (RST): `"before_headers"` (or True), `"after_headers"`, or after n lines.
        end_without_done: End the HTTP body properly after n lines (True: after all), without the last line.
        error_line: Error line in place of the rest: `(n, text)` after n lines, or a text after all of them.
        check: Whether to refuse what the real server refuses. By default only replies spoken by the model do.
    """

    text: str | Sequence[str] = ""
    thinking: str | Sequence[str] = ""
    tool_calls: Sequence[ToolCall] = ()
    done_reason: str | None = None
    final: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lines: Sequence[Line] | None = None
    body: Any = None
    status: int = 200
    error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    content_type: str | None = None
    raw: bytes | None = None
    chunking: Literal["lines", "whole", "bytes"] | int = "lines"
    headers_delay: float = 0
    line_delay: float | None = None
    wait: threading.Event | None = None
    pause: tuple[int, threading.Event] | None = None
    cut: int | None = None
    reset: bool | Literal["before_headers", "after_headers"] | int = False
    end_without_done: bool | int = False
    error_line: str | tuple[int, str] | None = None
    check: bool | None = None

    def __post_init__(self) -> None:
        self._check_content()
        self._check_wire()
        for call in self.tool_calls:
            normal_call(call)

    @property
    def is_spoken(self) -> bool:
        """Whether the model says it, rather than the test the bytes."""
        return self.lines is None and self.body is None and self.raw is None and not self.is_error

    @property
    def is_error(self) -> bool:
        """Whether the status is an error."""
        return self.status >= 400

    @property
    def checks_request(self) -> bool:
        """Whether a request that the real server refuses is refused."""
        return self.is_spoken if self.check is None else self.check

    def _check_content(self) -> None:
        for name in ("text", "thinking"):
            said = getattr(self, name)
            if not isinstance(said, str) and not (
                isinstance(said, Sequence) and all(isinstance(piece, str) for piece in said)  # pyright: ignore[reportUnknownVariableType]
            ):
                raise TypeError(f"{name}={said!r:.80}: use a text, or a sequence of texts")
        kinds = {
            "text, thinking or tool_calls": bool(self.text or self.thinking or self.tool_calls),
            "lines": self.lines is not None,
            "body": self.body is not None,
            "raw": self.raw is not None,
            "error": self.error is not None,
        }
        given = [name for name, is_given in kinds.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"a reply is one of these, not several: {', '.join(given)}")
        if not 200 <= self.status <= 599:
            raise ValueError(f"status={self.status!r} is not the status of a reply (200 to 599)")
        if self.error is not None and not self.is_error:
            raise ValueError("error= needs status= (400 or more); for an error inside a stream use error_line=")
        if self.is_error and (self.text or self.thinking or self.tool_calls):
            raise ValueError(f"with status={self.status} say error= or body=, not text, thinking or tool_calls")

    def _check_wire(self) -> None:
        chunks = self.chunking
        if isinstance(chunks, bool) or (chunks < 1 if isinstance(chunks, int) else chunks not in _CHUNKINGS):
            raise ValueError(f"chunking={chunks!r}: use 'lines', 'whole', 'bytes' or a number of bytes from 1")
        if isinstance(self.reset, str) and self.reset not in _RESETS:
            raise ValueError(f"reset={self.reset!r}: use True, 'before_headers', 'after_headers' or a number of lines")
        faults = {
            "cut": self.cut is not None,
            "reset": self.reset is not False,
            "end_without_done": self.end_without_done is not False,
            "error_line": self.error_line is not None,
        }
        given = [name for name, is_given in faults.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"a reply ends in one way, not several: {', '.join(given)}")
        if self.headers_delay < 0 or (self.line_delay or 0) < 0:
            raise ValueError("delays are seconds and not negative")
        counts = {
            "cut": self.cut,
            "reset": self.reset,
            "end_without_done": self.end_without_done,
            "pause": self.pause and self.pause[0],
            "error_line": self.error_line[0] if isinstance(self.error_line, tuple) else 0,
        }
        for name, count in counts.items():
            if isinstance(count, int) and count < 0:
                raise ValueError(f"{name}: a number of lines is not negative")


def normal_call(call: ToolCall) -> dict[str, Any]:
    """Bring a tool call of a reply into the form `{"function": {"name", "arguments"}}`.

    Raises:
        ValueError: It is none of the forms that `Reply.tool_calls` allows.
    """
    if isinstance(call, Mapping):
        if "function" in call:
            return dict(call)
        if "name" in call:
            return {"function": {"name": call["name"], "arguments": call.get("arguments", {})}}
    elif len(call) == 2 and isinstance(call[1], Mapping):  # pyright: ignore[reportUnnecessaryComparison, reportUnnecessaryIsInstance]
        return {"function": {"name": call[0], "arguments": dict(call[1])}}
    raise ValueError(f"tool call {call!r}: use (name, arguments) or an object with `name` or `function`")


ReplyFunction = Callable[[RecordedRequest], Reply | str]


@dataclass(kw_only=True, eq=False)
class Entry:
    """A reply in the queue, with the requests that it is for and what they have to say."""

    answer: Reply | ReplyFunction
    path: str | None
    model: str | None
    times: int | None
    expect: Mapping[str, Any] | None = None

    def fits(self, request: RecordedRequest) -> bool:
        """Say whether the reply is for this request."""
        return self.path in (None, request.path) and (self.model is None or is_same_model(self.model, request.model))

    @property
    def checks_request(self) -> bool:
        """Whether a request that the real server refuses is refused."""
        return self.answer.checks_request if isinstance(self.answer, Reply) else True


class Script:
    """Replies that wait for their requests, first in, first out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[Entry] = deque()
        self._latest: RecordedRequest | None = None
        self._used = 0

    @property
    def latest(self) -> tuple[RecordedRequest | None, int]:
        """The request that had a reply latest, and how many replies were used."""
        with self._lock:
            return self._latest, self._used

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def has_path(self, path: str) -> bool:
        """Say whether a reply waits for requests of a path."""
        with self._lock:
            return any(entry.path == path for entry in self._entries)

    def add(self, entry: Entry) -> None:
        """Put a reply at the end of the queue."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Drop all replies."""
        with self._lock:
            self._entries.clear()
            self._latest = None
            self._used = 0

    def peek(self, request: RecordedRequest) -> Entry | None:
        """Return the first reply for this request and leave it in the queue."""
        with self._lock:
            return next((entry for entry in self._entries if entry.fits(request)), None)

    def take(self, entry: Entry, request: RecordedRequest) -> Reply | ReplyFunction:
        """Use an entry once for a request; the last use takes it out of the queue."""
        with self._lock:
            self._latest = request
            self._used += 1
            if entry.times is not None:
                entry.times -= 1
                if entry.times == 0:
                    self._entries.remove(entry)
            return entry.answer
