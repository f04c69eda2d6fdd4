"""Recordings of a real server, changed at random, for every reader of replies. Only our own errors may be raised.

`python -m contract.fuzzing 100000` tries that many (`make fuzz`); the number of a failing one reproduces it.
"""

from __future__ import annotations

import functools
import json
import logging
import random
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx
import ollama
from griptape.artifacts import TextArtifact
from griptape.common import Message, PromptStack
from griptape.events import BaseEvent, EventListener
from griptape.tools import CalculatorTool
from schema import Schema

from contract.replay import RECORDINGS, recording
from griptape_ollama import OllamaEmbeddingDriver, OllamaError, OllamaMetrics, OllamaModels, OllamaPromptDriver
from griptape_ollama.shared_state import reset_shared_state

_PATHS = ("/api/chat", "/api/embed", "/api/show", "/api/tags", "/api/ps", "/api/pull")
_PIECES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b"\\", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80"),
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b'"\\ud800"', b'"\\u0085"', b"9" * 400, b"[" * 5000, b'{"a":' * 5000),
    *(b"\\ud83d", b"\\ude00", b"\xed\xa0\xbd"),
    *(b'{"error":"x"}\n', b'{"error":{"message":1}}\n', b'{"done":true}\n', b"{}\n", b"data: {}\n", b"<html>"),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**30, float("inf"), "", "x", "\ud800", "<think>", "</think>", [], {}, [None]),
    *([[]], [{}], {"": None}, {"a": [1]}, "1", [1, "a"], {"function": None}, {"name": 7, "arguments": "no"}, "stop"),
]
# In JSON text, as Python's encoder cannot write them all.
_NUMBERS = [
    *(b"9" * 400, b"9" * 5000, b"-" + b"9" * 400, b"-" + b"9" * 5000, b"1" + b"0" * 25, b"0." + b"3" * 5000),
    *(b"1e999", b"-1e999", b"1e308", b"1e-320", b"NaN", b"Infinity", b"-Infinity", b"1e18", b"1e400000000"),
    *(
        b"-1",
        b"-0",
        b"0",
        b"0.0",
        b"0.5",
        b"5.0",
        b"1.5",
        b"4294967296",
        b"9223372036854775807",
        b"9223372036854775808",
    ),
    *(b"true", b"false", b"null", b'"12"', b'"1e999"', b"[1]", b"{}"),
]
_DIGITS = re.compile(rb"-?\d+(?:\.\d+)?")
_PLACE = "@number@"
_COUNTERS = ("prompt_eval_count", "prompt_eval_cached_count", "eval_count", "total_duration", "eval_duration", "total")
_RETRY_AFTER = ("0", "-1", "1e999", "nan", "9" * 400, "soon", "Fri, 31 Dec 9999 23:59:59 GMT", "1.5", "")
_INSTALLED = {"models": [{"name": "m:latest", "digest": "d" * 64}]}
_SCHEMA = Schema({"city": str})
_TOOL = CalculatorTool()
_STATUSES = (200, 200, 200, 200, 200, 200, 400, 404, 429, 500, 503, 204, 302)


@cache
def _originals() -> dict[str, list[str]]:
    """Names of the recordings by path, those of replies more often than those of errors."""
    names: dict[str, list[str]] = {path: [] for path in _PATHS}
    for file in sorted(RECORDINGS.glob("*.json")):
        exchange = json.loads(file.read_text(encoding="utf-8"))
        request, response = exchange["request"], exchange["response"]
        if isinstance(request, dict) and request.get("path") in names and "headers" in response:
            names[request["path"]] += [file.stem] * (4 if response["status"] == 200 else 1)
    return names


def _changed(body: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.randint(1, 3)):
        body = dice.choice(_CHANGES)(body, dice)
    return body


def _with_other_bytes(body: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(body) + 1)
    end = min(len(body), start + int(dice.expovariate(0.1)))
    middle = dice.choice([b"", body[start:end] * 2, dice.choice(_PIECES), dice.randbytes(dice.randint(1, 4))])
    return body[:start] + middle + body[end:]


