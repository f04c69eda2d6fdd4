"""Replies that a test scripts, and the queue that holds them."""

import inspect
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from griptape_ollama.protocol.model_name import is_same_model
from griptape_ollama.testing.request_log import RecordedRequest

Line = Mapping[str, Any] | str | bytes
ToolCall = tuple[str, Mapping[str, Any]] | Mapping[str, Any]
GENERATION_PATHS = ("/api/chat", "/api/generate", "/v1/chat/completions")
"""Paths of endpoints that generate replies."""
_CHUNKINGS = ("lines", "whole", "bytes")
_RESETS = ("before_headers", "after_headers")


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One reply: its content, and how it is sent.

    The content is one of four kinds. With `text`, `thinking` and `tool_calls` the model generates the reply: the
    simulator builds the lines, applies the request's `num_predict` and `stop`, and rejects requests that the real
    server rejects. `lines`, `body` with or without `status`, and `raw` are sent unchanged for any request.

    Attributes:
        text: Answer; a string is streamed word by word, a sequence one item per line.
        thinking: Reasoning before the answer, streamed likewise.
        tool_calls: Tool calls: `("get_weather", {"city": "Paris"})`, `{"name": ..., "arguments": ...}`, or a whole
            call with a `function` key, which is sent as it is (no id is added).
        done_reason: Reason in the last line. By default `stop`, or `length` where `num_predict` cut the answer;
            when set, nothing is cut.
        final: Fields to change in the last line; None removes a field.
        lines: Lines of the body: objects are encoded, text and bytes are sent unchanged; a newline is added to each.
        body: A single body in place of lines: text and bytes unchanged, anything else as JSON.
        status: HTTP status; from 400 up the body is `{"error": error}`.
        error: Error text for a status from 400 up.
        headers: Headers to add or replace.
        content_type: Content type in place of the usual one.
        raw: Whole HTTP response, written to the socket unchanged; the connection is closed after it.
        chunking: HTTP chunks of the body: `"lines"` (one line each), `"whole"` (all in one),
            `"bytes"` (one byte each), or pieces of this many bytes.
        headers_delay: Seconds before the headers.
        line_delay: Seconds between lines. By default that of the simulator.
        wait: Event to wait for before the headers.
        pause: `(n, event)`: send nothing after n lines until the event is set.
        cut: Close the connection after this many lines, without the end of the HTTP body. A body that is not
            streamed counts as two lines, its halves; likewise for `reset`.
        reset: Reset the connection (RST): `"before_headers"` (or True), `"after_headers"`, or after n lines.
        end_without_done: End the HTTP body properly after n lines (True: after all), without the last line.
        error_line: Error line in place of the rest: `(n, text)` after n lines, or a text after all of them.
        check: Whether to reject requests that the real server rejects. By default only generated replies do.
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
            normalize_tool_call(call)

    @property
    def is_spoken(self) -> bool:
        """Whether the model generates the reply, as opposed to a body that the test wrote."""
        return self.lines is None and self.body is None and self.raw is None and not self.is_error

    @property
    def is_error(self) -> bool:
        """Whether the status is an error."""
        return self.status >= 400

    @property
    def checks_request(self) -> bool:
        """Whether requests that the real server rejects are rejected."""
        return self.is_spoken if self.check is None else self.check

    def _check_content(self) -> None:
        for name in ("text", "thinking"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (
                isinstance(value, Sequence) and all(isinstance(piece, str) for piece in value)  # pyright: ignore[reportUnknownVariableType]
            ):
                raise TypeError(f"{name}={value!r:.80}: use a text, or a sequence of texts")
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


def normalize_tool_call(call: ToolCall) -> dict[str, Any]:
    """Convert a tool call of a reply to the form `{"function": {"name", "arguments"}}`.

    Raises:
        ValueError: It has none of the forms that `Reply.tool_calls` allows.
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
class ScriptEntry:
    """A reply in the queue, with the requests that it is for and the fields that they must have."""

    answer: Reply | ReplyFunction
    path: str | None
    model: str | None
    times: int | None
    expect: Mapping[str, Any] | None = None

    def matches(self, request: RecordedRequest) -> bool:
        """Return whether the reply is for this request."""
        return self.path in (None, request.path) and (self.model is None or is_same_model(self.model, request.model))

    @property
    def checks_request(self) -> bool:
        """Whether requests that the real server rejects are rejected."""
        return self.answer.checks_request if isinstance(self.answer, Reply) else True


def script_entry(
    answer: str | Reply | ReplyFunction | None,
    fields: dict[str, Any],
    *,
    path: str | None,
    model: str | None,
    times: int | None,
    expect: Mapping[str, Any] | None,
) -> ScriptEntry:
    """Build an entry from the arguments of `OllamaSimulator.reply`, and check them."""
    if inspect.iscoroutinefunction(answer):
        raise TypeError("a reply function runs in a thread: use `def`, not `async def`")
    if times is not None and times < 1:
        raise ValueError(f"times={times!r}: use a number from 1, or None for always")
    if isinstance(answer, Reply) or callable(answer):
        if fields:
            raise TypeError(f"fields {sorted(fields)} go into the Reply, not beside it")
        return ScriptEntry(answer=answer, path=path, model=model, times=times, expect=expect)
    if unknown := fields.keys() - Reply.__dataclass_fields__:
        known = ", ".join(Reply.__dataclass_fields__)
        raise TypeError(f"a reply has no field {', '.join(sorted(unknown))}; it has {known}")
    if answer is not None:
        fields["text"] = answer
    reply = Reply(**fields)
    if reply.is_spoken and path not in (None, *GENERATION_PATHS):
        raise ValueError(
            f"only {', '.join(GENERATION_PATHS)} generate text; for {path} use body=, lines=, raw= or status="
        )
    return ScriptEntry(answer=reply, path=path, model=model, times=times, expect=expect)


class Script:
    """Queue of replies, first in, first out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: deque[ScriptEntry] = deque()
        self._latest: RecordedRequest | None = None
        self._count_use = 0

    @property
    def latest(self) -> tuple[RecordedRequest | None, int]:
        """The latest request that had a reply, and the number of replies used."""
        with self._lock:
            return self._latest, self._count_use

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def has_path(self, path: str) -> bool:
        """Return whether the queue has a reply for a path."""
        with self._lock:
            return any(entry.path == path for entry in self._entries)

    def add(self, entry: ScriptEntry) -> None:
        """Append a reply to the queue."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Remove all replies."""
        with self._lock:
            self._entries.clear()
            self._latest = None
            self._count_use = 0

    def peek(self, request: RecordedRequest) -> ScriptEntry | None:
        """Return the first reply for this request and leave it in the queue."""
        with self._lock:
            return next((entry for entry in self._entries if entry.matches(request)), None)

    def take(self, entry: ScriptEntry, request: RecordedRequest) -> Reply | ReplyFunction:
        """Use an entry once for a request; the last use removes it from the queue."""
        with self._lock:
            self._latest = request
            self._count_use += 1
            if entry.times is not None:
                entry.times -= 1
                if entry.times == 0:
                    self._entries.remove(entry)
            return entry.answer
