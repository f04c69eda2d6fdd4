"""Faults of responses, and the rules that choose the requests they affect."""

import itertools
import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from griptape_ollama.protocol.model_name import is_same_model
from griptape_ollama.testing.request_log import RecordedRequest
from griptape_ollama.testing.response_writer import NDJSON, PreparedResponse, TimedLine, body_response, reason_phrase
from griptape_ollama.testing.script import Reply
from griptape_ollama.testing.wire_format import encode

FaultKind = Literal[
    "refuse", "reset", "cut", "no_done", "error_line", "dead_runner", "status", "slow_headers", "slow_tokens", "bytes",
    "garbage", "huge_line", "content_type", "redirect",
]  # fmt: skip
_DETAILS: Mapping[str, frozenset[str]] = {
    "refuse": frozenset({"seconds"}),
    "reset": frozenset({"at", "after", "mid_line"}),
    "cut": frozenset({"after", "mid_line"}),
    "no_done": frozenset({"after"}),
    "error_line": frozenset({"after", "error"}),
    "dead_runner": frozenset({"after"}),
    "status": frozenset({"status", "error", "headers"}),
    "slow_headers": frozenset({"seconds"}),
    "slow_tokens": frozenset({"seconds"}),
    "bytes": frozenset(),
    "garbage": frozenset({"after", "data"}),
    "huge_line": frozenset({"after", "size"}),
    "content_type": frozenset({"content_type"}),
    "redirect": frozenset({"status", "location"}),
}
_NEEDED = {"slow_headers": "seconds", "slow_tokens": "seconds", "content_type": "content_type", "redirect": "location"}
# The effect of the request, such as an installed model, does not happen.
_UNFINISHED = ("reset", "cut", "no_done", "error_line", "dead_runner")
_DEFAULT_STATUS = {"status": 500, "redirect": 307}
_BODILESS = (204, 304)
# Error of an embedding request whose runner dies: the most frequent of several texts, with the status of each path
# (0.33.0-rc2).
_DEAD_EMBED = 'do embedding request: Post "http://127.0.0.1:36267/v1/embeddings": EOF'
_DEAD_EMBED_STATUS = {"/api/embed": 400, "/api/embeddings": 500}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and math.isfinite(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, [*value.keys(), *value.values()]))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]


_FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "after": (_is_int, "a number of lines"),
    "mid_line": (lambda value: isinstance(value, bool), "True or False"),
    "at": (lambda value: value in ("before_headers", "after_headers"), "'before_headers' or 'after_headers'"),
    "seconds": (_is_seconds, "a number"),
    "status": (lambda value: _is_int(value) and 200 <= value <= 599, "a number from 200 to 599"),
    "error": (_is_text, "a text"),
    "headers": (_are_headers, "texts by name"),
    "data": (lambda value: isinstance(value, bytes), "bytes"),
    "size": (lambda value: _is_int(value) and value >= 0, "a number of bytes"),
    "content_type": (_is_text, "a text"),
    "location": (_is_text, "a text"),
}
"""Check of each detail, and what it must be."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of a response.

    Attributes:
        kind: Kind of the fault: see `OllamaSimulator.fault`.
        after: Lines sent before it. A body that is not streamed counts as two, its halves.
        mid_line: Whether half of the next line is sent too.
        at: Where a connection is reset if not after lines: `"before_headers"` or `"after_headers"`.
        seconds: Delay, or time for which the port is closed.
        status: HTTP status.
        error: Text of the error.
        headers: Headers of a response with an error status.
        data: Bytes that are not JSON.
        size: Bytes of the huge line.
        content_type: Wrong content type.
        location: Target of a redirect.
    """

    kind: FaultKind
    after: int | None = None
    mid_line: bool = False
    at: Literal["before_headers", "after_headers"] | None = None
    seconds: float | None = None
    status: int | None = None
    error: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    data: bytes = b"\x00\xff this is no JSON {"
    size: int = 10_000_000
    content_type: str | None = None
    location: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in _DETAILS:
            raise ValueError(f"no fault is called {self.kind!r}; there are {', '.join(_DETAILS)}")
        plain_fault: dict[str, object] = {name: one.default for name, one in Fault.__dataclass_fields__.items()}
        plain_fault |= {"kind": self.kind, "headers": {}}
        given = {name for name, default in plain_fault.items() if getattr(self, name) != default}
        if unfit := given - _DETAILS[self.kind]:
            known = ", ".join(sorted(_DETAILS[self.kind])) or "none"
            raise ValueError(f"fault {self.kind!r} has no {', '.join(sorted(unfit))}; its details are: {known}")
        needed = _NEEDED.get(self.kind)
        if needed and needed not in given:
            raise ValueError(f"fault {self.kind!r} needs {needed}=")
        for name in sorted(given - {"kind"}):
            is_right, form = _FORMS[name]
            if not is_right(getattr(self, name)):
                raise ValueError(f"fault {self.kind!r}: {name}={getattr(self, name)!r:.80} is not {form}")
        if self.at is not None and self.after is not None:
            raise ValueError(f"fault {self.kind!r}: at= and after= are two places")
        if (self.after or 0) < 0 or (self.seconds or 0) < 0:
            raise ValueError(f"fault {self.kind!r}: neither lines nor seconds are negative")
        if self.mid_line and self.after is None:
            raise ValueError(f"fault {self.kind!r}: mid_line= needs after=")

    @property
    def skips_request(self) -> bool:
        """Whether the fault replaces the response, so that the server does not process the request."""
        return self.kind in ("status", "redirect") or (self.kind == "reset" and self.after is None)