def _with_other_lines(body: bytes, dice: random.Random) -> bytes:
    lines = body.splitlines(keepends=True) or [b""]
    at, other = dice.randrange(len(lines)), dice.randrange(len(lines))
    action = dice.randrange(4)
    if action == 0:
        del lines[at]
    elif action == 1:
        lines[at], lines[other] = lines[other], lines[at]
    elif action == 2:
        lines.insert(at, lines[other])
    else:
        lines = lines[:at]
    return b"".join(lines)


def _with_other_value(body: bytes, dice: random.Random) -> bytes:
    """Replace, remove or add a value somewhere inside one line."""
    lines = body.splitlines(keepends=True)
    if not lines:
        return body
    at = dice.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return body
    places = list(_places(value))
    if places:
        container, key = dice.choice(places)
        action = dice.randrange(4)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, dict):
            container[dice.choice(["error", "done", "message", "tool_calls", "thinking", "done_reason", ""])] = (
                dice.choice(_VALUES)
            )
        else:
            container[key] = dice.choice(_VALUES)
    # The server does not write Infinity; other servers might.
    lines[at] = json.dumps(value).encode() + b"\n"
    return b"".join(lines)


def _with_other_number(body: bytes, dice: random.Random) -> bytes:
    """Replace a number, or add one that servers count with; those inside texts included."""
    number = dice.choice(_NUMBERS)
    if dice.random() < 0.2:
        found = list(_DIGITS.finditer(body))
        match = dice.choice(found) if found else None
        return body if match is None else body[: match.start()] + number + body[match.end() :]
    lines = body.splitlines(keepends=True)
    if not lines:
        return body
    # The last line has most of them.
    at = dice.choice((len(lines) - 1, dice.randrange(len(lines))))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return body
    places = [place for place in _places(value) if isinstance(place[0][place[1]], (int, float))]
    if isinstance(value, dict) and (not places or dice.random() < 0.3):
        places = [(value, dice.choice(_COUNTERS))]
    if not places:
        return body
    container, key = dice.choice(places)
    container[key] = _PLACE
    lines[at] = json.dumps(value).encode().replace(f'"{_PLACE}"'.encode(), number) + b"\n"
    return b"".join(lines)


