"""Recordings of a real server, changed at random, read by every reader of replies. Only our own errors may come out.

`python -m contract.fuzzing 100000` tries so many (`make fuzz`); the number of one that fails names it for good.
"""

from __future__ import annotations

import functools
import json
import logging
import random
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
from griptape.tools import CalculatorTool
from schema import Schema

from contract.replay import RECORDINGS, recording
from griptape_ollama import OllamaEmbeddingDriver, OllamaError, OllamaModels, OllamaPromptDriver
from griptape_ollama.models.facts import forget_all_facts

_PATHS = ("/api/chat", "/api/embed", "/api/show", "/api/tags", "/api/ps", "/api/pull")
_PIECES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r\n", b"\\", b"\x00", b"\xff", b"\xc3", b"\xed\xa0\x80"),
    *(b"null", b"true", b"-1", b"1e999", b"NaN", b'"\\ud800"', b'"\\u0085"', b"9" * 400, b"[" * 5000, b'{"a":' * 5000),
    *(b'{"error":"x"}\n', b'{"error":{"message":1}}\n', b'{"done":true}\n', b"{}\n", b"data: {}\n", b"<html>"),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 10**30, float("inf"), "", "x", "\ud800", "<think>", "</think>", [], {}, [None]),
    *([[]], [{}], {"": None}, {"a": [1]}, "1", [1, "a"], {"function": None}, {"name": 7, "arguments": "no"}, "stop"),
]
_INSTALLED = {"models": [{"name": "m:latest", "digest": "d" * 64}]}
_SCHEMA = Schema({"city": str})
_TOOL = CalculatorTool()
_STATUSES = (200, 200, 200, 200, 200, 200, 400, 404, 429, 500, 503, 204, 302)


@cache
def _originals() -> dict[str, list[str]]:
    """Names of the recordings by path, those of replies more often than those of refusals."""
    names: dict[str, list[str]] = {path: [] for path in _PATHS}
    for file in sorted(RECORDINGS.glob("*.json")):
        exchange = json.loads(file.read_text(encoding="utf-8"))
        request, response = exchange["request"], exchange["response"]
        if isinstance(request, dict) and request.get("path") in names and "headers" in response:
            names[request["path"]] += [file.stem] * (4 if response["status"] == 200 else 1)
    return names


def _changed(body: bytes, dice: random.Random) -> bytes:
    for _ in range(dice.randint(1, 3)):
        body = dice.choice((_with_other_value, _with_other_value, _with_other_bytes, _with_other_lines))(body, dice)
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
    # The server writes no such things as Infinity; somebody else's might.
    lines[at] = json.dumps(value).encode() + b"\n"
    return b"".join(lines)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(inside):
        yield value, key
        yield from _places(each)


class Reader:
    """Reads replies that nobody sent, with drivers whose client gets them from here."""

    def __init__(self) -> None:
        self._replies: dict[str, Callable[[], httpx.Response]] = {}
        client = ollama.Client(host="http://fuzzed", transport=httpx.MockTransport(self._answer))
        self.close = client._client.close
        settings: dict[str, Any] = {"client": client, "max_attempts": 1}
        self._plain = OllamaPromptDriver(model="m", **settings)
        self._streamed = OllamaPromptDriver(model="m", stream=True, on_empty="retry_without_thinking", **settings)
        self._vectors = OllamaEmbeddingDriver(model="m", cache_bytes=0, **settings)
        self._models = OllamaModels(**settings)
        self._calls: dict[str, list[Callable[[], Any]]] = {
            "/api/chat": [self._prompt, self._stream, self._deltas, self._with_tools, self._with_schema],
            "/api/embed": [lambda: self._vectors.embed("a"), lambda: self._vectors.embed_batch(["a", "b"])],
            "/api/show": [lambda: self._models.show("m"), self._prompt],
            "/api/tags": [self._models.list, lambda: self._models.exists("m")],
            "/api/ps": [self._models.loaded],
            "/api/pull": [lambda: self._models.pull("m")],
        }

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
        forget_all_facts()
        path = dice.choices(_PATHS, (12, 3, 2, 1, 1, 2))[0]
        self._replies = {
            "/api/tags": functools.partial(httpx.Response, 200, json=_INSTALLED),
            path: self._response(recording(dice.choice(_originals()[path])), dice),
        }
        try:
            dice.choice(self._calls[path])()
        except OllamaError as error:
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
        status = original.status if dice.random() < 0.9 else dice.choice(_STATUSES)
        # Who asks again, as after a call of a tool that does not exist, gets the same again.
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


def main(count: int, first: int = 0) -> int:
    """Try so many, print what came of them, and tell how many failed."""
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
    except Exception:  # noqa: BLE001 # that is what is looked for
        print(f"number {number}:", traceback.format_exc(limit=-3), sep="\n")  # noqa: T201 # a command
        return "FAILED"


if __name__ == "__main__":
    sys.exit(1 if main(*map(int, sys.argv[1:])) else 0)