def apply_fault(fault: Fault, response: PreparedResponse, path: str) -> PreparedResponse:
    """Apply a fault to the response to a request for a path."""
    if fault.kind in _UNFINISHED:
        response = replace(response, before_last=None)
    if fault.kind == "dead_runner" and path in _DEAD_EMBED_STATUS:
        return body_response(encode({"error": _DEAD_EMBED}), status=_DEAD_EMBED_STATUS[path])
    return _APPLY[fault.kind](fault, response)


def _reset(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    if fault.after is None:
        return replace(response, reply=_with_ending(response.reply, reset=fault.at or "before_headers"))
    lines, count = _lines_before(fault, response)
    return replace(response, lines=lines, reply=_with_ending(response.reply, reset=count))


def _cut(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    lines, count = _lines_before(fault, response)
    return replace(response, lines=lines, reply=_with_ending(response.reply, cut=count))


def _no_done(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    if response.content_type != NDJSON:
        return replace(response, lines=(), length=0)
    lines = _without_last(response.lines) if fault.after is None else itertools.islice(response.lines, fault.after)
    return replace(response, lines=lines)


def _error_line(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    error = encode({"error": fault.error or "an error was encountered while running the model: unexpected EOF"})
    if response.content_type != NDJSON:
        return body_response(error, status=500)
    lines_before = itertools.islice(response.lines, 1 if fault.after is None else fault.after)
    return replace(response, lines=itertools.chain(lines_before, [error + b"\n"]))


def _status(fault: Fault, _outgoing: PreparedResponse) -> PreparedResponse:
    status = fault.status or _DEFAULT_STATUS["status"]
    if status in _BODILESS:
        return PreparedResponse(status=status, content_type=None, headers=fault.headers, has_body=False)
    error = reason_phrase(status).lower() if fault.error is None else fault.error
    return body_response(encode({"error": error}), status=status, headers=fault.headers)


def _redirect(fault: Fault, _outgoing: PreparedResponse) -> PreparedResponse:
    headers = {"Location": fault.location or ""}
    return body_response(b"", status=fault.status or _DEFAULT_STATUS["redirect"], headers=headers, content_type=None)


def _slow_headers(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    return replace(response, reply=replace(response.reply, headers_delay=fault.seconds or 0))


def _slow_tokens(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    return replace(response, reply=replace(response.reply, line_delay=fault.seconds))


def _bytes(_fault: Fault, response: PreparedResponse) -> PreparedResponse:
    return replace(response, reply=replace(response.reply, chunking="bytes"))


def _garbage(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    if response.content_type != NDJSON:
        return replace(response, lines=[fault.data], length=len(fault.data))
    return replace(response, lines=_with_inserted_line(fault, response.lines, fault.data + b"\n"))


def _huge_line(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    if response.content_type != NDJSON:
        # With white space before it the body is still JSON.
        return replace(response, lines=itertools.chain([b" " * fault.size], response.lines), length=None)
    line = {"message": {"role": "assistant", "content": "x" * fault.size}, "response": "", "done": False}
    return replace(response, lines=_with_inserted_line(fault, response.lines, encode(line) + b"\n"))


def _content_type(fault: Fault, response: PreparedResponse) -> PreparedResponse:
    return replace(response, reply=replace(response.reply, content_type=fault.content_type))


_APPLY: Mapping[str, Callable[[Fault, PreparedResponse], PreparedResponse]] = {
    "reset": _reset,
    "cut": _cut,
    "no_done": _no_done,
    "error_line": _error_line,
    "dead_runner": _error_line,
    "status": _status,
    "redirect": _redirect,
    "slow_headers": _slow_headers,
    "slow_tokens": _slow_tokens,
    "bytes": _bytes,
    "garbage": _garbage,
    "huge_line": _huge_line,
    "content_type": _content_type,
}


def _with_ending(reply: Reply, **ending: Any) -> Reply:
    """Return a reply with another ending."""
    return replace(reply, **{"cut": None, "reset": False, "end_without_done": False, "error_line": None, **ending})


def _lines_before(fault: Fault, response: PreparedResponse) -> tuple[Iterable[bytes | TimedLine], int]:
    """Return the lines up to the break, and their number."""
    after = 1 if fault.after is None else fault.after
    lines = response.lines if response.content_type == NDJSON else _halves(response.lines)
    return (_with_half(lines, after), after + 1) if fault.mid_line else (lines, after)


def _halves(lines: Iterable[bytes | TimedLine]) -> Iterator[bytes | TimedLine]:
    body = b"".join(line for line in lines if isinstance(line, bytes))
    yield body[: len(body) // 2]
    yield body[len(body) // 2 :]


def _with_half(lines: Iterable[bytes | TimedLine], after: int) -> Iterator[bytes | TimedLine]:
    for number, line in enumerate(lines):
        if number < after:
            yield line
        else:
            data = line if isinstance(line, bytes) else line.data
            yield data[: len(data) // 2]
            yield b""
            return


def _without_last(lines: Iterable[bytes | TimedLine]) -> Iterator[bytes | TimedLine]:
    reservation: list[bytes | TimedLine] = []
    for line in lines:
        yield from reservation
        reservation = [line]


def _with_inserted_line(fault: Fault, lines: Iterable[bytes | TimedLine], line: bytes) -> Iterator[bytes | TimedLine]:
    rest = iter(lines)
    yield from itertools.islice(rest, 1 if fault.after is None else fault.after)
    yield line
    yield from rest


@dataclass(kw_only=True, eq=False)
class FaultRule:
    """A fault and the requests that it affects.

    Attributes:
        fault: The fault.
        path: Path of the requests that it counts, None for any.
        model: Their model, None for any.
        n: Number of the first affected request, counted from 1 since the rule was added.
        times: Number of affected requests, None for all from there on.
        probability: Probability that each of those is affected.
        seed: Seed of the random numbers: the same seed affects the same requests.
        seen: Number of requests counted so far.
        hits: Number of requests affected so far, without those of earlier rules.
    """

    fault: Fault
    path: str | None = "/api/chat"
    model: str | None = None
    n: int = 1
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0
    seen: int = 0
    hits: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.n < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"n={self.n!r}, times={self.times!r}: both count from 1")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability!r}: use a number from 0 to 1")
        self._random = random.Random(self.seed)  # noqa: S311  nothing secret

    def matches(self, request: RecordedRequest) -> bool:
        """Count a request, and return whether the fault affects it."""
        if self.path not in (None, request.path):
            return False
        if self.model is not None and not is_same_model(self.model, request.model):
            return False
        self.seen += 1
        if self.fault.kind == "refuse":
            # It affects connections: see `next_port_closure`.
            return False
        if self.seen < self.n or (self.times is not None and self.hits >= self.times):
            return False
        return self.probability >= 1 or self._random.random() < self.probability


class FaultRules:
    """The rules of a simulator. Each request counts for all of them, and the first that matches affects it.

    The hits of the other rules move to later requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        """Append a rule."""
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Remove all rules."""
        with self._lock:
            self._rules.clear()

    def next_fault(self, request: RecordedRequest) -> Fault | None:
        """Return the fault that affects a request, None for none."""
        with self._lock:
            matching = [rule for rule in self._rules if rule.matches(request)]
            if not matching:
                return None
            matching[0].hits += 1
            return matching[0].fault

    def next_port_closure(self) -> Fault | None:
        """Return the fault that closes the port before the next request, None for none."""
        with self._lock:
            for rule in self._rules:
                if rule.fault.kind == "refuse" and rule.seen + 1 >= rule.n and not rule.hits:
                    rule.hits += 1
                    return rule.fault
        return None