_CHANGES = (
    *(_with_other_value, _with_other_value, _with_other_number, _with_other_number),
    *(_with_other_bytes, _with_other_lines),
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(inside):
        yield value, key
        if isinstance(each, (dict, list)):
            yield from _places(each)


class Reader:
    """Reads changed replies, with drivers whose transport returns them."""

    def __init__(self) -> None:
        self._replies: dict[str, Callable[[], httpx.Response]] = {}
        self._metrics = OllamaMetrics().start()
        client = ollama.Client(host="http://fuzzed", transport=httpx.MockTransport(self._answer))
        self._client = client
        settings: dict[str, Any] = {"client": client, "max_attempts": 1}
        self._plain = OllamaPromptDriver(model="m", audit_requests=True, **settings)
        self._streamed = OllamaPromptDriver(model="m", stream=True, on_empty="retry_without_thinking", **settings)
        # A driver refuses vectors of another size than its first ones: each reply has a driver of its own.
        vectors = functools.partial(OllamaEmbeddingDriver, model="m", cache_bytes=0, **settings)
        self._models = OllamaModels(**settings)
        self._calls: dict[str, list[Callable[[], Any]]] = {
            "/api/chat": [self._prompt, self._stream, self._deltas, self._with_tools, self._with_schema],
            "/api/embed": [lambda: vectors().embed("a"), lambda: vectors().embed_batch(["a", "b"])],
            "/api/show": [lambda: self._models.show("m"), self._prompt],
            "/api/tags": [self._models.list, lambda: self._models.exists("m")],
            "/api/ps": [self._models.loaded],
            "/api/pull": [lambda: self._models.pull("m")],
        }

    def close(self) -> None:
        """Check the metrics, and close the client."""
        json.dumps(self._metrics.summary().to_dict(), allow_nan=False)
        self._metrics.stop()
        self._client._client.close()

    def read(self, number: int) -> str:
        """Read one reply, and say what came of it.

        Args:
            number: Decides what is read, how it is changed, and who reads it.

        Returns:
            `read`, or the name of our error.

        Raises:
            Exception: What should not have come out.
        """
        dice = random.Random(number)  # noqa: S311 # nothing secret
        reset_shared_state()
        path = dice.choices(_PATHS, (12, 3, 2, 1, 1, 2))[0]
        self._replies = {
            "/api/tags": functools.partial(httpx.Response, 200, json=_INSTALLED),
            path: self._response(recording(dice.choice(_originals()[path])), dice),
        }
        try:
            with EventListener(_check_event):
                _check(dice.choice(self._calls[path])())
        except OllamaError as error:
            f"{error} {getattr(error, 'server_message', '')} {error.partial_text}".encode()
            return type(error).__name__ if str(error) else "an error without a text"
        return "read"

    def _response(self, original: Any, dice: random.Random) -> Callable[[], httpx.Response]:
        body = _changed(original.body, dice)
        cuts = sorted(dice.randrange(len(body) + 1) for _ in range(dice.choice((0, 1, 5))))
        pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        headers = dict(original.headers)
        if dice.random() < 0.02:
            headers["Content-Type"] = dice.choice(["text/html", "", "application/octet-stream", ";;;"])
        if dice.random() < 0.02:
            headers["Content-Encoding"] = dice.choice(["gzip", "deflate", "br", "none"])
        if dice.random() < 0.02:
            headers["Retry-After"] = dice.choice(_RETRY_AFTER)
        status = original.status if dice.random() < 0.9 else dice.choice(_STATUSES)
        # A further request, as after a call of an unknown tool, gets the same reply.
        return lambda: httpx.Response(status, headers=headers, content=iter(pieces))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        make = self._replies.get(request.url.path)
        return make() if make else httpx.Response(404, json={"error": "not found"})

    def _prompt(self) -> Any:
        return self._plain.run(TextArtifact("Hi"))

    def _stream(self) -> Any:
        return self._streamed.run(TextArtifact("Hi"))

    def _with_tools(self) -> Any:
        return self._streamed.run(PromptStack(messages=self._messages(), tools=[_TOOL]))

    def _with_schema(self) -> Any:
        return self._plain.run(PromptStack(messages=self._messages(), output_schema=_SCHEMA))

    @staticmethod
    def _messages() -> list[Message]:
        return [Message("What is the weather in Paris?", role=Message.USER_ROLE)]

    def _deltas(self) -> Any:
        return list(self._streamed.try_stream(PromptStack.from_artifact(TextArtifact("Hi"))))


def _check(result: Any) -> None:
    """Check that a result can be stored and printed."""
    if isinstance(result, Message):
        json.dumps([content.artifact.meta for content in result.content], ensure_ascii=False, default=str).encode()
    repr(result)


def _check_event(event: BaseEvent) -> None:
    if type(event).__module__.startswith("griptape_ollama"):
        json.dumps(vars(event), ensure_ascii=False, allow_nan=False).encode()


def main(count: int, first: int = 0) -> int:
    """Try a number of recordings, print the results, and return the number of failures."""
    logging.getLogger("griptape_ollama").setLevel(logging.CRITICAL)
    reader, outcomes, start = Reader(), Counter[str](), time.monotonic()
    for number in range(first, first + count):
        outcomes[_outcome(reader, number)] += 1
    reader.close()
    seconds = time.monotonic() - start
    print(f"{count:,} changed recordings in {seconds:.0f} s: {dict(outcomes.most_common())}")  # noqa: T201 # a command
    return outcomes["FAILED"]


def _outcome(reader: Reader, number: int) -> str:
    try:
        return reader.read(number)
    except Exception:  # noqa: BLE001 # any other error is a failure
        print(f"number {number}:", traceback.format_exc(limit=-3), sep="\n")  # noqa: T201 # a command
        return "FAILED"


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
