"""What can go wrong with a response, on demand."""

import itertools
import math
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from griptape_ollama.protocol.model_name import is_same_model
from griptape_ollama.testing.request_log import RecordedRequest
from griptape_ollama.testing.response_writer import NDJSON, Outgoing, TimedLine, phrase_of, plain
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
# What the request was to bring about does not come about.
_UNFINISHED = ("reset", "cut", "no_done", "error_line", "dead_runner")
_DEFAULT_STATUS = {"status": 500, "redirect": 307}
_BODILESS = (204, 304)
# What comes of a request for vectors whose runner dies: the most frequent text of several, with the status of each path
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
"""What the details have to be."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One way for a response to go wrong.

    Attributes:
        kind: What happens: see `OllamaSimulator.fault`.
        after: Lines that still come before it. A body that is not streamed counts as two, its halves.
        mid_line: Whether half of the next line comes too.
        at: Where a connection is reset if not after lines: `"before_headers"` or `"after_headers"`.
        seconds: How slow it is, or for how long the port is closed.
        status: HTTP status.
        error: Text of the error.
        headers: Headers of a response with an error status.
        data: Bytes that are no JSON.
        size: Bytes of the huge line.
        content_type: Wrong content type.
        location: Where a redirect leads.
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
    def comes_first(self) -> bool:
        """Whether the server does not even look at the request."""
        return self.kind in ("status", "redirect") or (self.kind == "reset" and self.after is None)


def apply(fault: Fault, outgoing: Outgoing, path: str) -> Outgoing:
    """Let the response to a request for a path go wrong."""
    if fault.kind in _UNFINISHED:
        outgoing = replace(outgoing, before_last=None)
    if fault.kind == "dead_runner" and path in _DEAD_EMBED_STATUS:
        return plain(encode({"error": _DEAD_EMBED}), status=_DEAD_EMBED_STATUS[path])
    return _APPLY[fault.kind](fault, outgoing)


def _reset(fault: Fault, outgoing: Outgoing) -> Outgoing:
    if fault.after is None:
        return replace(outgoing, reply=_ending(outgoing.reply, reset=fault.at or "before_headers"))
    lines, count = _until(fault, outgoing)
    return replace(outgoing, lines=lines, reply=_ending(outgoing.reply, reset=count))


def _cut(fault: Fault, outgoing: Outgoing) -> Outgoing:
    lines, count = _until(fault, outgoing)
    return replace(outgoing, lines=lines, reply=_ending(outgoing.reply, cut=count))


def _no_done(fault: Fault, outgoing: Outgoing) -> Outgoing:
    if outgoing.content_type != NDJSON:
        return replace(outgoing, lines=(), length=0)
    lines = _without_last(outgoing.lines) if fault.after is None else itertools.islice(outgoing.lines, fault.after)
    return replace(outgoing, lines=lines)


def _error_line(fault: Fault, outgoing: Outgoing) -> Outgoing:
    error = encode({"error": fault.error or "an error was encountered while running the model: unexpected EOF"})
    if outgoing.content_type != NDJSON:
        return plain(error, status=500)
    said = itertools.islice(outgoing.lines, 1 if fault.after is None else fault.after)
    return replace(outgoing, lines=itertools.chain(said, [error + b"\n"]))


def _status(fault: Fault, _outgoing: Outgoing) -> Outgoing:
    status = fault.status or _DEFAULT_STATUS["status"]
    if status in _BODILESS:
        return Outgoing(status=status, content_type=None, headers=fault.headers, has_body=False)
    error = phrase_of(status).lower() if fault.error is None else fault.error
    return plain(encode({"error": error}), status=status, headers=fault.headers)


def _redirect(fault: Fault, _outgoing: Outgoing) -> Outgoing:
    headers = {"Location": fault.location or ""}
    return plain(b"", status=fault.status or _DEFAULT_STATUS["redirect"], headers=headers, content_type=None)


def _slow_headers(fault: Fault, outgoing: Outgoing) -> Outgoing:
    return replace(outgoing, reply=replace(outgoing.reply, headers_delay=fault.seconds or 0))


def _slow_tokens(fault: Fault, outgoing: Outgoing) -> Outgoing:
    return replace(outgoing, reply=replace(outgoing.reply, line_delay=fault.seconds))


def _bytes(_fault: Fault, outgoing: Outgoing) -> Outgoing:
    return replace(outgoing, reply=replace(outgoing.reply, chunking="bytes"))


def _garbage(fault: Fault, outgoing: Outgoing) -> Outgoing:
    if outgoing.content_type != NDJSON:
        return replace(outgoing, lines=[fault.data], length=len(fault.data))
    return replace(outgoing, lines=_inserted(fault, outgoing.lines, fault.data + b"\n"))


def _huge_line(fault: Fault, outgoing: Outgoing) -> Outgoing:
    if outgoing.content_type != NDJSON:
        # White space before the body: it is still JSON.
        return replace(outgoing, lines=itertools.chain([b" " * fault.size], outgoing.lines), length=None)
    line = {"message": {"role": "assistant", "content": "x" * fault.size}, "response": "", "done": False}
    return replace(outgoing, lines=_inserted(fault, outgoing.lines, encode(line) + b"\n"))


def _content_type(fault: Fault, outgoing: Outgoing) -> Outgoing:
    return replace(outgoing, reply=replace(outgoing.reply, content_type=fault.content_type))


_APPLY: Mapping[str, Callable[[Fault, Outgoing], Outgoing]] = {
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


def _ending(reply: Reply, **ending: Any) -> Reply:
    """Let a reply end another way than it would by itself."""
    return replace(reply, **{"cut": None, "reset": False, "end_without_done": False, "error_line": None, **ending})


def _until(fault: Fault, outgoing: Outgoing) -> tuple[Iterable[bytes | TimedLine], int]:
    """Return the lines up to a break, and how many they are."""
    after = 1 if fault.after is None else fault.after
    lines = outgoing.lines if outgoing.content_type == NDJSON else _halves(outgoing.lines)
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
    held: list[bytes | TimedLine] = []
    for line in lines:
        yield from held
        held = [line]


def _inserted(fault: Fault, lines: Iterable[bytes | TimedLine], line: bytes) -> Iterator[bytes | TimedLine]:
    rest = iter(lines)
    yield from itertools.islice(rest, 1 if fault.after is None else fault.after)
    yield line
    yield from rest


@dataclass(kw_only=True, eq=False)
class FaultRule:
    """A fault and the requests that it strikes.

    Attributes:
        fault: What happens to them.
        path: Path of the requests that count, None for any.
        model: Their model, None for any.
        n: Which of them is the first to be struck, counted from 1 and from when the rule was made.
        times: How many are struck, None for all from there on.
        probability: How likely each of those is struck.
        seed: Where the dice begin: the same seed strikes the same requests.
        seen: How many requests counted so far.
        hits: How many it struck so far. One that an earlier rule struck is not among them.
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
    _dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.n < 1 or (self.times is not None and self.times < 1):
            raise ValueError(f"n={self.n!r}, times={self.times!r}: both count from 1")
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability={self.probability!r}: use a number from 0 to 1")
        self._dice = random.Random(self.seed)  # noqa: S311  nothing secret

    def strikes(self, request: RecordedRequest) -> bool:
        """Count a request, and say whether it is to be struck."""
        if self.path not in (None, request.path):
            return False
        if self.model is not None and not is_same_model(self.model, request.model):
            return False
        self.seen += 1
        if self.fault.kind == "refuse":
            # It strikes before there is a request: see `closes_next`.
            return False
        if self.seen < self.n or (self.times is not None and self.hits >= self.times):
            return False
        return self.probability >= 1 or self._dice.random() < self.probability


class Rules:
    """The rules of a simulator; all of them count a request, and the first that is to strike it does.

    The others strike later requests in its place, as often as they are to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        """Add a rule behind the others."""
        with self._lock:
            self._rules.append(rule)

    def clear(self) -> None:
        """Drop all rules."""
        with self._lock:
            self._rules.clear()

    def strike(self, request: RecordedRequest) -> Fault | None:
        """Return what happens to a request, None if all goes well."""
        with self._lock:
            struck = [rule for rule in self._rules if rule.strikes(request)]
            if not struck:
                return None
            struck[0].hits += 1
            return struck[0].fault

    def closes_next(self) -> Fault | None:
        """Return the rule that closes the port before the next request comes."""
        with self._lock:
            for rule in self._rules:
                if rule.fault.kind == "refuse" and rule.seen + 1 >= rule.n and not rule.hits:
                    rule.hits += 1
                    return rule.fault
        return None
